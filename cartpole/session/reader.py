"""A recording as the rest of the program sees it: settings, ticks, truth, pictures, raw bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.errors import SessionError
from cartpole.messages import (
    Command,
    Estimate,
    Fault,
    HomingResult,
    Measurement,
    Plan,
    Reference,
    Request,
    TickInput,
    TickRecord,
    TickTiming,
)
from cartpole.rules.control import settings_of
from cartpole.session import folder
from cartpole.session.channels import (
    CHANNELS,
    Event,
    Picture,
    PlanLine,
    RawBytes,
    RequestLine,
    TickLine,
    Trajectory,
    Truth,
)
from cartpole.session.codec import decoder, trajectory_arrays
from cartpole.session.mcap_stream import Contents, Message, messages
from cartpole.session.packing import check_size

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.control.memory import CoreMemory
    from cartpole.vision.frame import Pixels

_DECODE = {topic: decoder(kind) for topic, kind in CHANNELS.items()}
_MEASUREMENTS = ("/encoder", "/detection", "/board", "/link")
_NO_PART_OF_A_TICK = frozenset({"/raw", "/frame", "/event", "/state"})
_STATELESS = frozenset(CHANNELS) - {"/tick", "/state"}
_MOST_IN_A_TICK = 100_000
Vector4 = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class RecordedTick:
    """One tick as recorded; ``exact`` is the JSON of estimate, plan and command as written."""

    line: TickLine
    input: TickInput
    estimate: Estimate | None
    plan: PlanLine | None
    command: Command
    faults: tuple[Fault, ...]
    truth: Vector4 | None
    timing: TickTiming | None
    exact: dict[str, bytes]

    @property
    def trajectory(self) -> Trajectory | None:
        """The whole plan, kept of every fifth one."""
        data = self.exact.get("/plan_trajectory")
        return None if data is None else _DECODE["/plan_trajectory"](data)

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
class RecordedFrame:
    """A picture as recorded: still compressed."""

    t_ns: int
    sequence: int
    data: bytes

    def pixels(self) -> Pixels:
        """Grey levels (height, width); raises SessionError if they do not decode."""
        from cartpole.session.frames import decompress

        return decompress(self.data)


@dataclass(frozen=True, slots=True)
class RawPiece:
    """Bytes of a serial line; ``direction`` is in or out, seen from the host."""

    t_ns: int
    link: str
    direction: str
    data: bytes


class Session:
    """An opened recording with its continuations; every iteration reads it anew, in file order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = folder.parts(path)
        self.contents = Contents()
        for _ in messages(path, self.contents):  # everything before the first message
            break

    @property
    def metadata(self) -> dict[str, dict[str, str]]:
        """Named sets of texts: ``provenance``, ``start``, ``part``."""
        return self.contents.metadata

    @property
    def provenance(self) -> dict[str, str]:
        """Source revision, versions, seed, date; empty for a file without."""
        return self.contents.metadata.get("provenance", {})

    @property
    def truncated(self) -> bool:
        """True if the recording ends without its end mark; known after it was read through."""
        return not self.contents.whole

    @cached_property
    def config(self) -> Config:
        """The settings it was made with; raises SessionError if there are none that fit."""
        data = self.contents.attachments.get("config.json")
        if data is None:
            raise SessionError(f"{self.path} holds no settings (cut off at its very beginning?)")
        return _config(data, str(self.path))

    @cached_property
    def homed(self) -> HomingResult | None:
        """What the controller knew of its homing when it started."""
        start = self.contents.metadata.get("start")
        if not start:
            return None
        try:
            known = {n: float(start[n]) for n in HomingResult.__slots__ if n in start}
            return HomingResult(**known)
        except (TypeError, ValueError):
            raise SessionError(f"{self.path} has a bad start record") from None

    @cached_property
    def state(self) -> CoreMemory | None:
        """What the controller remembered before the first tick, if that was not the run's first.

        SessionError if it is not what a controller remembers.
        """
        for topic, _, _, data in self.messages(_STATELESS):
            if topic == "/tick":
                return None
            if topic == "/state":
                check_size(data)
                state: CoreMemory = _DECODE[topic](data)
                return state
        return None

    @property
    def first_number(self) -> int:
        """1 for the beginning of a recording, more for a continuation."""
        number = self.contents.metadata.get("part", {}).get("number", "1")
        return int(number) if number.isdecimal() and len(number) < 9 else 1

    def messages(self, skip: frozenset[str] = frozenset()) -> Iterator[Message]:
        """(topic, log time, publish time, data) of all channels and parts but for ``skip``."""
        for number, path in enumerate(self.parts):
            contents = self.contents if number == 0 else Contents()
            yield from messages(path, contents, skip)
            self.contents.whole = contents.whole

    def ticks(self) -> Iterator[RecordedTick]:
        """The whole ticks; one that was cut off at the end is left out."""
        gathered = _Gathered()
        for topic, _, _, data in self.messages(_NO_PART_OF_A_TICK):
            if topic == "/tick":
                tick = gathered.close(_DECODE[topic](data))
                gathered = _Gathered()
                if tick is not None:
                    yield tick
            else:
                gathered.take(topic, data)

    def frames(self) -> Iterator[RecordedFrame]:
        """The pictures; in the order of the file."""
        for topic, _, _, data in self.messages():
            if topic == "/frame":
                picture: Picture = _DECODE[topic](data)
                yield RecordedFrame(picture.t_ns, picture.sequence, _bytes(picture.data))

    def raw(self) -> Iterator[RawPiece]:
        """The serial lines' bytes."""
        for topic, _, _, data in self.messages():
            if topic == "/raw":
                piece: RawBytes = _DECODE[topic](data)
                yield RawPiece(piece.t_ns, piece.link, piece.direction, _bytes(piece.data))

    def events(self) -> Iterator[Event]:
        """What was noted outside of ticks."""
        for topic, _, _, data in self.messages():
            if topic == "/event":
                yield _DECODE[topic](data)


class _Gathered:
    """The messages of a tick, until its closing line comes."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.single: dict[str, Any] = {}
        self.exact: dict[str, bytes] = {}

    def take(self, topic: str, data: bytes) -> None:
        if topic in _MEASUREMENTS:
            self.measurements.append(_DECODE[topic](data))
        elif topic in ("/estimate", "/plan", "/command"):
            self.single[topic] = _DECODE[topic](data)
            self.exact[topic] = data
        elif topic == "/plan_trajectory":
            self.exact[topic] = data
        elif topic in ("/truth", "/timing"):
            self.single[topic] = _DECODE[topic](data)
        elif topic == "/request":
            self.requests.append(_request(_DECODE[topic](data)))
        elif topic == "/fault":
            self.faults.append(_DECODE[topic](data))
        if len(self.measurements) + len(self.requests) + len(self.faults) > _MOST_IN_A_TICK:
            raise SessionError("a tick with more measurements than memory should hold")

    def close(self, line: TickLine) -> RecordedTick | None:
        """The tick, or None if part of it is missing."""
        found = self.single
        whole = (
            len(self.measurements) == line.measurements
            and len(self.requests) == line.requests
            and len(line.answers) in (0, line.requests)
            and len(self.faults) == line.faults
            and ("/estimate" in found) == line.estimate
            and ("/plan" in found) == line.plan
            and "/command" in found
        )
        if not whole:
            return None
        truth: Truth | None = found.get("/truth")
        return RecordedTick(
            line,
            TickInput(
                line.now_ns, tuple(self.measurements), tuple(self.requests), line.newton_budget
            ),
            found.get("/estimate"),
            found.get("/plan"),
            found["/command"],
            tuple(self.faults),
            truth.state if truth is not None else None,
            found.get("/timing"),
            self.exact,
        )


def _request(line: RequestLine) -> Request:
    import orjson

    told = None
    if line.config is not None:
        told = settings_of(_config(orjson.dumps(line.config), "a recorded request"))
    reference: Reference | None = line.reference
    return Request(line.kind, line.value, reference, told)


def _config(data: bytes, source: str) -> Config:
    from pydantic import ValidationError

    from cartpole.config.schema import Config

    try:
        return Config.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SessionError(f"{source}: settings do not fit: {where}: {first['msg']}") from None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SessionError("bytes in a recording are not base64") from None


def open_session(path: Path) -> Session:
    """Open a recording, whole or cut off; raises SessionError if it is none."""
    return Session(path)
