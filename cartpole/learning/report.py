"""What was learned on one picture (PNG): curves of the search, flights before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.learning.command import Outcome


def draw(outcome: Outcome, path: Path) -> None:
    """Learning curves of all starts; angle and place of one held-out flight, before and after."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(9.0, 8.0))
    for curve in outcome.curves:
        axes[0].plot(curve)
    axes[0].set_title(f"learn {outcome.part}: {len(outcome.curves)} starts", fontsize=9)
    axes[0].set_ylabel("what is made small")
    axes[0].set_xlabel("evaluations or turns")
    for flown, label in zip(outcome.flights or (), ("before", "after"), strict=False):
        axes[1].plot(flown.t_s, flown.angle_rad, label=f"{label}: index {flown.index:.3f}")
        axes[2].plot(flown.t_s, flown.place_m, label=label)
    for axis, name in zip(axes[1:], ("from upright [rad]", "from target [m]"), strict=True):
        axis.set_ylabel(name)
        axis.set_xlabel("time [s]")
        if outcome.flights:
            axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
