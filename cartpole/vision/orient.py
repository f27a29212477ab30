"""Which way the pole points along the axis that was seen, and which ends of the tape to believe;
compiled."""

from __future__ import annotations

import math

import numpy as np
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
    SIGMA_THETA,
    TAPE_END,
    TAPE_START,
    TRACK_FIT_SIGMA_M,
)

TRACK_SIGMA_M = 0.02  # how far from y = 0 the pivot may seem to be when the end is chosen


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
def orient(
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


@njit(cache=True, nogil=True, error_model="numpy")
def end_sigmas(
    fit: FloatArray,
    theta: float,
    ends: FloatArray,
    seen: FloatArray,
    prior: FloatArray,
    out: FloatArray,
) -> None:
    """How far each end is believed [m] into ``out`` (2,), 0: not at all.

    Two ends at a wrong distance, or one that puts the pivot off the track or away from where the
    cart is: somebody covers the tape, or it has come off. ``ends`` near first.
    """
    sigma = END_SIGMA_PX / prior[PX_PER_M]
    dx, dy = math.sin(theta), -math.cos(theta)
    worst = np.zeros(2)
    for i in range(2):
        out[i] = sigma if seen[i] > 0.0 else 0.0
        along = (ends[i, 0] - fit[0]) * dx + (ends[i, 1] - fit[1]) * dy - prior[TAPE_START + i]
        off = (fit[1] + along * dy) ** 2 / (TRACK_FIT_SIGMA_M**2 + 4.0 * sigma**2)
        if math.isfinite(prior[SIGMA_P]):
            place = fit[0] + along * dx - prior[EXPECT_P]
            off = max(off, place * place / (prior[SIGMA_P] ** 2 + 1e-6 + 4.0 * sigma**2))
        worst[i] = off
    if seen[0] > 0.0 and seen[1] > 0.0:
        length = (ends[1, 0] - ends[0, 0]) * dx + (ends[1, 1] - ends[0, 1]) * dy
        wrong = abs(length - prior[TAPE_END] + prior[TAPE_START])
        if wrong < 5.0 * sigma:
            return
        for i in range(2):
            out[i] = math.sqrt(sigma * sigma + wrong * wrong)
        for i in range(2):
            if worst[i] > 25.0 and worst[1 - i] < 9.0:
                out[i], out[1 - i] = 0.0, sigma
    else:
        for i in range(2):
            if worst[i] > 16.0:
                out[i] = 0.0
