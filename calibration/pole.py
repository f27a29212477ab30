"""The pole from its motion: length, viscous and dry friction, where the angle's zero really is.

Only g / L shows in the motion of a pole whose cart is commanded in velocity; g is fixed. Works on
encoder or camera angles at any rate, hanging, swinging or upright, with the cart moving or not.
Several runs of one recording are one fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from calibration.fit import Fit, Parameter, fit
from calibration.grid import (
    Grid,
    Noise,
    gain_over_free,
    likeliest_noise,
    likelihood,
    make_grid,
    run,
    smoothed_states,
)
from calibration.recording import Motion
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray

MIN_SWING_RAD = 0.15
MIN_DURATION_S = 1.0
SLOWEST_SAMPLES_S = 0.15  # apart: beyond this a short pole cannot be followed
LENGTHS_M = (0.05, 3.0)
MAX_ROUNDS = 6
CORRELATION_S = 0.1  # over which innovations may be correlated (quantisation, model error)
AT_REST_S, AT_REST_STEPS = 1.2, 6.0  # fewer steps of the sensor in so long: it stands in a step
MAX_STEPS = 12_000  # of the filter: a minute of swing; more says little that is new
SCALE_REACH = 4.0  # times its sigma: so far an angle's scale is sought
FRICTION = {"pole.damping_1_s": 0.1, "pole.coulomb_rad_s2": 0.05}  # where the search begins
HOPELESS_GAIN = 0.05  # see ``gain_over_free``; a grid's best length is some percent off
USEFUL = 0.05  # relative: a length known less well is not worth a setting
CONTENDERS = 3  # the best of the first rounds are all led to their end
LENGTHS, SCALES = 80, 9  # of the grid in which a fit begins

SWING = "push the pole so that it swings by more than 60 degrees and record"
REMEDIES = {
    "pole.length_m": f"{SWING} 10 s",
    "pole.damping_1_s": f"{SWING} 30 s until it has nearly come to rest",
    "pole.coulomb_rad_s2": f"{SWING} 30 s until it has nearly come to rest",
    "offset": f"{SWING} 10 s",
    "skew": "move the cart to and fro while the pole swings",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """What is unknown: dry friction, and, where one board did not latch both sensors by known
    scales, their scales and (with a moving cart) the skew between them."""

    motion: Motion
    dry: bool
    moving: bool
    lags: int
    alive: FloatArray  # (n,) 0 where the pole stands within a step of its sensor

    @property
    def floor(self) -> float:
        """The least variance that an angle can have: that of its steps."""
        return float(max(self.motion.theta_step_rad, 1e-6) ** 2 / 12.0)


@dataclass(frozen=True, slots=True)
class PoleFit:
    """The fit, the noise found with it, which samples it used, and its cost."""

    fit: Fit
    noise: Noise
    grid: Grid
    setup: Setup
    used: FloatArray
    cost: float

    @property
    def values(self) -> dict[str, float]:
        """Fitted values by name."""
        return {one.name: self.fit.value(one.name) for one in self.fit.parameters}

    @property
    def samples(self) -> int:
        """How many of the residuals are angles; beliefs about the sensors come behind them."""
        return len(self.grid.theta)

    def gain(self) -> float:
        """See ``gain_over_free``."""
        return gain_over_free(self.grid, self.values, self.noise, self.used, self.setup.floor)


def fit_pole(motion: Motion, dry: bool = True, start: PoleFit | None = None) -> PoleFit:
    """Maximum likelihood by prediction errors; samples to use, noise and parameters in turn.

    Raises IdentificationError if the pole hardly moves or its samples are too far apart.
    """
    motion = shortened(motion)
    check_motion(motion)
    grid = make_grid(motion)
    setup = setup_of(motion, dry)
    if start is not None:
        return refined(grid, setup, start.values, start.noise)
    noise = Noise(0.3, max(9.0 * setup.floor, 1e-5))
    starts = starting_points(grid, noise, motion.scale_sigma)
    _check_pole(grid, setup, starts[0], noise)
    found = [refined(grid, setup, one, noise, rounds=2) for one in starts]
    found.sort(key=lambda one: one.cost)
    return min(
        (refined(grid, setup, one.values, one.noise) for one in found[:CONTENDERS]),
        key=lambda one: one.cost,
    )


def _check_pole(grid: Grid, setup: Setup, start: dict[str, float], noise: Noise) -> None:
    """Raise IdentificationError if not even roughly there is a pole in it."""
    noise = likeliest_noise(grid, start, noise, setup.alive, setup.floor)
    gain = gain_over_free(grid, start, noise, setup.alive, setup.floor)
    if gain < HOPELESS_GAIN:
        raise IdentificationError(
            f"no pole explains this motion better than random pushes do ({gain:.2f} a sample)"
        )


def setup_of(motion: Motion, dry: bool) -> Setup:
    """What this motion leaves unknown."""
    moving = motion.scale_sigma > 0.0 and float(np.ptp(motion.p_m)) > 0.03
    pace = float(np.median(np.diff(motion.t_s)))
    return Setup(motion, dry, moving, round(CORRELATION_S / pace), moves(motion))


def shortened(motion: Motion) -> Motion:
    """Its first part, if the whole would take the filter more than MAX_STEPS."""
    pace = float(np.median(np.diff(motion.t_s)))
    most = int(MAX_STEPS / max(1.0, math.ceil(pace / 0.006)))
    return motion if len(motion.t_s) <= most else motion.part(0, most)


def check_motion(motion: Motion) -> None:
    """Raise IdentificationError where no pole could be found."""
    duration = float(motion.t_s[-1] - motion.t_s[0])
    if duration < MIN_DURATION_S:
        raise IdentificationError(f"{duration:.2f} s of motion are too short; {SWING} 10 s")
    pace = float(np.median(np.diff(motion.t_s)))
    if pace > SLOWEST_SAMPLES_S:
        raise IdentificationError(
            f"the samples are {pace:.3g} s apart, too far to follow a pole; record 50 a second"
        )
    if float(np.ptp(motion.theta_rad)) < MIN_SWING_RAD:
        raise IdentificationError(f"the pole hardly moves in this recording; {SWING} 10 s")


def moves(motion: Motion) -> FloatArray:
    """1 where the pole moves by some steps of its sensor, 0 where it stands within a few, (n,).

    Near rest the error of a step stays as it is for seconds; taken for noise it would bend the
    friction that brought the pole to rest.
    """
    if motion.theta_step_rad <= 0.0:
        return np.ones(len(motion.t_s))
    width = max(3, round(AT_REST_S / float(np.median(np.diff(motion.t_s)))))
    reach = maximum_filter1d(motion.theta_rad, width) - minimum_filter1d(motion.theta_rad, width)
    alive = reach >= AT_REST_STEPS * motion.theta_step_rad
    return np.asarray(alive, dtype=np.float64)


def refined(
    grid: Grid, setup: Setup, values: dict[str, float], noise: Noise, rounds: int = MAX_ROUNDS
) -> PoleFit:
    """Samples to use, parameters and noise in turn, until they agree."""
    for _ in range(rounds):
        used = _usable(grid, values, noise) * setup.alive
        result = _fit_once(grid, setup, values, noise, used)
        moved = abs(result.value("pole.length_m") / values["pole.length_m"] - 1.0)
        values = {one.name: result.value(one.name) for one in result.parameters}
        refined = likeliest_noise(grid, values, noise, used, setup.floor)
        settled = moved < 1e-4 and abs(math.log(refined.pole / noise.pole)) < 0.1
        noise = refined
        if settled:
            break
    # Of two that explain as much, the one by which the pole is pushed less.
    believed = float(np.sum(np.square(_beliefs(setup, values)))) + math.log(noise.pole)
    cost = likelihood(grid, values, noise, None) + believed
    return PoleFit(result, noise, grid, setup, used, cost)


def _usable(grid: Grid, values: dict[str, float], noise: Noise) -> FloatArray:
    """1 where the angle can be believed: not far off the model, nor next to such a sample."""
    _, _, _, used = run(grid, values, noise, None)
    bad = np.convolve(1.0 - used, np.ones(3), mode="same") > 1.5
    return np.where(bad, 0.0, used)


def _parameters(values: dict[str, float], setup: Setup) -> list[Parameter]:
    def one(name: str, unit: str, span: tuple[float, float], scale: float, useful: float) -> None:
        start = values.get(name, 1.0 if name.endswith("scale") else 0.0)
        remedy, wall = REMEDIES.get(name, ""), span[0] == 0.0
        out.append(Parameter(name, unit, start, *span, scale, useful, remedy, wall))

    out: list[Parameter] = []
    one("pole.length_m", "m", LENGTHS_M, 0.1, USEFUL * values["pole.length_m"])
    one("pole.damping_1_s", "1/s", (0.0, 20.0), 0.1, 0.5)
    if setup.dry:
        one("pole.coulomb_rad_s2", "rad/s^2", (0.0, 20.0), 0.1, 0.3)
    one("offset", "rad", (-0.6, 0.6), 0.05, 0.1)
    if setup.moving:
        one("skew", "s", (-0.06, 0.06), 0.01, 0.05)
    if setup.motion.scale_sigma > 0.0:
        reach = SCALE_REACH * setup.motion.scale_sigma
        one("angle scale", "", (1.0 / (1.0 + reach), 1.0 + reach), 0.1, math.inf)
        if setup.moving:
            one("cart scale", "", (0.2, 5.0), 0.1, math.inf)
    return out


def _beliefs(setup: Setup, given: dict[str, float]) -> list[float]:
    """What is known of the sensors beforehand, as residuals."""
    motion = setup.motion
    out = [given["offset"] / motion.anchor_sigma_rad]
    for name in ("angle scale", "cart scale"):
        if name in given:
            out.append((given[name] - 1.0) / motion.scale_sigma)
    return out


def smoothed(found: PoleFit) -> FloatArray:
    """(n, 2): the pole's true angle and rate at the samples, from all of them."""
    return smoothed_states(found.grid, found.values, found.noise, found.used)


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


def starting_points(
    grid: Grid, noise: Noise, scale_sigma: float, scales: int = SCALES, lengths: int = LENGTHS
) -> list[dict[str, float]]:
    """The best length of a grid for each scale that the angle may have, the best one first."""
    tried = 1.0 + 1.2 * scale_sigma * np.linspace(-1.0, 1.0, scales)
    ranked = []
    for scale in sorted(set(tried.tolist())):
        best = (math.inf, 0.5)
        for length in np.geomspace(LENGTHS_M[0] * 1.05, LENGTHS_M[1] / 1.05, lengths).tolist():
            values = {"pole.length_m": length, **FRICTION, "angle scale": scale}
            best = min(best, (likelihood(grid, values, noise, None), length))
        ranked.append((*best, scale))
    return [
        {"pole.length_m": length, **FRICTION, "angle scale": scale}
        for _, length, scale in sorted(ranked)
    ]
