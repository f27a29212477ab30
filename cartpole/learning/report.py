"""What was learned on one picture (PNG): curves of the search, the gate's pairs, one flight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.learning.closed_loop import LOST
from cartpole.messages import FloatArray

if TYPE_CHECKING:
    from cartpole.learning.command import Outcome

SMALL = {
    "sysid": "-ln L above the best",
    "cost": "commands' errors [m/s]",
    "tune": "index over that of the settings",
}


def draw(outcome: Outcome, path: Path) -> None:
    """Curves of all starts; held-out flights by the settings of before and after, in pairs; angle
    and place of one of them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11.0, 7.5))
    figure.suptitle(f"learn {outcome.part}: {_said(outcome)}", fontsize=10, wrap=True)
    _curves(outcome, axes[0, 0])
    _pairs(outcome, axes[0, 1])
    for flown, label in zip(outcome.flights or (), ("before", "after"), strict=False):
        angle = np.degrees(_broken(np.array(flown.angle_rad)))
        axes[1, 0].plot(flown.t_s, angle, label=label)
        axes[1, 1].plot(flown.t_s, 100.0 * np.array(flown.place_m), label=label)
    for axis, name in zip(
        axes[1], ("pole from upright [deg]", "cart from its target [cm]"), strict=True
    ):
        axis.set_ylabel(name)
        axis.set_xlabel("time of a held-out flight [s]")
        _finish(axis, bool(outcome.flights), "no flight was asked")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _said(outcome: Outcome) -> str:
    if outcome.verdict is None:
        return "nothing was found that is better"
    return f"refused: {outcome.verdict.why}" if outcome.verdict.why else "passed the gate"


def _curves(outcome: Outcome, axis: Any) -> None:
    """What each start made small; a likelihood above its best, since its zero means nothing."""
    likelihood = outcome.part == "sysid"
    least = min((min(curve) for curve in outcome.curves), default=0.0)
    for number, curve in enumerate(outcome.curves):
        values = np.array(curve) - (least - 1e-3 if likelihood else 0.0)
        axis.plot(values, marker=".", label=f"start {number + 1}")
    if outcome.part != "tune":
        axis.set_yscale("log")
    axis.set_ylabel(SMALL.get(outcome.part, ""))
    axis.set_xlabel("round of the search" if outcome.part == "tune" else "steps of the search")
    _finish(axis, bool(outcome.curves), "nothing was sought: read off", len(outcome.curves) > 1)


def _pairs(outcome: Outcome, axis: Any) -> None:
    """Index before against after, a point each pair: below the line the new settings are better."""
    pairs = np.array(outcome.verdict.pairs if outcome.verdict is not None else ()).reshape(-1, 2)
    flew = pairs[(pairs < LOST).all(axis=1)]
    if len(flew):
        ends = [0.95 * float(flew.min()), 1.05 * float(flew.max())]
        axis.plot(ends, ends, color="grey", linewidth=0.8, label="no difference")
        axis.plot(flew[:, 0], flew[:, 1], "o", markersize=4, label=f"{len(flew)} pairs upright")
    fell = len(pairs) - len(flew)
    axis.set_title(f"{fell} pairs in which a flight fell" if fell else "", fontsize=9)
    axis.set_xlabel("index by the settings before")
    axis.set_ylabel("and after")
    _finish(axis, len(flew) > 0, "no pair ended upright" if fell else "no flight was asked")


def _finish(axis: Any, something: bool, nothing: str, legend: bool = True) -> None:
    """A legend, or why there is nothing to see."""
    if not something:
        axis.text(0.5, 0.5, nothing, ha="center", transform=axis.transAxes)
    elif legend:
        axis.legend(fontsize=8)


def _broken(angle_rad: FloatArray) -> FloatArray:
    """An angle within half a turn of upright, its line broken where it goes round."""
    out = angle_rad.copy()
    out[1:][np.abs(np.diff(angle_rad)) > np.pi] = np.nan
    return out
