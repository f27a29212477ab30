"""When counts were latched, from when they were asked for and when they came."""

from __future__ import annotations

from typing import NamedTuple

from cartpole.messages import NANOSECONDS

OUTWARD_NS = 1_000_000  # a frame of USB: what a question may take beside its time on the wire
LATE_NS = 200_000  # an answer later than the quickest by less says nothing
FORGET = 0.999  # a sample: what held the bytes back may change
LEAST_PATIENCE_NS, MOST_PATIENCE_NS = 15_000_000, 50_000_000
PATIENCE = 3.0  # times the longest round trip of late
FADE = 63 / 64  # of the longest round trip, an answer


class _Read(NamedTuple):
    """A count, when it was latched at the earliest, and how much later than the quickest answer."""

    earliest_ns: int
    late_ns: int
    counted: int


class LatchClock:
    """When the counts were latched, from when they were asked for and when they came.

    The board latches on receiving the request. The least round trip seen, less the configured least
    time from latch to arrival, is how long a request takes to get there (at least its own time on
    the wire, ``request_ns``, and not more than a frame of USB beside it: where all answers are held
    back, the least is no measure); it is added to the time of asking, so that a late answer does
    not make the sample look young. An answer nobody asked for is taken as ``latency_ns`` old.

    Whether the question or the answer was held back when a round trip takes longer is told by the
    cart, which does not jump: the share of the delay that is the question's is found by least
    squares, as the one for which three counts in a row lie on a line (``noise_counts_s2`` is an
    acceleration, which makes them lie beside it).
    """

    def __init__(
        self,
        latency_ns: int,
        request_ns: int = 0,
        window_ns: int = 10 * NANOSECONDS,
        noise_counts_s2: float = 2e5,
    ) -> None:
        self._latency_ns = latency_ns
        self._request_ns = request_ns
        self._window_ns = window_ns
        self._noise_counts_s2 = noise_counts_s2
        self._minimum_ns = -1
        self._next_minimum_ns = -1
        self._window_end_ns = -1
        self._outward_ns = request_ns
        self._longest_ns = 0
        self._seen: tuple[_Read, ...] = ()  # the last three, oldest first
        self._now = (0, 0)  # earliest latch and lateness of the newest answer
        self._moment, self._weight = 0.0, 4.0  # of the share: 0 within a half to begin with

    @property
    def least_round_trip_ns(self) -> int:
        """Least time from asking to the whole answer in the last one to two windows; -1: none."""
        return self._minimum_ns

    @property
    def patience_ns(self) -> int:
        """After how long a question is lost, from how long answers took of late."""
        if self._minimum_ns < 0:
            return MOST_PATIENCE_NS
        return min(max(LEAST_PATIENCE_NS, round(PATIENCE * self._longest_ns)), MOST_PATIENCE_NS)

    @property
    def share(self) -> float:
        """How much of an answer's lateness is the question's, in [0, 1]."""
        return min(max(self._moment / self._weight, 0.0), 1.0)

    def latch_ns(self, asked_ns: int, arrival_ns: int) -> int:
        """Time of the latch on the host's clock; never after ``arrival_ns`` or before asking."""
        if asked_ns < 0 or asked_ns > arrival_ns:
            self._seen = ()
            self._now = (-1, 0)
            return arrival_ns - self._latency_ns
        took_ns = arrival_ns - asked_ns
        self._observe(took_ns, arrival_ns)
        outward = self._outward_ns
        late_ns = max(0, took_ns - self._latency_ns - outward)
        self._now = (asked_ns + outward, late_ns)
        held_ns = round(self.share * late_ns) if late_ns > LATE_NS else 0
        return min(asked_ns + outward + held_ns, arrival_ns)

    def learn(self, count: int) -> None:
        """The cart's count that came with the newest answer, any wrap undone."""
        earliest_ns, late_ns = self._now
        if earliest_ns < 0:
            return
        self._seen = (*self._seen[-2:], _Read(earliest_ns, late_ns, count))
        if len(self._seen) == 3 and self._late():
            self._weigh()

    def _late(self) -> bool:
        one, two, three = self._seen
        return one.late_ns > LATE_NS or two.late_ns > LATE_NS or three.late_ns > LATE_NS

    def _weigh(self) -> None:
        """What three counts in a row say of the share."""
        share = self.share
        times = [(read.earliest_ns + share * read.late_ns) / NANOSECONDS for read in self._seen]
        span = times[2] - times[0]
        if span <= 0.0 or not times[0] < times[1] < times[2]:
            return
        last = (times[1] - times[0]) / span
        first, middle, end = self._seen
        speed = (end.counted - first.counted) / span
        off = middle.counted - (1.0 - last) * first.counted - last * end.counted
        late = middle.late_ns - (1.0 - last) * first.late_ns - last * end.late_ns
        slope = speed * late / NANOSECONDS
        variance = 1.0 + (self._noise_counts_s2 * span * span / 8.0) ** 2
        self._moment = FORGET * self._moment + slope * (off + slope * share) / variance
        self._weight = FORGET * self._weight + slope * slope / variance

    def _went(self) -> None:
        """The least round trip is another one: how long a question takes."""
        outward = min(self._minimum_ns - self._latency_ns, self._request_ns + OUTWARD_NS)
        self._outward_ns = max(outward, self._request_ns)

    def _observe(self, round_trip_ns: int, now_ns: int) -> None:
        if now_ns >= self._window_end_ns:
            self._minimum_ns = self._next_minimum_ns
            self._next_minimum_ns = -1
            self._window_end_ns = now_ns + self._window_ns
            self._went()
        if self._next_minimum_ns < 0 or round_trip_ns < self._next_minimum_ns:
            self._next_minimum_ns = round_trip_ns
        if self._minimum_ns < 0 or round_trip_ns < self._minimum_ns:
            self._minimum_ns = round_trip_ns
            self._went()
        self._longest_ns = max(round_trip_ns, round(FADE * self._longest_ns))
