"""Absolute deadlines on the monotonic clock."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wake:
    """A tick's beginning: when, how long after its deadline, and how many periods were left out."""

    now_ns: int
    late_ns: int
    skipped: int


class Pacer:
    """Wakes once a period; after an overrun it goes on with the next deadline, without a burst."""

    def __init__(self, period_s: float) -> None:
        self._period_ns = round(period_s * 1e9)
        self._next_ns = time.monotonic_ns() + self._period_ns

    def wait(self) -> Wake:
        """Sleep until the next deadline (an absolute one, so that errors do not add up)."""
        skipped = 0
        now_ns = time.monotonic_ns()
        while now_ns - self._next_ns >= self._period_ns:
            self._next_ns += self._period_ns
            skipped += 1
        if now_ns < self._next_ns:
            time.sleep((self._next_ns - now_ns) * 1e-9)
            now_ns = time.monotonic_ns()
        late_ns = now_ns - self._next_ns
        self._next_ns += self._period_ns
        return Wake(now_ns, late_ns, skipped)
