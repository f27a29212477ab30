"""Calming the hanging pole with the cart.

``u = k sin(theta)`` makes the cart's acceleration ``k omega cos(theta)``, and with it the pole's
energy falls at ``c k (omega cos theta)^2``, whatever its amplitude, also while it turns over; the
cart's own way averages to nothing, and a weak spring keeps it in the middle. ``k = sqrt(g / c)``
damps small swings at half the critical damping.
"""

from __future__ import annotations

import math

import numpy as np

from cartpole.control.swing import GRAVITY_M_S2, Scales, Swing
from cartpole.messages import NANOSECONDS

SPRING_1_S = 2.0
SPRING_M_S = 0.45  # its largest speed: the way back to the middle must not excite the pole
ROOM_SHARE = 0.75  # of the position limit, for the cart's way while a large swing is braked
LARGE_SWING = 1.5  # half a swing of large amplitude over half a small one
STILL_RAD = 0.06
STILL_RAD_S = 0.35
MIDDLE_M = 0.05
STILL_M_S = 0.06


def spring(cart: tuple[float, float], lead_s: float) -> float:
    """The velocity [m/s] that leads back to the middle."""
    wish = -SPRING_1_S * (cart[0] + cart[1] * lead_s)
    return min(max(wish, -SPRING_M_S), SPRING_M_S)


def velocity(
    angle_rad: float,
    rate_rad_s: float,
    coupling_1_m: float,
    *,
    lead_s: float,
    fastest_m_s: float,
    room_m: float,
) -> float:
    """The cart's velocity [m/s] that calms; ``lead_s`` is how long a command takes to act."""
    natural = math.sqrt(coupling_1_m * GRAVITY_M_S2)
    angle = angle_rad + rate_rad_s * lead_s - 0.5 * (natural * lead_s) ** 2 * math.sin(angle_rad)
    room = ROOM_SHARE * room_m * natural * 2.0 / (math.pi * LARGE_SWING)
    most = min(fastest_m_s, room)
    wish = math.sqrt(GRAVITY_M_S2 / coupling_1_m) * math.sin(angle)
    return min(max(wish, -most), most)


def settled(cart: tuple[float, float], angle_rad: float, rate_rad_s: float) -> bool:
    """Whether pole and cart are calm enough to stop."""
    return (
        abs(math.remainder(angle_rad, 2.0 * math.pi)) < STILL_RAD
        and abs(rate_rad_s) < STILL_RAD_S
        and abs(cart[0]) < MIDDLE_M
        and abs(cart[1]) < STILL_M_S
    )


def answered(swing: Swing, scales: Scales, direction: float) -> int:
    """Which way a quiet pole went when the cart was pushed along ``direction``.

    1: as it must if the cart moved so; -1: the other way round; 0: too little to tell. A hanging
    pole stays behind its pivot: the cart to the right turns it clockwise, to negative angles.
    """
    if len(swing.trail) < 8:
        return 0
    counts = np.array([s.pole_counts for s in swing.trail], dtype=np.float64)
    times = np.array([s.t_ns - swing.trail[-1].t_ns for s in swing.trail]) / NANOSECONDS
    before = counts[times < -0.15]
    if len(before) < 3 or np.ptp(before) > 1.0:
        return 0
    step = (counts[-1] - float(before.mean())) / math.copysign(1.0, scales.pole_counts_per_rad)
    if abs(step) < 1.5:
        return 0
    return 1 if step * direction < 0.0 else -1


def mean_angle(swing: Swing, scales: Scales) -> float:
    """Raw angle in the middle of what was seen last: where a pole at rest hangs."""
    if not swing.trail:
        return 0.0
    counts = [s.pole_counts for s in swing.trail]
    return (0.5 * (min(counts) + max(counts)) + 0.5) / scales.pole_counts_per_rad


def nearest_turn(zero_rad: float, now_rad: float) -> float:
    """``zero_rad``, known up to whole turns, in the turn nearest to ``now_rad``."""
    turns = round((now_rad - zero_rad) / (2.0 * math.pi))
    return zero_rad + 2.0 * math.pi * turns
