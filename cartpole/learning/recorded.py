"""Imitation of recorded plans: the weights, or the model, by which they were made.

The commands of a plan from a recorded state are compared with the recorded ones: Gauss-Newton on
logarithms, the commands' slopes by differences of plans (a terminal cost that follows the weights
is then part of it). From one state there may be several locally best plans (catch the pole here, or
let it go round): only plans that stay near upright are taken, and each solve begins with the
recorded motion. The scale of all weights is not to be seen in commands: the angle's stays.

The model by which a plan was made is the one in force then, which a flight learns; weights sought
by another one would make up for it. But a plan that converged keeps its own equations of motion:
its states tell length, damping and lag exactly, whatever its weights (``model_of_plan``). So
nothing has to be sought in turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares

from cartpole.config.load import with_values
from cartpole.errors import SessionError
from cartpole.learning.sysid import Progress
from cartpole.messages import OMEGA, THETA, FloatArray, PlanStatus, U
from cartpole.messages import V as SPEED
from cartpole.model.dynamics import rig_step
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.bank.candidate import upright_nearest
from cartpole.optimizer.compiled.layout import MU, MU_MIN, OM, TH, P, V
from cartpole.optimizer.compiled.layout import U as UC
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.compiled.workspace import rows
from cartpole.optimizer.problem import PESSIMISM, for_model, regulator
from cartpole.rules.model import model_of
from cartpole.rules.optimizer import problem_from_config

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.session.reader import Session

COST = tuple(
    f"controller.weights.{name}"
    for name in ("position", "velocity", "rate", "command", "command_rate")
)
DYNAMICS = {  # settings, and their names in the model
    "pole.length_m": "length_m", "pole.damping_1_s": "damping_1_s", "motor.tau_s": "tau_s"
}  # fmt: skip
UNCLIPPED_M_S2 = 1e9  # plans ask of the drive no more than it can
KEPT = 1e-4  # of a plan's states [rad, rad/s]: who keeps its model's steps to this tells the model
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
    """A recorded plan: its states (N + 1, 5), the cart's target, and the model it was made by."""

    states: FloatArray
    target_m: float
    model: ModelParameters

    @property
    def commands(self) -> FloatArray:
        """The first commands (COMPARED,) [m/s]."""
        return self.states[1 : COMPARED + 1, U]


def examples(session: Session) -> list[Example]:
    """Recorded plans near upright that ask for most; SessionError if there are few."""
    found = []
    for tick in session.ticks():
        plan, kept = tick.plan, tick.trajectory
        if plan is None or kept is None or plan.status is not PlanStatus.CONVERGED:
            continue
        states = np.array(kept.states)
        if len(states) > COMPARED and stays(states):
            found.append((states, tick.line.target_m))
    # Those that ask for most say most.
    found.sort(key=lambda one: -float(np.abs(np.diff(one[0][1 : COMPARED + 1, U])).max()))
    told = []
    for states, target in found[:MOST]:
        model = model_of_plan(states, session.config)
        if model is not None:
            told.append(Example(states, target, model))
    if len(told) < LEAST:
        raise SessionError(
            f"{session.path}: {len(told)} plans near upright, {LEAST} are needed: record a "
            "swing-up and some seconds of balancing"
        )
    return told


def model_of_plan(states: FloatArray, config: Config) -> ModelParameters | None:
    """The model that these states (N + 1, 5) move by; ``None`` if they do not move by any.

    The cart closes a share 1 - exp(-h / tau) of its error in a step, which is linear in that share;
    length and damping are those whose Runge-Kutta steps are the pole's.
    """
    step, before, after, u = config.optimizer.step_s, states[:-1], states[1:], states[1:, U]
    error = u - before[:, SPEED]
    share = float((after[:, SPEED] - before[:, SPEED]) @ error / max(float(error @ error), 1e-300))
    if not 0.0 < share < 1.0:
        return None
    first = replace(
        model_of(config), tau_s=-step / math.log1p(-share), coulomb_rad_s2=0.0,
        motor_acceleration_m_s2=UNCLIPPED_M_S2,
    )  # fmt: skip

    def defects(z: FloatArray) -> FloatArray:
        model = replace(first, length_m=float(z[0]), damping_1_s=float(z[1])).coefficients
        pole = slice(THETA, OMEGA + 1)
        moved = [
            rig_step((x[0], x[1], x[2], x[3]), command, step, model)[pole]
            for x, command in zip(before, u, strict=True)
        ]
        return np.asarray((np.array(moved) - after[:, pole]).ravel())

    start = np.array([PESSIMISM * first.length_m, first.damping_1_s])
    found = least_squares(defects, start, bounds=([0.01, 0.0], [10.0, 10.0]), x_scale=(0.1, 0.05))
    if not float(np.abs(found.fun).max()) < KEPT:
        return None
    length, damping = found.x.tolist()
    found_model = replace(model_of(config), length_m=length / PESSIMISM, damping_1_s=damping)
    return replace(found_model, tau_s=first.tau_s)


def commands(
    config: Config, shown: Sequence[Example], model: ModelParameters | None = None
) -> FloatArray:
    """First commands (B, COMPARED) of the plans that these settings make, by each one's own model
    or by ``model``; nan where none is."""
    solver, problem = _solver(config), problem_from_config(config)
    out = np.empty((len(shown), COMPARED))
    for row, one in zip(out, shown, strict=True):
        solver.update(for_model(problem, model or one.model))
        solver.set_reference(np.full(solver.horizon + 1, one.target_m))
        _begin(solver, one)
        row[:] = _solved(solver)[1 : COMPARED + 1, U]
    return out


def common_model(shown: Sequence[Example]) -> dict[str, float]:
    """Settings by the models of these plans: medians."""
    return {
        key: float(np.median([getattr(one.model, name) for one in shown]))
        for key, name in DYNAMICS.items()
    }


def planned(
    config: Config,
    states: Sequence[FloatArray],
    target_m: float,
    model: ModelParameters | None = None,
) -> list[Example]:
    """Plans that these settings make from states (5,), by ``model`` if it is not theirs; those
    that do not stay near upright are not among them.
    """
    solver, own = _solver(config), model or model_of(config)
    solver.update(for_model(solver.problem, own))
    solver.set_reference(np.full(solver.horizon + 1, target_m))
    found = []
    for state in states:
        upright = upright_nearest(float(state[THETA]))
        solver.start(state, Guess(0.0, 0.0, 1.0, upright))
        plan = _solved(solver)
        if np.isfinite(plan).all() and stays(plan):
            found.append(Example(plan, target_m, own))
    return found


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
    """Settings found, the sigma of each one's logarithm by what is left of the errors, rms of the
    commands' errors [m/s] before and after, and on the way."""

    values: dict[str, float]
    sigma: dict[str, float]
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
    """Settings ``keys`` (weights) whose plans have the recorded commands."""
    rng = np.random.default_rng(seed)
    recorded = np.array([one.commands for one in shown])
    flat = flattened(config, keys)
    middle = np.log(np.maximum(np.array([flat[key] for key in keys]), 1e-6))
    curve: list[float] = []

    def errors(z: FloatArray) -> FloatArray:
        wrong = commands(with_values(config, named(keys, z)), shown) - recorded
        wrong = np.nan_to_num(wrong, nan=1.0, posinf=1.0, neginf=-1.0)
        curve.append(min(rms(wrong), curve[-1]) if curve else rms(wrong))
        return np.asarray(wrong.ravel())

    def slopes(z: FloatArray) -> FloatArray:
        columns = [(errors(z + d) - errors(z - d)) / 2e-3 for d in np.eye(len(z)) * 1e-3]
        return np.stack(columns, axis=1)

    before = rms(errors(middle))
    reach = math.log(RANGE)
    best, least, jacobian = middle, before, None
    for start in range(starts):
        z = middle + (rng.uniform(-1.0, 1.0, len(middle)) if start > 0 else 0.0)
        found = least_squares(
            errors, z, slopes, (middle - reach, middle + reach), xtol=1e-10, max_nfev=25
        )
        value = rms(found.fun)
        progress((start + 1) / starts, f"start {start + 1}: {value:.2e}")
        if value < least:
            best, least, jacobian = found.x, value, np.asarray(found.jac)
        if least < ENOUGH * rms(recorded):
            break
    sigma = _sigmas(slopes(best) if jacobian is None else jacobian, least)
    return Imitated(
        named(keys, best), dict(zip(keys, sigma, strict=True)), before, least, tuple(curve)
    )


def _sigmas(jacobian: FloatArray, left: float) -> list[float]:
    """Standard deviations of logarithms, from the slopes (n, k) and what is ``left`` [m/s]."""
    rows_, unknown = jacobian.shape
    free = left * math.sqrt(rows_ / max(1, rows_ - unknown))
    covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-14)
    return [free * math.sqrt(max(0.0, one)) for one in np.diag(covariance).tolist()]


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
    """Rms of the commands' errors on other plans, by the settings and by these values: weights with
    each plan's own model, a model with the settings' weights."""
    known = {name: values[key] for key, name in DYNAMICS.items() if key in values}
    weights = {key: value for key, value in values.items() if key not in DYNAMICS}
    old = model_of(config) if known else None
    new = replace(old, **known) if old is not None else None
    told = np.array([one.commands for one in shown])
    before = rms(commands(config, shown, old) - told)
    return before, rms(commands(with_values(config, weights), shown, new) - told)
