"""A motion cut into the steps that the pole's filter takes, and what that filter says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibration.fit import likeliest
from calibration.pole_kernel import NEW_RUN, innovations, smooth
from calibration.recording import Motion
from calibration.spline import RunSpline
from cartpole.messages import FloatArray
from cartpole.model.parameters import GRAVITY_M_S2

LONGEST_STEP_S = 0.006
LONGEST_GAP_S = 0.2
GATE = 5.0
OUTLIER_COST = 12.0  # of an angle that is not used: it may be anywhere in a turn
LOG_VARIANCES = (-25.0, 12.0)  # between which the noise is sought
FREE_M = 1e5  # a pole so long feels neither gravity nor cart


@dataclass(frozen=True, slots=True)
class Grid:
    """Samples and the cart's speed between them, as the kernel takes them."""

    theta: FloatArray
    steps: FloatArray
    counts: FloatArray
    half_times: FloatArray
    cart: RunSpline
    anchor_rad: float
    jitter_s: float


@dataclass(frozen=True, slots=True)
class Noise:
    """Variances: of the pole's random acceleration [(rad/s)^2/s] and of an angle [rad^2]."""

    pole: float
    angle: float


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
    counts = np.concatenate([np.zeros(1), counts])
    counts[list(motion.begins)] = NEW_RUN
    return Grid(
        motion.theta_rad,
        np.concatenate([np.zeros(1), steps]),
        counts,
        half_times,
        RunSpline(motion.t_s, motion.p_m, motion.begins),
        motion.anchor_rad,
        motion.jitter_s,
    )


def _inputs(grid: Grid, values: dict[str, float]) -> tuple[FloatArray, FloatArray]:
    """The cart's speed at every half step and the kernel's vector of parameters."""
    speed = grid.cart.slope(grid.half_times - values.get("skew", 0.0))
    pars = np.array(
        [
            1.5 / values["pole.length_m"],
            values.get("pole.damping_1_s", 0.0),
            values.get("pole.coulomb_rad_s2", 0.0),
            values.get("offset", 0.0),
            values.get("angle scale", 1.0),
            grid.anchor_rad,
            values.get("cart scale", 1.0),
            grid.jitter_s**2,
        ]
    )
    return np.append(speed, 0.0), pars


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


def smoothed_states(
    grid: Grid, values: dict[str, float], noise: Noise, used: FloatArray
) -> FloatArray:
    """(n, 2): the pole's true angle and rate at the samples, from all of them."""
    _, _, states, _ = run(grid, values, noise, used)
    speed, pars = _inputs(grid, values)
    out = np.empty((len(grid.theta), 2))
    smooth(grid.steps, grid.counts, speed, pars, GRAVITY_M_S2, noise.pole, states, out)
    return out


def likelihood(
    grid: Grid, values: dict[str, float], noise: Noise, used: FloatArray | None
) -> float:
    """Twice its negative logarithm; an angle that the gate leaves out costs OUTLIER_COST."""
    out, variance, _, mask = run(grid, values, noise, used)
    with np.errstate(over="ignore"):  # far from any pole an innovation has no bounds
        cost = np.minimum(out * out / variance, GATE * GATE) + np.log(variance)
    if used is not None:
        return float(np.sum(cost[mask > 0.0]))
    return float(np.sum(np.where(mask > 0.0, cost, OUTLIER_COST)))


def likeliest_noise(
    grid: Grid, values: dict[str, float], noise: Noise, used: FloatArray, floor: float
) -> Noise:
    """Both variances, at these parameters; the angle's is at least ``floor``."""

    def score(z: tuple[float, ...]) -> float:
        return likelihood(grid, values, _noise(z, floor), used)

    start = (math.log(noise.pole), math.log(max(noise.angle, floor)))
    return _noise(likeliest(score, start), floor)


def _noise(logarithms: tuple[float, ...], floor: float) -> Noise:
    pole, angle = (math.exp(min(max(z, LOG_VARIANCES[0]), LOG_VARIANCES[1])) for z in logarithms)
    return Noise(pole, max(angle, floor))


def gain_over_free(
    grid: Grid, values: dict[str, float], noise: Noise, used: FloatArray, floor: float
) -> float:
    """How much better a pole foresees each angle than a body without gravity and cart, pushed at
    random: the difference of twice the negative log-likelihoods a sample (0: no pole at all)."""
    kept = ("offset", "angle scale")
    free: dict[str, float] = {key: values[key] for key in kept if key in values}
    free["pole.length_m"] = FREE_M
    pushed = likeliest_noise(grid, free, Noise(10.0, noise.angle), used, floor)
    count = max(1.0, float(np.sum(used)))
    lost = likelihood(grid, free, pushed, used) - likelihood(grid, values, noise, used)
    return lost / count
