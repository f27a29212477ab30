"""Residuals of the fits over time, as a picture."""

from __future__ import annotations

from pathlib import Path

from calibration.result import CalibrationResult


def plot_residuals(results: list[CalibrationResult], path: Path) -> None:
    """One row a fit: residuals in standard deviations, which should look like noise."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn = [one for one in results if one.residuals is not None]
    figure, axes = plt.subplots(
        max(1, len(drawn)), 1, figsize=(9.0, 2.4 * max(1, len(drawn))), squeeze=False
    )
    for axis, result in zip(axes[:, 0], drawn, strict=False):
        if result.residuals is None:
            continue
        time, residual = result.residuals
        count = min(len(time), len(residual))
        axis.plot(time[:count], residual[:count], ".", markersize=2)
        axis.axhline(0.0, color="grey", linewidth=0.5)
        axis.set_ylim(-6.0, 6.0)
        axis.set_ylabel("residual [sigma]")
        axis.set_title(", ".join(result.estimates) or "nothing identified", fontsize=9)
    axes[-1, 0].set_xlabel("time [s]")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
