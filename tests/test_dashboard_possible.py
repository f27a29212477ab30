"""Buttons follow the table of modes: on where a word would change the mode, else a reason."""

from __future__ import annotations

import pytest

from cartpole.dashboard.possible import impossible
from cartpole.messages import Mode

POSSIBLE = {
    "arm": {Mode.DISARMED},
    "home": {Mode.DISARMED, Mode.READY},
    "swing-up": {Mode.READY, Mode.HOMING},
    "disarm": {Mode.HOMING, Mode.READY, Mode.SWING_UP, Mode.BALANCE, Mode.LQR_FALLBACK},
    "reset": {Mode.FAULT},
}


@pytest.mark.parametrize("word", POSSIBLE)
def test_a_button_is_on_exactly_where_it_does_something(word: str) -> None:
    assert {mode for mode in Mode if not impossible(word, mode.value)} == POSSIBLE[word]


def test_without_a_daemon_no_button_is_on() -> None:
    assert {impossible(word, "NO DAEMON") for word in POSSIBLE} == {"no daemon"}


def test_a_latched_fault_is_the_reason() -> None:
    assert impossible("arm", "FAULT") == "reset first"
