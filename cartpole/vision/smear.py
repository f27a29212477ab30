"""The pole's rate from how far its edges smear while it is exposed; compiled.

A point of the pole at distance rho from the pivot moves across it by s = T (omega rho + v cos
theta) during the exposure T, so the edges there are a step blurred by the optics and smeared by a
box of width s: their variance is V = B + s^2 / 12, B the optics'. What the pixels of a slice say of
its width and of V is even about its middle, what they say of the middle is odd: so this is a second
measurement beside the skew of a rolling shutter (``pose.py``), of the same rate. Light and ground
are each few slices' own; unknown are the tape's width and taper, the blur, v and omega: v is nearly
known, and where nothing smears s says nothing of omega, since dV / d omega goes with s.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.edges import (
    B1,
    BB,
    BV,
    BY,
    F1,
    FB,
    FF,
    FV,
    FW,
    FY,
    SIGMAS,
    SUMS,
    V1,
    VV,
    VY,
    W1,
    WB,
    WV,
    WW,
    WY,
    Y1,
    N,
    edge_sums,
)
from cartpole.vision.frame import Pixels
from cartpole.vision.geometry import unproject
from cartpole.vision.layout import (
    EXPOSURE,
    FAR_X,
    FAR_Y,
    HEIGHT,
    NEAR_X,
    NEAR_Y,
    OMEGA,
    PIVOT,
    PIVOT_ERROR,
    PIVOT_RATE,
    RATE,
    RATE_ERROR,
    READOUT,
    SIGMA_SPEED,
    SPEED,
    THETA,
    THETA_ERROR,
    THETA_PIVOT,
    THETA_RATE,
)
from cartpole.vision.points import metres, slicing_direction
from cartpole.vision.profile import LEAST_SMEAR_PX
from cartpole.vision.shape import LEAST_BLUR_PX, MARGIN_PX
from cartpole.vision.slices import (
    BLUR,
    CENTROID,
    GROUND_NOISE,
    HALF_WIDTH,
    LINE_B,
    PIXEL_NOISE,
    PLACE,
    SLICES,
    STEEP,
    TAPER,
    WEIGHT,
)

WORTH_PX = 0.7  # of smear at the far end: less says less than the skew
OVERLAP_PX = 0.8  # of a slice's two edges: with more its light is not one of edges
# How well the edges' variance is known [px^2] where they smear, by where they do not: optics have
# another kernel, pixels are too coarse for it; less where all of an edge meets the pixels alike.
SHAPE_ERROR_PX2, RASTER_ERROR_PX2, RASTER_SLOPE = 0.009, 0.022, 0.15
SMEARED = 0.7  # of the far end's smear is the smear of slices that tell the rate
FAR_OFF = 4.0  # sigmas between two measurements of one rate: then the picture's edges lie
TOGETHER = 4  # neighbouring slices that share light and ground, width and smear
GROUND_PX = 0.5  # beyond an edge's foot

# The unknowns: half width in the middle, its change to the end, blur [px across], v, omega.
AT_WIDTH, AT_TAPER, AT_BLUR, AT_SPEED, AT_OMEGA = range(5)
UNKNOWNS = 5
# A slice at place k is RHO + RHO_BY k [m] along the pole, where a metre across the pole is SCALE +
# SCALE_BY k pixels along the slice, OBLIQUE times as many as across the strip; lines are exposed
# LATER [s a pixel] in the direction in which the angle grows; TIP [px] is the far end's smear,
# LEVER [px s] what a rate adds to it.
RHO, RHO_BY, SCALE, SCALE_BY, COSINE, LATER, OBLIQUE, TIP, LEVER = range(9)
WAYS = 9


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _beyond(s: FloatArray, det: float, fa: int, a1: int, fb: int, b1: int, ab: int) -> float:
    """The product of two columns, of what they have beyond light and ground."""
    of_f = (s[N] * s[fa] - s[F1] * s[a1]) / det
    of_one = (s[FF] * s[a1] - s[F1] * s[fa]) / det
    return float(s[ab] - of_f * s[fb] - of_one * s[b1])


@njit(cache=True, nogil=True, error_model="numpy")
def _add_slices(s: FloatArray, row: FloatArray, normal: FloatArray) -> None:
    """Some slices' sums into the normal equations (UNKNOWNS, UNKNOWNS + 1), their light and ground
    eliminated; ``row`` (UNKNOWNS,): the unknowns' shares in half width, blur and variance."""
    det = s[FF] * s[N] - s[F1] * s[F1]
    if det <= 1e-6:
        return
    light = (s[N] * s[FY] - s[F1] * s[Y1]) / det
    squared = light * light
    ww, wb = _beyond(s, det, FW, W1, FW, W1, WW), _beyond(s, det, FW, W1, FB, B1, WB)
    wv, bb = _beyond(s, det, FW, W1, FV, V1, WV), _beyond(s, det, FB, B1, FB, B1, BB)
    bv, vv = _beyond(s, det, FB, B1, FV, V1, BV), _beyond(s, det, FV, V1, FV, V1, VV)
    wy, by = _beyond(s, det, FW, W1, FY, Y1, WY), _beyond(s, det, FB, B1, FY, Y1, BY)
    vy = _beyond(s, det, FV, V1, FY, Y1, VY)
    for i in range(UNKNOWNS):
        for j in range(i, UNKNOWNS):
            if i < AT_BLUR:
                product = ww if j < AT_BLUR else (wb if j == AT_BLUR else wv)
            elif i == AT_BLUR:
                product = bb if j == AT_BLUR else bv
            else:
                product = vv
            normal[i, j] += squared * row[i] * row[j] * product
        y = wy if i < AT_BLUR else (by if i == AT_BLUR else vy)
        normal[i, UNKNOWNS] += light * row[i] * y


@njit(cache=True, nogil=True, error_model="numpy")
def _solve(normal: FloatArray, at: FloatArray) -> float:
    """Change the unknowns ``at`` (UNKNOWNS,) by the solution of their normal equations; the
    rate's variance, infinite if there is none."""
    n = UNKNOWNS
    for i in range(n):
        for j in range(i):
            normal[i, j] = normal[j, i]
    for i in range(n):
        if not normal[i, i] > 0.0:
            return math.inf
        for j in range(i + 1, n):
            factor = normal[j, i] / normal[i, i]
            for k in range(i, n + 1):
                normal[j, k] -= factor * normal[i, k]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            normal[i, n] -= normal[i, k] * normal[k, n]
        normal[i, n] /= normal[i, i]
        at[i] += normal[i, n]
    # The rate comes last: what is left of it when all others are eliminated is its information.
    variance: float = 1.0 / normal[n - 1, n - 1]
    return variance


@njit(cache=True, nogil=True, error_model="numpy")
def _lay_out(
    report: FloatArray, prior: FloatArray, pose: FloatArray, g: FloatArray, way: FloatArray
) -> None:
    """Where the pole is along the slices, into ``way`` (WAYS,)."""
    near, far = pose[NEAR_X], pose[FAR_X]
    if report[STEEP] > 0.0:
        near, far = pose[NEAR_Y], pose[FAR_Y]
    sine, cosine = math.sin(pose[THETA]), math.cos(pose[THETA])
    x0, y0 = unproject(pose[NEAR_X], pose[NEAR_Y], g)
    x1, y1 = unproject(pose[FAR_X], pose[FAR_Y], g)
    rho0 = (x0 - pose[PIVOT]) * sine - y0 * cosine
    rho1 = (x1 - pose[PIVOT]) * sine - y1 * cosine
    scale0, scale1 = 1.0 / metres(near, report, g), 1.0 / metres(far, report, g)
    per_slice = 1.0 / (far - near)
    way[RHO_BY], way[SCALE_BY] = (rho1 - rho0) * per_slice, (scale1 - scale0) * per_slice
    way[RHO], way[SCALE] = rho0 - near * way[RHO_BY], scale0 - near * way[SCALE_BY]
    way[COSINE], way[LATER] = cosine, 0.0
    if report[STEEP] == 0.0:
        right, up = slicing_direction(report, g)
        later = prior[READOUT] / max(1.0, prior[HEIGHT] - 1.0)
        way[LATER] = math.copysign(later, right * cosine + up * sine)
    speed = scale1 * (prior[OMEGA] * rho1 + prior[SPEED] * cosine)
    way[OBLIQUE] = math.sqrt(1.0 + report[LINE_B] ** 2)
    way[TIP] = abs(speed) * prior[EXPOSURE] / way[OBLIQUE]
    way[LEVER] = abs(scale1 * rho1) * prior[EXPOSURE] / way[OBLIQUE]


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(
    lines: Pixels,
    table: FloatArray,
    n: int,
    way: FloatArray,
    exposure: float,
    at: FloatArray,
    normal: FloatArray,
) -> None:
    """The slices' sums about the unknowns ``at``, into the normal equations."""
    first, end, oblique = int(table[0, PLACE]), lines.shape[1] - 1, way[OBLIQUE]
    middle, reach = first + 0.5 * (n - 1), max(1.0, 0.5 * (n - 1))
    blur = max(LEAST_BLUR_PX, at[AT_BLUR])
    values = np.empty(TOGETHER * (end + 1), np.float32)
    places = np.empty(TOGETHER * (end + 1), np.float32)
    s, row = np.empty(SUMS), np.empty(UNKNOWNS)
    for start in range(0, n, TOGETHER):
        stop = min(n, start + TOGETHER)
        place = first + 0.5 * (start + stop - 1)
        u = (place - middle) / reach
        rho, scale = way[RHO] + way[RHO_BY] * place, way[SCALE] + way[SCALE_BY] * place
        speed = at[AT_OMEGA] * rho + at[AT_SPEED] * way[COSINE]
        # What moves along a slice meets lines that are exposed later and later.
        moved = exposure * scale / (1.0 - scale * speed * way[LATER])
        smear, half = moved * speed, at[AT_WIDTH] + at[AT_TAPER] * u
        wide = max(LEAST_SMEAR_PX, abs(smear))
        if blur + 0.5 * wide / oblique > half + OVERLAP_PX:
            continue
        around = oblique * (half + blur) + 0.5 * wide + GROUND_PX
        size = 0
        for i in range(start, stop):
            centre = table[i, CENTROID]
            low, high = math.ceil(centre - around), math.floor(centre + around)
            if table[i, WEIGHT] <= 0.0 or low < MARGIN_PX or high > end - MARGIN_PX:
                continue
            line, begin = lines[first + i], np.float32(low - centre)
            for j in range(high - low + 1):
                values[size + j], places[size + j] = line[low + j], begin + np.float32(j)
            size += high - low + 1
        if size == 0:
            continue
        edge_sums(values[:size], places[:size], oblique * half, oblique * blur, wide, s)
        row[AT_WIDTH], row[AT_TAPER], row[AT_BLUR] = oblique, oblique * u, oblique
        row[AT_SPEED] = smear * moved / 6.0 * way[COSINE]
        row[AT_OMEGA] = smear * moved / 6.0 * rho
        _add_slices(s, row, normal)


@njit(cache=True, nogil=True, error_model="numpy")
def rate_of_smear(
    lines: Pixels,
    table: FloatArray,
    report: FloatArray,
    prior: FloatArray,
    pose: FloatArray,
    g: FloatArray,
) -> tuple[float, float]:
    """(rate [rad/s], its variance), infinite where the smear says too little. One step of Gauss
    and Newton: what was known is nearly right, a second one moves nothing."""
    way = np.empty(WAYS)
    _lay_out(report, prior, pose, g, way)
    if not way[TIP] > WORTH_PX:
        return 0.0, math.inf
    n = int(report[SLICES])
    widening = math.copysign(0.5, way[RHO_BY]) * (n - 1)
    at, normal = np.empty(UNKNOWNS), np.empty((UNKNOWNS, UNKNOWNS + 1))
    at[AT_WIDTH], at[AT_TAPER] = report[HALF_WIDTH], report[TAPER] * widening
    at[AT_BLUR] = SIGMAS / math.sqrt(7.0) * report[BLUR]
    at[AT_SPEED], at[AT_OMEGA] = prior[SPEED], prior[OMEGA]
    noise = max(report[PIXEL_NOISE], report[GROUND_NOISE])
    normal[:] = 0.0
    _gather(lines, table, n, way, prior[EXPOSURE], at, normal)
    for i in range(UNKNOWNS):
        for j in range(UNKNOWNS + 1):
            normal[i, j] /= noise * noise
    normal[AT_SPEED, AT_SPEED] += 1.0 / prior[SIGMA_SPEED] ** 2
    variance = _solve(normal, at)
    aligned = max(0.0, 1.0 - abs(report[LINE_B]) / RASTER_SLOPE)
    # By V = B + s^2 / 12.
    error = math.hypot(SHAPE_ERROR_PX2, RASTER_ERROR_PX2 * aligned)
    error *= 6.0 / (SMEARED * SMEARED * way[TIP] * way[LEVER])
    return at[AT_OMEGA], variance + error * error


@njit(cache=True, nogil=True, error_model="numpy")
def _combine(rate: float, variance: float, pose: FloatArray) -> None:
    """A second measurement of the rate into the pose and its errors: a Kalman update."""
    e0, e1, e3 = pose[THETA_ERROR], pose[PIVOT_ERROR], pose[RATE_ERROR]
    c00, c11, c33 = e0 * e0, e1 * e1, e3 * e3
    c01, c03, c13 = (
        pose[THETA_PIVOT] * e0 * e1,
        pose[THETA_RATE] * e0 * e3,
        pose[PIVOT_RATE] * e1 * e3,
    )
    total, off = c33 + variance, rate - pose[RATE]
    if not off * off < FAR_OFF * FAR_OFF * total:
        return
    pose[THETA] += c03 / total * off
    pose[PIVOT] += c13 / total * off
    pose[RATE] += c33 / total * off
    c00, c11, c01 = c00 - c03 * c03 / total, c11 - c13 * c13 / total, c01 - c03 * c13 / total
    left = variance / total
    c03, c13, c33 = c03 * left, c13 * left, c33 * left
    e0, e1, e3 = math.sqrt(c00), math.sqrt(c11), math.sqrt(c33)
    pose[THETA_ERROR], pose[PIVOT_ERROR], pose[RATE_ERROR] = e0, e1, e3
    pose[THETA_PIVOT], pose[THETA_RATE] = c01 / (e0 * e1), c03 / (e0 * e3)
    pose[PIVOT_RATE] = c13 / (e1 * e3)


@njit(cache=True, nogil=True)
def use_smear(
    frame: Pixels,
    table: FloatArray,
    report: FloatArray,
    prior: FloatArray,
    pose: FloatArray,
    g: FloatArray,
) -> None:
    """Improve the rate of a pose just solved by the smear of its edges, where that says something;
    arguments as of :func:`cartpole.vision.pose.solve_pose`."""
    lines = frame[::1, ::1]
    if report[STEEP] == 0.0:
        lines = lines.T
    rate, variance = rate_of_smear(lines, table, report, prior, pose, g)
    if math.isfinite(variance):
        _combine(rate, variance, pose)
