"""The pilot: decides in each tick whose command is flown.

A good plan first; a failed one is bridged by the last good plan's next command for two ticks; then
LQR where its region allows, else energy shaping. Back to the plan after a few good ones in a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cartpole.control import energy, lqr
from cartpole.control.planning import PlanMaker, RigPlanner
from cartpole.messages import FloatArray, P, Plan, PlanStatus, U
from cartpole.model.parameters import ModelParameters, from_config
from cartpole.optimizer.planner import PlannerState
from cartpole.recall import require

if TYPE_CHECKING:
    from cartpole.config.schema import Config

BRIDGED_TICKS = 2
GOOD_PLANS_TO_RETURN = 5
GOOD = (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)


@dataclass(frozen=True, slots=True)
class Flight:
    """What the pilot wants: a command [m/s], and who it comes from."""

    velocity_m_s: float
    plan: Plan | None
    source: str  # "plan", "bridge", "lqr", "energy", "none"


@dataclass(frozen=True, slots=True)
class PilotState:
    """The pilot's memory; ``planner`` is ``None`` where a planner cannot tell its own."""

    bad_in_a_row: int
    good_in_a_row: int
    planner: PlannerState | None = None
    good: Plan | None = None


class Pilot:
    """Owns planner and LQR; deterministic, no clock."""

    def __init__(self, config: Config, planner: PlanMaker | None = None) -> None:
        self._planner: PlanMaker = planner if planner is not None else RigPlanner(config)
        self._set(config)
        self.reset()

    def _set(self, config: Config) -> None:
        # Times (N + 1,) of a plan's states, from its start.
        self.times_s = np.concatenate(([0.0], np.cumsum(self._planner.problem.steps_s)))
        self._parameters = from_config(config)
        self._lqr = lqr.design(config)
        self._rig = config.rig
        self._period_s = config.controller.period_s
        self._period_ns = round(1e9 * config.controller.period_s)
        self._feed_back_only = config.controller.feed_back_only

    @property
    def model(self) -> ModelParameters | None:
        """The rig as the planner found it in flight; ``None`` if it does not learn."""
        return self._planner.model

    def update(self, config: Config) -> None:
        """Take over changed settings; plans of another length mean that all are forgotten."""
        self._planner.update(config)
        self._set(config)

    def reset(self) -> None:
        """Forget every plan."""
        self._planner.reset()
        self._good: Plan | None = None
        self._bad_in_a_row = 0
        self._good_in_a_row = GOOD_PLANS_TO_RETURN

    def state(self) -> PilotState:
        """All that is remembered, copied."""
        return PilotState(
            self._bad_in_a_row, self._good_in_a_row, self._planner.state(), self._good
        )

    def restore(self, state: PilotState) -> None:
        """Go on from a state under the same settings; SessionError if it is none."""
        n, good = self._planner.problem.horizon, state.good
        fits = good is None or (good.states.shape, good.inputs.shape) == ((n + 1, 5), (n,))
        require(fits, "the last good plan")
        self._planner.restore(state.planner)
        self._good = good
        self._bad_in_a_row, self._good_in_a_row = state.bad_in_a_row, state.good_in_a_row

    def fly(self, state: FloatArray, reference: FloatArray, budget: int, start_ns: int) -> Flight:
        """One tick: ``state`` (5,) when the command acts, ``reference`` (N + 1,) targets [m]."""
        if not np.all(np.isfinite(state)):
            return Flight(0.0, None, "none")
        target = float(reference[0])
        if self._feed_back_only:
            return self._fall_back(state, target, None)
        plan = self._planner.plan(state, reference, budget, start_ns)
        if plan.status in GOOD and math.isfinite(float(plan.states[1, U])):
            self._good = plan
            self._bad_in_a_row = 0
            self._good_in_a_row += 1
            if self._good_in_a_row >= GOOD_PLANS_TO_RETURN:
                return Flight(float(plan.states[1, U]), plan, "plan")
            return self._fall_back(state, target, plan)
        self._bad_in_a_row += 1
        bridge = self._bridge(start_ns)
        if bridge is not None and plan.status is not PlanStatus.NOT_FINITE:
            return Flight(bridge, plan, "bridge")
        self._good_in_a_row = 0
        return self._fall_back(state, target, plan)

    def after(self) -> None:
        """Once the command is out: let the planner prepare the next tick."""
        if not self._feed_back_only:
            self._planner.prepare()

    def _bridge(self, start_ns: int) -> float | None:
        """The last good plan's command for now, if it is not too old."""
        if self._good is None or self._bad_in_a_row > BRIDGED_TICKS:
            return None
        steps = round((start_ns - self._good.start_ns) / self._period_ns)
        if not 0 <= steps < len(self._good.inputs):
            return None
        return float(self._good.states[steps + 1, U])

    def _fall_back(self, state: FloatArray, target: float, plan: Plan | None) -> Flight:
        if self._lqr.contains(state, target):
            rate, source = self._lqr.rate(state, target), "lqr"
        elif abs(float(state[P])) <= self._rig.position_limit_m:
            rate = energy.swing_up_rate(
                state,
                self._parameters,
                self._rig.acceleration_limit_m_s2,
                self._rig.position_limit_m,
            )
            source = "energy"
        else:
            return Flight(0.0, plan, "none")
        return Flight(float(state[U]) + rate * self._period_s, plan, source)
