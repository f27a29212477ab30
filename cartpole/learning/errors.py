"""What learning raises on purpose."""

from __future__ import annotations

from cartpole.errors import CartpoleError


class GradientError(CartpoleError):
    """A gradient through a plan would be wrong or mean nothing; says why."""
