"""Slices of a strip: sums over its pixels, and the line through them; compiled.

A slice is a row of the picture or a column; ``lines`` below is the picture or its transpose, so
that ``lines[k]`` is slice k. The table holds one row a slice.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels

# Columns of the table of slices: place along the slicing axis, the strip's middle across it, light
# above ground (grey levels of its plateau), weight (1 / variance of the middle before the noise is
# known, [1 / (grey level px)^2]; 0: dropped), sum over the window (-1: not in the picture), its
# first pixel and pixel count, what the fit leaves a degree of freedom [grey levels^2], what the
# slice is (below), how far a slope of the ground of one grey level a pixel shifts the middle.
PLACE, CENTROID, LIGHT_DN, WEIGHT, SUM, FIRST, COUNT, LEFT_OVER, KIND, TILT = range(10)
TABLE_COLUMNS = 10

# Kinds of slices.
OUTSIDE, DARK, FOREIGN, NEAR_EDGE, DISPLACED, GOOD = range(6)

# What `measure_strip` reports beside the table.
(
    SLICES,  # rows of the table in use
    USED,  # slices with weight
    STEEP,  # 1: slices are rows
    START,  # place where the strip begins (smaller end), sub-pixel
    STOP,  # place where it ends
    START_SEEN,  # 1: that end lies in the picture, undisturbed
    STOP_SEEN,
    GROUND,  # grey levels
    LIGHT,  # the tape's plateau above it, grey levels
    LINE_A,  # middle = A + B (place - MIDDLE) + C (place - MIDDLE)^2
    LINE_B,
    LINE_C,
    MIDDLE,
    GROUND_NOISE,  # standard deviation of the ground, grey levels
    NOISE,  # of the tape's pixels, by the scatter of the slices' places, grey levels
    PIXEL_NOISE,  # what the fit leaves of them
    DISPLACED_SHARE,  # of the slices that look like the tape: those off its line
    MISSING,  # slices between the ends that are not the tape's
    HALF_WIDTH,  # found, px across the strip
    BLUR,  # found, px
    TAPER,  # found, px a slice
    LOOKED,  # 1: width, blur and taper were found in this picture; -1: and its smear is a guess
    AGE,  # how many pictures the look had been in use
) = range(23)
REPORT_SIZE = 23

# What is remembered of the strip's look, which changes slowly, if at all; and of what is odd: how
# much of it is usual, how many alike were odd of late, and what the last one was like. Odd are
# slices off the line, a change of curve, and another width.
OPTICS_HALF, OPTICS_BLUR, OPTICS_AGE, OPTICS_TAPER, ODD_SLICES, ODD_CHANGE, ODD_WIDTH = (
    0,
    1,
    2,
    3,
    4,
    7,
    10,
)
OPTICS_SIZE = 13

MIN_SLICES = 8
RANKED = 32  # values that tell a rank, about
BLIND_SMEAR_PX = 1.2  # motion blur to allow for where the motion is not known


@njit(cache=True, nogil=True)
def find_points(
    lines: Pixels,
    a: float,
    b: float,
    middle: float,
    first: int,
    last: int,
    step: int,
    half: float,
    widest: float,
    threshold: int,
    table: FloatArray,
) -> int:
    """Thresholded centroids of every ``step``-th slice within ``half`` of the line
    a + b (k - middle); returns how many.

    What is wider than ``widest``, in two parts, or reaches the window's end is not the strip.
    """
    count = 0
    end = lines.shape[1] - 1
    for k in range(first, last + 1, step):
        centre = a + b * (k - middle)
        low = max(0, math.ceil(centre - half))
        high = min(end, math.floor(centre + half))
        line = lines[k]
        total, moment, bright, begin, stop = np.int64(0), np.int64(0), 0, -1, -1
        for j in range(low, high + 1):
            excess = np.int64(line[j]) - threshold
            if excess > 0:
                total += excess
                moment += excess * (j - low)
                bright += 1
                begin = j if begin < 0 else begin
                stop = j
        whole = begin > low and stop < high and stop - begin <= bright
        if 2 <= bright <= widest and whole:
            table[count, PLACE] = k
            table[count, CENTROID] = low + moment / total
            count += 1
    return count


@njit(cache=True, nogil=True)
def thinned(values: FloatArray, n: int) -> int:
    """Keep some of the first n values, evenly, in front; returns how many. Ranks of a few are
    nearly those of all, and a search among many guesses wrong half the time."""
    every = 1 + n // RANKED
    kept = 0
    for i in range(0, n, every):
        values[kept] = values[i]
        kept += 1
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def smallest(values: FloatArray, n: int, rank: int) -> float:
    """The ``rank``-th smallest (from 0) of the first n values, a few dozen: how many are smaller
    is counted for one after the other. No branch depends on a value until it is found, so for so
    few this is several times as fast as any partition."""
    for i in range(n):
        value, below, upto = values[i], 0, 0
        for j in range(n):
            below += values[j] < value
            upto += values[j] <= value
        if below <= rank < upto:
            return float(value)
    return math.nan


@njit(cache=True, nogil=True, error_model="numpy")
def robust_line(
    table: FloatArray, n: int, middle: float, scratch: FloatArray
) -> tuple[float, float]:
    """(a, b) of centroid = a + b (place - middle): median slope of pairs half a strip apart."""
    gap = n // 2
    pairs = n - gap
    for i in range(pairs):
        rise = table[i + gap, CENTROID] - table[i, CENTROID]
        scratch[i] = rise / (table[i + gap, PLACE] - table[i, PLACE])
    b = smallest(scratch, pairs, pairs // 2)
    for i in range(n):
        scratch[i] = table[i, CENTROID] - b * (table[i, PLACE] - middle)
    return smallest(scratch, n, n // 2), b


@njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def parabola(
    table: FloatArray, n: int, middle: float, a: float, b: float, cut: float
) -> tuple[float, float, float, int]:
    """(a, b, c, inliers) of a Tukey-weighted parabola about the line (a, b).

    Beyond ``cut`` pixels a point counts nothing. Two rounds. A parabola, because the lens and the
    rolling shutter bend a straight pole.
    """
    c = 0.0
    inliers = 0
    per_px, per_cut = 2.0 / max(2.0, table[n - 1, PLACE] - table[0, PLACE]), 1.0 / cut
    for _ in range(2):
        s0, s1, s2, s3, s4, r0, r1, r2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        inliers = 0
        for i in range(n):
            t = table[i, PLACE] - middle
            r = table[i, CENTROID] - (a + t * (b + c * t))
            u = r * per_cut
            inside = max(0.0, 1.0 - u * u)
            inliers += inside > 0.0
            w = inside * inside
            t *= per_px
            wt = w * t
            wt2 = wt * t
            s0 += w
            s1 += wt
            s2 += wt2
            s3 += wt2 * t
            s4 += wt2 * t * t
            r0 += w * r
            r1 += wt * r
            r2 += wt2 * r
        if inliers < MIN_SLICES:
            return a, b, c, inliers
        a11, a12, b1 = s2 - s1 * s1 / s0, s3 - s1 * s2 / s0, r1 - s1 * r0 / s0
        a22, b2 = s4 - s2 * s2 / s0, r2 - s2 * r0 / s0
        det = a11 * a22 - a12 * a12
        db, dc = (a22 * b1 - a12 * b2) / det, (a11 * b2 - a12 * b1) / det
        a += (r0 - db * s1 - dc * s2) / s0
        b += db * per_px
        c += dc * per_px * per_px
    return a, b, c, inliers
