"""The most likely drive: its numbers and the variances of its noise, found in turn."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace

import numpy as np

from calibration.drive import GATE, Drive, Noise
from calibration.drive_judge import Residuals
from calibration.drive_waves import Waves
from calibration.fit import Fit, Parameter, fit, likeliest
from cartpole.messages import FloatArray

CORRELATION_S = 0.05
ROUNDS, MOST_ROUNDS = 3, 8
SETTLED = 2.0  # of twice the logarithm of the likelihood: nothing changes any more
HIDDEN = "hidden by smoothing"  # of a pole's pull
BACK_M = "pushed back"  # a pole's m d / (m + M), as far as the drive lets it through


@dataclass(frozen=True, slots=True)
class Found:
    """A fit with its noise, the drive that it takes, and the waves that push that drive besides."""

    fit: Fit
    noise: Noise
    drive: Drive
    waves: tuple[Waves, ...] = ()
    lost: int = 0  # commands that never arrived

    def grown(self, other: Found) -> Found:
        """Another fit of the same waves and commands."""
        return replace(other, waves=self.waves, lost=self.lost)

    def unlikeliness_of(self, drive: Drive) -> float:
        """That of another drive with the same numbers."""
        return _unlikeliness(drive, self.fit.values, self.noise)

    def has(self, name: str) -> bool:
        """Whether this is one of its unknowns."""
        return any(one.name == name for one in self.fit.parameters)

    @property
    def residuals(self) -> Residuals:
        """What its judges look at."""
        return Residuals(self.drive, self.fit, self.noise, np.linalg.qr(self.fit.slopes)[0])

    @property
    def unlikeliness(self) -> float:
        """Twice the negative logarithm of its likelihood, outliers held."""
        return _unlikeliness(self.drive, self.fit.values, self.noise)


def settled(drive: Drive, best: Fit, more: tuple[Parameter, ...], noise: Noise) -> Found:
    """Noise and parameters in turn, with ``more`` unknowns."""
    before = math.inf
    for turn in range(MOST_ROUNDS):
        noise = _likeliest_noise(drive, best.values, noise)
        started = [replace(one, start=best.value(one.name)) for one in best.parameters]
        best = fit_noise(drive, [*started, *more], noise)
        more = ()
        now = _unlikeliness(drive, best.values, noise)
        if turn + 1 >= ROUNDS and before - now < SETTLED:
            break
        before = now
    return Found(best, noise, drive)


def fit_noise(drive: Drive, parameters: list[Parameter], noise: Noise) -> Fit:
    """The numbers at this noise, from where the parameters start."""
    # Fixed weights: were they to follow the parameters, a slower drive would look less certain and
    # so fit better.
    start = np.array([one.start for one in parameters])
    _, weight = drive.innovations(start, noise)
    lags = round(CORRELATION_S / float(np.median(np.diff(drive.time))))

    def residual(values: FloatArray) -> FloatArray:
        return np.asarray(drive.innovations(values, noise)[0] / np.sqrt(weight))

    return fit(residual, parameters, lags)


def _likeliest_noise(drive: Drive, values: FloatArray, noise: Noise) -> Noise:
    """Variances of the cart's random acceleration and of a position, at these parameters.

    With a wrong ratio of the two the innovations hang together, and that bends the lag.
    """

    def score(logarithms: tuple[float, ...]) -> float:
        return _unlikeliness(drive, values, _noise(logarithms))

    known = [one for one in astuple(noise) if one > 0.0]
    return _noise(likeliest(score, tuple(math.log(one) for one in known)))


def _unlikeliness(drive: Drive, values: FloatArray, noise: Noise) -> float:
    out, variance = drive.innovations(values, noise)
    if not np.all(variance > 0.0):  # lost among the rounding errors of numbers far from any drive's
        return math.inf
    return float(np.sum(np.log(variance) + np.minimum(out * out / variance, GATE * GATE)))


def _noise(logarithms: tuple[float, ...]) -> Noise:
    return Noise(*(math.exp(min(max(z, -40.0), 5.0)) for z in logarithms))
