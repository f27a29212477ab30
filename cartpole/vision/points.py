"""From slices of the picture to points of the rig's plane, compiled."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.geometry import unproject
from cartpole.vision.layout import HEIGHT, READOUT
from cartpole.vision.orient import Axis, Pair
from cartpole.vision.slices import (
    CENTROID,
    LINE_A,
    LINE_B,
    LINE_C,
    MIDDLE,
    NOISE,
    PLACE,
    SLICES,
    STEEP,
    WEIGHT,
)

GROUPED = 6  # neighbouring slices that make one point

# Columns of the points.
X, Y, DELAY, POINT_WEIGHT = range(4)


@njit(cache=True, nogil=True, error_model="numpy")
def metres(place: float, report: FloatArray, g: FloatArray) -> float:
    """How many metres across the strip a pixel along the slice at ``place`` is."""
    t = place - report[MIDDLE]
    across = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C])
    slope = report[LINE_B] + 2.0 * t * report[LINE_C]
    if report[STEEP] > 0.0:
        x0, y0 = unproject(across - 0.5, place, g)
        x1, y1 = unproject(across + 0.5, place, g)
    else:
        x0, y0 = unproject(place, across - 0.5, g)
        x1, y1 = unproject(place, across + 0.5, g)
    return math.sqrt(((x1 - x0) ** 2 + (y1 - y0) ** 2) / (1.0 + slope * slope))


@njit(cache=True, nogil=True, error_model="numpy")
def to_rig(
    table: FloatArray, report: FloatArray, prior: FloatArray, g: FloatArray, points: FloatArray
) -> int:
    """Weighted slices, ``GROUPED`` at a time, to rows (x, y [m], delay [s], 1 / variance [1/m^2])
    of ``points``; returns how many."""
    steep = report[STEEP] > 0.0
    per_row = prior[READOUT] / max(1.0, prior[HEIGHT] - 1.0)
    n = int(report[SLICES])
    begin = metres(float(table[0, PLACE]), report, g)
    change = (metres(float(table[n - 1, PLACE]), report, g) - begin) / max(1.0, n - 1.0)
    quiet = 1.0 / report[NOISE] ** 2
    count, held, w, wk, wr = 0, 0, 0.0, 0.0, 0.0
    for i in range(n + 1):
        weight = table[i, WEIGHT] if i < n else 0.0
        if weight > 0.0:
            t = table[i, PLACE] - report[MIDDLE]
            off = table[i, CENTROID] - report[LINE_A] - t * (report[LINE_B] + t * report[LINE_C])
            held += 1
            w += weight
            wk += weight * t
            wr += weight * off
        if held == GROUPED or (held > 0 and weight <= 0.0):
            t = wk / w
            across = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C]) + wr / w
            place = t + report[MIDDLE]
            row = across
            if steep:
                row = place
                points[count, X], points[count, Y] = unproject(across, place, g)
            else:
                points[count, X], points[count, Y] = unproject(place, across, g)
            scale = begin + (place - table[0, PLACE]) * change
            points[count, DELAY] = row * per_row - 0.5 * prior[READOUT]
            points[count, POINT_WEIGHT] = w * quiet / (scale * scale)
            count += 1
            held, w, wk, wr = 0, 0.0, 0.0, 0.0
    return count


@njit(cache=True, nogil=True)
def strip_end(
    place: float, report: FloatArray, prior: FloatArray, g: FloatArray, out: FloatArray
) -> None:
    """One end of the strip: (x, y, delay, column, row)."""
    t = place - report[MIDDLE]
    across = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C])
    column, row = place, across
    if report[STEEP] > 0.0:
        column, row = across, place
    out[0], out[1] = unproject(column, row, g)
    out[2] = prior[READOUT] * (row / max(1.0, prior[HEIGHT] - 1.0) - 0.5)
    out[3], out[4] = column, row


@njit(cache=True, nogil=True)
def slicing_direction(report: FloatArray, g: FloatArray) -> Pair:
    """A pixel's step along the slice at the strip's middle, in the rig's plane (x, y) [m]."""
    column, row = report[MIDDLE], report[LINE_A]
    right, down = 0.0, 0.5
    if report[STEEP] > 0.0:
        column, row = row, column
        right, down = down, right
    x0, y0 = unproject(column - right, row - down, g)
    x1, y1 = unproject(column + right, row + down, g)
    return x1 - x0, y1 - y0


@njit(cache=True, nogil=True, error_model="numpy")
def total_axis(points: FloatArray, n: int) -> Axis:
    """Weighted total least squares: centre (x, y) and direction from +x."""
    sw, sx, sy, sxx, sxy, syy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    x0, y0 = points[0, X], points[0, Y]
    for i in range(n):
        w = points[i, POINT_WEIGHT]
        dx, dy = points[i, X] - x0, points[i, Y] - y0
        sw += w
        sx += w * dx
        sy += w * dy
        sxx += w * dx * dx
        sxy += w * dx * dy
        syy += w * dy * dy
    mx, my = sx / sw, sy / sw
    sxx, sxy, syy = sxx - sw * mx * mx, sxy - sw * mx * my, syy - sw * my * my
    return x0 + mx, y0 + my, 0.5 * math.atan2(2.0 * sxy, sxx - syy)
