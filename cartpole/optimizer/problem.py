"""The problem as data: dynamics, horizon, cost, limits; and its translation into a workspace."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray
from cartpole.model.parameters import ModelParameters, from_config
from cartpole.optimizer.compiled.layout import ACCELERATION, MAX_STEPS, VELOCITY

if TYPE_CHECKING:
    from cartpole.config.schema import Config

# Plans stay this far inside the position limit: room for what the model does not know.
MARGIN_M = 0.005
# They also keep |p + lead v| inside it, lead = LEAD_TAU tau + LEAD_S: room to stop if the drive
# lags by more than the model says.
LEAD_TAU = 0.5
LEAD_S = 0.01
# Plans believe the pole to be this much longer than it is said to be. A pole that turns out harder
# to swing than planned falls short and costs a whole swing more; an easier one costs nothing.
PESSIMISM = 1.04
# A plan sees at least this many times the time that pumping takes.
PUMPING_FACTOR = 1.9
# The terminal cost is the regulator's cost-to-go times this.
TERMINAL_FACTOR = 1.0


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


def linear_model(model: ModelParameters, step_s: float) -> tuple[FloatArray, FloatArray]:
    """(A (5, 5), B (5,)): a step of (p, v, theta - pi, omega, u) with input w = du/dt, upright.

    Exact discretisation of the linear equations by the matrix exponential; u holds u + step w.
    """
    from scipy.linalg import expm

    c, g, b, tau = model.coupling_1_m, model.gravity_m_s2, model.damping_1_s, model.tau_s
    a = np.zeros((5, 5))
    a[0, 1] = 1.0
    a[1, 1], a[1, 4] = -1.0 / tau, 1.0 / tau
    a[2, 3] = 1.0
    # omegadot = -c (g sin theta + vdot cos theta) - b omega about theta = pi.
    a[3] = (0.0, -c / tau, c * g, -b, c / tau)
    held = expm(a * step_s)
    return held, held[:, 4] * step_s


@functools.lru_cache(maxsize=4)
def regulator(
    model: ModelParameters, weights: StageWeights, step_s: float
) -> tuple[FloatArray, FloatArray]:
    """(K (5,), P (5, 5)): gain w = -K x and cost-to-go x'P x / 2 of the regulator upright."""
    from scipy.linalg import solve_discrete_are

    a, b = linear_model(model, step_s)
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


def scaled_weights(config: Config, model: ModelParameters) -> StageWeights:
    """The configured weights in SI: scaled by track, speed and rate limits and the pole's time."""
    weights, rig = config.controller.weights, config.rig
    time = model.characteristic_time_s
    return StageWeights(
        position=weights.position / (rig.position_limit_m**2 * time),
        velocity=weights.velocity / (rig.velocity_limit_m_s**2 * time),
        angle=weights.angle / time,
        rate_of_angle=weights.rate * time,
        command=weights.command / (rig.velocity_limit_m_s**2 * time),
        rate=weights.command_rate / (rig.acceleration_limit_m_s2**2 * time),
    )


def plan_limits(config: Config) -> Limits:
    """Position, speed and rate limits, and a lead row |p + lead_v v| <= lead.

    The row is the line through two bounds on the position: at full speed the governor's invariant
    that a cart whose host falls silent still stops before the end stop,
    p + v (notice + tau) + v^2 / (2 a) <= stop; at a quarter of it the room to stop if the drive
    lags by more than the model says. It costs 0.1 % of the time-optimal swing-up.
    """
    rig, tau = config.rig, config.motor.tau_s
    fast, slow = rig.velocity_limit_m_s, 0.25 * rig.velocity_limit_m_s
    inside = rig.position_limit_m - min(MARGIN_M, 0.1 * rig.position_limit_m)
    notice = config.safety.board_timeout_s + config.controller.period_s
    stop = rig.track_length_m / 2 - 2.0 * config.safety.stop_margin_m
    rate = min(rig.acceleration_limit_m_s2, config.motor.acceleration_m_s2)
    at_slow = inside - slow * (LEAD_TAU * tau + LEAD_S)
    at_fast = stop - fast * (notice + tau) - fast * fast / (2.0 * rate)
    slope = max((at_slow - at_fast) / (fast - slow), LEAD_TAU * tau + LEAD_S)
    return Limits(
        position_m=inside,
        command=rig.velocity_limit_m_s,
        rate=rig.acceleration_limit_m_s2,
        lead=at_slow + slope * slow,
        lead_p=1.0,
        lead_v=slope,
    )


def horizon_steps(config: Config, model: ModelParameters) -> int:
    """Steps of the rig's plans: as configured, more for a weak drive, at most twice as many.

    A reversal of the cart as the pole passes below adds 2 c u to its rate, which must reach
    2 sqrt(c g); at half a period pi / sqrt(c g) each, pumping takes about pi / (c u) seconds.
    """
    pumping_s = math.pi / (model.coupling_1_m * config.rig.velocity_limit_m_s)
    wanted = math.ceil(PUMPING_FACTOR * pumping_s / config.optimizer.step_s)
    configured = config.optimizer.horizon_steps
    return min(max(configured, wanted), 2 * configured, MAX_STEPS)


def problem_from_config(config: Config) -> Problem:
    """The rig's problem: velocity commands through the motor's lag, weights scaled to the rig."""
    model = from_config(config)
    weights = scaled_weights(config, model)
    n, step = horizon_steps(config, model), config.optimizer.step_s
    model = replace(model, length_m=PESSIMISM * model.length_m)
    terminal = TERMINAL_FACTOR * regulator(model, weights, step)[1]
    return Problem(
        kind=InputKind.VELOCITY,
        steps_s=np.full(n, step),
        model=model,
        weights=weights,
        terminal=terminal,
        limits=plan_limits(config),
        reference_m=np.full(n + 1, config.controller.target_m),
    )
