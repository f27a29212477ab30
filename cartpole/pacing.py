"""Absolute deadlines on the monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wake:
    """A tick's beginning: when, how long after its deadline, and how many periods were left out."""

    now_ns: int
    late_ns: int
    skipped: int


class Pacer:
    """Wakes once a period; after an overrun it goes on with the next deadline, without a burst.

    A deadline less than half a period after the last wake is left out: the grid stays, and no two
    ticks follow each other closely. Clock and sleep may be replaced by a test's.
    """

    def __init__(
        self,
        period_s: float,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._period_ns = round(period_s * 1e9)
        self._woke_ns = self._clock()
        self._next_ns = self._woke_ns + self._period_ns

    def wait(self) -> Wake:
        """Sleep until the next deadline (an absolute one, so that errors do not add up)."""
        skipped = 0
        while self._next_ns - self._woke_ns < self._period_ns // 2:
            self._next_ns += self._period_ns
            skipped += 1
        now_ns = self._clock()
        while now_ns - self._next_ns >= self._period_ns:
            self._next_ns += self._period_ns
            skipped += 1
        if now_ns < self._next_ns:
            self._sleep((self._next_ns - now_ns) * 1e-9)
            now_ns = self._clock()
        late_ns = now_ns - self._next_ns
        self._next_ns += self._period_ns
        self._woke_ns = now_ns
        return Wake(now_ns, late_ns, skipped)
