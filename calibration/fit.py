"""Robust least squares with honest intervals, shared by all fits.

Residuals come in units of their standard deviation. Huber's loss bounds what an outlier can do
(scipy's trust-region reflective method). The covariance allows for residuals that are correlated
over neighbouring samples (Newey and West, Econometrica 55, 1987: Bartlett-weighted autocovariances
of the score).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from calibration.result import Estimate
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray

HUBER = 2.5
OUTLIER = 5.0  # standard deviations: what lies beyond counts as no more in chi-squared
NORMAL_95 = 1.96
MAX_STEPS = 40
TOLERANCE = 1e-8
EDGE = 1e-6  # of a parameter's range: a start on its very bound could not move
DIFFERENCE = 1e-5


@dataclass(frozen=True, slots=True)
class Parameter:
    """An unknown: where to start, its bounds, its scale, and the 95 % half width it must reach.

    ``useful`` is the loosest half width at which the number is still worth reporting; ``remedy``
    says what to record when the data cannot give it. ``wall``: the lower bound is physics (a
    friction that is none), not where the search gave up.
    """

    name: str
    unit: str
    start: float
    low: float
    high: float
    scale: float
    useful: float = float("inf")
    remedy: str = ""
    wall: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """Values (n,), covariance (n, n), residuals in standard deviations, chi2 per freedom, and the
    residuals' slopes (m, n) in the parameters' scales."""

    parameters: tuple[Parameter, ...]
    values: FloatArray
    covariance: FloatArray
    residuals: FloatArray
    chi2_dof: float
    slopes: FloatArray

    def value(self, name: str) -> float:
        """A fitted value by name."""
        return float(self.values[self._index(name)])

    def sigma(self, name: str) -> float:
        """Its standard deviation."""
        index = self._index(name)
        return float(np.sqrt(self.covariance[index, index]))

    def estimate(self, name: str) -> Estimate:
        """With its 95 % interval."""
        value, half = self.value(name), NORMAL_95 * self.sigma(name)
        unit = self.parameters[self._index(name)].unit
        return Estimate(value, (value - half, value + half), unit)

    def _index(self, name: str) -> int:
        return next(i for i, one in enumerate(self.parameters) if one.name == name)


Residual = Callable[[FloatArray], FloatArray]


def fit(residual: Residual, parameters: Sequence[Parameter], lags: int = 0) -> Fit:
    """Minimise Huber's loss of ``residual(values)``.

    ``lags`` is over how many neighbouring residuals correlation is allowed for. Raises
    IdentificationError if the search ends nowhere finite.
    """
    start = np.array([one.start for one in parameters])
    scale = np.array([one.scale for one in parameters])
    low = np.array([one.low for one in parameters]) / scale
    high = np.array([one.high for one in parameters]) / scale

    def scaled(z: FloatArray) -> FloatArray:
        out = residual(z * scale)
        return np.where(np.isfinite(out), out, 1e3)

    def slopes(z: FloatArray) -> FloatArray:
        return jacobian(scaled, z, scaled(z), high)

    inside = np.clip(start / scale, low + EDGE * (high - low), high - EDGE * (high - low))
    found = least_squares(
        scaled,
        inside,
        jac=slopes,
        bounds=(low, high),
        loss="huber",
        f_scale=HUBER,
        xtol=TOLERANCE,
        ftol=TOLERANCE,
        max_nfev=MAX_STEPS,
    )
    z = np.asarray(found.x)
    residuals = scaled(z)
    if not np.all(np.isfinite(residuals)) or not np.all(np.isfinite(z)):
        raise IdentificationError("the fit found no finite solution; is this the right recording?")
    steep = steady_slopes(scaled, z, residuals, low, high)
    covariance = robust_covariance(steep, residuals, lags)
    freedom = max(1, len(residuals) - len(parameters))
    return Fit(
        tuple(parameters),
        z * scale,
        covariance * np.outer(scale, scale),
        residuals,
        float(np.sum(np.minimum(residuals**2, OUTLIER**2)) / freedom),
        steep,
    )


def jacobian(function: Residual, z: FloatArray, now: FloatArray, high: FloatArray) -> FloatArray:
    """One-sided differences, backwards at the upper bound; ``now`` is ``function(z)``."""
    columns = []
    for i in range(len(z)):
        step = DIFFERENCE * max(1.0, abs(z[i]))
        if z[i] + step > high[i]:
            step = -step
        there = z.copy()
        there[i] += step
        columns.append((function(there) - now) / step)
    return np.stack(columns, axis=1)


def steady_slopes(
    function: Residual, z: FloatArray, now: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Differences to both sides; where they are not alike (a residual jumps there) the lesser."""
    columns = []
    for i in range(len(z)):
        step = DIFFERENCE * max(1.0, abs(z[i]))
        sides = []
        for move in (step, -step):
            there = z.copy()
            there[i] = min(max(z[i] + move, low[i]), high[i])
            moved = there[i] - z[i]
            enough = abs(moved) > 0.5 * step  # else a bound is in the way
            sides.append((function(there) - now) / moved if enough else None)
        ahead, back = (one if one is not None else sides[1 - k] for k, one in enumerate(sides))
        assert ahead is not None
        assert back is not None
        alike = np.abs(ahead - back) <= 0.5 * (np.abs(ahead) + np.abs(back)) + 1e-3
        lesser = np.where(np.abs(ahead) < np.abs(back), ahead, back)
        columns.append(np.where(alike, 0.5 * (ahead + back), lesser))
    return np.stack(columns, axis=1)


def huber_weights(residuals: FloatArray) -> FloatArray:
    """1 inside Huber's limit, falling as 1/|r| outside."""
    size = np.maximum(np.abs(residuals), 1e-300)
    return np.minimum(1.0, HUBER / size)


def robust_covariance(slopes: FloatArray, residuals: FloatArray, lags: int) -> FloatArray:
    """Sandwich covariance of the estimate: inverse information around the score's spread.

    slopes (m, n), residuals (m,). A singular information matrix gives huge, finite variances.
    """
    weights = huber_weights(residuals)
    information = (slopes * weights[:, None]).T @ slopes
    inverse = _inverse(information)
    score = slopes * (weights * residuals)[:, None]
    spread = score.T @ score
    for lag in range(1, lags + 1):
        taper = 1.0 - lag / (lags + 1.0)
        part = score[lag:].T @ score[:-lag]
        spread += taper * (part + part.T)
    sandwich = inverse @ spread @ inverse
    # Short recordings make the sandwich optimistic: never below what independent noise gives.
    freedom = max(1, len(residuals) - len(information))
    plain = inverse * float(np.sum(weights * residuals**2) / freedom)
    least, found = np.diag(plain), np.diag(sandwich)
    blind = found < 1e-9 * least  # not a single residual depends on it
    found = np.where(blind, least, np.maximum(found, 1e-300))
    larger = np.sqrt(np.maximum(1.0, least / found))
    covariance = sandwich * np.outer(larger, larger)
    covariance[blind, :] = covariance[:, blind] = 0.0
    covariance[blind, blind] = least[blind]
    return np.asarray(covariance)


def _inverse(information: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(information)
    floor = max(float(values[-1]), 1e-300) * 1e-14
    return np.asarray((vectors / np.maximum(values, floor)) @ vectors.T)


def unidentified(result: Fit) -> dict[str, str]:
    """Parameters that lie in directions in which the information matrix is too weak.

    The information is scaled by each parameter's useful half width: an eigenvalue below one means
    that along its eigenvector the data say less than would be useful.
    """
    scale = np.array([one.useful if np.isfinite(one.useful) else 1e12 for one in result.parameters])
    spread = NORMAL_95**2 * result.covariance / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(spread)
    refused: dict[str, str] = {}
    for variance, vector in zip(values, vectors.T, strict=True):
        if variance <= 1.0:
            continue
        for one, part in zip(result.parameters, vector, strict=True):
            if abs(part) > 0.3 and np.isfinite(one.useful):
                half = NORMAL_95 * result.sigma(one.name)
                refused[one.name] = (
                    f"not identifiable from this recording (95 % half width {half:.3g} {one.unit}, "
                    f"useful below {one.useful:.3g}); {one.remedy}"
                )
    return refused


def implausible(name: str, value: float, low: float, high: float, expected: float) -> str | None:
    """Why a value cannot be right, naming the likely slip of units; None if it can."""
    if low <= value <= high:
        return None
    ratio = abs(value / expected) if expected else float("inf")
    for factor, slip in (
        (1000.0, "millimetres given as metres, or milliseconds as seconds"),
        (100.0, "centimetres given as metres"),
        (57.29578, "degrees given as radians"),
        (10.0, "a factor of ten, perhaps a gear or the counts of a full turn"),
        (4.0, "lines of an encoder counted instead of its four edges"),
    ):
        if abs(np.log(ratio / factor)) < 0.2 or abs(np.log(ratio * factor)) < 0.2:
            off = f"×{factor:g}" if ratio > 1.0 else f"÷{factor:g}"
            return f"{name} = {value:.4g} is {off} of what is plausible: {slip}?"
    return f"{name} = {value:.4g} is outside the plausible range {low:.4g} to {high:.4g}"


def likeliest(
    score: Callable[[tuple[float, ...]], float], start: tuple[float, ...]
) -> tuple[float, ...]:
    """Logarithms of variances with the least score, by turns in steps that shrink."""
    best, cost, step = start, score(start), 1.0
    while step > 0.03:
        moved = False
        for k in range(len(start)):
            for change in (step, -step):
                trial = (*best[:k], best[k] + change, *best[k + 1 :])
                there = score(trial)
                if there < cost:
                    best, cost, moved = trial, there, True
        if not moved:
            step *= 0.4
    return best
