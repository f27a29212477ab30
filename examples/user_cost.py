"""A cost of one's own, in PyTorch: the cart may be anywhere in the middle of the track.

Fly it with ``cartpole simulate --set optimizer.backend=torch
--set optimizer.user_cost=examples/user_cost.py:cost``.

``cost`` returns the cost per second. A file may also hold ``terminal(last)``, the cost of the
last stage, and ``pole_acceleration(theta, omega, cart_acceleration)``, the pole's equation of
motion; what is missing stays as it is without this file. Values are tensors, and PyTorch finds the
derivatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from cartpole.optimizer.torch.program import Stage

FREE_M = 0.05


def cost(stage: Stage) -> torch.Tensor:
    """Cost per second: a flat bottom of +-5 cm for the cart, and the pole's energy error."""
    away = stage.p - stage.reference
    outside = (away * away + FREE_M**2).sqrt() - FREE_M
    off = stage.theta - stage.upright
    pole = off * off + 0.02 * stage.omega**2
    return 20.0 * outside**2 + 0.5 * stage.v**2 + 5.0 * pole + 0.05 * stage.u**2 + 1e-3 * stage.w**2
