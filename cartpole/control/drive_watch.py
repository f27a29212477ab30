"""Whether the cart follows its commands: a drive that is dead or held, not one that is merely slow.

A slow drive (a lag of three times the configured one, a ramp of a few m/s^2, a gain off by a tenth,
commands that come late) still moves *towards* its command. A dead or held one does not. So what is
watched is progress: while command and speed lie well apart, the speed must come nearer by a share
of what even a slow drive would do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

APART_SHARE = 0.2  # of the command: more than any gain error
APART_LIMIT_SHARE = 0.08  # of the speed limit
SLOW_LAG = 3.0  # times the configured lag
SLOW_M_S2 = 2.5
PROGRESS = 0.3  # of what the slow drive would do
LAST_TICKS = 2  # in these, too: a drive that has just begun to move is no dead one
MORE_TICKS = 3  # for a drive that did come nearer and was thrown back: a command lost its sign


@dataclass(frozen=True, slots=True)
class DriveRules:
    """SI; ``ticks`` is how long it may make no progress."""

    velocity_limit_m_s: float
    tau_s: float
    acceleration_m_s2: float
    period_s: float
    ticks: int


@dataclass(frozen=True, slots=True)
class DriveMemory:
    """The last ticks' progress towards the command and a slow drive's [m/s], oldest first."""

    speed_m_s: float | None = None
    side: float = 0.0
    progress: tuple[float, ...] = ()
    expected: tuple[float, ...] = ()


def follow(
    memory: DriveMemory, rules: DriveRules, command_m_s: float, speed_m_s: float
) -> DriveMemory:
    """One tick: the command that acts by now, and the speed seen."""
    error = command_m_s - speed_m_s
    apart = APART_SHARE * abs(command_m_s) + APART_LIMIT_SHARE * rules.velocity_limit_m_s
    side = math.copysign(1.0, error)
    if memory.speed_m_s is None or abs(error) < apart or side != memory.side:
        return DriveMemory(speed_m_s, side)
    kept = rules.ticks + MORE_TICKS
    slow = min(abs(error) / (SLOW_LAG * rules.tau_s), SLOW_M_S2, 0.5 * rules.acceleration_m_s2)
    return DriveMemory(
        speed_m_s,
        side,
        (*memory.progress, side * (speed_m_s - memory.speed_m_s))[-kept:],
        (*memory.expected, slow * rules.period_s)[-kept:],
    )


def stuck(memory: DriveMemory, rules: DriveRules) -> bool:
    """Whether nothing came nearer for too long, and nothing does now.

    What came nearer meanwhile and went away again has shown a drive that lives: a belt that swings,
    a command that lost a byte. It has some ticks more.
    """
    if len(memory.progress) < rules.ticks:
        return False
    recent = memory.progress[-rules.ticks :]
    asked = PROGRESS * sum(memory.expected[-rules.ticks :])
    late = sum(recent[-LAST_TICKS:]) < PROGRESS * sum(memory.expected[-LAST_TICKS:])
    if not late or sum(recent) >= asked:
        return False
    if sum(max(0.0, one) for one in recent) < asked:
        return True
    enough = len(memory.progress) == rules.ticks + MORE_TICKS
    return enough and sum(memory.progress) < PROGRESS * sum(memory.expected)
