"""The drive from a chirp and steps: gain, dead band, lag, delay, acceleration limit, symmetry."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import savgol_filter

from calibration.fit import (
    NORMAL_95,
    OUTLIER,
    Fit,
    Parameter,
    fit,
    implausible,
    likeliest,
    unidentified,
)
from calibration.judge import judge
from calibration.motor_kernel import BACK, DELAY, LIMIT, TAU, innovations, wanted_speed
from calibration.recording import Motion, Recording
from calibration.result import CalibrationResult
from cartpole.config.schema import Motor
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray
from cartpole.model.dynamics import cart_step

GATE = 6.0
CORRELATION_S = 0.05
RECORD = "record the motor procedure: a chirp of 0.5 to 4 Hz, then steps of both signs"
FULL_SCALE = 2047
ROUNDS = 3
BACK_M = "pushed back"  # a pole's m d / (m + M), as far as the drive lets it through
WEAK_SIGMA = 5.0
HARD_SHARE, WORST_UNEVEN = 0.2, 1.6  # of a motion; with even noise the ratio is 0.9 to 1.1
PULL_STEP_S, PULL_S = 0.005, 0.06  # grid and window of a pole's acceleration
CAUSES = (
    "a drive that cogs or sticks, backlash, a belt that slips or stretches, lost commands, or a "
    "weak drive that is pushed back by its pole (record with the pole taken off, and compare)"
)


def driver_units(velocity_m_s: FloatArray, motor: Motor) -> FloatArray:
    """What the configured driver wrote for these commands, sign of the wiring left out, (n,)."""
    size = motor.dead_band_counts + np.abs(velocity_m_s) * motor.counts_per_m_s
    whole = np.minimum(np.rint(size), FULL_SCALE)
    return np.where(velocity_m_s == 0.0, 0.0, np.copysign(whole, velocity_m_s))


def calibrate_motor(recording: Recording, motor: Motor) -> CalibrationResult:
    """Everything under ``motor`` that motion shows; needs commands and cart positions.

    Raises IdentificationError if the cart hardly moves or the numbers cannot be right.
    """
    motion, commands = recording.motion, recording.commands
    if motion is None or commands is None or len(commands.t_s) < 10:
        raise IdentificationError(f"{recording.name}: no commands beside positions; {RECORD}")
    if float(np.ptp(motion.p_m)) < 0.02 or float(np.ptp(commands.velocity_m_s)) < 0.05:
        raise IdentificationError(f"{recording.name}: the cart hardly moves; {RECORD}")
    units = driver_units(commands.velocity_m_s, motor)
    drive = _Drive(motion.t_s, motion.p_m, commands.t_s, units, pole_pull(motion))
    measured = max(motion.p_step_m, 2e-5) ** 2 / 12.0 + 1e-10
    verdict = judge(_fit(drive, motor, measured), motion.begins)
    result = verdict.fit
    refused = unidentified(result)
    speed = result.value("motor.counts_per_m_s")
    why = implausible("motor.counts_per_m_s", speed, speed / 3.0, speed * 3.0, speed)
    ratio = speed / motor.counts_per_m_s
    if not 1.0 / 3.0 < ratio < 3.0:
        why = implausible(
            "motor.counts_per_m_s",
            speed,
            motor.counts_per_m_s / 3.0,
            motor.counts_per_m_s * 3.0,
            motor.counts_per_m_s,
        )
    if why:
        raise IdentificationError(why + "; check encoder.cart_counts_per_m too")
    if every := [*verdict.doubts, *_uneven(drive, result)]:
        doubts = f"{'; '.join(every)}; {CAUSES}"
        names = [one.name for one in result.parameters if one.name.startswith("motor.")]
        used = (motion.t_s, result.residuals)
        return CalibrationResult({}, result.chi2_dof, dict.fromkeys(names, doubts), residuals=used)
    names = [one.name for one in result.parameters if one.name.startswith("motor.")]
    estimates = {name: result.estimate(name) for name in names if name not in refused}
    skew, sigma = result.value("asymmetry"), result.sigma("asymmetry")
    same = abs(skew) < 3.0 * sigma or abs(skew) < 0.005
    notes = [
        f"right and left differ by {200.0 * skew:+.2f} ± {400.0 * sigma:.2f} % in gain: "
        + ("symmetric" if same else "not symmetric; the settings hold the mean"),
    ]
    if _is_weak(result):
        notes.append(
            f"a weak drive: its pole pushes the cart back ({result.value(BACK_M):.3f} ± "
            f"{NORMAL_95 * result.sigma(BACK_M):.3f} m of m d / (m + M)); the other numbers allow "
            "for it, plans and filter do not"
        )
    return CalibrationResult(
        estimates,
        result.chi2_dof,
        refused,
        tuple(notes),
        residuals=(motion.t_s, result.residuals),
    )


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


@dataclass(frozen=True, slots=True)
class _Drive:
    """What the fit is given: cart (n,), commands in driver units (m,), the pole's pull (n,)."""

    time: FloatArray
    position: FloatArray
    sent: FloatArray
    units: FloatArray
    pull: FloatArray

    def innovations(
        self, values: FloatArray, noise: float, measured: float
    ) -> tuple[FloatArray, FloatArray]:
        """Innovations [m] and variances, (n,); a pole that pushes back may be left out."""
        n = len(self.time)
        out, variance, pars = np.empty(n), np.empty(n), np.zeros(BACK + 1)
        pars[: len(values)] = values
        innovations(
            self.time, self.position, self.sent, self.units, self.pull,
            pars, noise, measured, GATE, out, variance,
        )  # fmt: skip
        return out, variance


def pole_pull(motion: Motion) -> FloatArray:
    """How a pole pulls at its cart [1/s^2], (n,): omega^2 sin theta - omegadot cos theta.

    A cart of mass M under a pole of mass m, its centre of mass d from the pivot, is accelerated by
    m d / (m + M) times this.
    """
    grid = np.arange(motion.t_s[0], motion.t_s[-1], PULL_STEP_S)
    width = 2 * round(0.5 * PULL_S / PULL_STEP_S) + 1
    if len(grid) <= width:
        return np.zeros(len(motion.t_s))
    theta = np.interp(grid, motion.t_s, motion.theta_rad)
    angle, rate, bent = (
        savgol_filter(theta, width, 3, deriv=k, delta=PULL_STEP_S) for k in range(3)
    )
    pull = rate**2 * np.sin(angle) - bent * np.cos(angle)
    return np.asarray(np.interp(motion.t_s, grid, pull))


def _uneven(drive: _Drive, result: Fit) -> list[str]:
    """A doubt where the residuals are larger while the drive accelerates hard.

    What hangs between drive and cart (play, a soft belt) shows there; the noise of the whole motion
    hides it, and the lag is then wrong by far more than its interval.
    """
    speed = _speeds(drive, result.values)
    acceleration = np.abs(np.gradient(speed, drive.time))
    hard = acceleration > np.quantile(acceleration, 1.0 - HARD_SHARE)
    if not np.any(hard):
        return []
    power = np.minimum(result.residuals**2, OUTLIER**2)
    ratio = float(power[hard].mean() / max(power[~hard].mean(), 1e-12))
    if ratio <= WORST_UNEVEN:
        return []
    return [f"what is left is {ratio:.1f} times as strong while the drive accelerates hard"]


def _speeds(drive: _Drive, values: FloatArray) -> FloatArray:
    """The drive's speed [m/s] at the samples by the commands alone, (n,)."""
    pars = np.zeros(BACK + 1)
    pars[: len(values)] = values
    wanted = np.array([wanted_speed(one, pars) for one in drive.units.tolist()])
    at = np.searchsorted(drive.sent + pars[DELAY], drive.time, side="right") - 1
    held = np.where(at >= 0, wanted[at], 0.0).tolist()
    speed, out = 0.0, [0.0]
    for u, step in zip(held, np.diff(drive.time).tolist(), strict=False):
        _, speed = cart_step(0.0, speed, u, step, float(pars[TAU]), float(pars[LIMIT]))
        out.append(speed)
    return np.array(out)


def _is_weak(result: Fit) -> bool:
    """Whether the fit holds a pole that pushes its cart back."""
    return result.parameters[-1].name == BACK_M


def _fit(drive: _Drive, motor: Motor, measured: float) -> Fit:
    """The most likely drive; one that its pole pushes back only where that shows clearly."""
    lags = round(CORRELATION_S / float(np.median(np.diff(drive.time))))
    noise = 0.05**2
    best: Fit | None = None
    for delay, tau in ((motor.delay_s, motor.tau_s), (0.015, 0.03), (0.01, 0.07)):
        found = _fit_noise(drive, _parameters(motor, delay, tau), noise, measured, lags)
        if best is None or found.chi2_dof < best.chi2_dof:
            best = found
    assert best is not None
    plain, noise, measured = _settled(drive, best, (), noise, measured, lags)
    if not np.any(drive.pull):
        return plain
    back = Parameter(BACK_M, "m", 0.0, -2.0, 2.0, 0.05)
    weak, _, _ = _settled(drive, plain, (back,), noise, measured, lags)
    return weak if weak.value(BACK_M) > WEAK_SIGMA * weak.sigma(BACK_M) else plain


def _settled(
    drive: _Drive, best: Fit, more: tuple[Parameter, ...], noise: float, measured: float, lags: int
) -> tuple[Fit, float, float]:
    """Noise and parameters in turn, with ``more`` unknowns; the fit and both variances."""
    for _ in range(ROUNDS):
        noise, measured = _likeliest_noise(drive, best.values, noise, measured)
        started = [replace(one, start=best.value(one.name)) for one in best.parameters]
        best = _fit_noise(drive, [*started, *more], noise, measured, lags)
        more = ()
    return best, noise, measured


def _likeliest_noise(
    drive: _Drive, values: FloatArray, noise: float, measured: float
) -> tuple[float, float]:
    """Variances of the cart's random acceleration and of a position, at these parameters.

    With a wrong ratio of the two the innovations hang together, and that bends the lag.
    """

    def score(logarithms: tuple[float, float]) -> float:
        push, place = (math.exp(min(max(z, -40.0), 5.0)) for z in logarithms)
        out, variance = drive.innovations(values, push, place)
        return float(np.sum(np.log(variance) + np.minimum(out * out / variance, GATE * GATE)))

    found = likeliest(score, (math.log(noise), math.log(measured)))
    return math.exp(found[0]), math.exp(found[1])


def _fit_noise(
    drive: _Drive, parameters: list[Parameter], noise: float, measured: float, lags: int
) -> Fit:
    # Fixed weights: were they to follow the parameters, a slower drive would look less certain and
    # so fit better.
    start = np.array([one.start for one in parameters])
    _, weight = drive.innovations(start, noise, measured)

    def residual(values: FloatArray) -> FloatArray:
        return np.asarray(drive.innovations(values, noise, measured)[0] / np.sqrt(weight))

    return fit(residual, parameters, lags)
