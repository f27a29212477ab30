"""Pushes of a drive that come again: cogs over its way, a ripple over time, an uneven supply."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import chi2

from calibration.drive import Drive
from calibration.drive_judge import Residuals
from calibration.motor_kernel import TAU
from cartpole.messages import FloatArray

# From one cog to the next: belts' teeth, pulleys' and magnets' turns.
PITCHES_M = (0.002, 0.2)
RIPPLES_HZ = (3.0, 30.0)  # of a controller's or a gear's own; slower ones are the supply's
MOST_WAVES = 1000  # over a long track those of short pitches are left out
FALSE_WAVES = 0.01  # of good recordings in which one is seen
FINER = 0.5  # of the spacing in which waves are independent
REFINED = 10  # steps to either side, each a tenth of that
SUPPLY_WAVES = 6  # of half a period and more in a recording


@dataclass(frozen=True, slots=True)
class Waves:
    """A push that comes again: ``number`` of them in a metre (cogs) or in a second (a ripple)."""

    cogs: bool
    number: float

    @property
    def names(self) -> tuple[str, str]:
        """Of its two unknowns [m/s^2]."""
        what = "cogs" if self.cogs else "ripple"
        return f"{what}, sine", f"{what}, cosine"

    def pushes(self, drive: Drive) -> tuple[FloatArray, FloatArray]:
        """Sine and cosine, (n,) each; a drive that is told to stand still does not ripple."""
        if self.cogs:
            phase, size = 2.0 * math.pi * self.number * drive.position, np.ones(len(drive.time))
        else:
            phase, size = 2.0 * math.pi * self.number * drive.time, drive.is_driven()
        return size * np.sin(phase), size * np.cos(phase)


def supply_pushes(drive: Drive, values: FloatArray) -> tuple[FloatArray, ...]:
    """What slow changes of the drive's gain push, (n,) each, for a change of one: half a period in
    the recording, two, three, ..."""
    begin, end = drive.time[0], drive.time[-1]
    push = drive.wished(values) / drive.coefficients(values)[TAU]
    share = math.pi * (drive.time - begin) / (end - begin)
    return tuple(push * np.cos(k * share) for k in range(1, SUPPLY_WAVES + 1))


def find_cogs(residuals: Residuals) -> Waves | None:
    """The strongest push that comes again with the cart's place, if chance does not explain it."""
    low, high = 1.0 / PITCHES_M[1], 1.0 / PITCHES_M[0]
    step = FINER / float(np.ptp(residuals.drive.position))
    return _find(residuals, partial(Waves, True), (low, high, step))


def find_ripple(residuals: Residuals) -> Waves | None:
    """The strongest push that comes again with time, if chance does not explain it."""
    step = FINER / float(np.ptp(residuals.drive.time))
    return _find(residuals, partial(Waves, False), (*RIPPLES_HZ, step))


def _find(
    residuals: Residuals, wave: Callable[[float], Waves], search: tuple[float, float, float]
) -> Waves | None:
    """The wave that explains most; ``search``: from, to, and in which steps.

    A periodogram (Scargle, Astrophysical Journal 263, 1982): the least squares of sine and cosine
    for each number. By chance its highest of m independent ordinates stays below 2 ln(m / p) in all
    but the share p of recordings; where the residuals are not white their median says by how much
    more.
    """
    low, high, step = search
    numbers = np.arange(low, high, step)[:MOST_WAVES]
    if len(numbers) < 2:
        return None
    left = residuals.left()
    powers = [_power(residuals, left, wave(one)) for one in numbers.tolist()]
    ground = max(1.0, float(np.median(powers)) / float(chi2.ppf(0.5, 2)))
    best = int(np.argmax(powers))
    if powers[best] <= 2.0 * ground * math.log(len(numbers) / FALSE_WAVES):
        return None
    near = numbers[best] + step * np.linspace(-1.0, 1.0, 2 * REFINED + 1)
    return wave(max((_power(residuals, left, wave(one)), one) for one in near.tolist())[1])


def _power(residuals: Residuals, left: FloatArray, wave: Waves) -> float:
    """How much of chi-squared it explains."""
    effects = residuals.effects(list(wave.pushes(residuals.drive)))
    factors, *_ = np.linalg.lstsq(effects, -left, rcond=None)
    return float(np.sum(left**2) - np.sum((left + effects @ factors) ** 2))
