"""Slices of a strip: sums over its pixels, and the line through them; compiled.

A slice is a row of the picture or a column; ``lines`` below is the picture or its transpose, so
that ``lines[k]`` is slice k. The table holds one row a slice.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.messages import FloatArray

Pixels = npt.NDArray[np.uint8]

# Columns of the table of slices: place along the slicing axis, centroid across it, light above
# ground, weight (0: dropped), sum over the window, its first pixel and pixel count, edge-weighted
# sum over the window, sums of the edge weights and of the edge weights times place.
PLACE, CENTROID, FLUX, WEIGHT, SUM, FIRST, COUNT, EDGES, EDGE_SUM, EDGE_MOMENT = range(10)
TABLE_COLUMNS = 10

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
    LIGHT,  # median light of a slice, grey levels x px
    LINE_A,  # centroid = A + B (place - MIDDLE) + C (place - MIDDLE)^2
    LINE_B,
    LINE_C,
    MIDDLE,
    GROUND_NOISE,  # standard deviation of the ground, grey levels
) = range(14)
REPORT_SIZE = 14

MIN_SLICES = 8
BAND_PX = 2  # pixels on each side of the window that tell the ground
EDGE_FALL_PX = 2.5  # edge weights are 1 within half the motion blur of an edge, 0 beyond this
BLIND_SMEAR_PX = 1.2  # motion blur to allow for where the motion is not known
WINDOW_PX = 2.0  # the window reaches this far beyond the edges


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


@njit(cache=True, nogil=True, fastmath=True)
def _edges(
    pixels: Pixels,
    low: int,
    size: int,
    centre: float,
    half_width: float,
    reach: float,
    per_fall: float,
    sums: FloatArray,
) -> None:
    """One slice's sums (4,): light, edge-weighted light, edge weights, edge weights times place.

    An edge weight is 1 within ``reach - 1`` falls of an edge and 0 beyond ``reach`` falls, smooth
    because it is sampled once a pixel; negative at the left edge. Within half a pixel of the axis
    the two pass into each other.
    """
    total, edges, edge_sum, edge_moment = 0.0, 0.0, 0.0, 0.0
    start = low - centre
    for j in range(size):
        value = float(pixels[low + j])
        off = start + j
        weight = min(1.0, max(0.0, reach - abs(abs(off) - half_width) * per_fall))
        weight *= weight * (3.0 - 2.0 * weight) * min(1.0, max(-1.0, 2.0 * off))
        total += value
        edges += weight * value
        edge_sum += weight
        edge_moment += weight * off
    sums[0], sums[1], sums[2], sums[3] = total, edges, edge_sum, edge_moment


@njit(cache=True, nogil=True)
def sweep(
    lines: Pixels,
    line: FloatArray,
    first: int,
    last: int,
    profile: tuple[float, float, float, float],
    threshold: int,
    table: FloatArray,
    ground: FloatArray,
) -> int:
    """Sums in a narrow window; the ground of both sides into ``ground``: (left mean, right mean,
    variance, distance between the sides).

    ``line`` is (a, b, c, middle); ``profile`` the half width, the motion blur at ``first`` and at
    ``last``, and the factor by which a slice is longer than the strip is wide. Returns the number
    of slices.
    """
    count = 0
    end = lines.shape[1] - 1
    left, right, squares = np.int64(0), np.int64(0), np.int64(0)
    n_left, n_right = 0, 0
    half_width, oblique = profile[0] * profile[3], profile[3]
    windows = 0.0
    sums = np.empty(4)
    for k in range(first, last + 1):
        t = k - line[3]
        centre = line[0] + t * (line[1] + t * line[2])
        share = (k - first) / max(1, last - first)
        smear = 0.5 * (profile[1] + share * (profile[2] - profile[1])) * oblique
        half = half_width + smear + WINDOW_PX * oblique
        low, high = math.ceil(centre - half), math.floor(centre + half)
        table[count, PLACE] = k
        table[count, FIRST] = low
        table[count, COUNT] = high - low + 1
        if low < 0 or high > end:
            table[count, WEIGHT] = 0.0
            table[count, SUM] = -1.0
            count += 1
            continue
        pixels = lines[k]
        fall = EDGE_FALL_PX * oblique
        size = high - low + 1
        _edges(pixels, low, size, centre, half_width, smear / fall + 1.0, 1.0 / fall, sums)
        for j in range(max(0, low - BAND_PX), low):
            value = np.int64(pixels[j])
            if value < threshold:
                left += value
                squares += value * value
                n_left += 1
        for j in range(high + 1, min(end, high + BAND_PX) + 1):
            value = np.int64(pixels[j])
            if value < threshold:
                right += value
                squares += value * value
                n_right += 1
        windows += 2.0 * half + BAND_PX
        # Light beside the strip is not the strip's.
        beside = pixels[low] >= threshold or pixels[high] >= threshold
        table[count, WEIGHT] = 0.0 if beside else 1.0
        table[count, SUM], table[count, EDGES] = sums[0], sums[1]
        table[count, EDGE_SUM], table[count, EDGE_MOMENT] = sums[2], sums[3]
        count += 1
    mean = (left + right) / max(1, n_left + n_right)
    ground[0] = left / n_left if n_left > 0 else mean
    ground[1] = right / n_right if n_right > 0 else mean
    ground[2] = max(0.0, squares / max(1, n_left + n_right) - mean * mean)
    ground[3] = max(1.0, windows / max(1, count))
    return count


@njit(cache=True, nogil=True)
def centroids(
    table: FloatArray, n: int, line: FloatArray, width: float, ground: FloatArray
) -> None:
    """Light above the ground, a level with a slope across the strip, and where it lies.

    ``width`` is the strip's along a slice. Moving an edge by d brings its brightness times d into
    the edge-weighted sum, and both edges move together.
    """
    level = 0.5 * (ground[0] + ground[1])
    slope = (ground[1] - ground[0]) / ground[3]
    for i in range(n):
        if table[i, SUM] < 0.0:
            table[i, FLUX] = 0.0
            continue
        flux = table[i, SUM] - level * table[i, COUNT]
        edges = table[i, EDGES] - level * table[i, EDGE_SUM] - slope * table[i, EDGE_MOMENT]
        t = table[i, PLACE] - line[3]
        table[i, FLUX] = flux
        table[i, CENTROID] = line[0] + t * (line[1] + t * line[2])
        if flux > 0.0:
            table[i, CENTROID] += 0.5 * edges * width / flux
