"""The planner that a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cartpole.optimizer.bank.planner import Planner
from cartpole.optimizer.penalty.planner import PenaltyPlanner

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def make_planner(config: Config) -> Planner | PenaltyPlanner:
    """By ``optimizer.backend``; PyTorch is imported only for its own."""
    if config.optimizer.backend == "torch":
        from cartpole.optimizer.torch.planner import TorchPlanner

        return TorchPlanner(config)
    if config.optimizer.backend == "penalty":
        return PenaltyPlanner(config)
    return Planner(config)
