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
) = range(20)
REPORT_SIZE = 20

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


@njit(cache=True, nogil=True)
def smallest(values: FloatArray, n: int, rank: int) -> float:
    """The ``rank``-th smallest (from 0) of the first n values; reorders them (Hoare's find)."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[rank]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < rank:
            low = i
        if rank < i:
            high = j
    return float(values[rank])


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def parabola(
    table: FloatArray, n: int, middle: float, a: float, b: float, cut: float
) -> tuple[float, float, float, int]:
    """(a, b, c, inliers) of a Tukey-weighted parabola about the line (a, b).

    Beyond ``cut`` pixels a point counts nothing. Two rounds. A parabola, because the lens and the
    rolling shutter bend a straight pole.
    """
    c = 0.0
    inliers = 0
    reach = max(1.0, 0.5 * (table[n - 1, PLACE] - table[0, PLACE]))
    m = np.zeros((3, 4))
    for _ in range(2):
        m[:] = 0.0
        inliers = 0
        for i in range(n):
            t = (table[i, PLACE] - middle) / reach
            r = table[i, CENTROID] - (a + reach * t * (b + c * reach * t))
            u = r / cut
            if abs(u) >= 1.0:
                continue
            inliers += 1
            w = (1.0 - u * u) ** 2
            t2 = t * t
            m[0, 0] += w
            m[0, 1] += w * t
            m[0, 2] += w * t2
            m[1, 2] += w * t2 * t
            m[2, 2] += w * t2 * t2
            m[0, 3] += w * r
            m[1, 3] += w * r * t
            m[2, 3] += w * r * t2
        if inliers < MIN_SLICES:
            return a, b, c, inliers
        m[1, 1], m[1, 0], m[2, 0], m[2, 1] = m[0, 2], m[0, 1], m[0, 2], m[1, 2]
        for i in range(3):
            for j in range(i + 1, 3):
                factor = m[j, i] / m[i, i]
                for k in range(i, 4):
                    m[j, k] -= factor * m[i, k]
        dc = m[2, 3] / m[2, 2]
        db = (m[1, 3] - m[1, 2] * dc) / m[1, 1]
        a += (m[0, 3] - m[0, 1] * db - m[0, 2] * dc) / m[0, 0]
        b += db / reach
        c += dc / (reach * reach)
    return a, b, c, inliers
