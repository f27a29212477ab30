"""Settings into the rules of the planner: weights scaled to the rig, limits, length of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.compiled.layout import MAX_STEPS
from cartpole.optimizer.problem import (
    Limits,
    PlannerRules,
    Problem,
    StageWeights,
    pumping_steps,
    rig_problem,
)
from cartpole.rules.model import model_of

if TYPE_CHECKING:
    from cartpole.config.schema import Config

# Plans stay this far inside the position limit: room for what the model does not know.
MARGIN_M = 0.005
# They also keep |p + lead v| inside it, lead = LEAD_TAU tau + LEAD_S: room to stop if the drive
# lags by more than the model says.
LEAD_TAU = 0.5
LEAD_S = 0.01


def planner_rules(config: Config) -> PlannerRules:
    """What the rig's planner is made of."""
    model, optimizer = model_of(config), config.optimizer
    return PlannerRules(
        backend=optimizer.backend,
        model=model,
        weights=scaled_weights(config, model),
        limits=plan_limits(config),
        horizon_steps=horizon_steps(config, model),
        step_s=optimizer.step_s,
        target_m=config.controller.target_m,
        tolerance=optimizer.tolerance,
        candidates=optimizer.candidates,
        user_cost=optimizer.user_cost,
        user_model=optimizer.user_model,
    )


def problem_from_config(config: Config) -> Problem:
    """The rig's problem."""
    return rig_problem(planner_rules(config))


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
    """Steps of the rig's plans: as configured, more for a weak drive, at most twice as many."""
    speed_m_s = config.rig.velocity_limit_m_s
    wanted = pumping_steps(model, speed_m_s, config.optimizer.step_s)
    configured = config.optimizer.horizon_steps
    return min(max(configured, wanted), 2 * configured, MAX_STEPS)
