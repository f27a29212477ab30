"""The mode machine: the documented table is the program's, and it leads nowhere it must not."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest

from cartpole.control.modes import DRIVEN, FLYING, TABLE, Happening, Situation, happening
from cartpole.messages import Mode, Severity

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(
    r"^\| (?P<what>[^|]+) \| (?P<modes>[A-Z_, ]+) \| (?P<to>[A-Z_]+) \|$", re.MULTILINE
)


def test_the_documented_table_is_the_programs() -> None:
    documented = {
        (Mode(mode), Happening(row["what"])): Mode(row["to"])
        for row in ROW.finditer((ROOT / "docs" / "safety.md").read_text())
        for mode in row["modes"].split(", ")
    }
    assert documented == dict(TABLE)


def test_only_a_reset_leaves_a_fault_and_it_disarms() -> None:
    leaving = {(what, to) for (mode, what), to in TABLE.items() if mode is Mode.FAULT}
    assert leaving == {(Happening.RESET, Mode.DISARMED)}


def test_nothing_is_driven_but_after_arming() -> None:
    into = {what for (mode, what), to in TABLE.items() if to in DRIVEN and mode not in DRIVEN}
    assert into == {Happening.ARM, Happening.HOME}
    assert all(mode is Mode.DISARMED for mode, what in TABLE if what is Happening.ARM)


def test_a_grave_fault_and_a_stop_end_every_driven_mode() -> None:
    for mode in DRIVEN:
        assert TABLE[mode, Happening.OFF] is Mode.FAULT
        assert TABLE[mode, Happening.BRAKE] is Mode.SAFE_STOP
        assert TABLE[mode, Happening.STOP] is Mode.SAFE_STOP


@pytest.mark.parametrize("mode", list(Mode))
def test_the_gravest_counts(mode: Mode) -> None:
    angles, sources = (0.0, 0.3, 2.0, math.nan), ("plan", "lqr", "energy", "none")
    for rest, source, angle in itertools.product((True, False), sources, angles):
        off = Situation(Severity.OFF, rest, source, angle, 0.2)
        assert happening(mode, off) is Happening.OFF
        brake = Situation(Severity.BRAKE, rest, source, angle, 0.2)
        if mode in DRIVEN:
            assert happening(mode, brake) is Happening.BRAKE
        elif mode is Mode.SAFE_STOP and rest:
            assert happening(mode, brake) is Happening.REST_AT_FAULT
        else:
            assert happening(mode, brake) is None


@pytest.mark.parametrize(
    ("mode", "angle", "following"),
    [
        (Mode.SWING_UP, 0.19, Mode.BALANCE),
        (Mode.SWING_UP, 0.21, Mode.SWING_UP),
        (Mode.BALANCE, -0.39, Mode.BALANCE),
        (Mode.BALANCE, -0.41, Mode.SWING_UP),
        (Mode.LQR_FALLBACK, 0.1, Mode.BALANCE),
        (Mode.LQR_FALLBACK, 0.3, Mode.SWING_UP),
        (Mode.LQR_FALLBACK, 0.5, Mode.SWING_UP),
        (Mode.LQR_FALLBACK, math.nan, Mode.LQR_FALLBACK),
        (Mode.READY, 0.1, Mode.READY),
    ],
)
def test_leaving_the_top_takes_twice_the_angle_that_reached_it(
    mode: Mode, angle: float, following: Mode
) -> None:
    what = happening(mode, Situation(Severity.DEGRADED, False, "plan", angle, 0.2))
    reached = mode if what is None else TABLE.get((mode, what), mode)
    assert reached is following


def test_no_plan_is_said_in_every_flying_mode() -> None:
    for mode in FLYING:
        what = happening(mode, Situation(Severity.WARNING, False, "lqr", 0.0, 0.2))
        assert what is Happening.FALL_BACK
        assert TABLE.get((mode, what), mode) is Mode.LQR_FALLBACK
