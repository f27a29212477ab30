"""A planner that is timed from outside, so that the core itself needs no clock."""

from __future__ import annotations

import time

from cartpole.control.planning import RigPlanner
from cartpole.messages import FloatArray, Plan
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.problem import PlannerRules


class TimedPlanner(RigPlanner):
    """Remembers how long its last plan took."""

    def __init__(self, rules: PlannerRules) -> None:
        super().__init__(rules)
        self._elapsed_ns = -1

    def plan(
        self,
        state: FloatArray,
        reference: FloatArray,
        newton_budget: int,
        start_ns: int,
        model: ModelParameters | None = None,
    ) -> Plan:
        """See ``PlanMaker``."""
        begin = time.perf_counter_ns()
        plan = super().plan(state, reference, newton_budget, start_ns, model)
        self._elapsed_ns = time.perf_counter_ns() - begin
        return plan

    def take_elapsed_ns(self) -> int:
        """Time of the plan made since the last call; -1 if none was made."""
        elapsed, self._elapsed_ns = self._elapsed_ns, -1
        return elapsed
