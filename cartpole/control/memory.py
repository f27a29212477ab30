"""All that a core remembers between two ticks: with its rules, the core itself.

Every part keeps what it remembers in a record of its own (see ``cartpole.recall``); this one holds
them all, so that one copy is a snapshot of the core and one check tells whether a snapshot fits.
"""

from __future__ import annotations

from dataclasses import dataclass

from cartpole.control.homing_records import HomingState
from cartpole.control.observer import ObserverMemory
from cartpole.control.pilot import PilotMemory
from cartpole.control.reference import TargetMemory
from cartpole.control.watch_records import WatchMemory
from cartpole.messages import Fault, Mode


@dataclass(slots=True)
class CoreMemory:
    """After tick ``index``; ``flight_source`` tells who flew it (see ``Flight``)."""

    target: TargetMemory
    watch: WatchMemory
    observer: ObserverMemory
    pilot: PilotMemory
    index: int = -1
    mode: Mode = Mode.DISARMED
    armed: bool = False
    swing_up_wanted: bool = False
    sent_m_s: float = 0.0
    sent_ns: int = -1
    flight_source: str = "none"
    stopping_since_ns: int = -1
    faults: tuple[Fault, ...] = ()
    homing: HomingState | None = None
