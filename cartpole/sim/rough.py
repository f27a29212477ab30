"""The rough rig: what a real drive, belt and track do that the equations of motion leave out.

The drive has a state of its own (place q, speed w, command r behind its ramp). The cart hangs on it
by the belt: rigidly, or by a spring with play. Stepped four times a millisecond, so that a belt of
25 Hz is followed to a percent; with every imperfection at zero the motion is that of
``cartpole.model.dynamics`` to a millimetre a second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.dynamics import COULOMB_BLEND_RAD_S, coefficients

if TYPE_CHECKING:
    from cartpole.config.schema import Sim

SUBSTEPS = 4
STANDING_M_S = 1e-3  # slower than this, stiction can hold the drive
STIFF_BELT_HZ = 25.0  # a belt with play but no stretch
Q, W, R = range(3)  # the drive's state: place [m], speed [m/s], ramped command [m/s]


@njit(cache=True, nogil=True)
def _drive_acceleration(
    q: float, w: float, asked: float, driven: bool, t: float, tau: float, limit: float,
    stiction: float, cogging: float, pitch: float, ripple: float, ripple_hz: float, pull: float,
) -> float:  # fmt: skip
    """Acceleration of the drive [m/s^2]; a standing one is held by stiction."""
    wanted = asked
    if driven and ripple != 0.0:
        wanted += ripple * math.sin(2.0 * math.pi * ripple_hz * t)
    push = min(max((wanted - w) / tau, -limit), limit)
    if cogging != 0.0:  # a sine that is not needed is a tenth of a step
        push += cogging * math.sin(2.0 * math.pi * q / pitch)
    push -= pull
    if abs(w) < STANDING_M_S and abs(push) < stiction:
        return 0.0
    return push


@njit(cache=True, nogil=True)
def _belt_acceleration(
    stretch: float, rate: float, omega: float, damping: float, backlash: float
) -> float:
    """Acceleration of the cart by its belt; none inside the play."""
    slack = 0.5 * backlash
    if abs(stretch) <= slack:
        return 0.0
    pull = omega * omega * (stretch - math.copysign(slack, stretch))
    return pull + 2.0 * damping * omega * rate


@njit(cache=True, nogil=True)
def _pole_midpoint(
    theta: float, omega: float, vdot: float, h: float, tilt: float, coupling: float,
    gravity: float, damping: float, coulomb: float,
) -> tuple[float, float]:  # fmt: skip
    """One midpoint step; ``theta`` from the plumb line, the cart's way tilted by ``tilt``."""
    rate, angle = omega, theta
    for half in range(2):
        friction = coulomb * max(-1.0, min(1.0, rate / COULOMB_BLEND_RAD_S))
        push = gravity * math.sin(angle) + vdot * math.cos(angle - tilt)
        alpha = -coupling * push - damping * rate - friction
        if half == 0:
            rate, angle = omega + 0.5 * h * alpha, theta + 0.5 * h * omega
    return theta + h * rate, omega + h * alpha


@njit(cache=True, nogil=True)
def advance_rough(
    state: FloatArray, drive: FloatArray, command: float, steps: int, step_s: float, t_s: float,
    noise: FloatArray, cart_noise: float, pole_noise: float, model: FloatArray, rough: FloatArray,
    stop_m: float,
) -> float:  # fmt: skip
    """Advance ``state`` (4,) and ``drive`` (3,) in place; the farthest \\|p\\| on the way.

    ``noise`` (2 * steps,) standard normals; ``model`` as in the plant; ``rough`` as ``figures``
    orders it. ``t_s`` is the time at the beginning: ripple and supply go with it.
    """
    coupling, gravity, damping, coulomb, tau, limit = coefficients(model)
    (stiction, cogging, pitch, ripple, ripple_hz, ramp, sag, sag_period, phase, tilt,
     belt_omega, belt_damping, backlash) = rough  # fmt: skip
    root, h = math.sqrt(step_s), step_s / SUBSTEPS
    p, v, theta, omega = state
    q, w, r = drive
    rigid = belt_omega <= 0.0
    down = gravity * math.sin(tilt)
    far = abs(p)
    for k in range(steps):
        for _ in range(SUBSTEPS):
            target = command
            if sag != 0.0:
                target *= 1.0 + sag * math.sin(2.0 * math.pi * t_s / sag_period + phase)
            r = target if ramp <= 0.0 else r + min(max(target - r, -ramp * h), ramp * h)
            push = _drive_acceleration(
                q, w, r, command != 0.0, t_s, tau, limit, stiction, cogging, pitch, ripple,
                ripple_hz, down if rigid else 0.0,
            )  # fmt: skip
            before = v
            if push == 0.0 and abs(w) < STANDING_M_S:
                w = 0.0
            else:
                # Exact for the lag alone: the mean speed of a step is that of its ends.
                q += h * (w + 0.5 * h * push)
                w += h * push
            if rigid:
                p, v = q, w
            else:
                vdot = _belt_acceleration(q - p, w - v, belt_omega, belt_damping, backlash) - down
                v += h * vdot
                p += h * v
            theta, omega = _pole_midpoint(
                theta, omega, (v - before) / h, h, tilt, coupling, gravity, damping, coulomb
            )
            t_s += h
        kick = cart_noise * root * noise[2 * k]
        v += kick
        if rigid:
            w += kick
        omega += -coupling * math.cos(theta) * kick + pole_noise * root * noise[2 * k + 1]
        if abs(p) > stop_m:
            # The hard stop takes the cart's speed at once; the pole feels that as one push.
            omega += coupling * math.cos(theta) * v
            p, v = math.copysign(stop_m, p), 0.0
            if rigid:
                q, w = p, 0.0
        far = max(far, abs(p))
    state[0], state[1], state[2], state[3] = p, v, theta, omega
    drive[0], drive[1], drive[2] = q, w, r
    return float(far)


def figures(sim: Sim, phase: float) -> FloatArray | None:
    """The imperfections in the order that ``advance_rough`` takes; ``None`` if all are off.

    ``phase`` [rad] is where in its swing the supply begins.
    """
    off = (
        sim.drive_stiction_m_s2, sim.drive_cogging_m_s2, sim.drive_ripple_m_s, sim.supply_sag,
        sim.track_tilt_rad, sim.belt_hz, sim.belt_backlash_m,
    )  # fmt: skip
    if not any(off) and sim.drive_ramp_m_s2 is None:
        return None
    belt_hz = sim.belt_hz or (STIFF_BELT_HZ if sim.belt_backlash_m > 0.0 else 0.0)
    return np.array([
        sim.drive_stiction_m_s2, sim.drive_cogging_m_s2, sim.drive_cogging_pitch_m,
        sim.drive_ripple_m_s, sim.drive_ripple_hz, sim.drive_ramp_m_s2 or 0.0, sim.supply_sag,
        sim.supply_period_s, phase, sim.track_tilt_rad, 2.0 * math.pi * belt_hz,
        sim.belt_damping, sim.belt_backlash_m,
    ])  # fmt: skip
