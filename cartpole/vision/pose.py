"""From the strip's axis in the picture to the pole's angle and pivot in the rig's plane, compiled.

Every line of a rolling-shutter picture has its own time, so the axis points belong to a pole that
turned and moved while they were read. They are brought to one common time with the pole's rate and
the cart's speed, then a Tukey-weighted line gives the angle. The pivot is where three statements
agree best: it lies on the line, at the tape's known distance from the tape's ends, and on y = 0.
The common time is the points' mean time, where the angle depends least on the rate assumed.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.geometry import unproject
from cartpole.vision.slices import (
    CENTROID,
    LINE_A,
    LINE_B,
    LINE_C,
    MIDDLE,
    PLACE,
    SLICES,
    START,
    START_SEEN,
    STEEP,
    STOP,
    STOP_SEEN,
    WEIGHT,
)

# What is known before the picture: rate and speed at mid-exposure of the middle line and how sure
# they are, expected pivot and angle at that time (sigma inf: unknown), tape, readout time.
(
    OMEGA,
    SIGMA_OMEGA,
    SPEED,
    SIGMA_SPEED,
    EXPECT_P,
    SIGMA_P,
    EXPECT_THETA,
    SIGMA_THETA,
    TAPE_START,
    TAPE_END,
    READOUT,
    HEIGHT,
    PX_PER_M,
    POINT_SIGMA_PX,  # floor of one point's error
) = range(14)
PRIOR_SIZE = 14

# The result.
(
    THETA,
    PIVOT,
    TIME,  # of both, from mid-exposure of the middle line [s]
    THETA_ERROR,
    PIVOT_ERROR,
    SCORE,  # chi-square of the chosen end against what was known
    OTHER_SCORE,  # of the opposite end
    INLIERS,
    RESIDUAL,  # rms of the points about the line [m]
    NEAR_X,  # the strip's ends in the picture [px], near the pivot first
    NEAR_Y,
    FAR_X,
    FAR_Y,
    LENGTH,  # distance of the two ends [m]
    ENDS_SEEN,
) = range(15)
POSE_SIZE = 15

TRACK_SIGMA_M = 0.02  # how far from y = 0 the pivot may seem to be when the end is chosen
TRACK_FIT_SIGMA_M = 0.002  # and when the pivot is placed
END_SIGMA_PX = 0.3  # one end of the tape along the axis
SYSTEMATIC_SIGMA_RAD = 5e-5
MIN_POINTS = 8


@njit(cache=True, nogil=True)
def _to_rig(
    table: FloatArray, report: FloatArray, prior: FloatArray, g: FloatArray, points: FloatArray
) -> int:
    """Weighted slices to rows (x [m], y [m], delay [s], weight) of ``points``."""
    steep = report[STEEP] > 0.0
    per_row = prior[READOUT] / max(1.0, prior[HEIGHT] - 1.0)
    count = 0
    for i in range(int(report[SLICES])):
        if table[i, WEIGHT] <= 0.0:
            continue
        column, row = table[i, PLACE], table[i, CENTROID]
        if steep:
            column, row = row, column
        points[count, 0], points[count, 1] = unproject(column, row, g)
        points[count, 2] = row * per_row - 0.5 * prior[READOUT]
        points[count, 3] = 1.0
        count += 1
    return count


@njit(cache=True, nogil=True)
def _end(
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


@njit(cache=True, nogil=True, inline="always")
def _carry(
    x: float, y: float, delay: float, omega: float, speed: float, pivot: float
) -> tuple[float, float]:
    """A pole's point seen ``delay`` after the common time, brought to that time."""
    # The angle is a few hundredths: series are exact enough, and fast.
    angle = -omega * delay
    square = angle * angle
    sine, cosine = angle * (1.0 - square / 6.0), 1.0 - square * (0.5 - square / 24.0)
    dx = x - pivot - speed * delay
    return pivot + cosine * dx - sine * y, sine * dx + cosine * y


@njit(cache=True, nogil=True)
def fit_line(
    points: FloatArray, moved: FloatArray, n: int, floor: float, rounds: int, fit: FloatArray
) -> int:
    """Tukey-weighted total least squares, reweighted ``rounds`` times.

    ``fit`` receives the centre (x, y), the direction from +x, the weighted rms, the sums of weights
    and of squared distances along the line. Weights stay in ``points`` for the next call.
    """
    inliers = 0
    for _ in range(rounds):
        sw, sx, sy, sxx, sxy, syy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        x0, y0 = moved[0, 0], moved[0, 1]
        for i in range(n):
            w = points[i, 3]
            dx, dy = moved[i, 0] - x0, moved[i, 1] - y0
            sw += w
            sx += w * dx
            sy += w * dy
            sxx += w * dx * dx
            sxy += w * dx * dy
            syy += w * dy * dy
        if sw <= 0.0:
            return 0
        mx, my = sx / sw, sy / sw
        sxx, sxy, syy = sxx - sw * mx * mx, sxy - sw * mx * my, syy - sw * my * my
        axis = 0.5 * math.atan2(2.0 * sxy, sxx - syy)
        nx, ny = -math.sin(axis), math.cos(axis)
        cx, cy = x0 + mx, y0 + my
        rest, freedom = 0.0, 0.0
        for i in range(n):
            r = nx * (moved[i, 0] - cx) + ny * (moved[i, 1] - cy)
            rest += points[i, 3] * r * r
            freedom += points[i, 3]
        rms = math.sqrt(rest / max(1.0, freedom - 2.0))
        cut = 4.685 * max(rms, floor)
        inliers = 0
        for i in range(n):
            u = (nx * (moved[i, 0] - cx) + ny * (moved[i, 1] - cy)) / cut
            if abs(u) < 1.0:
                points[i, 3] = (1.0 - u * u) ** 2
                inliers += 1
            else:
                points[i, 3] = 0.0
        fit[0], fit[1], fit[2], fit[3], fit[4] = cx, cy, axis, rms, sw
        fit[5] = 0.5 * (sxx + syy + math.sqrt((sxx - syy) ** 2 + 4.0 * sxy * sxy))
    return inliers


@njit(cache=True, nogil=True)
def _place_pivot(
    fit: FloatArray,
    theta: float,
    along: float,
    along_sigma: float,
    across_sigma: float,
    track_sigma: float,
    out: FloatArray,
) -> None:
    """Pivot (x, y) and the variance of x into ``out``.

    Least squares of: across the line 0 ± across_sigma from the fit's centre, along it ``along`` ±
    along_sigma, y = 0 ± track_sigma. The pole points along (sin theta, -cos theta).
    """
    dx, dy = math.sin(theta), -math.cos(theta)
    nx, ny = -dy, dx
    wn, wd = 1.0 / across_sigma**2, 1.0 / along_sigma**2
    wy = 1.0 / track_sigma**2
    a11 = wn * nx * nx + wd * dx * dx
    a12 = wn * nx * ny + wd * dx * dy
    a22 = wn * ny * ny + wd * dy * dy + wy
    b1, b2 = wd * along * dx, wd * along * dy - wy * fit[1]
    det = a11 * a22 - a12 * a12
    if det <= 0.0:
        out[0], out[1], out[2] = fit[0], fit[1], math.inf
        return
    out[0] = fit[0] + (a22 * b1 - a12 * b2) / det
    out[1] = fit[1] + (a11 * b2 - a12 * b1) / det
    out[2] = a22 / det


@njit(cache=True, nogil=True)
def _along(
    fit: FloatArray,
    theta: float,
    ends: FloatArray,
    seen: FloatArray,
    prior: FloatArray,
    out: FloatArray,
) -> None:
    """Pivot's coordinate along the pole from the fit's centre and its sigma, by the tape's ends.

    ``ends`` (2, 2) are the visible ends, ``seen`` (2,) whether they are the tape's own.
    """
    dx, dy = math.sin(theta), -math.cos(theta)
    first = (ends[0, 0] - fit[0]) * dx + (ends[0, 1] - fit[1]) * dy
    second = (ends[1, 0] - fit[0]) * dx + (ends[1, 1] - fit[1]) * dy
    near, far, near_seen, far_seen = first, second, seen[0], seen[1]
    if first > second:
        near, far, near_seen, far_seen = second, first, seen[1], seen[0]
    sigma = END_SIGMA_PX / prior[PX_PER_M]
    total, weight = 0.0, 0.0
    if near_seen > 0.0:
        total += near - prior[TAPE_START]
        weight += 1.0
    if far_seen > 0.0:
        total += far - prior[TAPE_END]
        weight += 1.0
    if weight == 0.0:
        out[0], out[1] = 0.0, 1e3
        return
    # A single end keeps the bias of its blurred edge, which cancels between two.
    out[0], out[1] = total / weight, 3.0 * sigma
    if weight > 1.5:
        # Two ends at a wrong distance: one of them is not the tape's.
        wrong = 0.5 * (far - near - prior[TAPE_END] + prior[TAPE_START])
        out[1] = math.sqrt(0.5 * sigma * sigma + wrong * wrong)


@njit(cache=True, nogil=True)
def _disbelief(theta: float, pivot: FloatArray, along_sigma: float, prior: FloatArray) -> float:
    """Chi-square of an orientation of the pole against what was known before the picture."""
    score: float = pivot[1] ** 2 / (TRACK_SIGMA_M**2 + min(along_sigma, 10.0) ** 2)
    if math.isfinite(prior[SIGMA_P]):
        score += (pivot[0] - prior[EXPECT_P]) ** 2 / (prior[SIGMA_P] ** 2 + pivot[2] + 4e-4)
    if math.isfinite(prior[SIGMA_THETA]):
        off = theta - prior[EXPECT_THETA]
        off -= 2.0 * math.pi * round(off / (2.0 * math.pi))
        score += off * off / (prior[SIGMA_THETA] ** 2 + 0.05**2)
    return score


@njit(cache=True, nogil=True)
def _orient(
    fit: FloatArray,
    ends: FloatArray,
    seen: FloatArray,
    prior: FloatArray,
    pose: FloatArray,
) -> float:
    """The pole's angle: of the axis's two directions the one that fits what is known."""
    along, pivot = np.empty(2), np.empty(3)
    scores = np.empty(2)
    for option in range(2):
        # The axis angle is measured from +x; the pole's own from straight down.
        theta = fit[2] + (0.5 + option) * math.pi
        _along(fit, theta, ends, seen, prior, along)
        # Here the track is no constraint but a question: how far off would the pivot be?
        _place_pivot(fit, theta, along[0], along[1], 1e-3, 1.0 if along[1] < 10.0 else 1e-3, pivot)
        scores[option] = _disbelief(theta, pivot, along[1], prior)
    best = 0 if scores[0] <= scores[1] else 1
    pose[SCORE], pose[OTHER_SCORE] = scores[best], scores[1 - best]
    theta = float(fit[2]) + (0.5 + best) * math.pi
    turns: float = math.ceil(theta / (2.0 * math.pi) - 0.5)
    return theta - 2.0 * math.pi * turns


@njit(cache=True, nogil=True)
def solve_pose(
    table: FloatArray,
    report: FloatArray,
    prior: FloatArray,
    g: FloatArray,
    points: FloatArray,
    moved: FloatArray,
    pose: FloatArray,
) -> bool:
    """Angle and pivot from a measured strip.

    Args:
        table, report: from :func:`cartpole.vision.strip.measure_strip`.
        prior: (PRIOR_SIZE,) what was known.
        g: the camera's geometry vector.
        points: (>= slices, 4) working memory; rows (x, y, delay, weight) afterwards.
        moved: (>= slices, 2) working memory; the points at the common time.
        pose: (POSE_SIZE,) receives the result.

    Returns:
        False if too few points agree on a line.
    """
    n = _to_rig(table, report, prior, g, points)
    if n < MIN_POINTS:
        return False
    raw_ends = np.empty((2, 5))
    _end(report[START], report, prior, g, raw_ends[0])
    _end(report[STOP], report, prior, g, raw_ends[1])
    seen = np.array([report[START_SEEN], report[STOP_SEEN]])
    mean_time = 0.0
    for i in range(n):
        mean_time += points[i, 2] / n
    floor = prior[POINT_SIGMA_PX] / prior[PX_PER_M]
    fit, ends, along, pivot = np.empty(6), np.empty((2, 2)), np.empty(2), np.empty(3)
    omega, speed = 0.0, 0.0  # the first round takes the picture as it is
    pivot[:] = 0.0
    theta, inliers = 0.0, 0
    for trial in range(3):
        for i in range(n):
            moved[i, 0], moved[i, 1] = _carry(
                points[i, 0], points[i, 1], points[i, 2] - mean_time, omega, speed, pivot[0]
            )
        for i in range(2):
            ends[i, 0], ends[i, 1] = _carry(
                raw_ends[i, 0], raw_ends[i, 1], raw_ends[i, 2] - mean_time, omega, speed, pivot[0]
            )
        inliers = fit_line(points, moved, n, floor, 1 if trial < 2 else 2, fit)
        if inliers < MIN_POINTS:
            return False
        theta = _orient(fit, ends, seen, prior, pose)
        _along(fit, theta, ends, seen, prior, along)
        across = max(fit[3], floor) / math.sqrt(fit[4])
        lever = (fit[1] / max(0.05, abs(math.cos(theta)))) ** 2
        across = math.sqrt(across**2 + lever * max(fit[3], floor) ** 2 / fit[5])
        _place_pivot(fit, theta, along[0], along[1], across, TRACK_FIT_SIGMA_M, pivot)
        omega, speed = prior[OMEGA], prior[SPEED]
    _report(fit, theta, pivot, raw_ends, prior, points, n, mean_time, pose)
    pose[INLIERS] = inliers / n
    pose[ENDS_SEEN] = seen[0] + seen[1]
    pose[LENGTH] = math.hypot(ends[1, 0] - ends[0, 0], ends[1, 1] - ends[0, 1])
    return True


@njit(cache=True, nogil=True)
def _report(
    fit: FloatArray,
    theta: float,
    pivot: FloatArray,
    raw_ends: FloatArray,
    prior: FloatArray,
    points: FloatArray,
    n: int,
    mean_time: float,
    pose: FloatArray,
) -> None:
    """Fill the pose; the angle's error is that of the fit and of the rate assumed."""
    dx, dy = math.sin(theta), -math.cos(theta)
    # A point at distance s moves with omega s across the axis; seen late by k (s - centre), its
    # shift bends and turns the line: the turn is centre * k * (error of omega). The cart's
    # speed turns it likewise by cos(theta) * k * (error of speed).
    times, lengths = 0.0, 0.0
    for i in range(n):
        s = (points[i, 0] - fit[0]) * dx + (points[i, 1] - fit[1]) * dy
        times += s * (points[i, 2] - mean_time)
        lengths += s * s
    per_m = times / max(lengths, 1e-12)
    lever = (fit[0] - pivot[0]) * dx + (fit[1] - pivot[1]) * dy
    spread = max(fit[3], prior[POINT_SIGMA_PX] / prior[PX_PER_M])
    variance = spread**2 / fit[5] + (lever * per_m * prior[SIGMA_OMEGA]) ** 2
    variance += (dy * per_m * prior[SIGMA_SPEED]) ** 2
    pose[THETA], pose[PIVOT], pose[TIME] = theta, pivot[0], mean_time
    pose[THETA_ERROR] = math.sqrt(variance + SYSTEMATIC_SIGMA_RAD**2)
    pose[PIVOT_ERROR] = math.sqrt(pivot[2] + (0.02 / prior[PX_PER_M]) ** 2)
    pose[RESIDUAL] = fit[3]
    start, stop = raw_ends[0], raw_ends[1]
    if (stop[0] - start[0]) * dx + (stop[1] - start[1]) * dy < 0.0:
        start, stop = stop, start
    pose[NEAR_X], pose[NEAR_Y], pose[FAR_X], pose[FAR_Y] = start[3], start[4], stop[3], stop[4]
