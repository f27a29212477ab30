"""A tick's messages while they come, and whether they are all of them."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

from cartpole.errors import SessionError
from cartpole.messages import Request, TickInput
from cartpole.rules.control import settings_of
from cartpole.session.order import in_order
from cartpole.session.recorded import DECODE, SINGLE, RecordedTick
from cartpole.session.settings import recorded_config

if TYPE_CHECKING:
    from cartpole.messages import Fault, Measurement
    from cartpole.session.channels import RequestLine, TickLine

MEASUREMENTS = ("/encoder", "/detection", "/board", "/link")
MOST_IN_A_TICK = 10_000
LARGEST_MESSAGE = 256 << 10  # of those that a tick is made of


class Gathered:
    """The messages of a tick while they come."""

    LEAST = 1000  # bytes that a tick takes besides its JSON

    __slots__ = (
        "bytes",
        "count",
        "decoded",
        "exact",
        "faults",
        "late",
        "line",
        "measurements",
        "requests",
    )

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []
        self.requests: list[tuple[int, Request]] = []  # with their log times
        self.faults: list[Fault] = []
        self.decoded: dict[str, Any] = {}
        self.exact: dict[str, bytes] = {}
        self.line: TickLine | None = None
        self.late = False  # the tick has gone out already
        self.count = 0
        self.bytes = self.LEAST

    def take(self, topic: str, log_time: int, data: bytes, unread: frozenset[str]) -> None:
        """A message of the tick; SessionError if it does not fit. ``unread`` are not decoded."""
        self.count += 1
        if len(data) > LARGEST_MESSAGE or self.count > MOST_IN_A_TICK:
            raise SessionError(f"{topic}: more than a tick has")
        if topic in MEASUREMENTS:
            self.measurements.append(DECODE[topic](data))
        elif topic in SINGLE:
            if topic not in unread:
                self.decoded[topic] = DECODE[topic](data)
            self.exact[topic] = data
        elif topic == "/tick":
            if self.line is None:
                self.line = DECODE[topic](data)
        elif topic == "/request":
            self.requests.append((log_time, _request(DECODE[topic](data))))
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
        found = self.exact
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
        requests = _once(sorted(self.requests, key=itemgetter(0)), line.requests)
        faults = _once(self.faults, line.faults)
        if measurements is None or requests is None or faults is None:
            return None, "more messages than were written"
        if line.order is not None or disordered:
            measurements = in_order(measurements, line.order or ())
        given = TickInput(
            line.now_ns,
            tuple(measurements),
            tuple([one for _, one in requests]),
            line.newton_budget,
        )
        return RecordedTick(line, given, tuple(faults), self.exact, self.decoded), ""


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
    told = None
    if line.config is not None:
        told = settings_of(recorded_config(orjson.dumps(line.config), "a recorded request"))
    return Request(line.kind, line.value, line.reference, told)
