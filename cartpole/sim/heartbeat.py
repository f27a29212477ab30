"""Whether the machine lets the simulated rig run: real hardware is never held up, a process is.

Where the host takes the processor away the boards fall silent and no picture comes, and neither
board nor camera is to blame. The rig shows when it ran last and when it was held up last; whoever
reads that can name the cause.
"""

from __future__ import annotations

from cartpole.messages import NANOSECONDS, Link, LinkEvent, LinkState

HELD_NS = 30_000_000  # half of what the controller bears from a silent board


class Heartbeat:
    """The rig's side: one beat for every pass of its loop."""

    def __init__(self, now_ns: int) -> None:
        self._last_ns = now_ns
        self.held_until_ns = 0
        self.held_ns = 0

    def beat(self, now_ns: int) -> None:
        """The loop runs."""
        gap_ns = now_ns - self._last_ns
        if gap_ns > HELD_NS:
            self.held_until_ns, self.held_ns = now_ns, gap_ns
        self._last_ns = now_ns


class Listening:
    """The reader's side: tells of each time the rig is held up twice, at first sight and after."""

    def __init__(self) -> None:
        self._told_until_ns = 0
        self._standing = False

    def held_up(
        self, now_ns: int, beat_ns: int, held_until_ns: int, held_ns: int
    ) -> LinkEvent | None:
        """What the last beat, and the last time the rig was held up, say at ``now_ns``."""
        since_ns = now_ns - beat_ns
        if since_ns > HELD_NS:
            first, self._standing = not self._standing, True
            return _starved(now_ns, since_ns) if first else None
        self._standing = False
        if held_until_ns > self._told_until_ns:
            self._told_until_ns = held_until_ns
            return _starved(now_ns, held_ns)
        return None


def _starved(now_ns: int, for_ns: int) -> LinkEvent:
    milliseconds = for_ns * 1000 // NANOSECONDS
    said = f"the machine did not run the simulated rig for {milliseconds} ms"
    return LinkEvent(now_ns, Link.ENCODER, LinkState.STARVED, said)
