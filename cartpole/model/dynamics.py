"""Equations of motion and their steps, compiled.

The cart follows a velocity servo, ``vdot = clip((u - v) / tau, ±a)``; with u held over a step its
position, speed and acceleration have closed forms. The pole is driven by the cart's acceleration
only (the servo lets nothing push back)::

    omegadot = -c (g sin theta + vdot cos theta) - b omega - coulomb sign(omega)

so a step of the pole is one Runge-Kutta step with that acceleration known at its three times.
"""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.parameters import Coefficients

Four = tuple[float, float, float, float]

# |omega| below this [rad/s] blends dry friction linearly through zero.
COULOMB_BLEND_RAD_S = 0.02


@njit(cache=True, nogil=True, inline="always")
def pole_acceleration(
    theta: float, omega: float, cart_acceleration: float, model: Coefficients
) -> float:
    """omegadot [rad/s^2] at an angle, a rate and a cart acceleration."""
    friction = model.coulomb * max(-1.0, min(1.0, omega / COULOMB_BLEND_RAD_S))
    drive = model.gravity * math.sin(theta) + cart_acceleration * math.cos(theta)
    return -model.coupling * drive - model.damping * omega - friction


@njit(cache=True, nogil=True)
def cart_acceleration_at(error: float, time: float, tau: float, limit: float) -> float:
    """vdot [m/s^2] ``time`` after a command ``error = u - v`` began to act."""
    size = abs(error)
    knee = limit * tau
    clipped = (size - knee) / limit if size > knee else 0.0
    if time < clipped:
        return math.copysign(limit, error)
    return math.copysign(min(size, knee) / tau * math.exp(-(time - clipped) / tau), error)


@njit(cache=True, nogil=True)
def cart_step(
    p: float, v: float, u: float, step: float, tau: float, limit: float
) -> tuple[float, float]:
    """(p, v) after ``step`` seconds of a held command u; exact, the clip included."""
    error = u - v
    size = abs(error)
    knee = limit * tau
    if size > knee:
        clipped = min(step, (size - knee) / limit)
        push = math.copysign(limit, error)
        p += v * clipped + 0.5 * push * clipped * clipped
        v += push * clipped
        step -= clipped
        if step <= 0.0:
            return p, v
    decay = math.exp(-step / tau)
    error = u - v
    return p + u * step - error * tau * (1.0 - decay), u - error * decay


@njit(cache=True, nogil=True)
def pole_step(
    theta: float,
    omega: float,
    a_start: float,
    a_middle: float,
    a_end: float,
    step: float,
    model: Coefficients,
) -> tuple[float, float]:
    """(theta, omega) after one classical Runge-Kutta step under a known cart acceleration."""
    half = 0.5 * step
    k1 = pole_acceleration(theta, omega, a_start, model)
    o2 = omega + half * k1
    k2 = pole_acceleration(theta + half * omega, o2, a_middle, model)
    o3 = omega + half * k2
    k3 = pole_acceleration(theta + half * o2, o3, a_middle, model)
    o4 = omega + step * k3
    k4 = pole_acceleration(theta + step * o3, o4, a_end, model)
    theta += step / 6.0 * (omega + 2.0 * o2 + 2.0 * o3 + o4)
    omega += step / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return theta, omega


@njit(cache=True, nogil=True)
def rig_step(x: Four, u: float, step: float, model: Coefficients) -> Four:
    """x = (p, v, theta, omega) after ``step`` seconds of a held velocity command u [m/s]."""
    p, v, theta, omega = x
    tau, limit = model.tau, model.limit
    error = u - v
    a_start = cart_acceleration_at(error, 0.0, tau, limit)
    a_middle = cart_acceleration_at(error, 0.5 * step, tau, limit)
    a_end = cart_acceleration_at(error, step, tau, limit)
    theta, omega = pole_step(theta, omega, a_start, a_middle, a_end, step, model)
    p, v = cart_step(p, v, u, step, tau, limit)
    return p, v, theta, omega


@njit(cache=True, nogil=True, inline="always")
def coefficients(values: FloatArray) -> Coefficients:
    """From an array that begins with them, in their order."""
    return Coefficients(values[0], values[1], values[2], values[3], values[4], values[5])
