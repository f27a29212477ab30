"""Ticks put together by what their messages say, not by where they stand in the file.

A message belongs to the tick at whose time it was published; the tick's closing line says how many
there are of each kind and in which order the measurements came. So a file that was sorted, split,
merged or cut into other chunks gives the same ticks. What cannot be put together is counted.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cartpole.errors import SessionError
from cartpole.session.gather import Gathered
from cartpole.session.packing import check_size, state_index
from cartpole.session.recorded import DECODE, RecordedTick

if TYPE_CHECKING:
    from cartpole.session.mcap_stream import Message

# What a controller says is decoded when it is asked for; eager readers want to know at once.
SELDOM_READ = frozenset({"/plan_trajectory"})
COMPARED = SELDOM_READ | {"/estimate", "/plan", "/command"}
MOST_WAITING = 1024  # ticks
MOST_WAITING_BYTES = 24 << 20
MOST_GAPS = 1000
_EMITTED = 4096  # times of ticks that went out, to know what comes too late


@dataclass(frozen=True, slots=True)
class Gap:
    """Ticks ``first`` to before ``following`` are not there."""

    first: int
    following: int

    @property
    def ticks(self) -> int:
        """How many."""
        return self.following - self.first


@dataclass(slots=True)
class Account:
    """What a reading found and what it left out."""

    whole: int = 0
    first: int | None = None  # index of the first that is whole
    following: int = 0  # that of the last, plus one
    missing: int = 0  # by their indices, between those that are there
    gaps: list[Gap] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def ends_at(self, first: int | None, last: int | None) -> None:
        """Count what is missing at both ends, where the indices are known that stood there."""
        begin = self.first
        if first is not None and begin is not None and first < begin:
            self.miss(Gap(first, begin), 0)
        after = first if begin is None else self.following
        if last is not None and after is not None and after <= last:
            self.miss(Gap(after, last + 1), len(self.gaps))

    def miss(self, gap: Gap, place: int) -> None:
        """Count a gap, and keep it at a place among those that are known."""
        self.missing += gap.ticks
        if len(self.gaps) < MOST_GAPS:
            self.gaps.insert(place, gap)

    def told(self) -> list[str]:
        """A line for each kind of thing that is missing."""
        lines = []
        if self.missing:
            shown = ", ".join(f"{gap.first} to {gap.following - 1}" for gap in self.gaps[:5])
            more = ", …" if len(self.gaps) > 5 else ""
            lines.append(f"missing: {self.missing} ticks, {shown}{more}")
        lines += [f"left out: {count} {what}" for what, count in self.left_out.items()]
        return lines


class Assembler:
    """Takes messages in any order, gives ticks in theirs; ``unread`` topics are not decoded.

    ``first``: the index that ticks begin with, where that is known; else that of the earliest that
    is whole when the first one is settled.
    """

    def __init__(
        self, account: Account, unread: frozenset[str] = SELDOM_READ, first: int | None = None
    ) -> None:
        self._account = account
        self._unread = unread
        self._open: dict[int, Gathered] = {}
        self._ready: list[tuple[int, int, RecordedTick]] = []
        self._states: dict[int, bytes] = {}
        self._bytes = 0
        self._gone: dict[int, None] = {}
        self._next = first
        self._at = -1
        self._gathered = Gathered()
        self._touched: set[int] = set()
        self._disordered = False  # other ticks' messages stood between a tick's own

    def ticks(self, source: Iterable[Message]) -> Iterator[RecordedTick]:
        """The whole ticks of a recording, their indices growing."""
        for topic, log_time, now_ns, data in source:
            if topic == "/state":
                self._take_state(data)
                continue
            if topic not in DECODE:
                continue
            if now_ns != self._at:
                self._turn_to(now_ns)
            gathered = self._gathered
            try:
                gathered.take(topic, log_time, data, self._unread)
            except SessionError as error:
                gathered.count -= 1
                self._account.left_out[f"messages that do not fit ({error})"[:200]] += 1
                continue
            self._bytes += len(data)
            if topic == "/tick":
                # What else there is of a tick may stand behind its line, at the same time.
                yield from self._settle(now_ns)
        yield from self._settle(None)

    def _turn_to(self, now_ns: int) -> None:
        self._at = now_ns
        found = self._open.get(now_ns)
        if found is None:
            found = Gathered()
            found.late = now_ns in self._gone
            self._open[now_ns] = found
        else:
            self._disordered = True
        self._touched.add(now_ns)
        self._gathered = found

    def _settle(self, now_ns: int | None) -> Iterator[RecordedTick]:
        """Close what is whole, and give what no open tick can come before."""
        if now_ns is None:
            self._touched.update(self._open)
        for t_ns in sorted(self._touched):
            if t_ns == now_ns or t_ns not in self._open:
                continue
            if self._open[t_ns].whole() or now_ns is None:
                self._close(t_ns)
        self._touched = {now_ns} if now_ns is not None else set()
        while self._waits_too_much():
            if len(self._open) <= 1 and not self._ready:
                break
            if not self._ready or (self._open and min(self._open) <= self._ready[0][0]):
                self._close(min(self._open))
            else:
                yield from self._give()
        earliest = min(self._open, default=None)
        while self._ready and (earliest is None or self._ready[0][0] < earliest):
            # What is missing before it may stand further back in the file.
            gap = self._next is not None and self._ready[0][1] > self._next
            if gap and now_ns is not None:
                return
            yield from self._give()

    def _waits_too_much(self) -> bool:
        waiting = max(len(self._open), len(self._ready))
        return waiting > MOST_WAITING or self._bytes > MOST_WAITING_BYTES

    def _close(self, t_ns: int) -> None:
        gathered = self._open.pop(t_ns)
        if self._at == t_ns:
            self._at = -1
        self._bytes -= gathered.bytes
        if not gathered.count:
            return
        if gathered.late:
            self._account.left_out["messages that came again, or too late"] += gathered.count
            return
        if gathered.line is None:
            self._account.left_out["messages of ticks without their closing line"] += gathered.count
            return
        try:
            tick, lacking = gathered.close(self._disordered)
        except SessionError as error:
            tick, lacking = None, str(error)
        if tick is None:
            self._account.left_out[f"ticks that are not whole: {lacking}"[:200]] += 1
            return
        self._gone[t_ns] = None
        if len(self._gone) > _EMITTED:
            del self._gone[next(iter(self._gone))]
        self._bytes += gathered.bytes
        heapq.heappush(self._ready, (t_ns, tick.line.index, tick))

    def _give(self) -> Iterator[RecordedTick]:
        _, index, tick = heapq.heappop(self._ready)
        self._bytes -= sum(map(len, tick.exact.values())) + Gathered.LEAST
        account = self._account
        if self._next is not None and index < self._next:
            account.left_out["ticks that are there twice, or come too late"] += 1
            return
        if self._next is not None and index > self._next:
            account.miss(Gap(self._next, index), len(account.gaps))
        account.first = index if account.first is None else account.first
        self._next = account.following = index + 1
        account.whole += 1
        state = self._states.pop(index, None)
        for passed in [k for k in self._states if k < index]:
            del self._states[passed]
        yield tick if state is None else dataclasses.replace(tick, state_before=state)

    def _take_state(self, data: bytes) -> None:
        try:
            check_size(data)
            index = state_index(data)
        except SessionError as error:
            self._account.left_out[f"states that do not fit ({error})"[:200]] += 1
            return
        if len(self._states) < 4:
            self._states[index + 1] = data
