"""Frozen records that are quick to make.

A frozen dataclass sets every field by a call of ``object.__setattr__``. Twenty records of up to
seventeen fields in each tick took a twentieth of it by that.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(kind: type[T]) -> type[T]:
    """``@dataclass(frozen=True, slots=True)`` that sets its fields before it is one.

    Until then the object is of an open class of the same layout. TypeError: a default factory.
    """
    frozen = dataclass(frozen=True, slots=True)(kind)
    names = [one.name for one in fields(frozen)]  # type: ignore[arg-type]
    if any(one.default_factory is not MISSING for one in fields(frozen)):  # type: ignore[arg-type]
        raise TypeError(f"{kind.__name__}: a default factory in a record")
    opened = type(kind.__name__, (), {"__slots__": tuple(names)})
    lines = [
        f"def __init__(self, {', '.join(names)}):",
        "    become(self, '__class__', opened)",
        *(f"    self.{name} = {name}" for name in names),
        "    self.__class__ = frozen",
    ]
    made: dict[str, Any] = {}
    exec("\n".join(lines), {"become": object.__setattr__, "opened": opened, "frozen": frozen}, made)
    quick, slow = made["__init__"], frozen.__init__
    quick.__defaults__, quick.__annotations__ = slow.__defaults__, slow.__annotations__
    quick.__qualname__ = slow.__qualname__
    frozen.__init__ = quick  # type: ignore[method-assign]
    return frozen
