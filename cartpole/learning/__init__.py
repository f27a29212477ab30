"""Learning through the controller: differentiable plans.

``MPCLayer`` needs PyTorch, which is imported with it and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cartpole.learning.errors import GradientError
from cartpole.optimizer.adjoint.gradient import Flaw

if TYPE_CHECKING:
    from cartpole.learning.layer import MPCLayer

__all__ = ["Flaw", "GradientError", "MPCLayer"]


def __getattr__(name: str) -> Any:
    if name == "MPCLayer":
        from cartpole.learning.layer import MPCLayer

        return MPCLayer
    raise AttributeError(name)
