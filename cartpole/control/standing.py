"""How the rig stands: its mode, the faults that are latched, and what is told of both.

The one place where the mode changes and where faults are latched and dropped; what changed is noted
as an event, and an answer to a request is an event, too.
"""

from __future__ import annotations

import math

from cartpole.control.faults import fault, without, worst
from cartpole.control.memory import CoreMemory
from cartpole.control.modes import TABLE, Happening, Situation, happening
from cartpole.messages import NANOSECONDS, Answer, Estimate, Mode, Severity

AT_REST_M_S = 0.02
BRAKING_GIVES_UP_S = 1.0


class Standing:
    """Over the core's memory; ``events`` of the tick are added to."""

    def __init__(self, memory: CoreMemory, balance_angle_rad: float, events: list[str]) -> None:
        self._memory = memory
        self._balance_angle_rad = balance_angle_rad
        self._events = events

    def note(self, text: str) -> None:
        """An event."""
        self._events.append(text)

    def tell(self, answer: Answer) -> Answer:
        """An answer, noted."""
        self.note(answer.text)
        return answer

    def done(self, text: str) -> Answer:
        """A request was granted."""
        return self.tell(Answer(True, text))

    def refuse(self, text: str) -> Answer:
        """A request was not granted."""
        return self.tell(Answer(False, text))

    def enter(self, what: Happening, now_ns: int) -> bool:
        """The mode that the table tells; whether it is another."""
        memory = self._memory
        following = TABLE.get((memory.mode, what))
        if following is None:
            return False
        memory.mode = following
        if following is Mode.SAFE_STOP:
            memory.stopping_since_ns = now_ns
        if following in (Mode.FAULT, Mode.DISARMED):
            memory.armed = False
        return True

    def advance(self, estimate: Estimate | None, now_ns: int) -> None:
        """The mode that follows from the situation at the end of a tick."""
        angle = math.nan
        speed = 0.0
        if estimate is not None:
            angle = math.remainder(estimate.state[2] - math.pi, 2.0 * math.pi)
            speed = estimate.state[1]
        memory = self._memory
        waited = now_ns - memory.stopping_since_ns > BRAKING_GIVES_UP_S * NANOSECONDS
        situation = Situation(
            worst=worst(memory.faults),
            at_rest=memory.sent_m_s == 0.0 and (abs(speed) < AT_REST_M_S or waited),
            flight_source=memory.flight_source,
            angle_rad=angle,
            balance_angle_rad=self._balance_angle_rad,
        )
        before, what = memory.mode, happening(memory.mode, situation)
        if what is not None and self.enter(what, now_ns):
            self.note(f"{before.value} -> {memory.mode.value}")

    def latch(self, t_ns: int, name: str, detail: str) -> None:
        """Latch a fault, if it is not latched already."""
        memory = self._memory
        if any(one.name == name for one in memory.faults):
            return
        new = fault(t_ns, name, detail)
        memory.faults = (*memory.faults, new)
        self.note(f"{new.severity.name.lower()}: {name}: {new.meaning}; {new.next_step}")
        if new.severity >= Severity.BRAKE:
            memory.armed = False
            memory.swing_up_wanted = False

    def drop(self, name: str) -> bool:
        """Whether there was such a fault, and it only degraded; it is gone then."""
        before, self._memory.faults = self._memory.faults, without(self._memory.faults, name)
        return before != self._memory.faults
