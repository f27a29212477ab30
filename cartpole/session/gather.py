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
    """The messages of a tick while they come.

    A tool that merges files may have written some of them again: each counts once, and none stands
    in for another one that is still to come.
    """

    LEAST = 1000  # bytes that a tick takes besides its JSON

    __slots__ = (
        "again",
        "bytes",
        "contrary",
        "count",
        "decoded",
        "exact",
        "faults",
        "late",
        "line",
        "measurements",
        "requests",
        "said",
    )

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []
        self.requests: list[tuple[int, Request]] = []  # with their log times
        self.faults: list[Fault] = []
        self.said: set[tuple[str, int, bytes]] = set()
        self.again: dict[str, list[Any]] = {}  # what was said before, by topic
        self.decoded: dict[str, Any] = {}
        self.exact: dict[str, bytes] = {}
        self.contrary = ""  # a topic that says two things
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
            self._once(self.measurements, topic, log_time, data, DECODE[topic](data))
        elif topic in SINGLE:
            if topic not in self.exact:
                if topic not in unread:
                    self.decoded[topic] = DECODE[topic](data)
                self.exact[topic] = data
            elif self.exact[topic] != data:
                self.contrary = topic
        elif topic == "/tick":
            line = DECODE[topic](data)
            if self.line is None:
                self.line = line
            elif self.line != line:
                self.contrary = topic
        elif topic == "/request":
            request = log_time, _request(DECODE[topic](data))
            self._once(self.requests, topic, log_time, data, request)
        elif topic == "/fault":
            self._once(self.faults, topic, log_time, data, DECODE[topic](data))
        else:
            self.count -= 1
            return
        self.bytes += len(data)

    def _once(self, kept: list[Any], topic: str, log_time: int, data: bytes, one: Any) -> None:
        identity = (topic, log_time, data)
        if identity in self.said:
            self.again.setdefault(topic, []).append(one)
            return
        self.said.add(identity)
        kept.append(one)

    def whole(self) -> bool:
        """Whether nothing is missing that the tick's line counts."""
        return self.line is not None and not self.lacking(self.line)

    def lacking(self, line: TickLine) -> str:
        """What is missing, in words; empty if nothing is."""
        found = self.exact
        if len(self.measurements) < _different(line):
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
        if self.contrary:
            return None, f"{self.contrary} says two things"
        if line.order is None:
            self._take_equal_ones(line)
        lacking = self.lacking(line)
        if lacking:
            return None, lacking
        measurements = self.measurements
        more = len(measurements) > _different(line) or len(self.faults) > line.faults
        if more or len(self.requests) > line.requests:
            return None, "more messages than were written"
        if len(line.order or ()) not in (0, line.measurements):
            return None, "the order of its measurements is none"
        if line.order is not None or disordered:
            measurements = in_order(measurements, line.order or ())
        requests = sorted(self.requests, key=itemgetter(0))
        given = TickInput(
            line.now_ns,
            tuple(measurements),
            tuple([one for _, one in requests]),
            line.newton_budget,
        )
        return RecordedTick(line, given, tuple(self.faults), self.exact, self.decoded), ""

    def _take_equal_ones(self, line: TickLine) -> None:
        """Recordings of old do not tell equal messages of a tick from those that came again: all
        count where that makes just as many as were written."""
        again = [one for topic in MEASUREMENTS for one in self.again.get(topic, ())]
        if len(self.measurements) + len(again) == line.measurements:
            self.measurements += again
        requests = self.again.get("/request", [])
        if len(self.requests) + len(requests) == line.requests:
            self.requests += requests


def _different(line: TickLine) -> int:
    """How many measurements a tick has of which none is as another: equal ones have one rank."""
    return len(set(line.order)) if line.order else line.measurements


def _request(line: RequestLine) -> Request:
    told = None
    if line.config is not None:
        told = settings_of(recorded_config(orjson.dumps(line.config), "a recorded request"))
    return Request(line.kind, line.value, line.reference, told)
