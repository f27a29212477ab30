"""The campaign on one picture: where it swings up and how soon, and where each fault ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cartpole.campaign.judge import Flown
from cartpole.campaign.strikes import STRIKES, End

SLOWEST_S = 8.0


def draw_map(runs: Sequence[Flown], output: Path) -> None:
    """Write a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    struck = [run for run in runs if run.fault is not None]
    names = [name for name in STRIKES if any(run.fault == name for run in struck)]
    height = max(6.0, 1.5 + 0.24 * len(names))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13.0, height), width_ratios=(1.0, 1.15), layout="constrained"
    )
    _mismatch(left, [run for run in runs if run.fault is None], figure)
    _ends(right, struck, names)
    figure.savefig(output, dpi=110)
    plt.close(figure)


def _mismatch(axis: Any, runs: Sequence[Flown], figure: Any) -> None:
    up = [run for run in runs if run.upright_s is not None]
    down = [run for run in runs if run.upright_s is None]
    if up:
        times = [min(float(run.upright_s or 0.0), SLOWEST_S) for run in up]
        spots = axis.scatter(
            [run.mismatch[0] for run in up], [run.mismatch[1] for run in up], c=times, s=26,
            cmap="viridis_r", vmin=1.0, vmax=SLOWEST_S, edgecolors="none",
        )  # fmt: skip
        figure.colorbar(spots, ax=axis, label="upright after [s], to the end")
    axis.scatter(
        [run.mismatch[0] for run in down], [run.mismatch[1] for run in down], c="crimson",
        marker="x", s=60, label=f"not upright at the end: {len(down)}",
    )  # fmt: skip
    axis.set(xlabel="true length over the settings'", ylabel="true lag over the settings'")
    axis.set_title(f"{len(runs)} random rigs without a fault")
    if down:
        axis.legend(loc="upper left")


def _ends(axis: Any, struck: Sequence[Flown], names: Sequence[str]) -> None:
    ends = [end.value for end in End]
    columns = [*ends, "none"]
    for row, name in enumerate(names):
        mine = Counter(
            run.end if run.end in ends else "none" for run in struck if run.fault == name
        )
        total = sum(mine.values())
        right = {end.value for end in STRIKES[name].ends}
        for column, end in enumerate(columns):
            if mine[end]:
                colour = "#2a7f3f" if end in right else "#b22222"
                axis.scatter(column, row, s=30 + 260 * mine[end] / total, c=colour, alpha=0.85)
                axis.annotate(
                    str(mine[end]), (column, row), ha="center", va="center", color="white",
                    fontsize=7,
                )  # fmt: skip
    axis.set_xticks(range(len(columns)), ["flies on", "degraded", "braked", "drive off", "refused",
                                          "stopped", "none of these"], rotation=20)  # fmt: skip
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(-0.6, len(columns) - 0.4)
    axis.grid(alpha=0.25)
    axis.set_title("where each fault ends (green: as it must)")
