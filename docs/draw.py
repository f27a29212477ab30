"""Draws the pictures of these pages: `python docs/draw.py` writes docs/pictures/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INK, SOFT, LIGHT, RED, BLUE = "#22303c", "#7a8794", "#e8edf2", "#c73737", "#2f6fb0"
FOLDER = Path(__file__).resolve().parent / "pictures"


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=90, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, 10.0 * width)
    axes.set_ylim(0.0, 10.0 * height)
    return figure, axes


def _box(axes: Any, x: float, y: float, w: float, h: float, text: str, colour: str = INK) -> None:
    from matplotlib.patches import FancyBboxPatch

    patch = FancyBboxPatch((x, y), w, h, "round,pad=0.4", fc=LIGHT, ec=colour, lw=1.4)
    axes.add_patch(patch)
    axes.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=8, color=INK)


def _wire(axes: Any, points: list[tuple[float, float]], text: str = "", colour: str = INK) -> None:
    axes.plot(*zip(*points, strict=True), color=colour, lw=1.6, solid_joinstyle="round", zorder=0)
    if text:
        (x0, y0), (x1, y1) = points[0], points[1]
        axes.text((x0 + x1) / 2, (y0 + y1) / 2 + 0.8, text, fontsize=7, color=colour, ha="center")


def rig() -> Any:
    """Side view: what is where, and the signs."""
    from matplotlib.patches import Circle, Rectangle

    figure, axes = _canvas(7.6, 4.2)
    axes.plot([8, 52], [17, 17], color=INK, lw=5)
    for x, name in ((9, "left switch"), (51, "right switch")):
        axes.add_patch(Rectangle((x - 0.8, 17.6), 1.6, 2.4, fc=RED, ec="none"))
        axes.text(x, 21.2, name, fontsize=7, ha="center", color=RED)
    for x, name in ((6, "motor"), (54, "idler and\ncart encoder")):
        axes.add_patch(Circle((x, 14.5), 2.2, fc=LIGHT, ec=INK, lw=1.4))
        axes.text(x, 9.0, name, fontsize=7.5, ha="center", color=INK)
    axes.plot([6, 54], [12.3, 12.3], color=SOFT, lw=1)
    axes.plot([6, 54], [16.7, 16.7], color=SOFT, lw=1)
    axes.add_patch(Rectangle((26, 15.4), 8, 3.4, fc=BLUE, ec="none"))
    axes.text(30, 9.0, "cart, pole encoder on the pivot", fontsize=7.5, ha="center", color=INK)
    axes.plot([30, 34.5], [17.5, 35], color=INK, lw=5, solid_capstyle="round")
    axes.plot([30.5, 34.2], [19.5, 33.8], color="#f2c94c", lw=2.4)
    axes.text(36, 30, "reflective tape,\nfacing the camera", fontsize=7.5, color=INK)
    axes.annotate("", (44, 5), (30, 5), arrowprops={"arrowstyle": "->", "color": BLUE, "lw": 1.4})
    axes.text(45, 4.4, "p > 0", fontsize=8, color=BLUE)
    axes.text(18, 33, "theta = 0 hanging,\npi upright,\ncounter-clockwise > 0", fontsize=7.5,
              color=BLUE, ha="center")  # fmt: skip
    _box(axes, 60, 21, 13, 6, "camera without\ninfrared filter,\nring light", RED)
    axes.plot([60, 36], [24, 26], color=RED, lw=0.8, ls="--")
    axes.text(66.5, 17.5, "1 to 1.5 m in front,\nwhole swing in view", fontsize=7, ha="center",
              color=SOFT)  # fmt: skip
    return figure


def wiring() -> Any:
    """Power and signals."""
    figure, axes = _canvas(7.6, 3.8)
    _box(axes, 2, 26, 13, 7, "24 V supply")
    _box(axes, 24, 26, 13, 7, "emergency stop\n(breaks power)", RED)
    _box(axes, 46, 26, 13, 7, "motor driver")
    _box(axes, 66, 26, 8, 7, "motor")
    _box(axes, 2, 5, 13, 9, "cart encoder A, B\npole encoder A, B\ntwo switches")
    _box(axes, 24, 5, 13, 9, "Arduino\nD2, D3 and A0, A1\nD8, D10, closed")
    _box(axes, 46, 5, 13, 9, "computer")
    _box(axes, 66, 5, 8, 9, "camera")
    _wire(axes, [(15.4, 29.5), (23.6, 29.5)], "+", RED)
    _wire(axes, [(37.4, 29.5), (45.6, 29.5)], "+", RED)
    _wire(axes, [(59.4, 29.5), (65.6, 29.5)])
    _wire(axes, [(15.4, 9.5), (23.6, 9.5)], "5 V, signals")
    _wire(axes, [(37.4, 9.5), (45.6, 9.5)], "USB", BLUE)
    _wire(axes, [(59.4, 9.5), (65.6, 9.5)], "USB", BLUE)
    _wire(axes, [(52.5, 14.4), (52.5, 25.6)], "", BLUE)
    axes.text(53.2, 19.5, "USB (bridge firmware: D9 to S1)", fontsize=7, color=BLUE)
    return figure


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    for draw in (rig, wiring):
        draw().savefig(FOLDER / f"{draw.__name__}.png")


if __name__ == "__main__":
    main()
