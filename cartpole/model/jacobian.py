"""One step of the rig together with its exact derivative by the state, compiled.

The step is that of :func:`cartpole.model.dynamics.rig_step`, number for number; the derivative is
that of the discrete step itself (the Runge-Kutta stages differentiated), not of a linearised model.
"""

from __future__ import annotations

import math

from numba import njit

from cartpole.model.dynamics import COULOMB_BLEND_RAD_S, Four
from cartpole.model.parameters import Coefficients

# p, v, theta, omega and the entries of the derivative that are neither 0 nor 1 (see below).
StepWithJacobian = tuple[
    float, float, float, float, float, float, float, float, float, float, float, float
]


@njit(cache=True, nogil=True, inline="always")
def _pole_slopes(
    theta: float, omega: float, acceleration: float, model: Coefficients
) -> tuple[float, float, float, float]:
    """omegadot and its derivatives by theta, omega and the cart's acceleration."""
    coupling, gravity, damping, coulomb, _, _ = model
    sine, cosine = math.sin(theta), math.cos(theta)
    ratio = omega / COULOMB_BLEND_RAD_S
    by_omega = -damping - (coulomb / COULOMB_BLEND_RAD_S if -1.0 < ratio < 1.0 else 0.0)
    value = (
        -coupling * (gravity * sine + acceleration * cosine)
        - damping * omega
        - coulomb * max(-1.0, min(1.0, ratio))
    )
    by_theta = -coupling * (gravity * cosine - acceleration * sine)
    return value, by_theta, by_omega, -coupling * cosine


@njit(cache=True, nogil=True)
def _servo(error: float, time: float, tau: float, limit: float) -> tuple[float, float, float]:
    """vdot, its derivative by v, and the time so far spent at the clip, ``time`` into a command."""
    size = abs(error)
    knee = limit * tau
    clipped = (size - knee) / limit if size > knee else 0.0
    if time <= clipped:
        # On the linear side's very edge (nothing clipped) the slope is the servo's.
        by_v = -1.0 / tau if clipped == 0.0 else 0.0
        return math.copysign(limit if clipped > 0.0 else size / tau, error), by_v, time
    decay = math.exp(-(time - clipped) / tau)
    return math.copysign(min(size, knee) / tau * decay, error), -decay / tau, clipped


@njit(cache=True, nogil=True)
def rig_step_jacobian(x: Four, u: float, step: float, model: Coefficients) -> StepWithJacobian:
    """x = (p, v, theta, omega) after ``step`` seconds of a held u, and the step's derivative.

    The last eight numbers are, for the order (p, v, theta, omega), with new values in rows::

        1  pv  .   .
        .  vv  .   .
        .  tv  tt  to
        .  ov  ot  oo

    as pv, vv, tv, tt, to, ov, ot, oo.
    """
    p, v, theta, omega = x
    tau, limit = model.tau, model.limit
    error = u - v
    half, sixth = 0.5 * step, step / 6.0
    a1, a1_v, _ = _servo(error, 0.0, tau, limit)
    a2, a2_v, _ = _servo(error, half, tau, limit)
    a4, a4_v, clipped = _servo(error, step, tau, limit)

    # Tangents: suffix v, t, o for the derivative by the first v, theta, omega.
    k1, by_t, by_o, by_a = _pole_slopes(theta, omega, a1, model)
    k1v, k1t, k1o = by_a * a1_v, by_t, by_o

    o2 = omega + half * k1
    o2v, o2t, o2o = half * k1v, half * k1t, 1.0 + half * k1o
    k2, by_t, by_o, by_a = _pole_slopes(theta + half * omega, o2, a2, model)
    k2v = by_o * o2v + by_a * a2_v
    k2t = by_t + by_o * o2t
    k2o = by_t * half + by_o * o2o

    o3 = omega + half * k2
    o3v, o3t, o3o = half * k2v, half * k2t, 1.0 + half * k2o
    k3, by_t, by_o, by_a = _pole_slopes(theta + half * o2, o3, a2, model)
    k3v = by_t * half * o2v + by_o * o3v + by_a * a2_v
    k3t = by_t * (1.0 + half * o2t) + by_o * o3t
    k3o = by_t * half * o2o + by_o * o3o

    o4 = omega + step * k3
    o4v, o4t, o4o = step * k3v, step * k3t, 1.0 + step * k3o
    k4, by_t, by_o, by_a = _pole_slopes(theta + step * o3, o4, a4, model)
    k4v = by_t * step * o3v + by_o * o4v + by_a * a4_v
    k4t = by_t * (1.0 + step * o3t) + by_o * o4t
    k4o = by_t * step * o3o + by_o * o4o

    # The cart, in closed form: full push while clipped, then the servo's decay.
    size = abs(error)
    push = math.copysign(limit, error) if clipped > 0.0 else 0.0
    rest = step - clipped
    decay = math.exp(-rest / tau)
    left = math.copysign(min(size, limit * tau), error)
    new_p = p + v * clipped + 0.5 * push * clipped * clipped + u * rest - left * tau * (1.0 - decay)
    new_v = u - left * decay
    if rest <= 0.0:
        new_v = v + push * clipped
    return (
        new_p,
        new_v,
        theta + sixth * (omega + 2.0 * o2 + 2.0 * o3 + o4),
        omega + sixth * (k1 + 2.0 * k2 + 2.0 * k3 + k4),
        clipped + tau * (1.0 - decay),
        decay,
        sixth * (2.0 * o2v + 2.0 * o3v + o4v),
        1.0 + sixth * (2.0 * o2t + 2.0 * o3t + o4t),
        sixth * (1.0 + 2.0 * o2o + 2.0 * o3o + o4o),
        sixth * (k1v + 2.0 * k2v + 2.0 * k3v + k4v),
        sixth * (k1t + 2.0 * k2t + 2.0 * k3t + k4t),
        1.0 + sixth * (k1o + 2.0 * k2o + 2.0 * k3o + k4o),
    )
