"""The problem as data: dynamics, horizon, cost, limits; and its translation into a workspace."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray
from cartpole.model.linear import linear_model
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.compiled.layout import ACCELERATION, MAX_STEPS, VELOCITY

# Plans believe the pole to be this much longer than it is said to be. A pole that turns out harder
# to swing than planned falls short and costs a whole swing more; an easier one costs nothing.
PESSIMISM = 1.04
# The terminal cost is the regulator's cost-to-go times this.
TERMINAL_FACTOR = 1.0
# A plan sees at least this many times the time that pumping takes.
PUMPING_FACTOR = 1.9
# Plans of a rig that was found to need longer ones: it must be by this factor, and is by that.
WORTH_LONGER, MOST_LONGER = 1.06, 1.6
# So are they by this where plans went on ending before the pole was up.
GROWN = 1.25


class InputKind(IntEnum):
    """What the optimizer chooses."""

    VELOCITY = VELOCITY  # rate of a velocity command that acts through the motor's lag
    ACCELERATION = ACCELERATION  # the cart's acceleration


@dataclass(frozen=True, slots=True)
class StageWeights:
    """Coefficients of the squares in the cost per second; SI, no factor one half.

    ``command`` weighs the velocity command, or the acceleration for the acceleration kind, for
    which ``rate`` has no meaning.
    """

    position: float
    velocity: float
    angle: float
    rate_of_angle: float
    command: float
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits, symmetric. ``command`` limits u (velocity kind) or the acceleration.

    A second limit |lead_p p + lead_v v| <= lead keeps, say, the cart's speed.
    """

    position_m: float
    command: float
    rate: float = math.inf
    lead: float = math.inf
    lead_p: float = 0.0
    lead_v: float = 1.0


def finite(values: FloatArray) -> bool:
    """Whether all are, and no square of one is beyond all numbers."""
    flat = values.ravel()
    return math.isfinite(flat.dot(flat))


@dataclass(frozen=True, slots=True)
class Problem:
    """A finite-horizon problem from a measured state.

    ``steps_s`` (N,) holds the step sizes; they need not be equal. ``terminal`` (5, 5) is the
    Hessian of the terminal cost over (p, v, theta, omega, u) minus the reference. ``reference_m``
    (N + 1,) is the cart's target. The angle is weighed by its distance to an odd multiple of pi,
    which the solver's first guess names.
    """

    kind: InputKind
    steps_s: FloatArray
    model: ModelParameters
    weights: StageWeights
    terminal: FloatArray
    limits: Limits
    reference_m: FloatArray

    @property
    def horizon(self) -> int:
        """Number of steps N."""
        return int(self.steps_s.shape[0])

    def check(self) -> None:
        """Raise UsageError if the arrays do not fit together."""
        n = self.horizon
        if self.steps_s.ndim != 1 or not 2 <= n <= MAX_STEPS:
            raise UsageError(f"a horizon has 2 to {MAX_STEPS} steps, not {n}")
        if not (np.isfinite(self.steps_s).all() and (self.steps_s > 0).all()):
            raise UsageError("step sizes must be positive")
        if self.terminal.shape != (5, 5) or not np.allclose(self.terminal, self.terminal.T):
            raise UsageError("the terminal cost must be a symmetric 5 x 5 matrix")
        if self.reference_m.shape != (n + 1,):
            raise UsageError(f"the reference must have {n + 1} entries")


@functools.lru_cache(maxsize=4)
def regulator(
    model: ModelParameters, weights: StageWeights, step_s: float
) -> tuple[FloatArray, FloatArray]:
    """(K (5,), P (5, 5)): gain w = -K x and cost-to-go x'P x / 2 of the regulator upright."""
    return regulator_of(*linear_model(model, step_s), weights, step_s)


def regulator_of(
    a: FloatArray, b: FloatArray, weights: StageWeights, step_s: float
) -> tuple[FloatArray, FloatArray]:
    """The same for a linear step a (5, 5), b (5,) of (p, v, theta - pi, omega, u)."""
    from scipy.linalg import solve_discrete_are

    q = (
        2.0
        * step_s
        * np.diag([weights.position, weights.velocity, weights.angle, weights.rate_of_angle, 0.0])
    )
    # The stage's cost of the command is on u + step w, the command it holds.
    r = np.array([[2.0 * step_s * (weights.rate + weights.command * step_s**2)]])
    q[4, 4] = 2.0 * step_s * weights.command
    s = np.zeros((5, 1))
    s[4, 0] = 2.0 * step_s * weights.command * step_s
    column = b[:, None]
    cost = solve_discrete_are(a, column, q, r, s=s)
    gain = np.linalg.solve(r + column.T @ cost @ column, column.T @ cost @ a + s.T)
    return gain[0], 0.5 * (cost + cost.T)


@dataclass(frozen=True, slots=True)
class PlannerRules:
    """What a rig's planner is made of; SI.

    ``horizon_steps`` is what the rig needs (a weak drive more than configured), ``candidates`` how
    many plans are kept alive, ``user_cost`` a file.py:function for the torch backend or empty,
    ``user_model`` one of accelerations in place of the rig's own.
    """

    backend: str
    model: ModelParameters
    weights: StageWeights
    limits: Limits
    horizon_steps: int
    step_s: float
    target_m: float
    tolerance: float
    candidates: int
    user_cost: str = ""
    user_model: str = ""


def pumping_steps(model: ModelParameters, speed_m_s: float, step_s: float) -> int:
    """Steps of a plan that sees a swing-up by a cart of this speed to its end.

    A reversal of the cart as the pole passes below adds 2 c u to its rate, which must reach
    2 sqrt(c g); at half a period pi / sqrt(c g) each, pumping takes about pi / (c u) seconds.
    """
    pumping_s = math.pi / (model.coupling_1_m * speed_m_s)
    return math.ceil(PUMPING_FACTOR * pumping_s / step_s)


def longer_steps(rules: PlannerRules, model: ModelParameters) -> int | None:
    """Steps of the plans of a rig that was found to need longer ones; ``None``: it does not.

    A plan that ends before the pole is up says little of the way there, and one tick's best is not
    the next one's.
    """
    if rules.backend != "compiled" or rules.user_model:
        return None
    wanted = pumping_steps(model, model.gain * rules.limits.command, rules.step_s)
    most = min(round(MOST_LONGER * rules.horizon_steps), MAX_STEPS)
    return min(wanted, most) if wanted > WORTH_LONGER * rules.horizon_steps else None


def grown_steps(rules: PlannerRules, steps: int) -> int | None:
    """Steps of the plans that follow those of so many, which all ended before the pole was up.

    What a short track or a slow ramp costs is not in :func:`pumping_steps`. ``None``: as the rules
    say.
    """
    if rules.backend != "compiled" or rules.user_model:
        return None
    return min(round(GROWN * steps), round(MOST_LONGER * rules.horizon_steps), MAX_STEPS)


def rig_problem(rules: PlannerRules) -> Problem:
    """The rig's problem: velocity commands through the motor's lag, weights scaled to the rig."""
    n, step, model = rules.horizon_steps, rules.step_s, believed(rules.model)
    return Problem(
        kind=InputKind.VELOCITY,
        steps_s=np.full(n, step),
        model=model,
        weights=rules.weights,
        terminal=TERMINAL_FACTOR * regulator(model, rules.weights, step)[1],
        limits=rules.limits,
        reference_m=np.full(n + 1, rules.target_m),
    )


def for_model(problem: Problem, model: ModelParameters) -> Problem:
    """The problem of a rig as it is known by now; its commands are the cart's own speeds."""
    limits, gain = ramped(problem.limits, model.motor_acceleration_m_s2), model.gain
    limits = replace(limits, command=gain * limits.command, rate=gain * limits.rate)
    return replace(problem, model=believed(model), limits=limits)


def ramped(limits: Limits, rate: float) -> Limits:
    """Limits for a drive that speeds up and brakes by ``rate`` [m/s^2] at most.

    It needs v^2 / 2 (1 / rate - 1 / before) more to stop; the second limit, a line in v, gives that
    at full speed and none at rest.
    """
    if rate >= limits.rate:
        return limits
    further = 0.5 * limits.command * (1.0 / rate - 1.0 / limits.rate)
    return replace(limits, rate=rate, lead_v=limits.lead_v + further * limits.lead_p)


def believed(model: ModelParameters) -> ModelParameters:
    """The model that plans are made with: a pole harder to swing than this one."""
    return replace(model, length_m=PESSIMISM * model.length_m)
