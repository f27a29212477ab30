"""All that a core remembers between two ticks: with its settings, the core itself.

Every part that remembers anything has a pair ``state`` and ``restore``; a part's state is a frozen
record of plain values, enums, other records and arrays, so that it can be written down exactly and
read back by its types alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from cartpole.control.homing import HomingState
from cartpole.control.observer import ObserverState
from cartpole.control.pilot import PilotState
from cartpole.control.reference import TargetState
from cartpole.control.watch import WatchState
from cartpole.messages import Fault, Mode


@dataclass(frozen=True, slots=True)
class CoreState:
    """After tick ``index``; ``flight_source`` tells who flew it (see ``Flight``)."""

    index: int
    mode: Mode
    armed: bool
    swing_up_wanted: bool
    sent_m_s: float
    flight_source: str
    stopping_since_ns: int
    faults: tuple[Fault, ...]
    target: TargetState
    watch: WatchState
    observer: ObserverState
    pilot: PilotState
    homing: HomingState | None = None
