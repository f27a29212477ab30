"""The planner that the rules ask for."""

from __future__ import annotations

from cartpole.optimizer.bank.planner import Planner
from cartpole.optimizer.penalty.planner import PenaltyPlanner
from cartpole.optimizer.problem import PlannerRules


def make_planner(rules: PlannerRules) -> Planner | PenaltyPlanner:
    """By ``optimizer.backend``; PyTorch is imported only for its own."""
    if rules.backend == "torch":
        from cartpole.optimizer.torch.planner import TorchPlanner

        return TorchPlanner(rules)
    if rules.backend == "penalty":
        return PenaltyPlanner(rules)
    return Planner(rules)
