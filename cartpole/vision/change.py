"""Whether a strip is one curve, or two that change over at one slice; compiled.

What bends a straight pole - the lens, a rolling shutter, settings of both that are wrong - bends it
smoothly, and a cubic follows. A picture put together from two does not: from one slice on place and
slope are others. For every slice of the strip the step and the change of slope there are fitted
beside the cubic, and the best of them is held against what is left over:

    F = (chi2 of the cubic - chi2 with the change) / 2 / (chi2 with the change / freedom)

(the F-test for one break at an unknown place: Quandt, JASA 55, 1960; Andrews, Econometrica 61,
1993). It needs no noise level, and says nothing of how well a curve fits as a whole.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.slices import CENTROID, LINE_A, LINE_B, LINE_C, MIDDLE, PLACE, SLICES, WEIGHT

CUBIC = 4  # coefficients
LEAST_SIDE = 5  # slices on either side of a change
RASTER_PX = 8.0  # a strip that crosses fewer from end to end lies along them


@njit(cache=True, nogil=True, inline="always")
def is_along(report: FloatArray) -> bool:
    """Whether a strip lies along the pixels, or their diagonals: every slice shows it at nearly the
    same part of one, and what the raster does to its place does not change from slice to slice."""
    slope = abs(report[LINE_B])
    along: bool = min(slope, abs(1.0 - slope)) * report[SLICES] < RASTER_PX
    return along


@njit(cache=True, nogil=True, error_model="numpy")
def _cholesky(moments: FloatArray, low: FloatArray) -> bool:
    """Of the Hankel matrix of ``moments`` (2 CUBIC - 1,), into ``low`` (CUBIC, CUBIC), whose
    diagonal then holds its inverse values."""
    for i in range(CUBIC):
        for j in range(i + 1):
            total = moments[i + j]
            for k in range(j):
                total -= low[i, k] * low[j, k]
            if i > j:
                low[i, j] = total * low[j, j]
            elif total > 1e-12 * moments[0]:
                low[i, i] = 1.0 / math.sqrt(total)
            else:
                return False
    return True


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _forward(low: FloatArray, right: FloatArray, first: int, out: FloatArray) -> None:
    """low out = right[first: first + CUBIC]."""
    for i in range(CUBIC):
        total = right[first + i]
        for k in range(i):
            total -= low[i, k] * out[k]
        out[i] = total * low[i, i]


@njit(cache=True, nogil=True, error_model="numpy")
def change(
    table: FloatArray, report: FloatArray, least_px: float, scratch: FloatArray
) -> tuple[float, float]:
    """How much better two curves explain the strip than one: the largest F, 0 if it explains less
    than ``least_px`` (rms); and from which place on the second one holds.

    Args:
        table, report: from :func:`cartpole.vision.strip.measure_strip`; slices with weight count.
        scratch: (>= 3 slices,) working memory.
    """
    n, size = int(report[SLICES]), scratch.shape[0] // 3
    places, off, weights = scratch[:size], scratch[size : 2 * size], scratch[2 * size :]
    scale = 1.0 / max(1.0, 0.5 * n)
    m = 0
    moments, right, square = np.zeros(2 * CUBIC - 1), np.zeros(CUBIC), 0.0
    for i in range(n):
        w = table[i, WEIGHT]
        if w > 0.0:
            t = table[i, PLACE] - report[MIDDLE]
            r = table[i, CENTROID] - report[LINE_A] - t * (report[LINE_B] + t * report[LINE_C])
            u = t * scale
            places[m], off[m], weights[m] = u, r, w
            m += 1
            square += w * r * r
            for k in range(2 * CUBIC - 1):
                moments[k] += w
                if k < CUBIC:
                    right[k] += w * r
                w *= u
    low, curve = np.zeros((CUBIC, CUBIC)), np.empty(CUBIC)
    if m < 2 * LEAST_SIDE + CUBIC or not _cholesky(moments, low):
        return 0.0, 0.0
    _forward(low, right, 0, curve)
    for i in range(CUBIC):
        square -= curve[i] * curve[i]
    for i in range(CUBIC - 1, -1, -1):
        for k in range(i + 1, CUBIC):
            curve[i] -= low[k, i] * curve[k]
        curve[i] *= low[i, i]
    best, place = 0.0, 0.0
    later, step, slope = np.zeros(CUBIC + 1), np.empty(CUBIC), np.empty(CUBIC)
    r0, r1 = 0.0, 0.0
    for i in range(m - 1, LEAST_SIDE - 1, -1):
        u, w = places[i], weights[i]
        e = w * (off[i] - (curve[0] + u * (curve[1] + u * (curve[2] + u * curve[3]))))
        r0 += e
        r1 += e * u
        for k in range(CUBIC + 1):
            later[k] += w
            w *= u
        if m - i < LEAST_SIDE:
            continue
        _forward(low, later, 0, step)
        _forward(low, later, 1, slope)
        g00, g01, g11 = later[0], later[1], later[2]
        for k in range(CUBIC):
            g00 -= step[k] * step[k]
            g01 -= step[k] * slope[k]
            g11 -= slope[k] * slope[k]
        det = g00 * g11 - g01 * g01
        if det > 1e-9 * g00 * g11:
            better = (g11 * r0 * r0 - 2.0 * g01 * r0 * r1 + g00 * r1 * r1) / det
            if better > best:
                best, place = better, u / scale + report[MIDDLE]
    if best < least_px * least_px * moments[0]:
        return 0.0, place
    return 0.5 * best * (m - CUBIC - 2.0) / max(1e-9, square - best), place
