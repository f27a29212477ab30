"""Messages to JSON and back, keeping every bit.

Numbers are written with the shortest digits that read back to the same double; ``nan`` and the
infinities, which JSON lacks, are the strings ``"nan"``, ``"inf"``, ``"-inf"``. Two values are equal
bit for bit exactly when their JSON is.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import orjson

from cartpole.errors import SessionError
from cartpole.rules.control import config_of
from cartpole.session.channels import (
    JSON,
    MEASUREMENT_TOPICS,
    NamedState,
    Picture,
    PlanLine,
    RawBytes,
    RequestLine,
    TickLine,
    Trajectory,
)
from cartpole.session.order import order_of
from cartpole.session.packing import unpack_array

if TYPE_CHECKING:
    from cartpole.messages import FloatArray, Plan, TickRecord

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY

Line = tuple[str, int, bytes]  # topic, log time [ns], JSON


def encode(value: Any) -> bytes:
    """A dataclass as JSON, exactly."""
    try:
        data = orjson.dumps(value, option=_OPTIONS)
    except (orjson.JSONEncodeError, TypeError):
        return _encode_slowly(value)
    # orjson writes nan and inf as null: only then is the slower way needed
    return _encode_slowly(value) if b"null" in data else data


def _encode_slowly(value: Any) -> bytes:
    plain = _plain(dataclasses.asdict(value))
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, np.generic):
        return _plain(value.item())
    return value


def plan_sha256(plan: Plan) -> str:
    """Digest over every bit of a plan."""
    digest = hashlib.sha256(
        f"{plan.start_ns} {int(plan.status)} {plan.newton_steps} {float(plan.kkt_residual)!r} "
        f"{float(plan.cost)!r} {plan.candidate} {plan.states.shape}".encode()
    )
    for array in (plan.times_s, plan.states, plan.inputs):
        digest.update(np.ascontiguousarray(array, dtype=np.float64).data)
    return digest.hexdigest()


def plan_line(plan: Plan) -> PlanLine:
    """What every tick records of its plan."""
    return PlanLine(
        plan.start_ns,
        plan.status,
        plan.newton_steps,
        float(plan.kkt_residual),
        float(plan.cost),
        plan.candidate,
        plan_sha256(plan),
    )


def encode_tick(record: TickRecord, whole_plan: bool) -> list[Line]:
    """Everything a tick depended on and produced, in the order a reader needs."""
    given, now_ns = record.input, record.input.now_ns
    lines: list[Line] = []
    for measurement in given.measurements:
        topic = MEASUREMENT_TOPICS[type(measurement)]
        lines.append((topic, measurement.t_ns, encode(measurement)))
    for place, request in enumerate(given.requests):
        told = request.settings
        config = None if told is None else config_of(told).model_dump(mode="json")
        line = RequestLine(request.kind, request.value, request.reference, config)
        # Each a nanosecond later: their order is known wherever they stand in a file.
        lines.append(("/request", now_ns + place, encode(line)))
    if record.estimate is not None:
        lines.append(("/estimate", record.estimate.t_ns, encode(record.estimate)))
    if record.plan is not None:
        plan = record.plan
        lines.append(("/plan", now_ns, encode(plan_line(plan))))
        if whole_plan:
            trajectory = {
                "start_ns": plan.start_ns,
                "times_s": plan.times_s,
                "states": np.ascontiguousarray(plan.states),
                "inputs": plan.inputs,
            }
            lines.append(("/plan_trajectory", now_ns, _encode_trajectory(trajectory)))
    lines.append(("/command", record.command.t_ns, encode(record.command)))
    lines.extend(("/fault", fault.t_ns, encode(fault)) for fault in record.faults)
    lines.append(("/tick", now_ns, encode(_tick_line(record))))
    return lines


def named_lines(record: TickRecord, truth: Sequence[float] | None) -> list[Line]:
    """Estimate and truth with a name for each number."""
    lines: list[Line] = []
    if record.estimate is not None:
        named = encode(NamedState(*record.estimate.state))
        lines.append(("/named/estimate", record.estimate.t_ns, named))
    if truth is not None:
        lines.append(("/named/truth", record.input.now_ns, encode(NamedState(*truth))))
    return lines


def _encode_trajectory(trajectory: JSON) -> bytes:
    data = orjson.dumps(trajectory, option=_OPTIONS)
    if b"null" in data:
        return json.dumps(_plain(trajectory), separators=(",", ":"), allow_nan=False).encode()
    return data


def _tick_line(record: TickRecord) -> TickLine:
    return TickLine(
        record.index,
        record.input.now_ns,
        record.input.newton_budget,
        record.mode,
        record.armed,
        record.homed,
        record.target_m,
        len(record.input.measurements),
        len(record.input.requests),
        len(record.faults),
        record.estimate is not None,
        record.plan is not None,
        record.events,
        record.answers,
        order_of(record.input.measurements),
    )


def raw_line(t_ns: int, link: str, direction: str, data: bytes) -> bytes:
    """The JSON of a piece of a serial line."""
    return encode(RawBytes(t_ns, link, direction, base64.b64encode(data).decode()))


def picture_line(t_ns: int, sequence: int, data: bytes, form: str) -> bytes:
    """The JSON of a compressed frame."""
    seconds, nanoseconds = divmod(t_ns, 1_000_000_000)
    stamp = {"sec": seconds, "nsec": nanoseconds}
    text = base64.b64encode(data).decode()
    return encode(Picture(stamp, "camera", text, form, t_ns, sequence))


Reader = Callable[[Any], Any]
# A JSON value of one of these types is taken as it is; anything else goes through the reader.
FieldReader = tuple[frozenset[type], Reader]
_PLAIN: dict[Any, frozenset[type]] = {
    int: frozenset({int}),
    float: frozenset({float, int}),
    bool: frozenset({bool}),
    str: frozenset({str}),
}


def decoder(kind: type) -> Callable[[bytes], Any]:
    """A function from JSON to ``kind``; raises SessionError on anything that does not fit."""
    fields = _field_readers(kind)
    required = frozenset(
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )

    # As we write them: all fields, in their order, of the types that JSON has for them.
    loads = orjson.loads
    hints = get_type_hints(kind)
    names, usual = [*hints], [_json_type(hint) for hint in hints.values()]
    others = [(k, fields[name][1]) for k, name in enumerate(names) if not fields[name][0]]

    def decode(data: bytes) -> Any:
        try:
            plain = loads(data)
        except ValueError as error:
            raise SessionError(f"a {kind.__name__} message is not JSON: {error}") from None
        if type(plain) is dict and [*plain] == names:
            values = [*plain.values()]
            if [*map(type, values)] == usual:
                try:
                    for place, reader in others:
                        values[place] = reader(values[place])
                except (TypeError, ValueError):
                    raise SessionError(
                        f"a {kind.__name__} message has a bad {names[place]}"
                    ) from None
                return kind(*values)
        return _build(kind, fields, required, plain)

    return decode


def _build(
    kind: type, fields: Mapping[str, FieldReader], required: frozenset[str], plain: Any
) -> Any:
    if type(plain) is not dict:
        raise SessionError(f"a {kind.__name__} message is not a JSON object")
    values = plain if plain.keys() <= fields.keys() else _known(plain, fields)
    for name, value in values.items():
        accepted, reader = fields[name]
        if type(value) not in accepted:
            try:
                values[name] = reader(value)
            except (TypeError, ValueError):
                raise SessionError(f"a {kind.__name__} message has a bad {name}") from None
    if not required <= values.keys():
        missing = ", ".join(sorted(required - values.keys()))
        raise SessionError(f"a {kind.__name__} message lacks {missing}")
    return kind(**values)


def _known(plain: JSON, fields: Mapping[str, FieldReader]) -> JSON:
    """Without the fields of a newer version."""
    return {name: value for name, value in plain.items() if name in fields}


def _json_type(hint: Any) -> type:
    if hint in _PLAIN:
        return hint  # type: ignore[no-any-return]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return int if issubclass(hint, IntEnum) else str
    return list if get_origin(hint) is tuple else dict


def _field_readers(kind: type) -> dict[str, FieldReader]:
    hints = get_type_hints(kind)
    return {name: (_PLAIN.get(hint, frozenset()), _reader(hint)) for name, hint in hints.items()}


def _reader(hint: Any) -> Reader:
    simple = {int: _integer, float: _number, bool: _boolean, str: _text}
    if hint in simple:
        return simple[hint]
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return lambda value: hint(_integer(value))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value: hint(_text(value))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        fields = _field_readers(hint)
        return lambda value: _build(hint, fields, frozenset(), value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is np.ndarray:
        wanted: np.dtype[Any] = np.dtype(get_args(arguments[1])[0])
        return lambda value: unpack_array(value, wanted)
    if origin is tuple and len(set(arguments)) > 1 and arguments[-1] is not Ellipsis:
        readers = [_reader(one) for one in arguments]
        return lambda value: _places(value, readers)
    if origin is tuple:
        inner, accepted = _reader(arguments[0]), _PLAIN.get(arguments[0], frozenset())
        length = None if arguments[-1] is Ellipsis else len(arguments)
        return lambda value: _sequence(value, inner, accepted, length)
    if origin in (UnionType, Union):
        inner = _reader(next(a for a in arguments if a is not NoneType))
        return lambda value: None if value is None else inner(value)
    return _mapping


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if type(value) is float or type(value) is int:
        return value
    if value in ("nan", "inf", "-inf"):
        return float(value)
    raise TypeError


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise TypeError
    return value


def _sequence(
    value: Any, inner: Reader, accepted: frozenset[type], length: int | None
) -> tuple[Any, ...]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise TypeError
    if accepted.issuperset(map(type, value)):
        return tuple(value)
    return tuple([inner(item) for item in value])


def _places(value: Any, readers: list[Reader]) -> tuple[Any, ...]:
    if type(value) is not list or len(value) != len(readers):
        raise TypeError
    return tuple([read(item) for read, item in zip(readers, value, strict=True)])


def trajectory_arrays(line: Trajectory) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(times (N,), states (N+1, 5), inputs (N,)) of a recorded plan."""
    try:
        times, states, inputs = (
            np.asarray(part, dtype=np.float64) for part in (line.times_s, line.states, line.inputs)
        )
    except ValueError:
        raise SessionError("a recorded plan's arrays are ragged") from None
    if states.ndim != 2 or states.shape[1] < 4:
        raise SessionError(f"a recorded plan's states have the shape {states.shape}")
    return times, states, inputs
