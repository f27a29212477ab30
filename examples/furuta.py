"""A Furuta pendulum: an arm that turns about a vertical axis, a pole at its end.

``cartpole simulate --config examples/furuta.yaml`` swings it up. The "cart" is the arm's end:
p = r phi is the way along its circle [m]. The motor is a source of voltage, so the pole pushes
back, and the turning arm throws the pole outward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Arm: length r [m], inertia with its motor [kg m^2]. Pole: mass [kg], from pivot to centre of mass
# [m], inertia about the pivot [kg m^2]. Motor: torque per speed of the arm's end [N m s/m].
# Friction of the pole [N m s], gravity [m/s^2].
PARAMETERS = (0.2, 5e-3, 0.03, 0.15, 9e-4, 1.0, 5e-5, 9.81)


def accelerations(x: Sequence[Any], u: Any, q: Sequence[Any], m: Any) -> Sequence[Any]:
    """(pddot, thetaddot) from Lagrange's equations, theta zero hanging."""
    arm, inertia, mass, centre, pole, motor, friction, gravity = q
    s, c = m.sin(x[2]), m.cos(x[2])
    turn, rate = x[1] / arm, x[3]
    couple = mass * arm * centre
    # Inertia (2, 2) over (phi, theta), and what stands beside it.
    a, b, d = inertia + mass * arm**2 + pole * s**2, couple * c, pole
    torque = motor * (u - x[1]) - 2.0 * pole * s * c * turn * rate + couple * s * rate**2
    swing = pole * s * c * turn**2 - mass * gravity * centre * s - friction * rate
    determinant = a * d - b**2
    return arm * (d * torque - b * swing) / determinant, (a * swing - b * torque) / determinant
