"""Ticks put together by what their messages say, not by where they stand in the file.

A message belongs to the tick at whose time it was published; the tick's closing line says how many
there are of each kind and in which order the measurements came. So a file that was sorted, split,
merged or cut into other chunks gives the same ticks. What cannot be put together is counted.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.errors import SessionError
from cartpole.messages import (
    Command,
    Estimate,
    Fault,
    Measurement,
    Plan,
    Request,
    TickInput,
    TickRecord,
    TickTiming,
)
from cartpole.rules.control import settings_of
from cartpole.session.channels import CHANNELS, PlanLine, RequestLine, TickLine, Trajectory, Truth
from cartpole.session.codec import decoder, trajectory_arrays
from cartpole.session.order import in_order
from cartpole.session.packing import check_size, state_index
from cartpole.session.settings import recorded_config

if TYPE_CHECKING:
    from cartpole.session.mcap_stream import Message

DECODE = {topic: decoder(kind) for topic, kind in CHANNELS.items()}
MEASUREMENTS = ("/encoder", "/detection", "/board", "/link")
NO_PART_OF_A_TICK = frozenset({"/raw", "/frame", "/event"})
MOST_IN_A_TICK = 10_000
MOST_WAITING = 1024  # ticks
MOST_WAITING_BYTES = 24 << 20
LARGEST_MESSAGE = 256 << 10  # of those that a tick is made of
MOST_GAPS = 1000
_EMITTED = 4096  # times of ticks that went out, to know what comes too late

Vector4 = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class RecordedTick:
    """One tick as recorded; ``exact`` is the JSON of estimate, plan and command as written.

    ``state_before`` is what the controller remembered before it (JSON), where that was recorded.
    """

    line: TickLine
    input: TickInput
    estimate: Estimate | None
    plan: PlanLine | None
    command: Command
    faults: tuple[Fault, ...]
    truth: Vector4 | None
    timing: TickTiming | None
    exact: dict[str, bytes]
    state_before: bytes | None = None

    @property
    def trajectory(self) -> Trajectory | None:
        """The whole plan, kept of every fifth one."""
        data = self.exact.get("/plan_trajectory")
        return None if data is None else DECODE["/plan_trajectory"](data)

    def record(self) -> TickRecord:
        """The tick's record; a plan whose arrays were not kept has empty ones."""
        return self._record(self.trajectory)

    def record_without_arrays(self) -> TickRecord:
        """The tick's record with an empty plan: much faster where arrays are not needed."""
        return self._record(None)

    def _record(self, trajectory: Trajectory | None) -> TickRecord:
        line = self.line
        return TickRecord(
            line.index,
            self.input,
            line.mode,
            line.armed,
            line.homed,
            self.estimate,
            self._plan(trajectory),
            self.command,
            line.target_m,
            self.faults,
            line.events,
            line.answers,
        )

    def _plan(self, trajectory: Trajectory | None) -> Plan | None:
        plan = self.plan
        if plan is None:
            return None
        if trajectory is not None:
            times, states, inputs = trajectory_arrays(trajectory)
        else:
            times, states, inputs = np.empty(0), np.empty((0, 5)), np.empty(0)
        return Plan(
            plan.start_ns,
            plan.status,
            plan.newton_steps,
            plan.kkt_residual,
            plan.cost,
            plan.candidate,
            times,
            states,
            inputs,
        )


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
    missing: int = 0  # by their indices, between those that are there
    gaps: list[Gap] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

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
    """Takes messages in any order, gives ticks in theirs."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._open: dict[int, _Gathered] = {}
        self._ready: list[tuple[int, int, RecordedTick]] = []
        self._states: dict[int, bytes] = {}
        self._bytes = 0
        self._latest_line = -1
        self._gone: dict[int, None] = {}
        self._next: int | None = None
        self._at = -1
        self._gathered = _Gathered()
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
                gathered.take(topic, log_time, data)
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
            found = _Gathered()
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
        while len(self._open) > MOST_WAITING or self._bytes > MOST_WAITING_BYTES:
            if len(self._open) <= 1 and not self._ready:
                break
            if not self._ready or (self._open and min(self._open) <= self._ready[0][0]):
                self._close(min(self._open))
            else:
                yield from self._give()
        earliest = min(self._open, default=None)
        while self._ready and (earliest is None or self._ready[0][0] < earliest):
            yield from self._give()

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
        self._bytes -= sum(map(len, tick.exact.values())) + _Gathered.LEAST
        account = self._account
        if self._next is not None and index < self._next:
            account.left_out["ticks that are there twice"] += 1
            return
        if self._next is not None and index > self._next:
            account.missing += index - self._next
            if len(account.gaps) < MOST_GAPS:
                account.gaps.append(Gap(self._next, index))
        self._next = index + 1
        account.whole += 1
        state = self._states.pop(index, None)
        for passed in [k for k in self._states if k < index]:
            del self._states[passed]
        yield tick if state is None else _with_state(tick, state)

    def _take_state(self, data: bytes) -> None:
        try:
            check_size(data)
            index = state_index(data)
        except SessionError as error:
            self._account.left_out[f"states that do not fit ({error})"[:200]] += 1
            return
        if len(self._states) < 4:
            self._states[index + 1] = data


def _with_state(tick: RecordedTick, state: bytes) -> RecordedTick:
    return RecordedTick(
        tick.line,
        tick.input,
        tick.estimate,
        tick.plan,
        tick.command,
        tick.faults,
        tick.truth,
        tick.timing,
        tick.exact,
        state,
    )


class _Gathered:
    """The messages of a tick while they come."""

    LEAST = 1000  # bytes that a tick takes besides its JSON

    __slots__ = (
        "bytes",
        "count",
        "exact",
        "faults",
        "late",
        "line",
        "measurements",
        "requests",
        "single",
    )

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.single: dict[str, Any] = {}
        self.exact: dict[str, bytes] = {}
        self.line: TickLine | None = None
        self.late = False  # the tick has gone out already
        self.count = 0
        self.bytes = self.LEAST

    def take(self, topic: str, log_time: int, data: bytes) -> None:
        self.count += 1
        if len(data) > LARGEST_MESSAGE or self.count > MOST_IN_A_TICK:
            raise SessionError(f"{topic}: more than a tick has")
        if topic in MEASUREMENTS:
            self.measurements.append(DECODE[topic](data))
        elif topic in ("/estimate", "/plan", "/command"):
            self.single[topic] = DECODE[topic](data)
            self.exact[topic] = data
        elif topic == "/plan_trajectory":
            self.exact[topic] = data
        elif topic in ("/truth", "/timing"):
            self.single[topic] = DECODE[topic](data)
        elif topic == "/tick":
            if self.line is None:
                self.line = DECODE[topic](data)
        elif topic == "/request":
            self.requests.append(_request(DECODE[topic](data)))
        elif topic == "/fault":
            self.faults.append(DECODE[topic](data))
        else:
            self.count -= 1
            return
        self.bytes += len(data)

    def whole(self) -> bool:
        """Whether nothing is missing that the tick's line counts."""
        return self.line is not None and not self.lacking(self.line)

    def lacking(self, line: TickLine) -> str:
        """What is missing, in words; empty if nothing is."""
        found = self.single
        if len(self.measurements) < line.measurements:
            return "measurements missing"
        if len(self.requests) < line.requests or len(line.answers) not in (0, line.requests):
            return "requests missing"
        if len(self.faults) < line.faults:
            return "faults missing"
        for topic, told in (("/estimate", line.estimate), ("/plan", line.plan), ("/command", True)):
            if told and topic not in found:
                return f"no {topic}"
            if not told and topic in found:
                return f"{topic} where there was none"
        return ""

    def close(self, disordered: bool) -> tuple[RecordedTick | None, str]:
        """The tick, or None and what is missing. ``disordered``: the file is not as we write it."""
        line = self.line
        assert line is not None
        lacking = self.lacking(line)
        if lacking:
            return None, lacking
        measurements = _once(self.measurements, line.measurements)
        requests = _once(self.requests, line.requests)
        faults = _once(self.faults, line.faults)
        if measurements is None or requests is None or faults is None:
            return None, "more messages than were written"
        if line.order is not None or disordered:
            measurements = in_order(measurements, line.order or ())
        found = self.single
        truth: Truth | None = found.get("/truth")
        tick = RecordedTick(
            line,
            TickInput(line.now_ns, tuple(measurements), tuple(requests), line.newton_budget),
            found.get("/estimate"),
            found.get("/plan"),
            found["/command"],
            tuple(faults),
            truth.state if truth is not None else None,
            found.get("/timing"),
            self.exact,
        )
        return tick, ""


def _once(found: list[Any], wanted: int) -> list[Any] | None:
    """As many as were written: a merged file may hold each twice. None if they cannot be told."""
    if len(found) == wanted:
        return found
    kept: list[Any] = []
    seen: set[bytes] = set()
    for one in found:
        key = repr(one).encode()
        if key not in seen:
            seen.add(key)
            kept.append(one)
    return kept if len(kept) == wanted else None


def _request(line: RequestLine) -> Request:
    import orjson

    told = None
    if line.config is not None:
        told = settings_of(recorded_config(orjson.dumps(line.config), "a recorded request"))
    return Request(line.kind, line.value, line.reference, told)
