"""Whether a fit may be believed, and how much its intervals must grow.

Every fit is asked the same: does the noise explain the residuals (chi-squared against its
distribution), are they white, does no unknown stand on an edge of its search, does nothing press
against a wall of physics, and do the parts of the recording (its runs, or its two halves) agree.
The last is a score test for a change of the parameters (Andrews, Econometrica 61, 1993): no part
need be fitted anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from calibration.fit import NORMAL_95, Fit, huber_weights
from cartpole.messages import FloatArray

WORST_CHI2 = 1.6  # beyond which no number of samples excuses it
UNLIKELY_SIGMA = 6.0
WORST_CORRELATION = 0.5  # of neighbouring residuals
WORST_PARTS = 12.0  # times the 95 % point of the statistic by which parts may differ
ON_EDGE = 1e-3  # of a search's range
PRESSING_SIGMA = 4.0  # a step beyond a wall that the data ask for
LEAST_SAMPLES = 10  # in a part that is compared with others


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fit with intervals as wide as its residuals ask, and every reason not to believe it."""

    fit: Fit
    doubts: tuple[str, ...]
    correlation: float
    parts: float  # how far the parts differ, over what 95 % of good recordings show


def judge(
    result: Fit,
    begins: Sequence[int] = (0,),
    *,
    samples: int | None = None,
    correlated: bool = False,
) -> Verdict:
    """Judge a fit whose first ``samples`` residuals are data in runs beginning at ``begins``.

    ``correlated``: the model is known to leave slow errors, which the covariance allows for.
    """
    count = len(result.residuals) if samples is None else samples
    data = result.residuals[:count]
    doubts = [*_chi2(result, count), *_edges(result), *_walls(result)]
    correlation = correlation_of(data)
    if correlation > WORST_CORRELATION and not correlated:
        doubts.append(
            f"what is left hangs together (neighbours correlate by {correlation:.2f}): the model "
            "misses something"
        )
    parts, worst = _parts(result, _cuts(begins, count))
    if parts > WORST_PARTS:
        what = "runs" if len(begins) > 1 else "two halves"
        doubts.append(f"the {what} of the recording disagree, most about {worst}")
    grown = max(1.0, parts)
    wide = replace(result, covariance=result.covariance * grown)
    return Verdict(wide, tuple(doubts), correlation, parts)


def _chi2(result: Fit, count: int) -> list[str]:
    sigma = np.sqrt(2.0 / max(1, count))
    if result.chi2_dof > max(WORST_CHI2, 1.0 + UNLIKELY_SIGMA * sigma):
        return [f"the noise does not explain the residuals (chi2/dof {result.chi2_dof:.3g})"]
    return []


def _edges(result: Fit) -> list[str]:
    out = []
    for one, value in zip(result.parameters, result.values.tolist(), strict=True):
        near = ON_EDGE * (one.high - one.low)
        if value > one.high - near or (value < one.low + near and not one.wall):
            out.append(f"{one.name} stands on the edge of its search ({value:.4g} {one.unit})")
    return out


def _walls(result: Fit) -> list[str]:
    """What the data would have beyond a wall, by one Newton step from where the fit ended."""
    weights = huber_weights(result.residuals)
    information = (result.slopes * weights[:, None]).T @ result.slopes
    inverse = np.linalg.pinv(information, hermitian=True)
    step = -inverse @ (result.slopes.T @ (weights * result.residuals))
    out = []
    for k, one in enumerate(result.parameters):
        beyond = result.values[k] + step[k] * one.scale
        sigma = max(float(np.sqrt(result.covariance[k, k])), 1e-300)
        if _at_wall(result, k) and (one.low - beyond) / sigma > PRESSING_SIGMA:
            out.append(f"{one.name} would have to be {beyond:.3g} {one.unit}")
    return out


def _at_wall(result: Fit, k: int) -> bool:
    one = result.parameters[k]
    return one.wall and bool(result.values[k] - one.low < ON_EDGE * one.scale)


def correlation_of(residuals: FloatArray) -> float:
    """Correlation of neighbouring residuals, outliers held at three deviations."""
    scale = 3.0 * max(1.4826 * float(np.median(np.abs(residuals))), 1e-300)
    held = np.clip(residuals, -scale, scale)
    held = held - held.mean()
    power = float(np.sum(held**2))
    return float(np.sum(held[1:] * held[:-1])) / power if power > 0.0 else 0.0


def _cuts(begins: Sequence[int], count: int) -> list[slice]:
    edges = [*begins, count] if len(begins) > 1 else [0, count // 2, count]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _parts(result: Fit, cuts: Sequence[slice]) -> tuple[float, str]:
    """How far the parts' own optima lie apart, over the 95 % point; the parameter that is worst.

    Under one truth the score of a part, given that all scores sum to zero, has the covariance
    I_k - I_k I^-1 I_k; correlation of the residuals widens it as it widens the intervals.
    """
    weights = huber_weights(result.residuals)
    push = weights * result.residuals
    # At a wall the scores need not cancel: what stands there is taken as given.
    free = [k for k, one in enumerate(result.parameters) if not _at_wall(result, k)]
    all_slopes = result.slopes[:, free]
    information = (all_slopes * weights[:, None]).T @ all_slopes
    inverse = np.linalg.pinv(information, hermitian=True)
    scales = np.array([result.parameters[k].scale for k in free])
    plain = np.sqrt(np.maximum(np.diag(inverse), 1e-300)) * scales
    found = np.sqrt(np.maximum(np.diag(result.covariance)[free], 1e-300))
    spread = max(1.0, float(np.median(found / plain)) ** 2)
    worst, name = 0.0, ""
    for cut in cuts:
        if cut.stop - cut.start < LEAST_SAMPLES:
            continue
        slopes = all_slopes[cut]
        own = (slopes * weights[cut, None]).T @ slopes
        score = slopes.T @ push[cut]
        values, vectors = np.linalg.eigh(own - own @ inverse @ own)
        good = values > 1e-6 * max(float(values[-1]), 1e-300)
        along = (vectors.T @ score)[good]
        ratio = float(np.sum(along**2 / values[good])) / spread / float(chi2.ppf(0.95, good.sum()))
        if ratio > worst:
            shift = np.abs(np.linalg.pinv(own, hermitian=True, rcond=1e-6) @ score) * scales
            worst, name = ratio, result.parameters[free[int(np.argmax(shift / found))]].name
    return worst, name


def interval(value: float, sigma: float) -> tuple[float, float]:
    """The 95 % interval of a normal estimate."""
    return value - NORMAL_95 * sigma, value + NORMAL_95 * sigma
