"""The mode machine: every transition there is, in one table.

Its rules, and nobody else's:

1. The mode changes only by ``TABLE``: in this mode, when this happens, that mode follows. What is
   not in the table changes nothing.
2. What happened is told by a request that the core granted, by homing, or by the situation at the
   end of a tick (``happening``), of which the gravest counts.
3. What a transition brings with it (drive off, ramp begun) is the core's business, not the table's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from types import MappingProxyType

from cartpole.messages import Mode, Severity
from cartpole.record import record

FLYING = frozenset({Mode.SWING_UP, Mode.BALANCE, Mode.LQR_FALLBACK})
DRIVEN = FLYING | {Mode.HOMING, Mode.READY}
FALL_FACTOR = 2.0  # leaving BALANCE takes this many times the angle that entered it


class Happening(StrEnum):
    """What may change the mode."""

    ARM = "armed with its position known"
    HOME = "homing begins"
    HOMED = "homing is done"
    SWING_UP = "swing-up is asked for"
    STOP = "a stop is asked for"
    RESET = "an operator's reset"
    OFF = "a fault that turns the drive off is latched"
    BRAKE = "a fault that brakes is latched"
    REST = "the cart is at rest"
    REST_AT_FAULT = "the cart is at rest, a fault is latched"
    FALL_BACK = "no plan was flown: LQR or energy control was"
    UPRIGHT = "a plan flies, the pole is near upright"
    LEANING = "a plan flies, the pole is between upright and fallen"
    FALLEN = "a plan flies, the pole is far from upright"


def _transitions() -> Iterator[tuple[tuple[Mode, Happening], Mode]]:
    def when(
        what: Happening, to: Mode, *modes: Mode
    ) -> Iterator[tuple[tuple[Mode, Happening], Mode]]:
        for mode in modes:
            yield (mode, what), to

    driven = [mode for mode in Mode if mode in DRIVEN]
    yield from when(Happening.ARM, Mode.READY, Mode.DISARMED)
    yield from when(Happening.HOME, Mode.HOMING, Mode.DISARMED, Mode.READY)
    yield from when(Happening.HOMED, Mode.READY, Mode.HOMING)
    yield from when(Happening.SWING_UP, Mode.SWING_UP, Mode.READY)
    yield from when(Happening.STOP, Mode.SAFE_STOP, *driven)
    yield from when(Happening.RESET, Mode.DISARMED, Mode.FAULT)
    yield from when(Happening.OFF, Mode.FAULT, *(mode for mode in Mode if mode is not Mode.FAULT))
    yield from when(Happening.BRAKE, Mode.SAFE_STOP, *driven)
    yield from when(Happening.REST, Mode.DISARMED, Mode.SAFE_STOP)
    yield from when(Happening.REST_AT_FAULT, Mode.FAULT, Mode.SAFE_STOP)
    yield from when(Happening.FALL_BACK, Mode.LQR_FALLBACK, Mode.SWING_UP, Mode.BALANCE)
    yield from when(Happening.UPRIGHT, Mode.BALANCE, Mode.SWING_UP, Mode.LQR_FALLBACK)
    yield from when(Happening.LEANING, Mode.SWING_UP, Mode.LQR_FALLBACK)
    yield from when(Happening.FALLEN, Mode.SWING_UP, Mode.BALANCE, Mode.LQR_FALLBACK)


TABLE = MappingProxyType(dict(_transitions()))


@record
class Situation:
    """What the next mode depends on at the end of a tick."""

    worst: Severity
    at_rest: bool  # the command is zero and the cart stands (or cannot be seen)
    flight_source: str  # who flew the last tick
    angle_rad: float  # from upright, wrapped; nan when unknown
    balance_angle_rad: float


def happening(mode: Mode, now: Situation) -> Happening | None:
    """What the situation says has happened, the gravest first; requests are handled before."""
    if now.worst is Severity.OFF:
        return Happening.OFF
    if now.worst is Severity.BRAKE and mode in DRIVEN:
        return Happening.BRAKE
    if mode is Mode.SAFE_STOP and now.at_rest:
        return Happening.REST_AT_FAULT if now.worst >= Severity.BRAKE else Happening.REST
    if mode not in FLYING:
        return None
    if now.flight_source in ("lqr", "energy"):
        return Happening.FALL_BACK
    if not math.isfinite(now.angle_rad):
        return None
    angle = abs(now.angle_rad)
    if angle < now.balance_angle_rad:
        return Happening.UPRIGHT
    return Happening.FALLEN if angle > FALL_FACTOR * now.balance_angle_rad else Happening.LEANING
