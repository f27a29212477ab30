"""The drive from a chirp and steps: gain, dead band, lag, delay, acceleration limit, symmetry."""

from __future__ import annotations

import math

import numpy as np

from calibration.fit import Fit, Parameter, fit, implausible, likeliest, unidentified
from calibration.judge import judge
from calibration.motor_kernel import innovations
from calibration.recording import Recording
from calibration.result import CalibrationResult
from cartpole.config.schema import Motor
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray

GATE = 6.0
CORRELATION_S = 0.05
RECORD = "record the motor procedure: a chirp of 0.5 to 4 Hz, then steps of both signs"
FULL_SCALE = 2047
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
    cart = (motion.t_s, motion.p_m)
    sent = (commands.t_s, units)
    measured = max(motion.p_step_m, 2e-5) ** 2 / 12.0 + 1e-10
    verdict = judge(_fit(cart, sent, motor, measured), motion.begins)
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
    if verdict.doubts:
        doubts = f"{'; '.join(verdict.doubts)}; {CAUSES}"
        names = [one.name for one in result.parameters if one.name.startswith("motor.")]
        used = (motion.t_s, result.residuals)
        return CalibrationResult({}, result.chi2_dof, dict.fromkeys(names, doubts), residuals=used)
    _refuse_unseen_limit(result, units, refused)
    names = [one.name for one in result.parameters if one.name.startswith("motor.")]
    estimates = {name: result.estimate(name) for name in names if name not in refused}
    skew, sigma = result.value("asymmetry"), result.sigma("asymmetry")
    same = abs(skew) < 3.0 * sigma or abs(skew) < 0.005
    notes = (
        f"right and left differ by {200.0 * skew:+.2f} ± {400.0 * sigma:.2f} % in gain: "
        + ("symmetric" if same else "not symmetric; the settings hold the mean"),
    )
    return CalibrationResult(
        estimates,
        result.chi2_dof,
        refused,
        notes,
        residuals=(motion.t_s, result.residuals),
    )


def _refuse_unseen_limit(result: Fit, units: FloatArray, refused: dict[str, str]) -> None:
    """Without a step that saturates the motor its limit is only known from below."""
    name = "motor.acceleration_m_s2"
    gain, dead = result.value("motor.counts_per_m_s"), result.value("motor.dead_band_counts")
    speeds = np.sign(units) * np.maximum(np.abs(units) - dead, 0.0) / gain
    jump = float(np.max(np.abs(np.diff(speeds)), initial=0.0))
    if name not in refused and result.value(name) * result.value("motor.tau_s") > jump:
        refused[name] = (
            "no step was large enough to saturate the motor; raise rig.acceleration_limit_m_s2 "
            "for the procedure and record larger steps"
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
            RECORD + " at full speed",
        ),
        Parameter("asymmetry", "1", 0.0, -0.5, 0.5, 0.05),
    ]


def _fit(
    cart: tuple[FloatArray, FloatArray],
    sent: tuple[FloatArray, FloatArray],
    motor: Motor,
    measured: float,
) -> Fit:
    lags = round(CORRELATION_S / float(np.median(np.diff(cart[0]))))
    noise = 0.05**2
    best: Fit | None = None
    for delay, tau in ((motor.delay_s, motor.tau_s), (0.015, 0.03), (0.01, 0.07)):
        found = _fit_noise(cart, sent, _parameters(motor, delay, tau), noise, measured, lags)
        if best is None or found.chi2_dof < best.chi2_dof:
            best = found
    assert best is not None
    for _ in range(3):
        noise, measured = _likeliest_noise(cart, sent, best.values, noise, measured)
        started = [
            Parameter(
                o.name, o.unit, best.value(o.name), o.low, o.high, o.scale, o.useful, o.remedy
            )
            for o in best.parameters
        ]
        best = _fit_noise(cart, sent, started, noise, measured, lags)
    return best


def _likeliest_noise(
    cart: tuple[FloatArray, FloatArray],
    sent: tuple[FloatArray, FloatArray],
    values: FloatArray,
    noise: float,
    measured: float,
) -> tuple[float, float]:
    """Variances of the cart's random acceleration and of a position, at these parameters.

    With a wrong ratio of the two the innovations hang together, and that bends the lag.
    """
    n = len(cart[0])
    out, variance = np.empty(n), np.empty(n)

    def score(logarithms: tuple[float, float]) -> float:
        push, place = (math.exp(min(max(z, -40.0), 5.0)) for z in logarithms)
        innovations(*cart, *sent, values, push, place, GATE, out, variance)
        return float(np.sum(np.log(variance) + np.minimum(out * out / variance, GATE * GATE)))

    found = likeliest(score, (math.log(noise), math.log(measured)))
    return math.exp(found[0]), math.exp(found[1])


def _fit_noise(
    cart: tuple[FloatArray, FloatArray],
    sent: tuple[FloatArray, FloatArray],
    parameters: list[Parameter],
    noise: float,
    measured: float,
    lags: int,
) -> Fit:
    n = len(cart[0])
    out, variance, weight = np.empty(n), np.empty(n), np.empty(n)
    # Fixed weights: were they to follow the parameters, a slower drive would look less certain and
    # so fit better.
    start = np.array([one.start for one in parameters])
    innovations(*cart, *sent, start, noise, measured, GATE, out, weight)

    def residual(values: FloatArray) -> FloatArray:
        innovations(*cart, *sent, values, noise, measured, GATE, out, variance)
        return np.asarray(out / np.sqrt(weight))

    return fit(residual, parameters, lags)
