"""A drive that does not follow is told from one that is slow, starts or is misread."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from support.flights import Flight

from cartpole.control.drive_watch import DriveMemory, DriveRules, follow, stuck
from cartpole.messages import (
    EncoderSample,
)

DRIVE = DriveRules(1.0, 0.05, 8.0, 0.02, 5)


def trace(response: Callable[[float, float], float], seconds: float = 1.0) -> bool:
    """Whether a drive whose speed goes ``response(v, u)`` in a tick is called stuck."""
    memory, speed = DriveMemory(), 0.0
    for tick in range(round(50 * seconds)):
        command = math.copysign(1.0, math.sin(2.0 * math.pi * tick / 40))
        speed = response(speed, command)
        memory = follow(memory, DRIVE, command, speed)
        if stuck(memory, DRIVE):
            return True
    return False


def test_one_wrong_count_is_no_dead_drive() -> None:
    """A digit lost on a wire without a check sum, in any tick of a swing-up: a fork of each."""
    flight = Flight()
    flight.up(0.1)
    for _ in range(90):
        twin = flight.core.fork()
        record = flight.tick()
        found = record.input.measurements
        last = [one for one in found if isinstance(one, EncoderSample)][-1]
        others = [one for one in found if one is not last]
        for off in (-400, 400):
            wrong = dataclasses.replace(last, cart_counts=last.cart_counts + off)
            spoilt = dataclasses.replace(record.input, measurements=(*others, wrong))
            faults = twin.fork().tick(spoilt).faults
            assert "velocity stuck" not in {fault.name for fault in faults}


def test_slow_drives_are_not_stuck_and_dead_ones_are() -> None:
    assert not trace(lambda v, u: v + (u - v) * (1.0 - math.exp(-0.02 / 0.15)))  # three times tau
    assert not trace(lambda v, u: v + math.copysign(min(0.06, abs(u - v)), u - v))  # 3 m/s^2
    assert not trace(lambda v, u: v + 0.33 * (0.9 * u - v))  # gain
    assert trace(lambda _v, _u: 0.0)
    assert trace(lambda _v, _u: 0.7)


def test_a_command_without_its_sign_is_no_dead_drive() -> None:
    """Five ticks as they were seen: a start, one tick of the wrong sign, a belt that swings."""
    rules = DriveRules(1.5, 0.065, 13.0, 0.02, 5)
    memory = DriveMemory()
    for command, speed in ((-0.2, 0.02), (-0.45, 0.02), (-0.7, -0.07), (-0.95, -0.05), (-0.7, 0.02),
                           (-0.8, 0.0)):  # fmt: skip
        memory = follow(memory, rules, command, speed)
        assert not stuck(memory, rules)
    for _ in range(8):
        memory = follow(memory, rules, -0.9, 0.0)
    assert stuck(memory, rules)


def test_a_dead_drive_is_noticed_in_a_tenth_of_a_second_while_swinging() -> None:
    flight = Flight()
    flight.up(0.3)
    flight.rig.plant.command = lambda t_ns, velocity_m_s: None  # type: ignore[method-assign]
    held, before = 0, flight.rig.truth(flight.now_ns)[1]
    for _ in range(60):
        record = flight.tick()
        speed = flight.rig.truth(flight.now_ns)[1]
        still, before = abs(speed - before) < 0.03, speed
        held += still and abs(record.command.velocity_m_s - speed) > 0.3
        if record.faults:
            break
    assert flight.faults[0] == "velocity stuck"
    assert held <= 7  # 100 ms of judged ticks, the first command and the tick that says it


def test_a_dead_drive_is_noticed_within_a_second_while_balancing() -> None:
    flight = Flight()
    flight.up()
    flight.rig.plant.command = lambda t_ns, velocity_m_s: None  # type: ignore[method-assign]
    flight.run(1.0)
    assert "velocity stuck" in flight.faults


def test_a_drive_that_has_just_begun_to_move_is_no_dead_one() -> None:
    rules = DriveRules(1.0, 0.05, 8.0, 0.02, 5)
    memory, speed = DriveMemory(), 0.0
    for _ in range(5):
        memory = follow(memory, rules, 0.6, speed)
    assert not stuck(memory, rules)  # one tick is missing
    for _ in range(2):
        speed += 0.02
        memory = follow(memory, rules, 0.6, speed)
        assert len(memory.progress) >= rules.ticks
    assert not stuck(memory, rules)
    for _ in range(2):
        memory = follow(memory, rules, 0.6, speed)
    assert stuck(memory, rules)
