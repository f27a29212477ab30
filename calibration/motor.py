"""The drive from a chirp and steps: gain, dead band, lag, delay, acceleration limit, symmetry."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from calibration.drive import GATE, Drive, Noise, drive_from
from calibration.drive_judge import Cog, Residuals, commanded, find_cog, uneven
from calibration.fit import NORMAL_95, Fit, Parameter, fit, implausible, likeliest, unidentified
from calibration.judge import judge
from calibration.recording import Recording
from calibration.result import CalibrationResult
from cartpole.config.schema import Motor
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray

CORRELATION_S = 0.05
RECORD = "record the motor procedure: a chirp of 0.5 to 4 Hz, then steps of both signs"
ROUNDS = 3
BACK_M = "pushed back"  # a pole's m d / (m + M), as far as the drive lets it through
WEAK_SIGMA = 5.0
COG_M_S2 = ("cog's sine", "cog's cosine")
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
    found = _fit(drive_from(motion, commands, motor), motor, measured)
    verdict = judge(found.fit, motion.begins)
    result = verdict.fit
    refused = unidentified(result)
    if why := _implausible(result.value("motor.counts_per_m_s"), motor.counts_per_m_s):
        raise IdentificationError(why + "; check encoder.cart_counts_per_m too")
    names = [one.name for one in result.parameters if one.name.startswith("motor.")]
    used = (motion.t_s, result.residuals)
    left = found.residuals
    if every := [*verdict.doubts, *uneven(left), *commanded(left)]:
        doubts = f"{'; '.join(every)}; {CAUSES}"
        return CalibrationResult({}, result.chi2_dof, dict.fromkeys(names, doubts), residuals=used)
    estimates = {name: result.estimate(name) for name in names if name not in refused}
    notes = tuple(_notes(found, result))
    flags = tuple(
        name for name, is_so in (("weak", found.weak), ("cogs", found.cog is not None)) if is_so
    )
    return CalibrationResult(
        estimates, result.chi2_dof, refused, notes, residuals=used, flags=flags
    )


def _implausible(gain: float, configured: float) -> str | None:
    if not 1.0 / 3.0 < gain / configured < 3.0:
        low, high = configured / 3.0, configured * 3.0
        return implausible("motor.counts_per_m_s", gain, low, high, configured)
    return None


def _notes(found: _Found, result: Fit) -> list[str]:
    skew, sigma = result.value("asymmetry"), result.sigma("asymmetry")
    same = abs(skew) < 3.0 * sigma or abs(skew) < 0.005
    notes = [
        f"right and left differ by {200.0 * skew:+.2f} ± {400.0 * sigma:.2f} % in gain: "
        + ("symmetric" if same else "not symmetric; the settings hold the mean"),
    ]
    if found.weak:
        notes.append(
            f"a weak drive: its pole pushes the cart back ({result.value(BACK_M):.3f} ± "
            f"{NORMAL_95 * result.sigma(BACK_M):.3f} m of m d / (m + M)); the other numbers allow "
            "for it, plans and filter do not"
        )
    if found.cog is not None:
        strength = math.hypot(*(result.value(name) for name in COG_M_S2))
        uneven_mm_s = 1e3 * strength * result.value("motor.tau_s")
        notes.append(
            f"the drive cogs: {strength:.2g} m/s^2 (slow speeds uneven by {uneven_mm_s:.2g} mm/s) "
            f"every {1e3 * found.cog.pitch_m:.3g} mm; the other numbers allow for it, plans and "
            "filter do not"
        )
    return notes


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
class _Found:
    """A fit with its noise, the drive that it takes, and what pushes that drive besides."""

    fit: Fit
    noise: Noise
    drive: Drive
    cog: Cog | None = None

    @property
    def weak(self) -> bool:
        """Whether it holds a pole that pushes its cart back."""
        return any(one.name == BACK_M for one in self.fit.parameters)

    @property
    def residuals(self) -> Residuals:
        """What its judges look at."""
        return Residuals(self.drive, self.fit, self.noise)


def _fit(drive: Drive, motor: Motor, measured: float) -> _Found:
    """The most likely drive; one that its pole pushes back, or that cogs, only where that shows
    clearly."""
    noise = Noise(0.05**2, measured)
    best: Fit | None = None
    for delay, tau in ((motor.delay_s, motor.tau_s), (0.015, 0.03), (0.01, 0.07)):
        found = _fit_noise(drive, _parameters(motor, delay, tau), noise)
        if best is None or found.chi2_dof < best.chi2_dof:
            best = found
    assert best is not None
    plain = _settled(drive, best, (), noise)
    if np.any(drive.pushes):
        back = Parameter(BACK_M, "m", 0.0, -2.0, 2.0, 0.05)
        hidden = Parameter("hidden by smoothing", "1", 0.0, -5.0, 5.0, 0.05)
        pushed = drive.pushed_by(drive.blurred_pull(plain.fit.values))
        weak = _settled(pushed, plain.fit, (back, hidden), plain.noise)
        if weak.fit.value(BACK_M) > WEAK_SIGMA * weak.fit.sigma(BACK_M):
            plain = weak
    return _with_cog(plain)


def _with_cog(plain: _Found) -> _Found:
    """With the push that comes again with the place as two unknowns more, where there is one."""
    cog = find_cog(plain.residuals)
    if cog is None:
        return plain
    drive = plain.drive
    if not plain.weak:
        drive = replace(drive, pushes=np.empty((len(drive.time), 0)))
    drive = drive.pushed_by(*cog.waves(drive))
    unknown = tuple(Parameter(name, "m/s^2", 0.0, -20.0, 20.0, 0.1) for name in COG_M_S2)
    return replace(_settled(drive, plain.fit, unknown, plain.noise), cog=cog)


def _settled(drive: Drive, best: Fit, more: tuple[Parameter, ...], noise: Noise) -> _Found:
    """Noise and parameters in turn, with ``more`` unknowns."""
    for _ in range(ROUNDS):
        noise = _likeliest_noise(drive, best.values, noise)
        started = [replace(one, start=best.value(one.name)) for one in best.parameters]
        best = _fit_noise(drive, [*started, *more], noise)
        more = ()
    return _Found(best, noise, drive)


def _likeliest_noise(drive: Drive, values: FloatArray, noise: Noise) -> Noise:
    """Variances of the cart's random acceleration and of a position, at these parameters.

    With a wrong ratio of the two the innovations hang together, and that bends the lag.
    """

    def score(logarithms: tuple[float, float]) -> float:
        out, variance = drive.innovations(values, _noise(logarithms))
        return float(np.sum(np.log(variance) + np.minimum(out * out / variance, GATE * GATE)))

    return _noise(likeliest(score, (math.log(noise.push), math.log(noise.position))))


def _noise(logarithms: tuple[float, float]) -> Noise:
    return Noise(*(math.exp(min(max(z, -40.0), 5.0)) for z in logarithms))


def _fit_noise(drive: Drive, parameters: list[Parameter], noise: Noise) -> Fit:
    # Fixed weights: were they to follow the parameters, a slower drive would look less certain and
    # so fit better.
    start = np.array([one.start for one in parameters])
    _, weight = drive.innovations(start, noise)
    lags = round(CORRELATION_S / float(np.median(np.diff(drive.time))))

    def residual(values: FloatArray) -> FloatArray:
        return np.asarray(drive.innovations(values, noise)[0] / np.sqrt(weight))

    return fit(residual, parameters, lags)
