"""Records are frozen dataclasses in all but how they are made."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from cartpole.record import record


@record
class Quick:
    """A record with a default."""

    one: int
    two: float = 2.0

    @property
    def sum(self) -> float:
        return self.one + self.two


@dataclass(frozen=True, slots=True)
class Slow:
    one: int
    two: float = 2.0


def test_it_is_made_read_and_shown_like_a_frozen_dataclass() -> None:
    for made in (Quick(1), Quick(one=1, two=2.0)):
        assert (made.one, made.two, made.sum) == (1, 2.0, 3.0)
        assert type(made) is Quick
        assert made == Quick(1) != Quick(2)
        assert hash(made) == hash(Slow(1))
        assert repr(made) == "Quick(one=1, two=2.0)"
    assert [one.name for one in fields(Quick)] == ["one", "two"]
    assert replace(Quick(1), two=5.0) == Quick(1, 5.0)
    for again in (copy.copy(Quick(3)), pickle.loads(pickle.dumps(Quick(3)))):
        assert again == Quick(3)


def test_nothing_changes_it_and_nothing_is_added() -> None:
    made = Quick(1)
    name = "one"
    with pytest.raises(FrozenInstanceError):
        setattr(made, name, 2)
    with pytest.raises(FrozenInstanceError):
        del made.one
    assert not hasattr(made, "__dict__")


def test_wrong_arguments_are_refused() -> None:
    for wrong in ((), (1, 2.0, 3)):
        with pytest.raises(TypeError, match="__init__"):
            Quick(*wrong)


def test_a_default_factory_has_no_place() -> None:
    with pytest.raises(TypeError, match="a default factory"):

        @record
        class _Made:
            one: list[int] = field(default_factory=list)
