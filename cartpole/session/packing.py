"""A state to JSON and back: as the codec does it, and arrays as bytes.

Nothing is executed when a state is read: every value is checked against the type of its field, and
an array's bytes against its shape before it is made.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from cartpole.errors import SessionError

# Bytes and values of a state's JSON: five times what the largest planner and the longest history
# need. Few values, so that no parser is led to build millions of them.
LONGEST = 24 << 20
MOST_VALUES = 20_000
_KINDS = {"f8": np.dtype("<f8"), "i8": np.dtype("<i8")}
_FIELDS = frozenset({"dtype", "shape", "data"})


def pack(state: Any) -> bytes:
    """A state, a record of records, as JSON, exactly."""
    return orjson.dumps(_plain(state))


def check_size(data: bytes) -> None:
    """SessionError for more than any state needs."""
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if len(data) > LONGEST or values > MOST_VALUES:
        raise SessionError(
            f"a recorded state of {len(data)} bytes and {values} values: more than a controller has"
        )


def state_index(data: bytes) -> int:
    """The tick after which the controller was in a packed state; SessionError if it is none."""
    try:
        index = orjson.loads(data)["index"]
    except (ValueError, KeyError, TypeError):
        raise SessionError("a recorded state is not JSON of one") from None
    if type(index) is not int:
        raise SessionError("a recorded state has no index")
    return index


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _pack_array(value)
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: _plain(inner) for name, inner in pairs if inner is not None}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return value


def _pack_array(array: npt.NDArray[Any]) -> dict[str, Any]:
    name = f"{array.dtype.kind}{array.dtype.itemsize}"
    data = np.ascontiguousarray(array, dtype=_KINDS[name])
    text = base64.b64encode(data.tobytes()).decode()
    return {"dtype": name, "shape": list(array.shape), "data": text}


def unpack_array(value: Any, wanted: np.dtype[Any]) -> npt.NDArray[Any]:
    """The array that :func:`pack` wrote; TypeError or ValueError on anything else."""
    if type(value) is not dict or value.keys() != _FIELDS:
        raise TypeError
    kind, shape, text = _KINDS.get(str(value["dtype"])), value["shape"], value["data"]
    if kind is None or kind != wanted or type(text) is not str or type(shape) is not list:
        raise TypeError
    if len(shape) > 3 or not all(type(n) is int and 0 <= n <= LONGEST for n in shape):
        raise ValueError
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError from None
    if len(data) != math.prod(shape) * kind.itemsize:
        raise ValueError
    return np.frombuffer(data, dtype=kind).astype(wanted).reshape(shape)
