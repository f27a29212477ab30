"""Where every slice of the strip lies, how bright it is, and what the fit leaves; compiled."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels
from cartpole.vision.profile import (
    D1,
    DD,
    DY,
    F1,
    FD,
    FF,
    FY,
    SUMS,
    XD,
    Y1,
    YY,
    N,
    place_sums,
    soft_edge,
    take,
    window,
)
from cartpole.vision.shape import MARGIN_PX, across, blur_at, half_at, smear_at
from cartpole.vision.slices import (
    CENTROID,
    COUNT,
    FIRST,
    GROUND,
    GROUND_NOISE,
    LEFT_OVER,
    LIGHT_DN,
    PLACE,
    SLICES,
    SUM,
    TILT,
    WEIGHT,
)

EDGE_SEEN = 0.0  # of an edge's outer half: a slice with less of one tells no place
GROUND_PX = 2  # pixels beside a window that tell the ground's noise


@njit(cache=True, nogil=True, error_model="numpy")
def fit_places(
    lines: Pixels,
    line: FloatArray,
    first: int,
    last: int,
    shape: FloatArray,
    table: FloatArray,
    report: FloatArray,
) -> int:
    """Every slice's place, amplitude and what is left over, into the table; returns how many."""
    end = lines.shape[1] - 1
    reach = max(1.0, 0.5 * (last - first))
    middle = 0.5 * (first + last)
    s, values = np.empty(SUMS), np.empty(end + 1)
    n, pairs = 0, 0
    rough, slope, sides, level = 0.0, 0.0, 0, 0.0
    for k in range(first, last + 1):
        u = (k - middle) / reach
        half, blur, smear = half_at(shape, u), blur_at(shape, u), smear_at(shape, u)
        centre = across(line, k)
        soft = soft_edge(blur, smear)
        low, high = window(centre, half, soft)
        row = table[n]
        n += 1
        row[PLACE], row[CENTROID], row[LIGHT_DN], row[WEIGHT] = k, centre, 0.0, 0.0
        row[SUM], row[LEFT_OVER], row[TILT] = -1.0, 0.0, 0.0
        clear = low >= GROUND_PX and high + GROUND_PX <= end
        # Four pixels cost what one costs.
        high += (low - high - 1) & 3
        low, high = max(MARGIN_PX, low), min(end - MARGIN_PX, high)
        size = high - low + 1
        row[FIRST], row[COUNT] = low, size
        # One edge alone tells the place no better than the width is known.
        foot = half + EDGE_SEEN * soft
        if centre - foot < MARGIN_PX or centre + foot > end - MARGIN_PX:
            continue
        pixels = lines[k]
        take(pixels, low, size, values)
        place_sums(values, low, size, centre, half, blur, smear, soft, s)
        row[SUM] = s[Y1]
        det = s[FF] * s[N] - s[F1] * s[F1]
        if det <= 1e-9:
            continue
        whole = 1.0 / det
        a = (s[N] * s[FY] - s[F1] * s[Y1]) * whole
        g = (s[FF] * s[Y1] - s[F1] * s[FY]) * whole
        fd = (s[N] * s[FD] - s[F1] * s[D1]) * whole
        gd = (s[FF] * s[D1] - s[F1] * s[FD]) * whole
        info = s[DD] - fd * s[FD] - gd * s[D1]
        right = s[DY] - fd * s[FY] - gd * s[Y1]
        row[LIGHT_DN] = a
        if a <= 0.0 or info <= 1e-9:
            continue
        per_info = 1.0 / info
        per_px = per_info / a
        rest = s[YY] - a * s[FY] - g * s[Y1] - right * right * per_info
        row[CENTROID] = centre + right * per_px
        row[WEIGHT] = a * a * info
        row[LEFT_OVER] = max(0.0, rest) / (size - 3.0)
        row[TILT] = s[XD] * per_px
        level += g
        if clear:
            one, two = float(pixels[low - 1]), float(pixels[low - 2])
            three, four = float(pixels[high + 1]), float(pixels[high + 2])
            if max(one, two, three, four) < g + 0.3 * a:
                rough += (one - two) ** 2 + (three - four) ** 2
                slope += (three + four - one - two) / (2.0 * (size + GROUND_PX))
                pairs += 2
        sides += 1
    report[SLICES] = n
    report[GROUND] = level / max(1, sides)
    # Rounding to whole grey levels is a twelfth.
    report[GROUND_NOISE] = math.sqrt(max(1.0 / 12.0, 0.5 * rough / max(1, pairs)))
    _level_out(table, n, 2.0 * slope / max(1, pairs))
    return n


@njit(cache=True, nogil=True)
def _level_out(table: FloatArray, n: int, slope: float) -> None:
    """Undo what a ground that rises by ``slope`` [grey levels a px] did to the middles."""
    for i in range(n):
        table[i, CENTROID] -= slope * table[i, TILT]
