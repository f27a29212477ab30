"""The channels of a recording: what each carries, and its JSON Schema."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from enum import Enum, IntEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from cartpole.control.memory import CoreMemory
from cartpole.messages import (
    Answer,
    BoardStatus,
    Command,
    Detection,
    EncoderSample,
    Estimate,
    Fault,
    LinkEvent,
    Mode,
    PlanStatus,
    Reference,
    RequestKind,
    TickTiming,
)

JSON = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class TickLine:
    """The part of a tick that has no channel of its own, and how many messages stand before it.

    A tick's messages are published at its time: a reader collects until there are as many as this
    one says, wherever in the file they stand.
    """

    index: int
    now_ns: int
    newton_budget: int
    mode: Mode
    armed: bool
    homed: bool
    target_m: float
    measurements: int
    requests: int
    faults: int
    estimate: bool
    plan: bool
    events: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    # Of the different measurements put in their canonical order, which came first, second, …; equal
    # ones have one rank. Empty: in that order, and none is as another. None in recordings from
    # before it was written: the file's order is all there is.
    order: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PlanLine:
    """A plan without its arrays; ``sha256`` is over all of it, arrays included."""

    start_ns: int
    status: PlanStatus
    newton_steps: int
    kkt_residual: float
    cost: float
    candidate: str
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Trajectory:
    """A whole plan: ``states`` is (N+1, 5) in the order P, V, THETA, OMEGA, U."""

    start_ns: int
    times_s: tuple[float, ...]
    states: tuple[tuple[float, ...], ...]
    inputs: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class RequestLine:
    """An operator's request; ``config`` is the whole of a new configuration."""

    kind: RequestKind
    value: float
    reference: Reference | None = None
    config: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Truth:
    """A simulated rig's own state (p, v, theta, omega) at ``t_ns``."""

    t_ns: int
    state: tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class NamedState:
    """A state once more, for viewers that draw fields by their names; nothing reads it back."""

    p_m: float
    v_m_s: float
    theta_rad: float
    omega_rad_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class RawBytes:
    """Bytes of a serial line; ``direction`` is in or out as the host sees it."""

    t_ns: int
    link: str
    direction: str
    data: str  # base64


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line that belongs to no tick."""

    t_ns: int
    name: str
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A frame: ``foxglove.CompressedImage`` plus the time and sequence used here."""

    timestamp: Mapping[str, int]
    frame_id: str
    data: str  # base64
    format: str
    t_ns: int
    sequence: int


@dataclasses.dataclass(frozen=True, slots=True)
class PackedArray:
    """An array in a state: its bytes, row by row, little-endian; ``dtype`` is f8 or i8."""

    dtype: str
    shape: tuple[int, ...]
    data: str  # base64


# topic -> what its messages are; the order is that of the channel numbers in a new recording
CHANNELS: dict[str, type] = {
    "/tick": TickLine,
    "/encoder": EncoderSample,
    "/detection": Detection,
    "/board": BoardStatus,
    "/link": LinkEvent,
    "/request": RequestLine,
    "/estimate": Estimate,
    "/plan": PlanLine,
    "/plan_trajectory": Trajectory,
    "/command": Command,
    "/fault": Fault,
    "/event": Event,
    "/timing": TickTiming,
    "/truth": Truth,
    "/raw": RawBytes,
    "/frame": Picture,
    "/state": CoreMemory,
    "/named/estimate": NamedState,
    "/named/truth": NamedState,
}
NO_PART_OF_A_TICK = frozenset({"/raw", "/frame", "/event", "/named/estimate", "/named/truth"})
# Metadata: which ticks a file begins and ends with, and the name of the file that goes on.
FIRST_TICK, LAST_TICK = "first_tick", "last_tick"
MEASUREMENT_TOPICS = {
    EncoderSample: "/encoder",
    Detection: "/detection",
    BoardStatus: "/board",
    LinkEvent: "/link",
}
# topics whose messages have a name that viewers know
SCHEMA_NAMES = {"/frame": "foxglove.CompressedImage"}


def schema(kind: type) -> bytes:
    """The JSON Schema of a channel's messages."""
    return json.dumps({"title": kind.__name__, **_schema(kind)}).encode()


def _schema(hint: Any) -> JSON:
    # Viewers want a plain "number"; the strings for nan and inf are told in the description.
    simple: dict[Any, JSON] = {
        int: {"type": "integer"},
        float: {"type": "number", "description": "or one of the strings nan, inf, -inf"},
        bool: {"type": "boolean"},
        str: {"type": "string"},
    }
    if hint in simple:
        return simple[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        values = [member.value for member in hint]
        form = "integer" if issubclass(hint, IntEnum) else "string"
        names = ", ".join(f"{member.value} {member.name}" for member in hint)
        return {"type": form, "enum": values, "description": names}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        properties = {name: _schema(inner) for name, inner in hints.items()}
        if hint in (RawBytes, Picture, PackedArray):
            properties["data"] = {"type": "string", "contentEncoding": "base64"}
        return {"type": "object", "properties": properties}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple and arguments[-1] is not Ellipsis and len(set(arguments)) > 1:
        return {"type": "array", "prefixItems": [_schema(one) for one in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is np.ndarray:
        return _schema(PackedArray)
    if origin in (UnionType, Union):
        return _schema(next(a for a in arguments if a is not NoneType))
    return {"type": "object"}
