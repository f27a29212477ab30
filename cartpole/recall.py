"""What parts remember, as values: one copy and one check for every memory.

A part is rules over memory. Rules are a frozen record, made from settings; memory is a record that
changes, of plain values, enums, frozen records, arrays and other memories, so that it can be
copied, written down exactly, and read back by its types alone. New settings are new rules over the
same memory.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from cartpole.errors import SessionError

T = TypeVar("T")


@runtime_checkable
class Particular(Protocol):
    """A memory that must fulfil more than its types and shapes say."""

    def check(self, own: Any) -> None:
        """SessionError unless a part whose memory is ``own`` may go on from this one."""


def copied(memory: T) -> T:
    """A memory that shares nothing that changes with the original."""
    return cast(T, _copied(memory))


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple):
        return tuple(map(_copied, value))
    if not _changes(value):
        return value
    fields = dataclasses.fields(value)
    return type(value)(**{field.name: _copied(getattr(value, field.name)) for field in fields})


def check(kept: Any, own: Any, name: str = "") -> None:
    """SessionError unless ``kept`` is built like ``own``: as many parts, arrays of equal shapes."""
    if kept is None or own is None:
        require(not _changes(kept), f"{name} of another kind of rig")
        return
    if isinstance(own, np.ndarray):
        _check_array(kept, own, name)
    elif isinstance(own, tuple) and any(map(_changes, own)):
        require(len(kept) == len(own), f"{name} are {len(kept)}, {len(own)} are needed")
        for number, (theirs, mine) in enumerate(zip(kept, own, strict=True)):
            check(theirs, mine, f"{name} {number}")
    elif _changes(own):
        for field in dataclasses.fields(own):
            inner = f"{name}.{field.name}" if name else field.name
            check(getattr(kept, field.name), getattr(own, field.name), inner)
        if isinstance(kept, Particular):
            kept.check(own)


def _changes(value: Any) -> bool:
    """Whether it is a memory: a record that is not frozen."""
    if not dataclasses.is_dataclass(value):
        return False
    return not cast(Any, value).__dataclass_params__.frozen


def _check_array(kept: npt.NDArray[Any], own: npt.NDArray[Any], what: str) -> None:
    if kept.shape != own.shape or kept.dtype != own.dtype:
        raise SessionError(
            f"a recorded state has {what} of the shape {kept.shape}, {own.shape} is needed: "
            "it was made with other settings or another version"
        )


def refill(own: Any, kept: Any) -> None:
    """Put what ``kept`` remembers into ``own``, in place; ``check`` it before.

    Where ``kept`` has no memory for a part, that part's stays as it is.
    """
    for field in dataclasses.fields(own):
        mine, theirs = getattr(own, field.name), getattr(kept, field.name)
        if isinstance(mine, tuple) and any(map(_changes, mine)):
            for one, other in zip(mine, theirs, strict=True):
                refill(one, other)
        elif isinstance(mine, np.ndarray):
            mine[...] = theirs
        elif not _changes(mine):
            setattr(own, field.name, _copied(theirs))
        elif theirs is not None:
            refill(mine, theirs)


def require(true: bool, what: str) -> None:
    """SessionError unless what a recorded state must fulfil is true."""
    if not true:
        raise SessionError(f"a recorded state contradicts itself: {what}")
