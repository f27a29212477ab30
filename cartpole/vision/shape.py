"""How wide the strip is and how soft its edges are, from some of its slices; compiled.

The vector ``shape`` (8,): half width and its change from the middle to the end, blur and its
change, smear at both ends, all across the strip [px], the factor by which a slice is longer than
the strip is wide, and what is known of the blur's change, 1 / variance for a noise of one grey
level [1 / px^2].
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels
from cartpole.vision.profile import (
    B1,
    BB,
    BY,
    D1,
    DB,
    DD,
    DW,
    DY,
    F1,
    FB,
    FD,
    FF,
    FW,
    FY,
    LEAST_SMEAR_PX,
    SUMS,
    W1,
    WB,
    WW,
    WY,
    Y1,
    YY,
    N,
    shape_sums,
    soft_edge,
    take,
    window,
)
from cartpole.vision.slices import CENTROID, MIN_SLICES, PLACE, smallest

SHAPE_SIZE, INFORMATION = 8, 7
LEAST_BLUR_PX, MOST_BLUR_PX = 0.7, 9.0
SHAPE_SLICES = 28  # that tell width and blur
SHAPE_SIGMAS = (0.6, 0.6, 1.5, 1.0)  # half width, its slope, blur, its slope: [px], end to middle
SHAPE_NOISE_DN = 3.0
MARGIN_PX = 1  # at the picture's edge: a blur that was computed has nothing to take in from there


@njit(cache=True, nogil=True, inline="always")
def across(line: FloatArray, place: float) -> float:
    t = place - line[3]
    value: float = line[0] + t * (line[1] + t * line[2])
    return value


@njit(cache=True, nogil=True, inline="always")
def half_at(shape: FloatArray, u: float) -> float:
    half: float = shape[6] * max(0.5, shape[0] + shape[1] * u)
    return half


@njit(cache=True, nogil=True, inline="always")
def blur_at(shape: FloatArray, u: float) -> float:
    blur: float = shape[6] * min(MOST_BLUR_PX, max(LEAST_BLUR_PX, shape[2] + shape[3] * u))
    return blur


@njit(cache=True, nogil=True, inline="always")
def smear_at(shape: FloatArray, u: float) -> float:
    smear: float = 0.5 * shape[6] * ((1.0 - u) * shape[4] + (1.0 + u) * shape[5])
    return max(LEAST_SMEAR_PX, abs(smear))


@njit(cache=True, nogil=True, error_model="numpy")
def _eliminate(s: FloatArray, out: FloatArray) -> bool:
    """Amplitude, place and what further columns have beyond amplitude, ground and place.

    ``s`` (SUMS,) of a slice; ``out`` (7,): amplitude, shift [px], left over, then the normal
    equations of half width and blur: WW, WB, BB are scaled by the amplitude. Their right sides
    replace ``s[WY]`` and ``s[BY]``.
    """
    # Cholesky of [[FF, F1, FD], [F1, N, D1], [FD, D1, DD]], then one forward substitution a column.
    l11 = math.sqrt(max(s[FF], 1e-12))
    l21, l31 = s[F1] / l11, s[FD] / l11
    l22 = math.sqrt(max(s[N] - l21 * l21, 1e-12))
    l32 = (s[D1] - l31 * l21) / l22
    rest = s[DD] - l31 * l31 - l32 * l32
    if rest <= 1e-9:
        return False
    l33 = math.sqrt(rest)
    y1 = s[FY] / l11
    y2 = (s[Y1] - l21 * y1) / l22
    y3 = (s[DY] - l31 * y1 - l32 * y2) / l33
    w1 = s[FW] / l11
    w2 = (s[W1] - l21 * w1) / l22
    w3 = (s[DW] - l31 * w1 - l32 * w2) / l33
    b1 = s[FB] / l11
    b2 = (s[B1] - l21 * b1) / l22
    b3 = (s[DB] - l31 * b1 - l32 * b2) / l33
    place = y3 / l33
    level = (y2 - l32 * place) / l22
    a = (y1 - l21 * level - l31 * place) / l11
    if a <= 0.0:
        return False
    out[0], out[1] = a, place / a
    out[2] = max(0.0, s[YY] - y1 * y1 - y2 * y2 - y3 * y3) / max(1.0, s[N] - 3.0)
    out[3] = a * a * (s[WW] - w1 * w1 - w2 * w2 - w3 * w3)
    out[4] = a * a * (s[WB] - w1 * b1 - w2 * b2 - w3 * b3)
    out[5] = a * a * (s[BB] - b1 * b1 - b2 * b2 - b3 * b3)
    s[WY] = a * (s[WY] - w1 * y1 - w2 * y2 - w3 * y3)
    s[BY] = a * (s[BY] - b1 * y1 - b2 * y2 - b3 * y3)
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _solve_shape(m: FloatArray, shape: FloatArray) -> None:
    """Change the shape by the solution of its normal equations ``m`` (4, 5), priors added."""
    for i in range(4):
        m[i, i] += (SHAPE_NOISE_DN / SHAPE_SIGMAS[i]) ** 2
        for j in range(i):
            m[i, j] = m[j, i]
    for i in range(4):
        for j in range(i + 1, 4):
            factor = m[j, i] / m[i, i]
            for k in range(i, 5):
                m[j, k] -= factor * m[i, k]
    shape[INFORMATION] = m[3, 3]  # what the others leave of it
    for i in range(3, -1, -1):
        for k in range(i + 1, 4):
            m[i, 4] -= m[i, k] * m[k, 4]
        m[i, 4] /= m[i, i]
    half, blur = shape[0], shape[2]
    shape[0] = min(1.5 * half, max(0.6 * half, half + m[0, 4]))
    shape[1] += min(0.4 * half, max(-0.4 * half, m[1, 4]))
    shape[2] = min(MOST_BLUR_PX, max(LEAST_BLUR_PX, min(2.5 * blur, blur + m[2, 4])))
    shape[3] = min(0.9 * shape[2], max(-0.9 * shape[2], shape[3] + m[3, 4]))


@njit(cache=True, nogil=True, error_model="numpy")
def fit_shape(
    lines: Pixels,
    line: FloatArray,
    first: int,
    last: int,
    shape: FloatArray,
    table: FloatArray,
    scratch: FloatArray,
    slices: int,
) -> int:
    """Improve the curve ``line`` (4,) and ``shape`` from some ``slices``;
    returns how many agree.

    ``shape``: half width and its change from the middle to the end, blur and its change, smear at
    both ends, all across the strip [px], and the factor by which a slice is longer than the strip
    is wide.
    """
    end = lines.shape[1] - 1
    step = max(1, (last - first + 1) // slices)
    reach = max(1.0, 0.5 * (last - first))
    middle = 0.5 * (first + last)
    s, out, values = np.empty(SUMS), np.empty(7), np.empty(end + 1)
    rows = np.empty((2 * slices + 2, 9))
    n = 0
    for k in range(first + step // 2, last + 1, step):
        u = (k - middle) / reach
        half, blur, smear = half_at(shape, u), blur_at(shape, u), smear_at(shape, u)
        centre = across(line, k)
        low, high = window(centre, half, soft_edge(blur, smear))
        if low < MARGIN_PX or high > end - MARGIN_PX or n >= rows.shape[0]:
            continue
        size = high - low + 1
        take(lines[k], low, size, values)
        shape_sums(values, low, size, centre, half, blur, smear, s)
        if not _eliminate(s, out):
            continue
        rows[n, 0], rows[n, 1] = k, centre + out[1]
        rows[n, 2], rows[n, 3] = out[0], out[2]
        rows[n, 4], rows[n, 5], rows[n, 6] = out[3], out[4], out[5]
        rows[n, 7], rows[n, 8] = s[WY], s[BY]
        n += 1
    if n < MIN_SLICES // 2:
        return 0
    for i in range(n):
        scratch[i] = rows[i, 2]
    # Most of the sweep is tape: the upper part's level is its light.
    light = smallest(scratch, n, (2 * n) // 3)
    m = 0
    for i in range(n):
        if 0.6 * light < rows[i, 2] < 1.5 * light:
            scratch[m] = rows[i, 3]
            m += 1
    usual = smallest(scratch, m, m // 2)
    normal = np.zeros((4, 5))
    count = 0
    for i in range(n):
        if not 0.6 * light < rows[i, 2] < 1.5 * light or rows[i, 3] > 4.0 * usual + 4.0:
            continue
        u = (rows[i, 0] - middle) / reach
        ww, wb, bb, wy, by = rows[i, 4], rows[i, 5], rows[i, 6], rows[i, 7], rows[i, 8]
        normal[0, 0] += ww
        normal[0, 1] += u * ww
        normal[0, 2] += wb
        normal[0, 3] += u * wb
        normal[1, 1] += u * u * ww
        normal[1, 3] += u * u * wb
        normal[2, 2] += bb
        normal[2, 3] += u * bb
        normal[3, 3] += u * u * bb
        normal[0, 4] += wy
        normal[1, 4] += u * wy
        normal[2, 4] += by
        normal[3, 4] += u * by
        table[count, PLACE], table[count, CENTROID] = rows[i, 0], rows[i, 1]
        count += 1
    normal[1, 2] = normal[0, 3]
    if count >= MIN_SLICES:
        # Unknowns are across the strip, the sums along the slice.
        for i in range(4):
            for j in range(4):
                normal[i, j] *= shape[6] * shape[6]
            normal[i, 4] *= shape[6]
        _solve_shape(normal, shape)
    return count
