"""Learning through the controller: differentiable plans.

``MPCLayer`` and ``ProgramLayer`` need PyTorch, which is imported with them and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cartpole.learning.errors import GradientError
from cartpole.optimizer.adjoint.gradient import Flaw

if TYPE_CHECKING:
    from cartpole.learning.layer import MPCLayer
    from cartpole.learning.program_layer import ProgramLayer

__all__ = ["Flaw", "GradientError", "MPCLayer", "ProgramLayer"]


def __getattr__(name: str) -> Any:
    if name == "MPCLayer":
        from cartpole.learning.layer import MPCLayer

        return MPCLayer
    if name == "ProgramLayer":
        from cartpole.learning.program_layer import ProgramLayer

        return ProgramLayer
    raise AttributeError(name)
