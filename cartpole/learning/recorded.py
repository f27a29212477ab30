"""Imitation of recorded plans: the weights, or the model, by which they were made.

The commands of a plan from a recorded state are compared with the recorded ones: Gauss-Newton on
logarithms, the commands' slopes by differences of plans (a terminal cost that follows the weights
is then part of it). Plans near upright have one minimum, so only these are taken. The scale of all
weights is not to be seen in commands: the angle's stays.
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
from cartpole.optimizer.compiled.solver import Guess, Solver
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
BUDGET = 60
ENOUGH = 1e-3  # of the commands: no further start is needed


@dataclass(frozen=True, slots=True)
class Example:
    """A recorded plan: state (5,), target (N + 1,) [m], and its first commands."""

    state: FloatArray
    target_m: float
    commands: FloatArray


def examples(session: Session) -> list[Example]:
    """Recorded plans near upright, evenly over the recording; SessionError if there are few."""
    found = []
    for tick in session.ticks():
        plan, kept = tick.plan, tick.trajectory
        if plan is None or kept is None or plan.status is not PlanStatus.CONVERGED:
            continue
        states = np.array(kept.states)
        theta = float(states[0, THETA])
        if len(states) > COMPARED and abs(theta - upright_nearest(theta)) < NEAR_RAD:
            found.append(Example(states[0], tick.line.target_m, states[1 : COMPARED + 1, U]))
    if len(found) < LEAST:
        raise SessionError(f"{session.path}: {len(found)} plans near upright, {LEAST} are needed")
    # Those that ask for most say most.
    found.sort(key=lambda one: -float(np.abs(np.diff(one.commands)).max()))
    return found[:MOST]


def commands(config: Config, shown: Sequence[Example]) -> FloatArray:
    """First commands (B, COMPARED) of the plans that these settings make."""
    problem = problem_from_config(config)
    gain = regulator(problem.model, problem.weights, config.optimizer.step_s)[0]
    mu = 0.5 * config.optimizer.tolerance
    solver = Solver(problem, gain=gain, mu=mu, tolerance=TOLERANCE)
    out = np.empty((len(shown), COMPARED))
    for row, one in zip(out, shown, strict=True):
        solver.set_reference(np.full(problem.horizon + 1, one.target_m))
        upright = upright_nearest(float(one.state[THETA]))
        solver.start(one.state, Guess(0.0, 0.0, 1.0, upright))
        solver.solve(BUDGET)
        row[:] = solver.solution().states[1 : COMPARED + 1, U]
    return out


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
