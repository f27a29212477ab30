"""The whole loop around the compiled firmware: plant, chip, codec, core; in virtual time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import pytest
from support.firmware import ROOT, needs_chip
from support.firmware_run import FirmwareRun

from cartpole.config.load import load_config
from cartpole.messages import THETA, Mode, P, Request, RequestKind, TickRecord
from firmware_bridge.protocol import BoardFault
from firmware_bridge.simulator.machine import PIN_LIMIT_HIGH

pytestmark = needs_chip


def new_run(*overrides: str) -> FirmwareRun:
    path = ROOT / "config" / "sim-firmware.yaml"
    return FirmwareRun(load_config(path, ["camera.source=none", *overrides]))


@pytest.fixture
def run() -> Iterator[FirmwareRun]:
    made = new_run("sim.homed=true")
    yield made
    made.close()


def fly(run: FirmwareRun, seconds: float, *requests: Request) -> list[TickRecord]:
    records = [run.tick(*requests)]
    return records + [run.tick() for _ in range(round(seconds * 50) - 1)]


def last_words(records: list[TickRecord]) -> set[str]:
    return {fault.name for fault in records[-1].faults}


def test_homes_swings_up_and_holds() -> None:
    run = new_run("sim.homed=false")
    records = fly(run, 22.0)
    tail: list[tuple[float, float, float, float]] = []
    while len(tail) < 100:
        tail.append(run.plant.state)
        records.append(run.tick())
    run.close()
    assert records[-1].mode is Mode.BALANCE
    assert max(abs(state[THETA] % math.tau - math.pi) for state in tail) < 0.1
    assert max(abs(state[P]) for state in tail) < 0.1
    counters = run.codec.statistics.counters
    assert counters.cart_errors == counters.pole_errors == counters.bad_frames == 0
    assert run.codec.statistics.lost == run.codec.statistics.spoilt == 0
    estimate = records[-1].estimate
    assert estimate is not None
    assert estimate.state[P] == pytest.approx(run.plant.state[P], abs=0.003)


def test_the_same_bytes_again() -> None:
    digests = set()
    for _ in range(2):
        run = new_run("sim.homed=true")
        fly(run, 2.5)
        digests.add(hashlib.sha256(bytes(run.received)).hexdigest())
        run.close()
    assert len(digests) == 1


def test_a_reboot_ends_in_fault_and_a_person_brings_it_back(run: FirmwareRun) -> None:
    fly(run, 4.0)
    assert run.core.mode is Mode.BALANCE
    run.board.machine.reset()
    records = fly(run, 1.5)
    assert records[-1].mode is Mode.FAULT
    assert last_words(records) & {"board rebooted", "motor lost", "encoder lost", "state stale"}
    assert not any(record.command.enable for record in records[-20:])
    run.tick(Request(RequestKind.RESET))
    records = fly(run, 1.0)
    assert records[-1].mode is Mode.DISARMED
    assert run.codec.statistics.counters.fault is BoardFault.NONE


def test_the_board_s_own_stop_reaches_the_core(run: FirmwareRun) -> None:
    fly(run, 4.0)
    run.board.machine.pin(PIN_LIMIT_HIGH, True)
    records = fly(run, 0.2)
    assert records[-1].mode is Mode.FAULT
    assert last_words(records) & {"board fault", "limit switch"}
    first = next(k for k, record in enumerate(records) if not record.command.enable)
    assert first <= 2
    run.board.machine.pin(PIN_LIMIT_HIGH, False)


def test_the_estop_wins_over_everything(run: FirmwareRun) -> None:
    fly(run, 2.0)
    run.board.press_estop(True)
    records = fly(run, 0.3)
    assert records[-1].mode is Mode.FAULT
    run.tick(Request(RequestKind.RESET))
    fly(run, 0.3, Request(RequestKind.ARM))
    assert run.codec.statistics.counters.fault is BoardFault.ESTOP
    assert run.codec.statistics.counters.drive_units == 0
