"""The simulated rig's camera."""

from __future__ import annotations

import time

from cartpole.errors import DeviceLost, DeviceNotFound
from cartpole.vision.frame import Frame
from cartpole.vision.ring import FrameRing
from cartpole.vision.source import SourceCounters


class RingSource:
    """Newest picture of the ring a simulated rig writes to."""

    def __init__(self, ring: FrameRing) -> None:
        self.counters = SourceCounters()
        self._ring = ring
        self._position = ring.written
        self._sequence = -1

    def open(self) -> str:
        if not self._ring.plugged:
            raise DeviceNotFound("the simulated camera is unplugged")
        self._position = self._ring.written
        self._sequence = -1
        return f"simulated camera {self._ring.width}x{self._ring.height}"

    def read_latest(self, max_age_s: float, timeout_s: float) -> Frame | None:
        end_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while True:
            if not self._ring.plugged:
                raise DeviceLost("the simulated camera was pulled out")
            found = self._ring.newest(self._position)
            now_ns = time.monotonic_ns()
            if found is not None:
                frame = self._count(*found)
                if now_ns - frame.t_ns <= max_age_s * 1e9:
                    return frame
                self.counters.stale += 1
            elif now_ns >= end_ns:
                return None
            else:
                self._ring.wait((end_ns - now_ns) * 1e-9)

    def _count(self, position: int, frame: Frame) -> Frame:
        counters = self.counters
        counters.frames += 1
        skipped = position - self._position - 1
        counters.skipped += skipped
        if self._sequence >= 0:
            counters.gaps += max(0, frame.sequence - self._sequence - 1 - skipped)
        self._position, self._sequence = position, frame.sequence
        return frame

    def close(self) -> None:
        pass
