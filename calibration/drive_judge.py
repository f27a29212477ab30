"""What a drive's residuals say that chi-squared does not: what no lag, delay and limit explain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from calibration.drive import Drive, Noise
from calibration.fit import OUTLIER, Fit
from cartpole.messages import FloatArray

HARD_SHARE, WORST_UNEVEN = 0.2, 1.6  # of a motion; with even noise the ratio is 0.9 to 1.1
LAGS_S = tuple(0.01 * k for k in range(-3, 9))  # of accelerations that were commanded
WORST_COMMANDED = 6.0  # a lag; 20 good rigs gave 0.6 to 2.1, very weak drives up to 5
LEAST_SHARE = 1e-3  # of the strongest direction: what lies below says nothing
# From one cog to the next: belts' teeth, pulleys' and magnets' turns.
PITCHES_M = (0.002, 0.2)
MOST_WAVES = 1000  # over a long track those of short pitches are left out
FALSE_COGS = 0.01  # of good recordings in which a cog is seen
FINER = 0.5  # of the spacing in which waves over a track are independent
REFINED = 10  # steps to either side, each a tenth of that


@dataclass(frozen=True, slots=True)
class Cog:
    """A push that comes again with the place: from one to the next [m], its strength [m/s^2]."""

    pitch_m: float
    strength_m_s2: float

    def waves(self, drive: Drive) -> tuple[FloatArray, FloatArray]:
        """Sine and cosine over the cart's way, (n,) each."""
        return _waves(drive, 1.0 / self.pitch_m)


@dataclass(frozen=True, slots=True)
class Residuals:
    """A drive's fit and what it left, (n,) in deviations, outliers held."""

    drive: Drive
    fit: Fit
    noise: Noise

    def left(self) -> FloatArray:
        """The residuals."""
        return np.clip(self.fit.residuals, -OUTLIER, OUTLIER)

    def effects(self, pushes: list[FloatArray]) -> FloatArray:
        """What pushes would do to the residuals that no parameter can, (n, k)."""
        columns = self.drive.effects(self.fit.values, self.noise, pushes)
        basis, _ = np.linalg.qr(self.fit.slopes)
        return np.asarray(columns - basis @ (basis.T @ columns))


def uneven(residuals: Residuals) -> list[str]:
    """A doubt where the residuals are larger while the drive accelerates hard.

    What hangs between drive and cart (play, a soft belt) shows there; the noise of the whole motion
    hides it, and the lag is then wrong by far more than its interval.
    """
    acceleration = np.abs(residuals.drive.acceleration(residuals.fit.values))
    hard = acceleration > np.quantile(acceleration, 1.0 - HARD_SHARE)
    if not np.any(hard):
        return []
    power = residuals.left() ** 2
    ratio = float(power[hard].mean() / max(power[~hard].mean(), 1e-12))
    if ratio <= WORST_UNEVEN:
        return []
    return [f"what is left is {ratio:.1f} times as strong while the drive accelerates hard"]


def commanded(residuals: Residuals) -> list[str]:
    """A doubt where what is left goes with what was commanded before.

    The innovations of a right model know nothing of the commands (Ljung, System Identification,
    chapter 16: the test of residuals against past inputs). A ramp of the drive's own, a soft belt
    or another delay leave something that the random pushes' variance hides from chi-squared.
    """
    time = residuals.drive.time
    acceleration = residuals.drive.acceleration(residuals.fit.values)
    late = [np.interp(time - lag, time, acceleration) for lag in LAGS_S]
    directions, strengths, _ = np.linalg.svd(residuals.effects(late), full_matrices=False)
    known = strengths > LEAST_SHARE * strengths[0]
    explained = float(np.sum((directions.T[known] @ residuals.left()) ** 2))
    count = int(known.sum())
    if explained <= WORST_COMMANDED * count:
        return []
    share = f"{explained / count:.1f} a lag, 1 by chance"
    does = "the drive does something that lag, delay and limit do not tell"
    return [f"what is left goes with what was commanded ({share}): {does}"]


def find_cog(residuals: Residuals) -> Cog | None:
    """The strongest push that comes again with the cart's place, if chance does not explain it.

    A periodogram over the place (Scargle, Astrophysical Journal 263, 1982, with time replaced by
    the way): the least squares of sine and cosine for each wave number. By chance its highest of m
    independent ordinates stays below 2 ln(m / p) in all but the share p of recordings; where the
    residuals are not white their median says by how much more.
    """
    drive = residuals.drive
    reach = float(np.ptp(drive.position))
    step = FINER / reach
    numbers = np.arange(1.0 / PITCHES_M[1], 1.0 / PITCHES_M[0], step)
    numbers = numbers[:MOST_WAVES]
    if len(numbers) < 2:
        return None
    left = residuals.left()
    powers = [_power(residuals, left, one)[0] for one in numbers.tolist()]
    ground = max(1.0, float(np.median(powers)) / float(chi2.ppf(0.5, 2)))
    best = int(np.argmax(powers))
    if powers[best] <= 2.0 * ground * math.log(len(numbers) / FALSE_COGS):
        return None
    near = numbers[best] + step * np.linspace(-1.0, 1.0, 2 * REFINED + 1)
    _, strength, number = max((*_power(residuals, left, one), one) for one in near.tolist())
    return Cog(1.0 / number, strength)


def _power(residuals: Residuals, left: FloatArray, number: float) -> tuple[float, float]:
    """How much of chi-squared a wave explains, and its strength [m/s^2]."""
    effects = residuals.effects(list(_waves(residuals.drive, number)))
    factors, *_ = np.linalg.lstsq(effects, -left, rcond=None)
    explained = float(np.sum(left**2) - np.sum((left + effects @ factors) ** 2))
    return explained, float(np.hypot(*factors))


def _waves(drive: Drive, number: float) -> tuple[FloatArray, FloatArray]:
    phase = 2.0 * math.pi * number * drive.position
    return np.sin(phase), np.cos(phase)
