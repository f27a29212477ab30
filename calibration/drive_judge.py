"""What a drive's residuals say that chi-squared does not: what no lag, delay and limit explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.drive import Drive, Noise
from calibration.fit import OUTLIER, Fit
from cartpole.messages import FloatArray

HARD_SHARE, WORST_UNEVEN = 0.2, 1.6  # of a motion; with even noise the ratio is 0.9 to 1.1
LAGS_S = tuple(0.01 * k for k in range(-3, 9))  # of accelerations that were commanded
WORST_COMMANDED = 6.0  # a lag; 20 good rigs gave 0.6 to 2.1, very weak drives up to 5
LOOSE_UNEVEN, LOOSE_COMMANDED = 3.0, 20.0  # where that widens the intervals
LEAST_SHARE = 1e-3  # of the strongest direction: what lies below says nothing


@dataclass(frozen=True, slots=True)
class Residuals:
    """A drive's fit and what it left, (n,) in deviations, outliers held; ``basis`` (n, k) spans
    what its parameters could do about it."""

    drive: Drive
    fit: Fit
    noise: Noise
    basis: FloatArray

    def left(self) -> FloatArray:
        """The residuals."""
        return np.clip(self.fit.residuals, -OUTLIER, OUTLIER)

    def effects(self, pushes: list[FloatArray]) -> FloatArray:
        """What pushes would do to the residuals that no parameter can, (n, k)."""
        columns = self.drive.effects(self.fit.values, self.noise, pushes)
        return np.asarray(columns - self.basis @ (self.basis.T @ columns))


def unevenness(residuals: Residuals) -> float:
    """How much stronger the residuals are while the drive accelerates hard; about 1 of a good fit.

    What hangs between drive and cart (play, a soft belt) shows there; the noise of the whole motion
    hides it, and the lag is then wrong by far more than its interval.
    """
    acceleration = np.abs(residuals.drive.acceleration(residuals.fit.values))
    hard = acceleration > np.quantile(acceleration, 1.0 - HARD_SHARE)
    if not np.any(hard):
        return 1.0
    power = residuals.left() ** 2
    return float(power[hard].mean() / max(power[~hard].mean(), 1e-12))


def obedience(residuals: Residuals) -> float:
    """How much of what is left goes with what was commanded before, a lag; about 1 of a good fit.

    The innovations of a right model know nothing of the commands (Ljung, System Identification,
    chapter 16: the test of residuals against past inputs). A ramp of the drive's own, a soft belt
    or another delay leave something that the random pushes' variance hides from chi-squared.
    """
    time = residuals.drive.time
    acceleration = residuals.drive.acceleration(residuals.fit.values)
    late = [np.interp(time - lag, time, acceleration) for lag in LAGS_S]
    directions, strengths, _ = np.linalg.svd(residuals.effects(late), full_matrices=False)
    known = strengths > LEAST_SHARE * strengths[0]
    if not np.any(known):  # the drive was never asked for another speed
        return 1.0
    return float(np.sum((directions.T[known] @ residuals.left()) ** 2) / known.sum())


def drive_doubts(residuals: Residuals, *, loose: bool) -> tuple[list[str], float]:
    """Why such a fit cannot be believed, and by how much its covariance must grow.

    A ``loose`` drive was allowed all that is known of drives: what it leaves besides is small, and
    widens its intervals as far as it could have bent them.
    """
    ratio, strength = unevenness(residuals), obedience(residuals)
    doubts = []
    if ratio > (LOOSE_UNEVEN if loose else WORST_UNEVEN):
        doubts.append(
            f"what is left is {ratio:.1f} times as strong while the drive accelerates hard"
        )
    if strength > (LOOSE_COMMANDED if loose else WORST_COMMANDED):
        doubts.append(
            f"what is left goes with what was commanded ({strength:.1f} a lag, 1 by chance): the "
            "drive does something that lag, delay and limit do not tell"
        )
    return doubts, max(1.0, ratio, strength) if loose else 1.0
