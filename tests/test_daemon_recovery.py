"""After a stop a simulated rig goes on by itself, a few times; nothing else ever does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cartpole.config.load import loads_config
from cartpole.config.schema import Config
from cartpole.daemon.recovery import MOST, Recovery
from cartpole.messages import Command, Mode, RequestKind, TickInput, TickRecord

WANTED = "startup: {action: swing_up}\nsim: {recover: true}\n"


def record(mode: Mode, now_ns: int) -> TickRecord:
    command = Command(now_ns, 0, 0.0, False, 0.0)
    return TickRecord(0, TickInput(now_ns), mode, False, True, None, None, command)


def test_it_waits_a_second_then_resets_homes_and_swings_up() -> None:
    recovery = Recovery(loads_config(WANTED, "test"))
    stopped = record(Mode.FAULT, 10**9)
    assert recovery.goes_on(stopped)
    assert recovery.due(stopped) == ()
    later = replace(stopped, input=TickInput(2 * 10**9))
    assert recovery.due(later) == (RequestKind.RESET, RequestKind.ARM, RequestKind.SWING_UP)


def test_it_gives_up_after_a_few_times() -> None:
    recovery = Recovery(loads_config(WANTED, "test"))
    asked = 0
    for second in range(1, 60):
        stopped = record(Mode.FAULT, second * 2 * 10**9)
        if recovery.goes_on(stopped):
            asked += bool(recovery.due(stopped))
    assert asked == MOST


@pytest.mark.parametrize("text", ["{}", "sim: {recover: true}", "startup: {action: swing_up}"])
def test_unless_it_is_wanted_a_stop_is_the_end(text: str) -> None:
    assert not Recovery(loads_config(text, "test")).goes_on(record(Mode.FAULT, 10**9))


def test_a_rig_that_runs_is_left_alone() -> None:
    recovery = Recovery(loads_config(WANTED, "test"))
    assert not recovery.goes_on(record(Mode.BALANCE, 10**9))


def test_no_real_rig_s_settings_recover() -> None:
    assert not Config().sim.recover
