"""The pacer: absolute deadlines, no burst after a stall; with a clock of the test's own."""

from __future__ import annotations

from itertools import pairwise

from cartpole.pacing import Pacer

MS = 1_000_000


class Clock:
    """Time that passes only by sleeping, and where a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def test_wakes_once_a_period_on_its_grid() -> None:
    clock = Clock()
    pacer = Pacer(0.02, clock, clock.sleep)
    assert [pacer.wait().now_ns for _ in range(3)] == [20 * MS, 40 * MS, 60 * MS]


def test_no_two_ticks_follow_each_other_closely_after_a_stall() -> None:
    for stall_ms in range(1, 200):
        clock = Clock()
        pacer = Pacer(0.02, clock, clock.sleep)
        woke = [pacer.wait().now_ns]
        clock.now_ns += stall_ms * MS
        woke += [pacer.wait().now_ns for _ in range(4)]
        apart = [after - before for before, after in pairwise(woke)]
        assert min(apart) >= 10 * MS, stall_ms
        assert woke[-1] % (20 * MS) == 0  # back on the grid
