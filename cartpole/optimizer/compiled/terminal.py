"""The terminal cost: half of a quadratic form over the last y minus its reference.

Its upper triangle stands in the scalars from TERMINAL on. Value and gradient stand here together.
"""

from __future__ import annotations

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.view import stage

Five = tuple[float, float, float, float, float]


@njit(inline="always")
def terminal_cost(sc: FloatArray, p: float, v: float, th: float, om: float, e: float) -> float:
    """Half of the form at an offset (p, v, theta, omega, e) from the reference."""
    t = TERMINAL
    cost: float = 0.5 * (
        sc[t] * p * p
        + sc[t + 5] * v * v
        + sc[t + 9] * th * th
        + sc[t + 12] * om * om
        + sc[t + 14] * e * e
    ) + (
        p * (sc[t + 1] * v + sc[t + 2] * th + sc[t + 3] * om + sc[t + 4] * e)
        + v * (sc[t + 6] * th + sc[t + 7] * om + sc[t + 8] * e)
        + th * (sc[t + 10] * om + sc[t + 11] * e)
        + om * sc[t + 13] * e
    )
    return cost


@njit(inline="always")
def terminal_gradient(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> Five:
    """Its gradient by the last y of the iterate."""
    x = stage(ws, 0)
    t = TERMINAL
    p = x[P, n] - x[REF, n]
    v = x[V, n]
    th = x[TH, n] - sc[THETA_REF]
    om = x[OM, n]
    e = x[U, n - 1] - v if kind == VELOCITY else 0.0
    return (
        sc[t] * p + sc[t + 1] * v + sc[t + 2] * th + sc[t + 3] * om + sc[t + 4] * e,
        sc[t + 1] * p + sc[t + 5] * v + sc[t + 6] * th + sc[t + 7] * om + sc[t + 8] * e,
        sc[t + 2] * p + sc[t + 6] * v + sc[t + 9] * th + sc[t + 10] * om + sc[t + 11] * e,
        sc[t + 3] * p + sc[t + 7] * v + sc[t + 10] * th + sc[t + 12] * om + sc[t + 13] * e,
        sc[t + 4] * p + sc[t + 8] * v + sc[t + 11] * th + sc[t + 13] * om + sc[t + 14] * e,
    )
