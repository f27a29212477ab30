"""A planner that is timed from outside, so that the core itself needs no clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cartpole.control.pilot import PlanMaker
from cartpole.messages import FloatArray, Plan
from cartpole.optimizer.planner import make_planner

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.optimizer.problem import Problem


class TimedPlanner:
    """Passes everything on to a planner and remembers how long its last plan took."""

    def __init__(self, config: Config) -> None:
        self._planner: PlanMaker = make_planner(config)
        self._elapsed_ns = -1

    @property
    def problem(self) -> Problem:
        """See ``Planner``."""
        return self._planner.problem

    def plan(
        self, state: FloatArray, reference: FloatArray, newton_budget: int, start_ns: int
    ) -> Plan:
        """See ``Planner``."""
        begin = time.perf_counter_ns()
        plan = self._planner.plan(state, reference, newton_budget, start_ns)
        self._elapsed_ns = time.perf_counter_ns() - begin
        return plan

    def prepare(self) -> None:
        """See ``Planner``."""
        self._planner.prepare()

    def update(self, config: Config) -> None:
        """See ``Planner``."""
        self._planner.update(config)

    def reset(self) -> None:
        """See ``Planner``."""
        self._planner.reset()

    def take_elapsed_ns(self) -> int:
        """Time of the plan made since the last call; -1 if none was made."""
        elapsed, self._elapsed_ns = self._elapsed_ns, -1
        return elapsed
