"""The planner that a rig keeps; where the length of its plans changes, it is built anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from cartpole.messages import FloatArray, Plan
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.backends import make_planner
from cartpole.optimizer.bank.planner import Planner, PlannerMemory
from cartpole.optimizer.problem import PlannerRules, Problem


class PlanMaker(Protocol):
    """What the pilot needs of a planner (`cartpole.optimizer.bank.planner.Planner`)."""

    @property
    def problem(self) -> Problem:
        """Horizon, costs and limits."""

    def plan(
        self,
        state: FloatArray,
        reference: FloatArray,
        newton_budget: int,
        start_ns: int,
        model: ModelParameters | None = None,
    ) -> Plan:
        """A plan from ``state`` (5,) at ``start_ns`` along ``reference`` (N + 1,) for ``model``."""

    def prepare(self) -> None:
        """Work for the next plan that needs no measurement."""

    def update(self, rules: PlannerRules) -> None:
        """Take over changed settings."""

    def reset(self) -> None:
        """Forget every plan."""

    def fit(self, steps: int | None) -> None:
        """Plans of so many steps, ``None``: as the rules say; those of others are forgotten."""

    @property
    def memory(self) -> PlannerMemory | None:
        """All that is remembered; ``None`` if that cannot be told."""

    def expect(self, kept: PlannerMemory) -> None:
        """Believe what the plans of a memory believe that is about to be put in place."""


class RigPlanner:
    """A ``PlanMaker`` of any backend.

    Plans are longer for a weaker drive, so a changed speed limit may change their length, and so
    may what was found of a rig: then there is a new planner, which has forgotten every plan.
    """

    def __init__(self, rules: PlannerRules) -> None:
        self._rules = rules
        self._steps: int | None = None
        self._planner = make_planner(rules)

    @property
    def problem(self) -> Problem:
        """See ``PlanMaker``."""
        return self._planner.problem

    def plan(
        self,
        state: FloatArray,
        reference: FloatArray,
        newton_budget: int,
        start_ns: int,
        model: ModelParameters | None = None,
    ) -> Plan:
        """See ``PlanMaker``."""
        return self._planner.plan(state, reference, newton_budget, start_ns, model)

    def prepare(self) -> None:
        """See ``PlanMaker``."""
        self._planner.prepare()

    def update(self, rules: PlannerRules) -> None:
        """See ``PlanMaker``."""
        self._rules = rules
        wanted = self._wanted
        if wanted.horizon_steps == self._planner.problem.horizon:
            self._planner.update(wanted)
        else:
            self._planner = make_planner(wanted)

    def fit(self, steps: int | None) -> None:
        """See ``PlanMaker``."""
        self._steps = steps
        wanted = self._wanted
        if wanted.horizon_steps != self._planner.problem.horizon:
            self._planner = make_planner(wanted)

    @property
    def _wanted(self) -> PlannerRules:
        steps = max(self._steps or 0, self._rules.horizon_steps)
        return replace(self._rules, horizon_steps=steps)

    def reset(self) -> None:
        """See ``PlanMaker``."""
        self._planner.reset()

    @property
    def memory(self) -> PlannerMemory | None:
        """See ``PlanMaker``; the penalty method does not tell."""
        return self._planner.memory if isinstance(self._planner, Planner) else None

    def expect(self, kept: PlannerMemory) -> None:
        """See ``PlanMaker``."""
        if isinstance(self._planner, Planner):
            self._planner.expect(kept)
