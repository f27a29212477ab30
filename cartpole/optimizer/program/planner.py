"""The bank of plans over a user's model: fewer plans, as many Newton steps as a tick affords."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from cartpole.messages import FloatArray, Plan
from cartpole.model.parameters import ModelParameters
from cartpole.model.user import load_user_model
from cartpole.optimizer.bank.planner import Planner
from cartpole.optimizer.problem import (
    TERMINAL_FACTOR,
    PlannerRules,
    Problem,
    regulator_of,
    rig_problem,
)
from cartpole.optimizer.program.solver import ProgramSolver

# Newton steps a tick that are affordable at 50 Hz (a third of a millisecond each at 100 steps).
TICK_STEPS = 20
# Plans kept: hold, right, left.
PLANS = 3


class ProgramPlanner(Planner):
    """``Planner`` over ``ProgramSolver``; the model in force is the user's, not the learner's."""

    def __init__(self, rules: PlannerRules) -> None:
        self._user = load_user_model(rules.user_model)
        super().__init__(rules, plans=PLANS, solver=partial(ProgramSolver, user=self._user))

    def _problem(self, rules: PlannerRules) -> tuple[Problem, FloatArray]:
        problem = rig_problem(rules)
        step = rules.step_s
        gain, cost_to_go = regulator_of(*self._user.linear(step), rules.weights, step)
        return replace(problem, terminal=TERMINAL_FACTOR * cost_to_go, model=rules.model), gain

    def believe(self, model: ModelParameters) -> None:
        """Nothing: the user's equations have parameters of their own."""

    def plan(
        self,
        state: FloatArray,
        reference: FloatArray,
        newton_budget: int,
        start_ns: int,
        model: ModelParameters | None = None,
    ) -> Plan:
        """See ``Planner``; at most TICK_STEPS Newton steps."""
        return super().plan(state, reference, min(newton_budget, TICK_STEPS), start_ns, model)
