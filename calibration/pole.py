"""The pole from its motion: length, viscous and dry friction, where the angle's zero really is.

Only g / L shows in the motion of a pole whose cart is commanded in velocity; g is fixed. Works on
encoder or camera angles at any rate, hanging, swinging or upright, with the cart moving or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calibration.fit import Fit, Parameter, fit, implausible, likeliest, unidentified
from calibration.pole_kernel import innovations, smooth
from calibration.recording import Motion, Recording
from calibration.result import CalibrationResult, Estimate
from calibration.spline import CubicSpline
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray
from cartpole.model.parameters import GRAVITY_M_S2

LONGEST_STEP_S = 0.006
LONGEST_GAP_S = 0.2
MIN_SWING_RAD = 0.15
MIN_DURATION_S = 1.0
LENGTHS_M = (0.05, 3.0)
GATE = 5.0
MAX_ROUNDS = 6
CORRELATION_S = 0.1  # over which innovations may be correlated (quantisation, model error)

SWING = "push the pole so that it swings by more than 60 degrees and record"
REMEDIES = {
    "pole.length_m": f"{SWING} 10 s",
    "pole.damping_1_s": f"{SWING} 30 s until it has nearly come to rest",
    "pole.coulomb_rad_s2": f"{SWING} 30 s until it has nearly come to rest",
    "offset": f"{SWING} 10 s",
    "skew": "move the cart to and fro while the pole swings",
}


@dataclass(frozen=True, slots=True)
class Grid:
    """Samples and the cart's speed between them, as the kernel takes them."""

    theta: FloatArray
    steps: FloatArray
    counts: FloatArray
    half_times: FloatArray
    cart: Callable[[FloatArray], FloatArray]  # speed over time
    anchor_rad: float


@dataclass(frozen=True, slots=True)
class Setup:
    """What is unknown: dry friction, and, where one board did not latch both sensors by known
    scales, their scales and (with a moving cart) the skew between them."""

    motion: Motion
    dry: bool
    moving: bool
    lags: int


@dataclass(frozen=True, slots=True)
class Noise:
    """Variances: of the pole's random acceleration [(rad/s)^2/s] and of an angle [rad^2]."""

    pole: float
    angle: float


@dataclass(frozen=True, slots=True)
class PoleFit:
    """The fit, the noise found with it, and the filtered pole: (n, 5) theta, q, covariance."""

    fit: Fit
    noise: Noise
    grid: Grid
    used: FloatArray
    cost: float


def calibrate_pole(recording: Recording) -> CalibrationResult:
    """Length [m], damping [1/s], dry friction [rad/s^2]; the angle's zero as a note.

    Raises IdentificationError if the pole hardly moves or the numbers cannot be right.
    """
    motion = recording.motion
    if motion is None:
        raise IdentificationError(
            f"{recording.name}: no cart position and pole angle; record with the encoders on"
        )
    found = fit_pole(motion)
    result = found.fit
    refused = unidentified(result)
    if "pole.coulomb_rad_s2" in refused or "pole.damping_1_s" in refused:
        # Friction is then one number: leave the dry part at zero.
        refused.setdefault("pole.coulomb_rad_s2", "not separable from damping here; " + SWING)
        found = fit_pole(motion, dry=False, start=found)
        result = found.fit
        again = unidentified(result)
        refused = {"pole.coulomb_rad_s2": refused["pole.coulomb_rad_s2"], **again}
    names = [one.name for one in result.parameters if one.name.startswith("pole.")]
    estimates = {name: result.estimate(name) for name in names if name not in refused}
    length = result.estimate("pole.length_m")
    _check_length(length, refused)
    offset = result.estimate("offset")
    zero, half = math.degrees(offset.value), math.degrees(offset.value - offset.ci95[0])
    push, angle = math.sqrt(found.noise.pole), 1e3 * math.sqrt(found.noise.angle)
    notes = [
        f"angle zero: the pole hangs at {zero:+.3f} ± {half:.3f} deg",
        f"random pushes {push:.3g} rad/s per sqrt(s), angle noise {angle:.3g} mrad",
    ]
    for name in ("angle scale", "cart scale"):
        if any(one.name == name for one in result.parameters):
            scale = result.estimate(name)
            notes.append(f"{name} {scale.value:.4f} ± {scale.value - scale.ci95[0]:.4f}")
    if any(one.name == "skew" for one in result.parameters):
        skew = result.estimate("skew")
        notes.append(
            f"the angle is {1e3 * skew.value:+.2f} ± {1e3 * (skew.value - skew.ci95[0]):.2f} ms "
            "older than the position"
        )
    return CalibrationResult(
        estimates,
        result.chi2_dof,
        refused,
        tuple(notes),
        residuals=(motion.t_s, result.residuals),
    )


def _check_length(length: Estimate, refused: dict[str, str]) -> None:
    if "pole.length_m" in refused:
        raise IdentificationError("pole.length_m: " + refused["pole.length_m"])
    why = implausible("pole.length_m", length.value, 0.06, 2.5, 0.5)
    if why:
        raise IdentificationError(why)


def fit_pole(motion: Motion, dry: bool = True, start: PoleFit | None = None) -> PoleFit:
    """Maximum likelihood by prediction errors; samples to use, noise and parameters in turn."""
    _check_motion(motion)
    grid = make_grid(motion)
    moving = motion.scale_sigma > 0.0 and float(np.ptp(motion.p_m)) > 0.03
    floor = (max(motion.theta_step_rad, 1e-6) ** 2) / 12.0
    setup = Setup(motion, dry, moving, round(CORRELATION_S / float(np.median(np.diff(motion.t_s)))))
    if start is not None:
        given = {one.name: start.fit.value(one.name) for one in start.fit.parameters}
        return _refine(grid, setup, given, start.noise, floor)
    noise = Noise(0.3, max(9.0 * floor, 1e-5))
    found = [
        _refine(grid, setup, one, noise, floor, rounds=2)
        for one in _starts(grid, noise, motion.scale_sigma)
    ]
    best = min(found, key=lambda one: one.cost)
    values = {one.name: best.fit.value(one.name) for one in best.fit.parameters}
    return _refine(grid, setup, values, best.noise, floor)


def _refine(
    grid: Grid,
    setup: Setup,
    values: dict[str, float],
    noise: Noise,
    floor: float,
    rounds: int = MAX_ROUNDS,
) -> PoleFit:
    """Samples to use, parameters and noise in turn, until they agree."""
    for _ in range(rounds):
        used = _usable(grid, values, noise)
        result = _fit_once(grid, setup, values, noise, used)
        moved = abs(result.value("pole.length_m") / values["pole.length_m"] - 1.0)
        values = {one.name: result.value(one.name) for one in result.parameters}
        refined = likeliest_noise(grid, values, noise, used, floor)
        settled = moved < 1e-4 and abs(math.log(refined.pole / noise.pole)) < 0.1
        noise = refined
        if settled:
            break
    return PoleFit(result, noise, grid, used, likelihood(grid, values, noise, None))


def _usable(grid: Grid, values: dict[str, float], noise: Noise) -> FloatArray:
    """1 where the angle can be believed: not far off the model, nor next to such a sample."""
    _, _, _, used = run(grid, values, noise, None)
    bad = np.convolve(1.0 - used, np.ones(3), mode="same") > 1.5
    return np.where(bad, 0.0, used)


def _check_motion(motion: Motion) -> None:
    duration = float(motion.t_s[-1] - motion.t_s[0])
    if duration < MIN_DURATION_S:
        raise IdentificationError(f"{duration:.2f} s of motion are too short; {SWING} 10 s")
    if float(np.ptp(motion.theta_rad)) < MIN_SWING_RAD:
        raise IdentificationError(f"the pole hardly moves in this recording; {SWING} 10 s")


def make_grid(motion: Motion) -> Grid:
    """Cut the intervals into steps and put a spline through the cart's positions."""
    gaps = np.diff(motion.t_s)
    limit = max(LONGEST_GAP_S, 4.0 * float(np.median(gaps)))
    counts = np.where(gaps > limit, 0, np.ceil(gaps / LONGEST_STEP_S - 1e-9))
    steps = np.where(counts > 0, gaps / np.maximum(counts, 1), 0.0)
    times = []
    for k, count in enumerate(counts.astype(int)):
        if count:
            times.append(motion.t_s[k] + 0.5 * steps[k] * np.arange(2 * count))
    half_times = np.concatenate([*times, motion.t_s[-1:]])
    cart = CubicSpline(motion.t_s, motion.p_m).slope
    zero = np.zeros(1)
    return Grid(
        motion.theta_rad,
        np.concatenate([zero, steps]),
        np.concatenate([zero, counts]),
        half_times,
        cart,
        motion.anchor_rad,
    )


def _parameters(values: dict[str, float], setup: Setup) -> list[Parameter]:
    def one(name: str, unit: str, span: tuple[float, float], scale: float, useful: float) -> None:
        start = values.get(name, 1.0 if name.endswith("scale") else 0.0)
        out.append(Parameter(name, unit, start, *span, scale, useful, REMEDIES.get(name, "")))

    out: list[Parameter] = []
    one("pole.length_m", "m", LENGTHS_M, 0.1, 0.1 * values["pole.length_m"])
    one("pole.damping_1_s", "1/s", (-1.0, 20.0), 0.1, 0.5)
    if setup.dry:
        one("pole.coulomb_rad_s2", "rad/s^2", (-2.0, 20.0), 0.1, 0.3)
    one("offset", "rad", (-0.6, 0.6), 0.05, 0.1)
    if setup.moving:
        one("skew", "s", (-0.06, 0.06), 0.01, 0.05)
    if setup.motion.scale_sigma > 0.0:
        one("angle scale", "", (0.5, 2.0), 0.1, math.inf)
        if setup.moving:
            one("cart scale", "", (0.5, 2.0), 0.1, math.inf)
    return out


def _beliefs(setup: Setup, given: dict[str, float]) -> list[float]:
    """What is known of the sensors beforehand, as residuals."""
    motion = setup.motion
    out = [given["offset"] / motion.anchor_sigma_rad]
    for name in ("angle scale", "cart scale"):
        if name in given:
            out.append((given[name] - 1.0) / motion.scale_sigma)
    return out


def _inputs(grid: Grid, values: dict[str, float]) -> tuple[FloatArray, FloatArray]:
    """The cart's speed at every half step and the kernel's vector of parameters."""
    speed = grid.cart(grid.half_times - values.get("skew", 0.0))
    pars = np.array(
        [
            1.5 / values["pole.length_m"],
            values.get("pole.damping_1_s", 0.0),
            values.get("pole.coulomb_rad_s2", 0.0),
            values.get("offset", 0.0),
            values.get("angle scale", 1.0),
            grid.anchor_rad,
            values.get("cart scale", 1.0),
        ]
    )
    return np.append(speed, 0.0), pars


def smoothed(found: PoleFit) -> FloatArray:
    """(n, 2): the pole's true angle and rate at the samples, from all of them."""
    values = {one.name: found.fit.value(one.name) for one in found.fit.parameters}
    _, _, states, _ = run(found.grid, values, found.noise, found.used)
    speed, pars = _inputs(found.grid, values)
    out = np.empty((len(found.grid.theta), 2))
    grid = found.grid
    smooth(grid.steps, grid.counts, speed, pars, GRAVITY_M_S2, found.noise.pole, states, out)
    return out


def run(
    grid: Grid, values: dict[str, float], noise: Noise, used: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Innovations (n,), their variances (n,), states (n, 5) and which angles were used (n,).

    ``used`` fixes which; None lets the gate choose.
    """
    speed, pars = _inputs(grid, values)
    n = len(grid.theta)
    out, variance, states = np.empty(n), np.empty(n), np.empty((n, 5))
    gate, mask = (GATE, np.ones(n)) if used is None else (0.0, used)
    innovations(
        grid.theta,
        grid.steps,
        grid.counts,
        speed,
        pars,
        GRAVITY_M_S2,
        noise.pole,
        noise.angle,
        gate,
        mask,
        out,
        variance,
        states,
    )
    return out, np.maximum(variance, 1e-30), states, mask


def _fit_once(
    grid: Grid, setup: Setup, start: dict[str, float], noise: Noise, used: FloatArray
) -> Fit:
    parameters = _parameters(start, setup)
    names = [one.name for one in parameters]
    # Fixed weights: were they to follow the parameters, those that leave more doubt would win.
    given = {one.name: one.start for one in parameters}
    weight = used / np.sqrt(run(grid, given, noise, used)[1])

    def residual(values: FloatArray) -> FloatArray:
        given = dict(zip(names, values.tolist(), strict=True))
        return np.append(weight * run(grid, given, noise, used)[0], _beliefs(setup, given))

    return fit(residual, parameters, setup.lags)


def likelihood(
    grid: Grid, values: dict[str, float], noise: Noise, used: FloatArray | None
) -> float:
    """Negative logarithm; an angle that the gate leaves out costs as much as one at the gate."""
    out, variance, _, mask = run(grid, values, noise, used)
    cost = np.minimum(out * out / variance, GATE * GATE) + np.log(variance)
    if used is not None:
        return float(np.sum(cost[mask > 0.0]))
    return float(np.sum(np.where(mask > 0.0, cost, GATE * GATE)))


def _starts(grid: Grid, noise: Noise, scale_sigma: float) -> list[dict[str, float]]:
    """The best length of a grid for each scale that the angle may have."""
    scales = 1.0 + 1.2 * scale_sigma * np.linspace(-1.0, 1.0, 9)
    ranked = []
    for scale in sorted(set(scales.tolist())):
        best = (math.inf, 0.5)
        for length in np.geomspace(LENGTHS_M[0] * 1.05, LENGTHS_M[1] / 1.05, 80).tolist():
            values = {"pole.length_m": length, "pole.damping_1_s": 0.1, "angle scale": scale}
            best = min(best, (likelihood(grid, values, noise, None), length))
        ranked.append((*best, scale))
    # Every second one whatever it looks like, and the best of all: the gate has many valleys.
    chosen = set(ranked[::2]) | set(sorted(ranked)[:2])
    return [
        {"pole.length_m": length, "pole.damping_1_s": 0.1, "angle scale": scale}
        for _, length, scale in sorted(chosen)
    ]


def likeliest_noise(
    grid: Grid, values: dict[str, float], noise: Noise, used: FloatArray, floor: float
) -> Noise:
    """Both variances, at these parameters."""

    def score(z: tuple[float, float]) -> float:
        return likelihood(grid, values, _noise(z, floor), used)

    start = (math.log(noise.pole), math.log(max(noise.angle, floor)))
    return _noise(likeliest(score, start), floor)


def _noise(logarithms: tuple[float, float], floor: float) -> Noise:
    pole, angle = (math.exp(min(max(z, -25.0), 5.0)) for z in logarithms)
    return Noise(pole, max(angle, floor))
