"""A board's microsecond clock on the host's clock.

A sample's arrival is its latch plus a delay that is never below some minimum and often far above.
So the points (board time, arrival minus board time) lie on or above a line whose slope is the
drift between the clocks: the line is an edge of their lower convex hull, the one under the middle
of the window, which has the least sum of distances to all points (Moon, Skelly, Towsley, INFOCOM
1999). Late arrivals, however late, do not move it.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

WRAP_US = 1 << 32
BUCKET_NS = 100_000_000  # of the samples in such a span only the promptest is kept
BUCKETS = 100
EARLY_NS = 20_000_000  # no clock jumps back by this much: the stamp is wrong or the board restarted
LATE_NS = 5_000_000_000  # nor is a sample this late
RESTART_AFTER = 5  # implausible stamps in a row

Point = tuple[int, int]  # board time since the first sample, arrival minus board time [ns]


class BoardClock:
    """Keeps offset and drift of a wrapping 32-bit microsecond counter against the host's clock."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=BUCKETS)
        self._best: Point | None = None  # the promptest of the bucket that is open
        self._anchor: Point = (0, 0)
        self._slope = 0.0
        self._board_ns = 0
        self._last_us: int | None = None
        self._doubted = 0

    def observe(self, board_us: int, arrival_ns: int) -> int:
        """Host time [ns] of the latch stamped ``board_us``, whose frame arrived at ``arrival_ns``.

        The least delay ever seen counts as none: the caller subtracts what it knows of it. Never
        after the arrival. Implausible stamps get their arrival's time; a few in a row start anew.
        """
        if self._last_us is None:
            self._start(board_us, arrival_ns)
            return arrival_ns
        # Signed difference: frames may come out of order by a little.
        step_us = (board_us - self._last_us + WRAP_US // 2) % WRAP_US - WRAP_US // 2
        board_ns = self._board_ns + 1000 * step_us
        delay_ns = arrival_ns - board_ns - self._offset(board_ns)
        if not -EARLY_NS <= delay_ns <= LATE_NS:
            self._doubted += 1
            if self._doubted >= RESTART_AFTER:
                self._start(board_us, arrival_ns)
            return arrival_ns
        self._doubted = 0
        self._last_us, self._board_ns = board_us, board_ns
        self._learn((board_ns, arrival_ns - board_ns))
        return min(board_ns + self._offset(board_ns), arrival_ns)

    def _start(self, board_us: int, arrival_ns: int) -> None:
        self._points.clear()
        self._last_us, self._board_ns, self._doubted = board_us, 0, 0
        self._best = self._anchor = (0, arrival_ns)
        self._slope = 0.0

    def _offset(self, board_ns: int) -> int:
        return self._anchor[1] + round(self._slope * (board_ns - self._anchor[0]))

    def _learn(self, point: Point) -> None:
        """Keep the promptest point of each span; fit when a span closes."""
        best = self._best
        if best is None or point[0] // BUCKET_NS != best[0] // BUCKET_NS:
            if best is not None:
                self._points.append(best)
            self._best = point
            self._fit()
        elif point[1] - best[1] < self._slope * (point[0] - best[0]):
            self._best = point
            if not self._points:  # the first span: no line yet, only an offset
                self._anchor = point

    def _fit(self) -> None:
        """Take the hull's edge under the middle of the window."""
        if len(self._points) < 2:
            return
        hull: list[Point] = []
        for point in sorted(self._points):
            while len(hull) >= 2 and _left_turn(hull[-2], hull[-1], point) <= 0:
                hull.pop()
            hull.append(point)
        middle = sum(point[0] for point in self._points) // len(self._points)
        for left, right in pairwise(hull):
            if right[0] >= middle and right[0] > left[0]:
                self._anchor = left
                self._slope = (right[1] - left[1]) / (right[0] - left[0])
                return


def _left_turn(a: Point, b: Point, c: Point) -> int:
    """Positive when a, b, c turn counter-clockwise: b lies below the line from a to c."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
