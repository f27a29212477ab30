"""The mode machine: which mode follows which, and why.

DISARMED → (HOMING) → READY → SWING_UP ⇄ BALANCE, LQR_FALLBACK while no plan can be flown,
SAFE_STOP brakes and ends in DISARMED or, if a fault is latched, in FAULT; only a reset leaves
FAULT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cartpole.messages import Mode, Severity

FLYING = frozenset({Mode.SWING_UP, Mode.BALANCE, Mode.LQR_FALLBACK})
DRIVEN = FLYING | {Mode.HOMING, Mode.READY}
FALL_FACTOR = 2.0  # leaving BALANCE takes this many times the angle that entered it


@dataclass(frozen=True, slots=True)
class Situation:
    """What the next mode depends on."""

    worst: Severity
    at_rest: bool  # the command is zero and the cart stands (or cannot be seen)
    flight_source: str  # who flew the last tick
    angle_rad: float  # from upright, wrapped; nan when unknown
    balance_angle_rad: float


def next_mode(mode: Mode, now: Situation) -> Mode:
    """The mode that follows from the situation alone; requests are handled before."""
    if now.worst is Severity.OFF:
        return Mode.FAULT
    if now.worst is Severity.BRAKE and mode in DRIVEN:
        return Mode.SAFE_STOP
    if mode is Mode.SAFE_STOP and now.at_rest:
        return Mode.FAULT if now.worst >= Severity.BRAKE else Mode.DISARMED
    if mode in FLYING:
        return _flying_mode(mode, now)
    return mode


def _flying_mode(mode: Mode, now: Situation) -> Mode:
    if now.flight_source in ("lqr", "energy"):
        return Mode.LQR_FALLBACK
    if not math.isfinite(now.angle_rad):
        return mode
    angle = abs(now.angle_rad)
    if mode is Mode.BALANCE:
        fallen = angle > FALL_FACTOR * now.balance_angle_rad
        return Mode.SWING_UP if fallen else Mode.BALANCE
    return Mode.BALANCE if angle < now.balance_angle_rad else Mode.SWING_UP
