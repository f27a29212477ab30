"""The motions that make good recordings, as functions of time and of what is seen.

A programme answers a velocity [m/s], or None when it is done. The governor has the last word: it
bounds speed, slew and way, whatever is asked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cartpole.config.schema import Config

SWEEP_M_S = 0.12
CENTRE_GAIN_1_S = 1.5
LEAD_S = 0.08  # makes up for the delays of drive and encoder


class View(Protocol):
    """What a programme may look at."""

    @property
    def p_m(self) -> float: ...
    @property
    def v_m_s(self) -> float: ...
    @property
    def theta_rad(self) -> float: ...
    @property
    def omega_rad_s(self) -> float: ...
    @property
    def limit_low(self) -> bool: ...
    @property
    def limit_high(self) -> bool: ...


Programme = Callable[[float, View], float | None]


def hold(duration_s: float) -> Programme:
    """Stand still."""
    return lambda t, _seen: 0.0 if t < duration_s else None


def centre(config: Config) -> Programme:
    """Back to the middle, by the configured scale."""
    slow = 0.3 * config.rig.velocity_limit_m_s

    def programme(t: float, seen: View) -> float | None:
        if t > 8.0 or (abs(seen.p_m) < 0.01 and t > 0.1):
            return None
        return min(max(-CENTRE_GAIN_1_S * seen.p_m, -slow), slow)

    return programme


def chirp(config: Config, duration_s: float = 7.0) -> Programme:
    """0.5 to 4 Hz about the middle, position amplitude a third of what the track allows."""
    low_hz, high_hz = 0.5, 4.0
    speed = min(
        0.6 * config.rig.velocity_limit_m_s,
        2.0 * math.pi * low_hz * 0.35 * config.rig.position_limit_m,
    )
    rate = (high_hz - low_hz) / duration_s

    def programme(t: float, seen: View) -> float | None:
        if t > duration_s:
            return None
        wave = math.cos(2.0 * math.pi * (low_hz + 0.5 * rate * t) * t)
        return speed * wave - 0.5 * seen.p_m

    return programme


def steps(config: Config) -> Programme:
    """Jumps to and fro at full speed, then slow ones that show the dead band."""
    full, reach = 0.9 * config.rig.velocity_limit_m_s, 0.45 * config.rig.position_limit_m
    plan: list[tuple[float, float]] = []
    for share in (1.0, 1.0, 1.0, 0.6):
        speed = share * full
        run = 2.0 * reach / speed
        plan += [(speed, 0.5 * run), (-speed, run), (speed, 0.5 * run), (0.0, 0.12)]
    for speed in (0.02, 0.05, 0.1):
        plan += [(speed, 0.35), (-speed, 0.7), (speed, 0.35), (0.0, 0.1)]

    def programme(t: float, _seen: View) -> float | None:
        for speed, length in plan:
            if t < length:
                return speed
            t -= length
        return None

    return programme


def swing_then_rest(config: Config, height: float, rest_s: float) -> Programme:
    """Pump the pole with the cart to an energy, then stand still and let it swing.

    ``height`` is 1 - cos of the angle that it then reaches; beyond 2 the pole turns over.
    """
    length = config.pole.length_m
    coupling_gravity = 1.5 / length * 9.81
    speed = 0.8 * config.rig.velocity_limit_m_s
    state = {"released": -1.0}

    def programme(t: float, seen: View) -> float | None:
        energy = 0.5 * seen.omega_rad_s**2 / coupling_gravity + 1.0 - math.cos(seen.theta_rad)
        if state["released"] < 0.0 and (energy > height or t > 20.0):
            state["released"] = t
        if state["released"] >= 0.0:
            since = t - state["released"]
            if since > rest_s:
                return None
            return 0.0 if since > 0.3 else -2.0 * seen.p_m
        if t < 0.25:
            return speed
        push = speed * min(1.0, max(0.15, 3.0 * (height - energy)))
        # Work on the pole is -vdot omega cos theta; v = -k sin theta makes it positive.
        return -push * math.sin(seen.theta_rad + LEAD_S * seen.omega_rad_s) - seen.p_m

    return programme


def swing_and_drive(config: Config, duration_s: float) -> Programme:
    """The cart to and fro over the track while the pole swings: for lens and homography."""
    reach = 0.6 * config.rig.position_limit_m
    speed = min(0.5 * config.rig.velocity_limit_m_s, 1.2)

    def programme(t: float, seen: View) -> float | None:
        if t > duration_s:
            return None
        goal = reach * math.copysign(1.0, math.sin(math.pi * t / 1.3))
        drive = min(max(3.0 * (goal - seen.p_m), -speed), speed)
        return drive - 0.3 * speed * math.sin(seen.theta_rad + LEAD_S * seen.omega_rad_s)

    return programme


def sweep(config: Config) -> Programme:
    """To the left switch, to the right one, and back to the middle."""
    state = {"leg": 0, "low": 0.0, "high": 0.0}

    def programme(t: float, seen: View) -> float | None:
        if t > 60.0:
            return None
        if state["leg"] == 0:
            if not seen.limit_low:
                return -SWEEP_M_S
            state["leg"], state["low"] = 1, seen.p_m
        if state["leg"] == 1:
            if not seen.limit_high:
                return SWEEP_M_S
            state["leg"], state["high"] = 2, seen.p_m
        middle = 0.5 * (state["low"] + state["high"])
        if abs(seen.p_m - middle) < 0.005:
            return None
        return -math.copysign(SWEEP_M_S, seen.p_m - middle)

    return programme
