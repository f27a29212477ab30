"""The drive from a chirp and steps: gain, dead band, lag, delay, acceleration limit, symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calibration.drive import Drive, Noise, drive_from
from calibration.drive_fit import BACK_M, HIDDEN, Found, fit_noise, settled
from calibration.drive_judge import drive_doubts
from calibration.drive_report import (
    behind_the_ramp,
    drive_flags,
    drive_notes,
    widened,
)
from calibration.drive_waves import find_cogs
from calibration.fit import Fit, Parameter, implausible, unidentified
from calibration.judge import judge
from calibration.loose import loosened, with_waves
from calibration.recording import Recording
from calibration.result import CalibrationResult
from cartpole.config.schema import Motor
from cartpole.errors import IdentificationError

RECORD = "record the motor procedure: a chirp of 0.5 to 4 Hz, then steps of both signs"
WEAK_SIGMA = 5.0
FAR_LIKELIER = 50.0  # so much must speak for more than a weak drive
CAUSES = (
    "a drive that sticks or has a ramp of its own, backlash, a belt that slips or stretches, lost "
    "commands, or a weak drive that its pole pushes back (record with the pole taken off, and "
    "compare)"
)


def calibrate_motor(recording: Recording, motor: Motor) -> CalibrationResult:
    """Everything under ``motor`` that motion shows; needs commands and cart positions.

    Raises IdentificationError if the cart hardly moves or the numbers cannot be right.
    """
    motion, commands = recording.motion, recording.commands
    if motion is None or commands is None or len(commands.t_s) < 10:
        raise IdentificationError(f"{recording.name}: no commands beside positions; {RECORD}")
    if float(np.ptp(motion.p_m)) < 0.02 or float(np.ptp(commands.velocity_m_s)) < 0.05:
        raise IdentificationError(f"{recording.name}: the cart hardly moves; {RECORD}")
    measured = max(motion.p_step_m, 2e-5) ** 2 / 12.0 + 1e-10
    drive = drive_from(motion, commands, motor)
    found, result, every = _believed(drive, motor, Noise(0.05**2, measured), motion.begins)
    refused = unidentified(result)
    if why := _implausible(result.value("motor.counts_per_m_s"), motor.counts_per_m_s):
        raise IdentificationError(why + "; check encoder.cart_counts_per_m too")
    names = [one.name for one in result.parameters if one.name.startswith("motor.")]
    used = (motion.t_s, result.residuals)
    if every:
        doubts = f"{'; '.join(every)}; {CAUSES}"
        return CalibrationResult({}, result.chi2_dof, dict.fromkeys(names, doubts), residuals=used)
    estimates = {name: result.estimate(name) for name in names if name not in refused}
    more, unseen = behind_the_ramp(found, result)
    return CalibrationResult(
        widened(found, result, estimates | more, recording.clock_sigma_s),
        result.chi2_dof,
        refused | unseen,
        tuple(drive_notes(found, result)),
        residuals=used,
        flags=drive_flags(found),
    )


def _implausible(gain: float, configured: float) -> str | None:
    if not 1.0 / 3.0 < gain / configured < 3.0:
        low, high = configured / 3.0, configured * 3.0
        return implausible("motor.counts_per_m_s", gain, low, high, configured)
    return None


def _parameters(motor: Motor, delay: float, tau: float) -> list[Parameter]:
    gain = motor.counts_per_m_s
    return [
        Parameter(
            "motor.counts_per_m_s", "1/(m/s)", gain, 1.0, 1e6, 0.1 * gain, 0.1 * gain, RECORD
        ),
        Parameter(
            "motor.dead_band_counts",
            "1",
            motor.dead_band_counts,
            0.0,
            1000.0,
            20.0,
            0.03 * gain,
            RECORD + ", slow ones among them",
            wall=True,
        ),
        Parameter("motor.tau_s", "s", tau, 0.002, 0.5, 0.01, 0.01, RECORD),
        Parameter("motor.delay_s", "s", delay, 0.0, 0.1, 0.005, 0.01, RECORD, wall=True),
        Parameter(
            "motor.acceleration_m_s2",
            "m/s^2",
            motor.acceleration_m_s2,
            0.5,
            100.0,
            2.0,
            3.0,
            RECORD + ", raise rig.acceleration_limit_m_s2 for them",
        ),
        Parameter("asymmetry", "1", 0.0, -0.5, 0.5, 0.05),
    ]


def _fit(drive: Drive, motor: Motor, noise: Noise) -> Found:
    """The most likely drive of lag, delay and limit; one that its pole pushes back, or that cogs,
    only where that shows clearly."""
    best: Fit | None = None
    for delay, tau in ((motor.delay_s, motor.tau_s), (0.015, 0.03), (0.01, 0.07)):
        found = fit_noise(drive, _parameters(motor, delay, tau), noise)
        if best is None or found.chi2_dof < best.chi2_dof:
            best = found
    assert best is not None
    plain = settled(drive, best, (), noise)
    if np.any(drive.pushes):
        back = Parameter(BACK_M, "m", 0.0, -2.0, 2.0, 0.05)
        hidden = Parameter(HIDDEN, "1", 0.0, -5.0, 5.0, 0.05)
        pushed = drive.pushed_by(drive.blurred_pull(plain.fit.values))
        weak = settled(pushed, plain.fit, (back, hidden), plain.noise)
        if weak.fit.value(BACK_M) > WEAK_SIGMA * weak.fit.sigma(BACK_M):
            return weak
    return replace(plain, drive=replace(drive, pushes=np.empty((len(drive.time), 0))))


def _judged(found: Found, begins: Sequence[int], *, loose: bool) -> tuple[Fit, list[str]]:
    """A fit with its intervals, and why it cannot be believed."""
    verdict = judge(found.fit, begins)
    doubts, grown = drive_doubts(found.residuals, loose=loose)
    wide = replace(verdict.fit, covariance=verdict.fit.covariance * grown)
    return wide, [*verdict.doubts, *doubts]


def _believed(
    drive: Drive, motor: Motor, noise: Noise, begins: Sequence[int]
) -> tuple[Found, Fit, list[str]]:
    """The simplest drive that can be believed; if there is none, the last one and its doubts."""
    found = _fit(drive, motor, noise)
    cogs = find_cogs(found.residuals)
    if cogs is not None:
        found = with_waves(found, cogs)
    result, doubts = _judged(found, begins, loose=False)
    # What a ramp does may look like a pole's pull.
    if doubts or found.has(BACK_M):
        loose = loosened(found, noise)
        if doubts or loose.unlikeliness < found.unlikeliness - FAR_LIKELIER:
            result, doubts = _judged(loose, begins, loose=True)
            return loose, result, doubts
    return found, result, doubts
