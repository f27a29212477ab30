"""The planner that the rules ask for."""

from __future__ import annotations

from cartpole.errors import ConfigError
from cartpole.optimizer.bank.planner import Planner
from cartpole.optimizer.penalty.planner import PenaltyPlanner
from cartpole.optimizer.problem import PlannerRules


def make_planner(rules: PlannerRules) -> Planner | PenaltyPlanner:
    """By ``optimizer.backend``; PyTorch and sympy are imported only for their own."""
    if rules.user_model:
        if rules.backend != "compiled":
            raise ConfigError(
                f"optimizer.user_model needs optimizer.backend: compiled, not {rules.backend}"
            )
        from cartpole.optimizer.program.planner import ProgramPlanner

        return ProgramPlanner(rules)
    if rules.backend == "torch":
        from cartpole.optimizer.torch.planner import TorchPlanner

        return TorchPlanner(rules)
    if rules.backend == "penalty":
        return PenaltyPlanner(rules)
    return Planner(rules)
