"""Imitation of recorded plans: the weights, or the model, by which they were made.

The commands of a plan from a recorded state are compared with the recorded ones: Gauss-Newton on
logarithms, the commands' slopes by differences of plans (a terminal cost that follows the weights
is then part of it). From one state there may be several locally best plans (catch the pole here, or
let it go round): only plans that stay near upright are taken, and each solve begins with the
recorded motion. The scale of all weights is not to be seen in commands: the angle's stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares

from cartpole.config.load import with_values
from cartpole.errors import SessionError
from cartpole.learning.sysid import Progress
from cartpole.messages import THETA, FloatArray, PlanStatus, U
from cartpole.optimizer.bank.candidate import upright_nearest
from cartpole.optimizer.compiled.layout import MU, MU_MIN, OM, TH, P, V
from cartpole.optimizer.compiled.layout import U as UC
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.compiled.workspace import rows
from cartpole.optimizer.problem import regulator
from cartpole.rules.optimizer import problem_from_config

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.session.reader import Session

COST = tuple(
    f"controller.weights.{name}"
    for name in ("position", "velocity", "rate", "command", "command_rate")
)
DYNAMICS = ("pole.length_m", "motor.tau_s")
NEAR_RAD = 0.6
COMPARED = 12  # commands of each plan
MOST, LEAST = 60, 8  # plans
RANGE = 30.0
TOLERANCE = 1e-8
BUDGET = 100
FIRST_MU = 1e-3  # a recorded motion is near its plan: what a larger one would smooth is known
ENOUGH = 1e-3  # of the commands: no further start is needed


@dataclass(frozen=True, slots=True)
class Example:
    """A recorded plan: its states (N + 1, 5) and the cart's target."""

    states: FloatArray
    target_m: float

    @property
    def commands(self) -> FloatArray:
        """The first commands (COMPARED,) [m/s]."""
        return self.states[1 : COMPARED + 1, U]


def examples(session: Session) -> list[Example]:
    """Recorded plans near upright, evenly over the recording; SessionError if there are few."""
    found = []
    for tick in session.ticks():
        plan, kept = tick.plan, tick.trajectory
        if plan is None or kept is None or plan.status is not PlanStatus.CONVERGED:
            continue
        states = np.array(kept.states)
        if len(states) > COMPARED and stays(states):
            found.append(Example(states, tick.line.target_m))
    if len(found) < LEAST:
        raise SessionError(f"{session.path}: {len(found)} plans near upright, {LEAST} are needed")
    # Those that ask for most say most.
    found.sort(key=lambda one: -float(np.abs(np.diff(one.commands)).max()))
    return found[:MOST]


def commands(config: Config, shown: Sequence[Example]) -> FloatArray:
    """First commands (B, COMPARED) of the plans that these settings make; nan where none is."""
    solver = _solver(config)
    out = np.empty((len(shown), COMPARED))
    for row, one in zip(out, shown, strict=True):
        solver.set_reference(np.full(solver.horizon + 1, one.target_m))
        _begin(solver, one)
        row[:] = _solved(solver)[1 : COMPARED + 1, U]
    return out


def planned(config: Config, states: Sequence[FloatArray], target_m: float) -> list[Example]:
    """Plans that these settings make from states (5,); those that do not stay near upright are not
    among them.
    """
    solver = _solver(config)
    solver.set_reference(np.full(solver.horizon + 1, target_m))
    made = []
    for state in states:
        upright = upright_nearest(float(state[THETA]))
        solver.start(state, Guess(0.0, 0.0, 1.0, upright))
        plan = _solved(solver)
        if np.isfinite(plan).all() and stays(plan):
            made.append(Example(plan, target_m))
    return made


def stays(states: FloatArray) -> bool:
    """Whether a plan (N + 1, 5) keeps the pole near upright all the way."""
    upright = upright_nearest(float(states[0, THETA]))
    return float(np.abs(states[:, THETA] - upright).max()) < NEAR_RAD


def _solver(config: Config) -> Solver:
    problem = problem_from_config(config)
    gain = regulator(problem.model, problem.weights, config.optimizer.step_s)[0]
    mu = 0.5 * config.optimizer.tolerance
    return Solver(problem, gain=gain, mu=mu, tolerance=TOLERANCE)


def _begin(solver: Solver, one: Example) -> None:
    """The recorded motion as the first guess; its last state goes on if the plan is longer."""
    n, state = solver.horizon, one.states[0]
    upright = upright_nearest(float(state[THETA]))
    solver.start(state, Guess(0.0, 0.0, 1.0, upright))  # clears multipliers, sets the target
    motion = one.states[np.minimum(np.arange(n + 1), len(one.states) - 1)]
    for column, row in enumerate((P, V, TH, OM)):
        rows(solver.rows, row)[1 : n + 1] = motion[1:, column]
    rows(solver.rows, UC)[:n] = motion[1:, U]
    solver.scalars[MU] = max(FIRST_MU, solver.scalars[MU_MIN])
    solver.step(state, 0, 0)


def _solved(solver: Solver) -> FloatArray:
    """States (N + 1, 5) of the plan, nan if there is none."""
    status = solver.solve(BUDGET)
    states = solver.solution().states
    return states if status is PlanStatus.CONVERGED else np.full_like(states, np.nan)


@dataclass(frozen=True, slots=True)
class Imitated:
    """Settings found, rms of the commands' errors [m/s] before and after, and on the way."""

    values: dict[str, float]
    before: float
    after: float
    curve: tuple[float, ...]


def imitate(
    config: Config,
    shown: Sequence[Example],
    keys: Sequence[str],
    *,
    starts: int = 3,
    seed: int = 0,
    progress: Progress = lambda _done, _what: None,
) -> Imitated:
    """Settings ``keys`` whose plans have the recorded commands."""
    rng = np.random.default_rng(seed)
    recorded = np.array([one.commands for one in shown])
    flat = flattened(config, keys)
    middle = np.log(np.maximum(np.array([flat[key] for key in keys]), 1e-6))
    curve: list[float] = []

    def errors(z: FloatArray) -> FloatArray:
        made = commands(with_values(config, named(keys, z)), shown)
        wrong = np.nan_to_num(made - recorded, nan=1.0, posinf=1.0, neginf=-1.0)
        curve.append(min(rms(wrong), curve[-1]) if curve else rms(wrong))
        return np.asarray(wrong.ravel())

    def slopes(z: FloatArray) -> FloatArray:
        columns = [(errors(z + d) - errors(z - d)) / 2e-3 for d in np.eye(len(z)) * 1e-3]
        return np.stack(columns, axis=1)

    before = rms(errors(middle))
    reach = math.log(RANGE)
    best, least = middle, before
    for start in range(starts):
        z = middle + (rng.uniform(-1.0, 1.0, len(middle)) if start > 0 else 0.0)
        found = least_squares(
            errors, z, slopes, (middle - reach, middle + reach), xtol=1e-10, max_nfev=25
        )
        value = rms(found.fun)
        progress((start + 1) / starts, f"start {start + 1}: {value:.2e}")
        if value < least:
            best, least = found.x, value
        if least < ENOUGH * rms(recorded):
            break
    return Imitated(named(keys, best), before, least, tuple(curve))


def flattened(config: Config, keys: Sequence[str]) -> dict[str, float]:
    """Values of dotted keys."""
    from cartpole.config.load import flatten

    everything = flatten(config)
    return {key: float(everything[key]) for key in keys}


def named(keys: Sequence[str], z: FloatArray) -> dict[str, float]:
    """Settings from logarithms."""
    return dict(zip(keys, np.exp(z).tolist(), strict=True))


def rms(errors: FloatArray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))


def held_out(
    config: Config, values: Mapping[str, float], shown: Sequence[Example]
) -> tuple[float, float]:
    """Rms of the commands' errors on other plans, by the settings of before and by these."""
    recorded = np.array([one.commands for one in shown])
    before = rms(commands(config, shown) - recorded)
    return before, rms(commands(with_values(config, values), shown) - recorded)
