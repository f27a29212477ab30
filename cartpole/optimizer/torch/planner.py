"""The bank of plans for PyTorch: fewer of them, and as many Newton steps as a tick affords."""

from __future__ import annotations

from functools import partial

from cartpole.messages import FloatArray, Plan
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.bank.planner import Planner
from cartpole.optimizer.problem import PlannerRules
from cartpole.optimizer.torch.program import Program, load_user_model
from cartpole.optimizer.torch.solver import TorchSolver

# Newton steps a tick that one thread of PyTorch affords at 50 Hz.
TICK_STEPS = 3
# Plans kept: hold, right, left.
PLANS = 3


class TorchPlanner(Planner):
    """``Planner`` over ``TorchSolver``."""

    def __init__(self, rules: PlannerRules) -> None:
        program = Program(rules.horizon_steps, load_user_model(rules.user_cost))
        super().__init__(rules, plans=PLANS, solver=partial(TorchSolver, program=program))

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
