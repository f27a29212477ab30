"""From the strip's axis in the picture to the pole's angle, pivot and rate, compiled.

Every line of a rolling-shutter picture has its own time, so the axis points belong to a pole that
turned and moved while they were read. With tau a point's time, the pole's angle
theta_tau = theta + omega tau and its pivot (x + v tau, y), a point (X, Y) of the axis and an end of
the tape leave

    across = (X - x - v tau) cos theta_tau + (Y - y) sin theta_tau
    along  = (X - x - v tau) sin theta_tau - (Y - y) cos theta_tau - distance of the end

and theta, x, y, omega, v are what makes all of them least, in the measure of their errors, together
with what was known of y and v: Gauss-Newton on five unknowns, and the covariance of all of them.
A pole that turns while it is exposed does not bend, but a slice that cuts it obliquely sees it
farther out on one side of its swing than on the other. With e the slice's direction, a along the
pole, n across it, k = e a / e n, and rho the distance from the pivot, the line is at

    n = (omega rho + v_n) t + omega (k (omega rho + v_n) - v_a) t^2 + ...

over the exposure T its middle is off by the second term's mean, with t^2 at T^2 / 12; a fit sees
less of that the more of an edge is smear, since it looks to the edge's middle most.
The rate bends the axis; the cart's speed only turns it, so it is taken from what was known. The
pose is told for the time at which the angle's error has nothing to do with the rate's.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.layout import (
    CHI2,
    END_SIGMA_PX,
    ENDS_SEEN,
    EXPECT_P,
    EXPOSURE,
    FAR_X,
    FAR_Y,
    LENGTH,
    NEAR_X,
    NEAR_Y,
    OMEGA,
    PIVOT,
    PIVOT_ERROR,
    PIVOT_RATE,
    PX_PER_M,
    RATE,
    RATE_ERROR,
    SEEN,
    SIGMA_P,
    SIGMA_SPEED,
    SPEED,
    TAPE_END,
    TAPE_START,
    THETA,
    THETA_ERROR,
    THETA_PIVOT,
    THETA_RATE,
    TIME,
    TRACK_FIT_SIGMA_M,
)
from cartpole.vision.orient import Pair, end_sigmas, orient
from cartpole.vision.points import (
    DELAY,
    POINT_WEIGHT,
    X,
    Y,
    slicing_direction,
    strip_end,
    to_rig,
    total_axis,
)
from cartpole.vision.shape import LEAST_BLUR_PX
from cartpole.vision.slices import (
    BLUR,
    SLICES,
    START,
    START_SEEN,
    STOP,
    STOP_SEEN,
    WEIGHT,
)

# What a model of light, lens and track that is only nearly right adds: independent of noise.
MODEL_SIGMA_PX = 0.002
CHANCE = 0.5  # standard deviations of chi-square that a fit may be worse without a word
MIN_POINTS = 3
STEPS = 2  # of Gauss and Newton: the axis is nearly right, a third one moves nothing
UNKNOWNS = 5  # theta, x, y, omega, v
FREE_RATE = 300.0  # rad/s: beyond any rig; keeps a rate that was not seen finite
FREE_PLACE_M = 3.0
UNSEEN_SWING = 0.25  # of a smeared edge's bend

Row = tuple[float, float, float, float, float]  # derivatives by the unknowns


@njit(cache=True, nogil=True, error_model="numpy")
def _add(h: FloatArray, row: Row, residual: float, weight: float) -> None:
    """One observation into the normal equations (UNKNOWNS, UNKNOWNS + 1)."""
    for i in range(UNKNOWNS):
        wi = weight * row[i]
        for j in range(i, UNKNOWNS):
            h[i, j] += wi * row[j]
        h[i, UNKNOWNS] -= wi * residual


@njit(cache=True, nogil=True, error_model="numpy")
def _invert(h: FloatArray, low: FloatArray, inverse: FloatArray) -> bool:
    """Inverse of a positive definite matrix given by its upper triangle, by Cholesky, whose factor
    ``low`` receives."""
    n = UNKNOWNS
    for j in range(n):
        for i in range(j, n):
            total = h[j, i]
            for k in range(j):
                total -= low[i, k] * low[j, k]
            if i == j:
                if not total > 0.0:
                    return False
                low[j, j] = math.sqrt(total)
            else:
                low[i, j] = total / low[j, j]
    for column in range(n):
        for i in range(n):
            total = 1.0 if i == column else 0.0
            for k in range(i):
                total -= low[i, k] * inverse[k, column]
            inverse[i, column] = total / low[i, i]
        for i in range(n - 1, -1, -1):
            total = inverse[i, column]
            for k in range(i + 1, n):
                total -= low[k, i] * inverse[k, column]
            inverse[i, column] = total / low[i, i]
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _step(
    points: FloatArray,
    n: int,
    ends: FloatArray,
    end_sigma: Pair,
    prior: FloatArray,
    slicing: Pair,
    blur: float,
    q: FloatArray,
    covariance: FloatArray,
    work: FloatArray,
) -> float:
    """One Gauss-Newton step of ``q`` (UNKNOWNS,); the points' chi-square after it as far as they
    are linear, NaN: singular.

    ``ends`` (2, 3) are rows (x, y, delay) of the near and far end; a sigma of 0: not seen.
    ``slicing`` is the slices' direction in the rig's plane, ``blur`` that of the edges [px].
    ``work`` (4, UNKNOWNS, UNKNOWNS + 1) is memory: taking it anew costs as much as the sums.
    """
    h, of_points, low, change = work[0], work[1], work[2], work[3, 0]
    for i in range(UNKNOWNS):
        change[i] = 0.0
        for j in range(UNKNOWNS + 1):
            h[i, j] = 0.0
    theta, x, y, omega, v = q[0], q[1], q[2], q[3], q[4]
    chi2 = 0.0
    sine0, cosine0 = math.sin(theta), math.cos(theta)
    blurred = (max(LEAST_BLUR_PX, blur) / prior[PX_PER_M]) ** 2
    exposed = prior[OMEGA] * prior[EXPOSURE] * prior[EXPOSURE] / 12.0
    tilt = (slicing[0] * sine0 - slicing[1] * cosine0) / (slicing[0] * cosine0 + slicing[1] * sine0)
    ahead = prior[SPEED] * sine0
    for i in range(n):
        tau = points[i, DELAY]
        # The turn is a few hundredths: series are exact enough, and fast.
        turn = omega * tau
        square = turn * turn
        s, c = turn * (1.0 - square / 6.0), 1.0 - square * (0.5 - square / 24.0)
        sine, cosine = sine0 * c + cosine0 * s, cosine0 * c - sine0 * s
        dx, dy = points[i, X] - x - v * tau, points[i, Y] - y
        across, along = dx * cosine + dy * sine, dx * sine - dy * cosine
        fast = prior[OMEGA] * along + prior[SPEED] * cosine0
        smeared = 7.0 / 12.0 * (fast * prior[EXPOSURE]) ** 2
        seen = 1.0 - UNSEEN_SWING * smeared / (smeared + blurred)
        across -= seen * exposed * (tilt * fast - ahead)
        weight = points[i, POINT_WEIGHT]
        chi2 += weight * across * across
        _add(h, (-along, -cosine, -sine, -along * tau, -cosine * tau), across, weight)
    for i in range(UNKNOWNS):
        for j in range(i, UNKNOWNS + 1):
            of_points[i, j] = h[i, j]
    for i in range(2):
        if end_sigma[i] <= 0.0:
            continue
        tau = ends[i, 2]
        sine, cosine = math.sin(theta + omega * tau), math.cos(theta + omega * tau)
        dx, dy = ends[i, 0] - x - v * tau, ends[i, 1] - y
        across, along = dx * cosine + dy * sine, dx * sine - dy * cosine
        row = (across, -sine, cosine, across * tau, -sine * tau)
        _add(h, row, along - prior[TAPE_START + i], 1.0 / end_sigma[i] ** 2)
    known = (
        (1, x, prior[EXPECT_P] if math.isfinite(prior[SIGMA_P]) else x, FREE_PLACE_M),
        (2, y, 0.0, TRACK_FIT_SIGMA_M),
        (3, omega, prior[OMEGA], FREE_RATE),
        (4, v, prior[SPEED], prior[SIGMA_SPEED]),
    )
    for i, value, expected, sigma in known:
        weight = 1.0 / sigma**2
        h[i, i] += weight
        h[i, UNKNOWNS] -= weight * (value - expected)
    if not _invert(h, low, covariance):
        return math.nan
    for i in range(UNKNOWNS):
        for j in range(UNKNOWNS):
            change[i] += covariance[i, j] * h[j, UNKNOWNS]
        q[i] += change[i]
    for i in range(UNKNOWNS):
        chi2 += change[i] * (change[i] * of_points[i, i] - 2.0 * of_points[i, UNKNOWNS])
        for j in range(i + 1, UNKNOWNS):
            chi2 += 2.0 * change[i] * change[j] * of_points[i, j]
    return max(0.0, chi2)


@njit(cache=True, nogil=True, error_model="numpy")
def _tell(
    q: FloatArray, covariance: FloatArray, span: float, prior: FloatArray, pose: FloatArray
) -> None:
    """The pose when its angle has least to do with its rate, ``span`` seconds away at most."""
    time = 0.0
    if covariance[3, 3] > 0.0:
        time = -covariance[0, 3] / covariance[3, 3]
    time = min(span, max(-span, time))
    c00 = covariance[0, 0] + time * (2.0 * covariance[0, 3] + time * covariance[3, 3])
    c03 = covariance[0, 3] + time * covariance[3, 3]
    # The speed is what was known, no finding: its error is part of the place's only.
    c11 = covariance[1, 1] + time * (2.0 * covariance[1, 4] + time * covariance[4, 4])
    c01 = covariance[0, 1] + time * (covariance[1, 3] + covariance[0, 4] + time * covariance[3, 4])
    c13 = covariance[1, 3] + time * covariance[3, 4]
    # A model that is a little wrong over the whole length of what was seen.
    model = MODEL_SIGMA_PX / prior[PX_PER_M]
    c00 += (model / max(0.02, pose[SEEN])) ** 2
    c11 += model * model
    pose[THETA], pose[PIVOT], pose[RATE] = q[0] + q[3] * time, q[1] + q[4] * time, q[3]
    pose[THETA] -= 2.0 * math.pi * math.ceil(pose[THETA] / (2.0 * math.pi) - 0.5)
    pose[TIME] = time
    c33 = covariance[3, 3]
    pose[THETA_ERROR], pose[PIVOT_ERROR] = math.sqrt(c00), math.sqrt(c11)
    pose[RATE_ERROR] = math.sqrt(c33)
    pose[THETA_PIVOT] = c01 / math.sqrt(c00 * c11)
    pose[THETA_RATE] = c03 / math.sqrt(c00 * c33)
    pose[PIVOT_RATE] = c13 / math.sqrt(c11 * c33)


@njit(cache=True, nogil=True, error_model="numpy")
def solve_pose(
    table: FloatArray,
    report: FloatArray,
    prior: FloatArray,
    g: FloatArray,
    points: FloatArray,
    pose: FloatArray,
) -> bool:
    """Angle, pivot and rate from a measured strip.

    Args:
        table, report: from :func:`cartpole.vision.strip.measure_strip`.
        prior: (PRIOR_SIZE,) what was known.
        g: the camera's geometry vector.
        points: (>= slices, 4) working memory.
        pose: (POSE_SIZE,) receives the result.

    Returns:
        False if there are too few points.
    """
    n = to_rig(table, report, prior, g, points)
    if n < MIN_POINTS:
        return False
    raw = np.empty((2, 5))
    strip_end(report[START], report, prior, g, raw[0])
    strip_end(report[STOP], report, prior, g, raw[1])
    seen, fit = (report[START_SEEN], report[STOP_SEEN]), total_axis(points, n)
    theta = orient(fit, raw, seen, prior, pose)
    if (raw[1, 0] - raw[0, 0]) * math.sin(theta) - (raw[1, 1] - raw[0, 1]) * math.cos(theta) < 0.0:
        for i in range(raw.shape[1]):
            raw[0, i], raw[1, i] = raw[1, i], raw[0, i]
        seen = (seen[1], seen[0])
    sigma = end_sigmas(fit, theta, raw, seen, prior)
    # An end at a wrong place does not count as seen, though it may still bound the pivot's.
    sure = 2.0 * END_SIGMA_PX / prior[PX_PER_M]
    pose[ENDS_SEEN] = 1.0 * (0.0 < sigma[0] < sure) + 1.0 * (0.0 < sigma[1] < sure)
    pose[LENGTH] = math.hypot(raw[1, 0] - raw[0, 0], raw[1, 1] - raw[0, 1])
    slices = max(1.0, abs(report[STOP] - report[START]))
    good = 0
    for i in range(int(report[SLICES])):
        good += table[i, WEIGHT] > 0.0
    pose[SEEN] = pose[LENGTH] * min(1.0, good / slices)
    early, late = points[0, DELAY], points[0, DELAY]
    for i in range(n):
        early, late = min(early, points[i, DELAY]), max(late, points[i, DELAY])
    middle = 0.5 * (early + late)
    for i in range(n):
        points[i, DELAY] -= middle
    raw[0, 2] -= middle
    raw[1, 2] -= middle
    q, covariance = np.empty(UNKNOWNS), np.empty((UNKNOWNS, UNKNOWNS))
    work = np.empty((4, UNKNOWNS, UNKNOWNS + 1))
    q[0], q[2], q[3], q[4] = theta, 0.0, prior[OMEGA], prior[SPEED]
    # Where the line meets the track, or as far along it as the middle of the tape says.
    half = 0.5 * (prior[TAPE_START] + prior[TAPE_END])
    q[1] = fit[0] - half * math.sin(theta)
    chi2, slicing = 0.0, slicing_direction(report, g)
    for _ in range(STEPS):
        chi2 = _step(points, n, raw, sigma, prior, slicing, report[BLUR], q, covariance, work)
        if not math.isfinite(chi2):
            return False
    # A worse fit than the noise and chance explain is told by the errors.
    freedom = max(1.0, n - 3.0)
    pose[CHI2] = chi2 / freedom
    worse = max(1.0, pose[CHI2] - CHANCE * math.sqrt(2.0 / freedom))
    for i in range(UNKNOWNS):
        for j in range(UNKNOWNS):
            covariance[i, j] *= worse
    _tell(q, covariance, 0.5 * (late - early), prior, pose)
    pose[TIME] += middle
    pose[NEAR_X], pose[NEAR_Y], pose[FAR_X], pose[FAR_Y] = (
        raw[0, 3],
        raw[0, 4],
        raw[1, 3],
        raw[1, 4],
    )
    return True
