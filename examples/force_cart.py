"""A cart pushed by a force, with a pole that pushes back: in plain arithmetic.

``cartpole simulate --config examples/force_cart.yaml`` swings it up: ``accelerations`` are then the
planner's model and the simulated rig's truth. ``dynamics`` and ``cost`` are the same cart for
imitation (``cartpole.learning.imitation``), one Euler step of 50 ms, theta zero upright.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

STEP_S = 0.05
# Cart mass [kg], pole mass [kg], half length [m], gravity [m/s^2].
TRUTH = (1.0, 0.1, 0.5, 9.8)
# For flying: cart, pole, half length, gravity, thrust of the motor per volt's worth of speed
# [N s/m] and friction of the pole [1/s].
PARAMETERS = (0.6, 0.1, 0.25, 9.81, 14.0, 0.05)


def pushed(
    theta: Any, omega: Any, force: Any, q: Sequence[Any], m: Any, friction: Any = 0
) -> tuple[Any, Any]:
    """(vdot, omegadot), theta clockwise from upright (Barto, Sutton and Anderson 1983)."""
    cart, pole, length, gravity = q
    total = cart + pole
    s, c = m.sin(theta), m.cos(theta)
    push = (force + pole * length * omega**2 * s) / total
    turn = (gravity * s - c * push) / (length * (4.0 / 3.0 - pole * c**2 / total))
    turn = turn - friction * omega
    return push - pole * length * turn * c / total, turn


def accelerations(x: Sequence[Any], u: Any, q: Sequence[Any], m: Any) -> Sequence[Any]:
    """Of cart and pole, theta counter-clockwise from hanging; u is the speed commanded.

    The motor is a source of voltage: its force falls with its own speed, and what the pole does to
    the cart it does not correct.
    """
    slide, turn = pushed(m.pi - x[2], -x[3], q[4] * (u - x[1]), q[:4], m, q[5])
    return slide, -turn


def dynamics(x: Sequence[Any], u: Sequence[Any], q: Sequence[Any], m: Any) -> Sequence[Any]:
    """The state (x, v, theta, omega) one step on; the input is the force."""
    slide, turn = pushed(x[2], x[3], u[0], q, m)
    return (
        x[0] + STEP_S * x[1],
        x[1] + STEP_S * slide,
        x[2] + STEP_S * x[3],
        x[3] + STEP_S * turn,
    )


def cost(x: Sequence[Any], u: Sequence[Any], q: Sequence[Any], m: Any) -> Any:
    """Of a stage: upright, in the middle, at rest, with little force."""
    return (
        0.1 * x[0] ** 2 + 0.1 * x[1] ** 2 + 2.0 * (1.0 - m.cos(x[2])) + 0.1 * x[3] ** 2
        + 0.001 * u[0] ** 2
    )  # fmt: skip
