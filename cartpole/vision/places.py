"""Where every slice of the strip lies, how bright it is, and what the fit leaves; compiled."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
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
    REACH_PX,
    SUMS,
    XD,
    Y1,
    YY,
    N,
    Singles,
    soft_edge,
    soft_sums,
    take,
    whole_sums,
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
GROUND_PX = 2  # pixels beside a window that tell the ground's noise and slope
# Beside the strip, as a share of its light, but above the noise: more is a hand, no ground.
SHINES, SHINES_DN = 0.1, 18.0

IntArray = npt.NDArray[np.int64]

# Rows of what is expected of each slice: half width, half of its edges' widths, its first pixel
# from the strip's middle, and whether its sums are taken one by one.
HALF, SOFT, BEGIN, SPECIAL = range(4)
LOOKS = 4
# A ground so near to black shows half of its noise: so much more it has.
CUT_LEVEL, CUT_NOISE = 2.0, 1.7


@njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _windows(
    line: FloatArray, first: int, shape: FloatArray, end: int, lows: IntArray, looks: Singles
) -> tuple[int, int]:
    """Every slice's first pixel into ``lows`` (n,) and what is expected of it into ``looks``
    (LOOKS, n); returns how many pixels of each are looked at. They are within the picture; where
    the strip's light is not, and where its edges are not apart, the slice is marked as special;
    how many are is returned, too."""
    n = lows.shape[0]
    reach = max(1.0, 0.5 * (n - 1))
    widest = 0.0
    for i in range(n):
        u = (i - 0.5 * (n - 1)) / reach
        half, soft = half_at(shape, u), soft_edge(blur_at(shape, u), smear_at(shape, u))
        looks[HALF, i], looks[SOFT, i] = half, soft
        widest = max(widest, half + soft)
    room = end + 1 - 2 * MARGIN_PX
    size = min(room, math.ceil(2.0 * (widest + REACH_PX)))
    highest, special = end - MARGIN_PX - size + 1, 0
    for i in range(n):
        centre = across(line, first + i)
        low = math.ceil(centre - 0.5 * size)
        within = min(highest, max(MARGIN_PX, low))
        alone = low != within or looks[SOFT, i] > looks[HALF, i]
        looks[SPECIAL, i] = 1.0 * alone
        special += alone
        lows[i], looks[BEGIN, i] = within, within - centre
    return size, special


@njit(cache=True, nogil=True)
def _take_all(lines: Pixels, first: int, lows: IntArray, values: Pixels) -> None:
    """The slices' pixels, a slice a column."""
    for i in range(values.shape[1]):
        pixels, low = lines[first + i], lows[i]
        for j in range(values.shape[0]):
            values[j, i] = pixels[low + j]


@njit(cache=True, nogil=True)
def _sum_special(
    lines: Pixels,
    line: FloatArray,
    first: int,
    shape: FloatArray,
    lows: IntArray,
    looks: Singles,
    sums: Singles,
) -> None:
    """The sums of special slices one by one, by the exact profile, of the pixels that there are;
    of none where an edge is not in the picture."""
    n, end = lows.shape[0], lines.shape[1] - 1
    reach = max(1.0, 0.5 * (n - 1))
    s, values = np.empty(SUMS), np.empty(end + 1)
    for i in range(n):
        if looks[SPECIAL, i] == 0.0:
            continue
        u = (i - 0.5 * (n - 1)) / reach
        half, blur, smear = half_at(shape, u), blur_at(shape, u), smear_at(shape, u)
        centre, soft = across(line, first + i), soft_edge(blur, smear)
        low, high = window(centre, half, soft)
        low, high = max(MARGIN_PX, low), min(end - MARGIN_PX, high)
        # One edge alone tells the place no better than the width is known.
        foot = half + EDGE_SEEN * soft
        sums[N, i] = 0.0
        if centre - foot < MARGIN_PX or centre + foot > end - MARGIN_PX:
            continue
        take(lines[first + i], low, high - low + 1, values)
        whole_sums(values, low, high - low + 1, centre, half, blur, smear, s)
        lows[i] = low
        for k in range(XD + 1):
            sums[k, i] = s[k]


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
    end, n = lines.shape[1] - 1, last - first + 1
    lows, looks = np.empty(n, np.int64), np.empty((LOOKS, n), np.float32)
    size, special = _windows(line, first, shape, end, lows, looks)
    values, sums = np.empty((size, n), np.uint8), np.zeros((XD + 1, n), np.float32)
    _take_all(lines, first, lows, values)
    soft_sums(values, looks[BEGIN], looks[HALF], looks[SOFT], sums)
    for i in range(n):
        sums[N, i] = size
    if special > 0:
        _sum_special(lines, line, first, shape, lows, looks, sums)
    pairs, sides = 0, 0
    rough, slope, level = 0.0, 0.0, 0.0
    for i in range(n):
        row, low, size, centre = table[i], lows[i], int(sums[N, i]), across(line, first + i)
        row[PLACE], row[CENTROID], row[LIGHT_DN], row[WEIGHT] = first + i, centre, 0.0, 0.0
        row[SUM], row[LEFT_OVER], row[TILT] = -1.0, 0.0, 0.0
        row[FIRST], row[COUNT] = low, size
        if size == 0:
            continue
        ff, f1, fd, fy = sums[FF, i], sums[F1, i], sums[FD, i], sums[FY, i]
        d1, y1, dd, dy = sums[D1, i], sums[Y1, i], sums[DD, i], sums[DY, i]
        row[SUM] = y1
        det = ff * size - f1 * f1
        if det <= 1e-6:
            continue
        whole = 1.0 / det
        a = (size * fy - f1 * y1) * whole
        g = (ff * y1 - f1 * fy) * whole
        of_f, of_one = (size * fd - f1 * d1) * whole, (ff * d1 - f1 * fd) * whole
        info = dd - of_f * fd - of_one * d1
        right = dy - of_f * fy - of_one * y1
        row[LIGHT_DN] = a
        if a <= 0.0 or info <= 1e-6:
            continue
        per_info = 1.0 / info
        per_px = per_info / a
        rest = sums[YY, i] - a * fy - g * y1 - right * right * per_info
        row[CENTROID] = centre + right * per_px
        row[WEIGHT] = a * a * info
        row[LEFT_OVER] = max(0.0, rest) / max(1.0, size - 3.0)
        row[TILT] = sums[XD, i] * per_px
        level += g
        high = low + size - 1
        if low >= GROUND_PX and high + GROUND_PX <= end:
            pixels = lines[first + i]
            one, two = float(pixels[low - 1]), float(pixels[low - 2])
            three, four = float(pixels[high + 1]), float(pixels[high + 2])
            if max(one, two, three, four) < g + max(SHINES_DN, SHINES * a):
                rough += (one - two) ** 2 + (three - four) ** 2
                slope += (three + four - one - two) / (2.0 * (size + GROUND_PX))
                pairs += 2
        sides += 1
    report[SLICES] = n
    report[GROUND] = level / max(1, sides)
    # Rounding to whole grey levels is a twelfth.
    noise = math.sqrt(max(1.0 / 12.0, 0.5 * rough / max(1, pairs)))
    cut = noise > 1.0 and report[GROUND] < CUT_LEVEL * noise
    report[GROUND_NOISE] = CUT_NOISE * noise if cut else noise
    _level_out(table, n, 2.0 * slope / max(1, pairs), line[1], shape)
    return n


@njit(cache=True, nogil=True)
def _level_out(table: FloatArray, n: int, slope: float, oblique: float, shape: FloatArray) -> None:
    """Undo what a ground that rises by ``slope`` [grey levels a px] did to the middles, and what
    a strip that widens by d a slice does: at half width h one that goes sideways by ``oblique``
    a slice is cut later on one side than on the other, which moves the middle by d h oblique."""
    reach = max(1.0, 0.5 * (n - 1))
    widening = shape[1] / reach
    for i in range(n):
        half = shape[0] + widening * (i - reach)
        table[i, CENTROID] -= slope * table[i, TILT] + oblique * half * widening
