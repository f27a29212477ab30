"""The board's safety logic, compiled for this machine, with time as an argument."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.firmware import (
    CLEAR,
    ENABLE,
    FIRMWARE,
    HOMING,
    HOST,
    RELEASE,
    Limits,
    Logic,
    compile_c,
    load_host,
    mutated_sources,
    needs_gcc,
)

from firmware_bridge.framing import cobs_decode, cobs_encode, crc16
from firmware_bridge.protocol import (
    CEILING_DRIVE,
    BoardFault,
    SampleFlag,
)

pytestmark = needs_gcc
LOW, HIGH, ESTOP = SampleFlag.LIMIT_LOW, SampleFlag.LIMIT_HIGH, SampleFlag.ESTOP


@pytest.fixture(scope="session")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return load_host(tmp_path_factory.mktemp("host"))


# What the board must do. Each check takes the library, so that mutants can be held against it.


def boots_disabled(lib: ctypes.CDLL) -> None:
    board = Logic(lib)
    board.drive(500_000, 200)
    assert not board.enabled
    assert board.drive(500_000, 20) == [0] * 20


def needs_limits_first(lib: ctypes.CDLL) -> None:
    board = Logic(lib)
    board.command(0, 0)
    board.drive(500_000, 60)
    assert not board.enabled


def needs_an_off_frame_first(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits())
    board.drive(500_000, 100)
    assert not board.enabled
    board.command(0, 0)
    board.drive(500_000, 100)
    assert board.enabled


def off_frame_grows_old(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits())
    board.command(0, 0)
    board.ticks(150)
    board.drive(500_000, 40)
    assert not board.enabled


def clamps_velocity(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits())
    board.command(0, 0)
    assert max(board.drive(4_000_000, 500)) == 1_000_000
    assert min(board.drive(-4_000_000, 800)) == -1_000_000


def ramps(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits())
    board.command(0, 0)
    path = board.drive(1_000_000, 200) + board.drive(-1_000_000, 400)
    assert path[-1] == -1_000_000
    for window in (1, 20, 100):
        ahead = zip(path, path[window:], strict=False)
        steepest = max(abs(b - a) for a, b in ahead)
        assert steepest <= 8_000 * (window + 20)


def passes_a_planned_step(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(200_000)
    board.command(200_000 + 160_000)
    assert board.ticks(1) == [360_000]


def zero_is_zero(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(100_000)
    board.drive(0, 100)
    assert board.enabled
    assert board.drive(0, 20) == [0] * 20
    assert int(lib.host_drive(board._board)) == 0


def drives_beyond_the_dead_band(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits())
    board.command(0, 0)
    for velocity, units in ((1, 100), (200_000, 400), (-200_000, -400), (1_000_000, 1600)):
        board.drive(velocity, 400)
        assert int(lib.host_drive(board._board)) == units


def reverses(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits(flags=1)).enabled_at(200_000)
    assert int(lib.host_drive(board._board)) == -400


def drive_is_bounded(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits(gain=2**32 - 1)).enabled_at(1_000_000)
    assert int(lib.host_drive(board._board)) == CEILING_DRIVE


def heartbeat_ramps_then_off(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(800_000)
    board.command(800_000)
    heard = board.now
    path = board.ticks(300)
    first = next(k for k, v in enumerate(path) if v < 800_000) + 1
    assert 80 <= first <= 100
    slopes = [a - b for a, b in pairwise(path[first - 2 :])]
    assert max(slopes) == 8_000  # a slope, not a jump
    assert path[first + 100] == 0
    assert not board.enabled
    assert board.fault == BoardFault.HEARTBEAT
    assert board.now - heard == 300


def latched_until_cleared(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(500_000)
    board.ticks(400)
    board.command(0, 0)
    board.drive(500_000, 100)
    assert not board.enabled
    assert board.fault == BoardFault.HEARTBEAT
    board.command(0, CLEAR)
    assert board.fault == BoardFault.NONE
    board.drive(500_000, 100)
    assert board.enabled


def clear_needs_the_drive_off(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(500_000)
    board.ticks(102)
    assert board.fault == BoardFault.HEARTBEAT
    board.command(500_000, ENABLE | CLEAR)
    assert board.fault == BoardFault.HEARTBEAT


def stop_is_not_undone(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(800_000)
    board.ticks(105)
    path = board.drive(800_000, 200)
    assert path[-1] == 0
    assert not board.enabled


def stale_frames_are_no_heartbeat(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(500_000)
    old = board.sequence
    for _ in range(20):
        assert not board.command(900_000, sequence=old)
        assert not board.command(900_000, sequence=old - 7)
        board.ticks(20)
    assert board.fault == BoardFault.HEARTBEAT
    assert not board.enabled


def sequence_wraps(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits())
    board.sequence = 65_500
    board.command(0, 0)
    board.drive(300_000, 2000)
    assert board.enabled
    assert board.stale == 0


def off_frames_always_count(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(500_000)
    assert board.command(0, 0, sequence=board.sequence - 1000)
    assert not board.enabled
    assert board.velocity == 0


def three_bad_frames_stop(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(500_000)
    for _ in range(3):
        assert board.fault == BoardFault.NONE
        board.bad_frame()
        board.ticks(20)
    assert board.fault == BoardFault.LINK
    assert 0 < board.velocity < 500_000  # braking, not cut
    board.ticks(100)
    assert not board.enabled


def a_burst_is_one_bad_frame(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(500_000)
    for _ in range(30):
        for _ in range(5):
            board.bad_frame()
        board.command(500_000)
        board.ticks(20)
    assert board.enabled
    for _ in range(9):
        board.bad_frame()
    assert board.fault == BoardFault.NONE


def a_switch_cuts(lib: ctypes.CDLL) -> None:
    for pressed, fault in ((LOW, BoardFault.LIMIT_LOW), (HIGH, BoardFault.LIMIT_HIGH)):
        board = Logic(lib, limits=Limits()).enabled_at(500_000)
        assert board.ticks(1, int(pressed)) == [0]
        assert not board.enabled
        assert board.fault == fault


def the_estop_cuts(lib: ctypes.CDLL) -> None:
    for flags in (ENABLE, HOMING):
        board = Logic(lib, limits=Limits()).enabled_at(100_000)
        board.drive(100_000, 40, flags)
        board.ticks(1, int(ESTOP))
        assert not board.enabled
        board.command(0, CLEAR)
        assert board.fault == BoardFault.ESTOP  # still pressed
        board.ticks(1)
        board.command(0, CLEAR)
        assert board.fault == BoardFault.NONE


def the_worst_fault_stays(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(500_000)
    board.trip(BoardFault.HEARTBEAT)
    board.trip(BoardFault.LIMIT_HIGH)
    board.trip(BoardFault.LINK)
    assert board.fault == BoardFault.LIMIT_HIGH
    assert not board.enabled


def homing_is_slow_and_blocked(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits())
    board.command(0, 0)
    assert min(board.drive(-900_000, 300, HOMING)) == -150_000
    assert board.drive(-900_000, 60, HOMING, int(LOW)) == [0] * 60
    assert board.enabled
    assert board.fault == BoardFault.NONE
    assert max(board.drive(100_000, 60, HOMING, int(LOW))) == 100_000
    board.drive(100_000, 60, HOMING)
    assert board.drive(100_000, 60, HOMING, int(HIGH)) == [0] * 60


def release_ramps_then_off(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(400_000)
    board.command(0, RELEASE)
    path = board.ticks(60)
    assert path[10] > 0
    assert path[-1] == 0
    assert not board.enabled
    assert board.fault == BoardFault.NONE
    board.drive(400_000, 60)
    assert not board.enabled


def limits_are_checked(lib: ctypes.CDLL) -> None:
    board = Logic(lib)
    good = Limits()
    for name, value in (
        ("v_max", 5_000_001),
        ("v_max", 0),
        ("home_v_max", 1_000_001),
        ("a_max", 50_001),
        ("a_max", 0),
        ("dead_band", 2048),
        ("timeout", 501),
        ("timeout", 19),
        ("stream_hz", 199),
        ("stream_hz", 501),
        ("period", 0),
        ("period", 101),
    ):
        assert not board.configure(replace(good, **{name: value})), name
    assert board.configure(good)


def limits_stay_while_on(lib: ctypes.CDLL) -> None:
    board = Logic(lib, limits=Limits()).enabled_at(500_000)
    assert not board.configure(Limits(v_max=2_000_000))
    assert max(board.drive(2_000_000, 200)) == 1_000_000


CHECKS: tuple[Callable[[ctypes.CDLL], None], ...] = (
    boots_disabled,
    needs_limits_first,
    needs_an_off_frame_first,
    off_frame_grows_old,
    clamps_velocity,
    ramps,
    passes_a_planned_step,
    zero_is_zero,
    drives_beyond_the_dead_band,
    reverses,
    drive_is_bounded,
    heartbeat_ramps_then_off,
    latched_until_cleared,
    clear_needs_the_drive_off,
    stop_is_not_undone,
    stale_frames_are_no_heartbeat,
    sequence_wraps,
    off_frames_always_count,
    three_bad_frames_stop,
    a_burst_is_one_bad_frame,
    a_switch_cuts,
    the_estop_cuts,
    the_worst_fault_stays,
    homing_is_slow_and_blocked,
    release_ramps_then_off,
    limits_are_checked,
    limits_stay_while_on,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_safety(lib: ctypes.CDLL, check: Callable[[ctypes.CDLL], None]) -> None:
    check(lib)


MUTANTS = (
    ("safety.c", "if (!silent) return;", "return;", heartbeat_ramps_then_off),
    ("safety.c", "s->limits.timeout - 1;", "s->limits.timeout + 2;", heartbeat_ramps_then_off),
    (
        "safety.c",
        "s->fault == FAULT_NONE;\n    return true;",
        "true;\n    return true;",
        latched_until_cleared,
    ),
    (
        "safety.c",
        "(int16_t)(command->sequence - s->sequence) <= 0",
        "(int16_t)(command->sequence - s->sequence) < -30000",
        stale_frames_are_no_heartbeat,
    ),
    (
        "safety.c",
        "(int16_t)(command->sequence - s->sequence) <= 0",
        "command->sequence <= s->sequence",
        sequence_wraps,
    ),
    ("safety.c", "if (enable && s->acknowledged", "if (s->acknowledged", off_frames_always_count),
    (
        "safety.c",
        "if (s->inputs & INPUT_LIMIT_HIGH) safety_trip",
        "if (0) safety_trip",
        a_switch_cuts,
    ),
    ("safety.c", "if (s->inputs & INPUT_ESTOP) safety_trip", "if (0) safety_trip", the_estop_cuts),
    (
        "safety.c",
        "if (s->fault == FAULT_ESTOP && (s->inputs & INPUT_ESTOP)) return;",
        "",
        the_estop_cuts,
    ),
    ("safety.c", "if (fault > s->fault) s->fault", "s->fault", the_worst_fault_stays),
    ("safety.c", "|| velocity == 0) return 0;", ") return 0;", zero_is_zero),
    ("safety.c", "if (s->enabled) return false;", "", limits_stay_while_on),
    (
        "safety.c",
        "if (s->bad_in_a_row && (uint16_t)(now_ms - s->bad_ms) < BURST_MS) return;",
        "",
        a_burst_is_one_bad_frame,
    ),
    ("safety.c", "  s->bad_in_a_row = 0;", "", a_burst_is_one_bad_frame),
    (
        "safety.c",
        "if ((low && s->target < 0) || (high && s->target > 0)) s->target = 0;",
        "",
        homing_is_slow_and_blocked,
    ),
    (
        "safety.c",
        "s->homing ? s->limits.home_v_max : s->limits.v_max",
        "s->limits.v_max",
        homing_is_slow_and_blocked,
    ),
    ("safety.c", "if (!s->enabled || s->stopping) return true;", "", stop_is_not_undone),
    (
        "safety.c",
        "  if (s->may_enable) {",
        "  if (s->configured && s->fault == FAULT_NONE) {",
        needs_an_off_frame_first,
    ),
    (
        "safety.c",
        "  s->may_enable = false;\n}\n\nvoid safety_tick",
        "}\n\nvoid safety_tick",
        off_frame_grows_old,
    ),
    ("safety.c", "units < (uint32_t)room ?", "units < 60000u ?", drive_is_bounded),
    ("safety.c", "  ramp_drain(&s->ramp);", "", heartbeat_ramps_then_off),
    ("ramp.c", "if (step < -ramp->budget) step = -ramp->budget;", "", ramps),
    ("ramp.c", "if (ramp->budget > full) ramp->budget = full;", "", ramps),
    (
        "ramp.c",
        "int32_t full = slope * period_ms;",
        "int32_t full = slope; (void)period_ms;",
        passes_a_planned_step,
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m[1].strip()[:40]}")
def test_a_named_check_kills_each_mutant(
    tmp_path: Path, mutant: tuple[str, str, str, Callable[[ctypes.CDLL], None]]
) -> None:
    name, old, new, check = mutant
    source = mutated_sources(tmp_path / "source", name, old, new)
    with pytest.raises(AssertionError):
        check(load_host(tmp_path, source))


def test_random_hosts_under_sanitizers(tmp_path: Path) -> None:
    target = tmp_path / "fuzz"
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    compile_c(target, "-g", "-O1", *sanitizers, str(HOST / "fuzz.c"))
    for seed in range(4):
        done = subprocess.run(
            [str(target), str(seed), "500000"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"seed {seed}: {done.stderr}{done.stdout}"


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=40))
def test_c_and_python_stuff_and_sum_alike(lib: ctypes.CDLL, data: bytes) -> None:
    out = ctypes.create_string_buffer(64)
    size = lib.host_cobs_encode(out, data, len(data))
    assert out.raw[:size] == cobs_encode(data)
    assert lib.host_crc(data, len(data)) == crc16(data)
    assert cobs_decode(cobs_encode(data)) == data


@settings(max_examples=300, deadline=None)
@given(data=st.binary(min_size=1, max_size=40))
def test_c_and_python_unstuff_anything_alike(lib: ctypes.CDLL, data: bytes) -> None:
    buffer = ctypes.create_string_buffer(data, len(data))
    size = lib.host_cobs_decode(buffer, len(data))
    decoded = cobs_decode(data)
    if b"\x00" in data:
        return  # a splitter never hands zeros on
    assert (buffer.raw[:size] or None) == (decoded or None)


def test_quadrature_counts_every_path(lib: ctypes.CDLL) -> None:
    up = (0, 1, 3, 2)  # (B << 1) | A
    for k, state in enumerate(up):
        assert lib.host_quadrature(state, up[(k + 1) % 4]) == 1
        assert lib.host_quadrature(state, up[(k - 1) % 4]) == -1
        assert lib.host_quadrature(state, state) == 0
        assert lib.host_quadrature(state, up[(k + 2) % 4]) == 2  # illegal


@pytest.mark.parametrize("units", [0, 1, -1, 127, 128, 2047, -2047])
def test_packet_serial(lib: ctypes.CDLL, units: int) -> None:
    out = ctypes.create_string_buffer(9)
    lib.host_packet(out, units)
    head, body = out.raw[:4], out.raw[4:]
    assert head[:3] == bytes((128, 40, units < 0))
    assert head[3] == sum(head[:3]) & 127
    assert body[4] == sum(body[:4]) & 127
    assert body[0] | body[1] << 7 == abs(units)
    assert body[2:4] == b"M\x01"


def test_sources_are_there() -> None:
    assert (FIRMWARE / "firmware.ino").exists()
