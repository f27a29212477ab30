"""A cart pushed by a force, with a pole that pushes back: dynamics and cost in plain arithmetic.

Parameters q = (cart mass, pole mass, half length, gravity); state (x, v, theta, omega), theta zero
upright; the input is the force. One Euler step of 50 ms (Barto, Sutton and Anderson 1983).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

STEP_S = 0.05
TRUTH = (1.0, 0.1, 0.5, 9.8)


def dynamics(x: Sequence[Any], u: Sequence[Any], q: Sequence[Any], m: Any) -> Sequence[Any]:
    """The state one step on."""
    cart, pole, length, gravity = q
    total = cart + pole
    s, c = m.sin(x[2]), m.cos(x[2])
    push = (u[0] + pole * length * x[3] ** 2 * s) / total
    turn = (gravity * s - c * push) / (length * (4.0 / 3.0 - pole * c**2 / total))
    slide = push - pole * length * turn * c / total
    return (
        x[0] + STEP_S * x[1],
        x[1] + STEP_S * slide,
        x[2] + STEP_S * x[3],
        x[3] + STEP_S * turn,
    )


def cost(x: Sequence[Any], u: Sequence[Any], m: Any) -> Any:
    """Of a stage: upright, in the middle, at rest, with little force."""
    return (
        0.1 * x[0] ** 2 + 0.1 * x[1] ** 2 + 2.0 * (1.0 - m.cos(x[2])) + 0.1 * x[3] ** 2
        + 0.001 * u[0] ** 2
    )  # fmt: skip
