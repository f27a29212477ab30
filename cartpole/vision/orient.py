"""Which way the pole points along the axis that was seen, and which ends of the tape to believe;
compiled."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.layout import (
    END_SIGMA_PX,
    EXPECT_P,
    EXPECT_THETA,
    OTHER_SCORE,
    PX_PER_M,
    SCORE,
    SIGMA_P,
    SIGMA_SWING,
    SIGMA_THETA,
    SWING,
    TAPE_END,
    TAPE_START,
    TRACK_FIT_SIGMA_M,
)

Axis = tuple[float, float, float]  # a point (x, y) [m], and a direction from +x or a variance
Pair = tuple[float, float]  # of the tape's ends

# How far from y = 0 the pivot may seem to be when the end is chosen: by a camera that was pushed by
# 20 mm alone no end is told.
TRACK_SIGMA_M = 0.014
MOST_SWING = 9.0  # chi-square of an end that swings less than the pivot: something else may blur it


@njit(cache=True, nogil=True)
def _place_pivot(
    fit: Axis,
    theta: float,
    along: float,
    along_sigma: float,
    across_sigma: float,
    track_sigma: float,
) -> tuple[float, float, float]:
    """Pivot (x, y) and the variance of x.

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
        return fit[0], fit[1], math.inf
    x = fit[0] + (a22 * b1 - a12 * b2) / det
    return x, fit[1] + (a11 * b2 - a12 * b1) / det, a22 / det


@njit(cache=True, nogil=True)
def _along(
    fit: Axis, theta: float, ends: FloatArray, seen: Pair, prior: FloatArray
) -> tuple[float, float]:
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
        return 0.0, 1e3
    if weight > 1.5:
        # Two ends at a wrong distance: one of them is not the tape's.
        wrong = 0.5 * (far - near - prior[TAPE_END] + prior[TAPE_START])
        return total / weight, math.sqrt(0.5 * sigma * sigma + wrong * wrong)
    # A single end keeps the bias of its blurred edge, which cancels between two.
    return total / weight, 3.0 * sigma


@njit(cache=True, nogil=True)
def _disbelief(theta: float, pivot: Axis, along_sigma: float, prior: FloatArray) -> float:
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
def _swings_less(theta: float, ends: FloatArray, prior: FloatArray) -> float:
    """Chi-square of a far end that moved less during the exposure than the pivot, of which nothing
    but the cart's speed across the pole moves."""
    if not math.isfinite(prior[SIGMA_SWING]):
        return 0.0
    along = (ends[1, 0] - ends[0, 0]) * math.sin(theta)
    along -= (ends[1, 1] - ends[0, 1]) * math.cos(theta)
    less = -prior[SWING] if along > 0.0 else prior[SWING]
    chi2: float = min(MOST_SWING, (max(0.0, less) / prior[SIGMA_SWING]) ** 2)
    return chi2


@njit(cache=True, nogil=True)
def orient(
    fit: Axis,
    ends: FloatArray,
    seen: Pair,
    prior: FloatArray,
    pose: FloatArray,
) -> float:
    """The pole's angle: of the axis's two directions the one that fits what is known."""
    best = 0
    for option in range(2):
        # The axis angle is measured from +x; the pole's own from straight down.
        theta = fit[2] + (0.5 + option) * math.pi
        along, sigma = _along(fit, theta, ends, seen, prior)
        # Here the track is no constraint but a question: how far off would the pivot be?
        pivot = _place_pivot(fit, theta, along, sigma, 1e-3, 1.0 if sigma < 10.0 else 1e-3)
        pose[SCORE + option] = _disbelief(theta, pivot, sigma, prior)
        pose[SCORE + option] += _swings_less(theta, ends, prior)
    if pose[OTHER_SCORE] < pose[SCORE]:
        best = 1
        pose[SCORE], pose[OTHER_SCORE] = pose[OTHER_SCORE], pose[SCORE]
    theta = fit[2] + (0.5 + best) * math.pi
    turns: float = math.ceil(theta / (2.0 * math.pi) - 0.5)
    return theta - 2.0 * math.pi * turns


@njit(cache=True, nogil=True, error_model="numpy")
def _misplaced(
    fit: Axis, theta: float, end: FloatArray, distance: float, prior: FloatArray
) -> float:
    """Chi-square of an end, ``distance`` from the pivot: off the track, or away from the cart."""
    sigma = END_SIGMA_PX / prior[PX_PER_M]
    dx, dy = math.sin(theta), -math.cos(theta)
    along = (end[0] - fit[0]) * dx + (end[1] - fit[1]) * dy - distance
    off: float = (fit[1] + along * dy) ** 2 / (TRACK_FIT_SIGMA_M**2 + 4.0 * sigma**2)
    if math.isfinite(prior[SIGMA_P]):
        place = fit[0] + along * dx - prior[EXPECT_P]
        off = max(off, place * place / (prior[SIGMA_P] ** 2 + 1e-6 + 4.0 * sigma**2))
    return off


@njit(cache=True, nogil=True, error_model="numpy")
def end_sigmas(fit: Axis, theta: float, ends: FloatArray, seen: Pair, prior: FloatArray) -> Pair:
    """How far each end is believed [m], 0: not at all.

    Two ends at a wrong distance, or one that puts the pivot off the track or away from where the
    cart is: somebody covers the tape, or it has come off. ``ends`` near first.
    """
    sigma = END_SIGMA_PX / prior[PX_PER_M]
    worst = (
        _misplaced(fit, theta, ends[0], prior[TAPE_START], prior),
        _misplaced(fit, theta, ends[1], prior[TAPE_END], prior),
    )
    if not (seen[0] > 0.0 and seen[1] > 0.0):
        near = sigma if seen[0] > 0.0 and worst[0] <= 16.0 else 0.0
        return near, sigma if seen[1] > 0.0 and worst[1] <= 16.0 else 0.0
    dx, dy = math.sin(theta), -math.cos(theta)
    length = (ends[1, 0] - ends[0, 0]) * dx + (ends[1, 1] - ends[0, 1]) * dy
    wrong = abs(length - prior[TAPE_END] + prior[TAPE_START])
    if wrong < 5.0 * sigma:
        return sigma, sigma
    if worst[0] > 25.0 and worst[1] < 9.0:
        return 0.0, sigma
    if worst[1] > 25.0 and worst[0] < 9.0:
        return sigma, 0.0
    either = math.sqrt(sigma * sigma + wrong * wrong)
    return either, either
