"""What homing learns of the drive: gain, dead band, ramp; and what spoilt counts are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.yard import Yard, settings

from cartpole.config.schema import Config
from cartpole.control import homing_drive
from cartpole.control.homing_records import HomingPhase
from cartpole.messages import (
    EncoderSample,
    Measurement,
    Mode,
    Request,
    RequestKind,
)
from cartpole.sim.rig import VirtualRig


@pytest.mark.parametrize("hertz", [1.0, 3.0, 10.0])
def test_a_drive_that_ripples_by_five_centimetres_a_second_homes(hertz: float) -> None:
    def ripple(rig: VirtualRig, t: float) -> None:
        if rig.plant._command != 0.0:
            rig.plant._state[0] += 0.02 * 0.05 * math.sin(2.0 * math.pi * hertz * t)

    yard = Yard(settings(), each=ripple)
    yard.home()
    assert yard.records[-1].mode is Mode.READY, yard.said


def test_lost_bytes_are_not_taken_for_a_wrong_gain() -> None:
    yard = Yard(settings())
    rng = np.random.default_rng(0)
    whole = yard.rig._motor.exchange

    def exchange(t_ns: int, received: bytes) -> bytes:
        return whole(t_ns, bytes(byte for byte in received if rng.random() > 0.01))

    yard.rig._motor.exchange = exchange  # type: ignore[method-assign]
    yard.home()
    assert yard.records[-1].mode is Mode.READY, yard.said
    assert yard.core.homed is not None
    assert yard.core.homed.gain == pytest.approx(1.0, abs=0.03)


def drive_with(dead_band: float, gain: float) -> Config:
    """Told a dead band of 100 and a gain of one."""
    return settings(sim__dead_band_counts=dead_band, sim__counts_per_m_s=1500.0 / gain)


@pytest.mark.parametrize(("dead_band", "gain"), [(120.0, 0.95), (80.0, 1.05)])
def test_a_dead_band_that_is_set_wrong_is_no_wrong_gain(dead_band: float, gain: float) -> None:
    """It takes as much speed from slow moves as from quick ones: from slow ones a tenth."""
    yard = Yard(settings(), truth=drive_with(dead_band, gain))
    yard.home()
    assert yard.records[-1].mode is Mode.READY, yard.said
    assert yard.core.homed is not None
    assert yard.core.homed.gain == pytest.approx(gain, abs=0.03)


@pytest.mark.parametrize(("dead_band", "gain"), [(130.0, 1.17), (70.0, 0.83)])
def test_a_wrong_gain_is_refused_though_a_dead_band_hides_it(dead_band: float, gain: float) -> None:
    yard = Yard(settings(), truth=drive_with(dead_band, gain))
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    assert "times the commanded speed" in yard.said


@pytest.mark.parametrize("off_m", [-0.012, 0.03])
def test_one_spoilt_count_in_the_first_centimetre_accuses_nobody(off_m: float) -> None:
    """A digit lost on a line without a check sum, in the last sample of a tick."""
    yard = Yard(settings())
    honest, spoilt = yard.rig.advance, [False]
    off = round(off_m * Config().encoder.cart_counts_per_m)

    def advance(now_ns: int) -> tuple[Measurement, ...]:
        found = list(honest(now_ns))
        state = yard.core._memory.homing
        crawls = state is not None and state.phase is HomingPhase.CRAWL
        if state is None or not crawls or homing_drive.wanted_m(state.drive) > -0.006:
            return tuple(found)
        for n in reversed(range(len(found))):
            last = found[n]
            if isinstance(last, EncoderSample) and not spoilt[0]:
                spoilt[0] = True
                found[n] = replace(last, cart_counts=last.cart_counts - off)
        return tuple(found)

    yard.rig.advance = advance  # type: ignore[method-assign]
    yard.home()
    assert spoilt[0]
    assert yard.records[-1].mode is Mode.READY, yard.said


@pytest.mark.parametrize("off_m", [-0.012, 0.012])
def test_one_spoilt_count_at_a_pieces_end_is_no_drive_that_runs(off_m: float) -> None:
    """It makes one piece too short and its neighbour too long: two that disagree."""

    def struck(spoilt: Callable[[int], float]) -> list[float]:
        drive, position_m, found = homing_drive.leg(homing_drive.Drive(), 0.0), 0.0, []
        for tick in range(1, 61):
            position_m += 0.1 * 0.02
            seen = (position_m + spoilt(tick), 0.1)
            drive = homing_drive.follow(drive, seen, 0.1, 0.02, 0.02, 8.0)
            found += [gain for gain in [homing_drive.strike(drive)] if gain is not None]
        return found

    assert struck(lambda tick: off_m * (tick == 30)) == []
    assert struck(lambda tick: 0.12 * 0.02 * tick)[0] == pytest.approx(2.2, abs=0.2)


def test_a_failed_homing_acts_in_its_own_tick() -> None:
    yard = Yard(settings(), truth=settings(sim__motor_sign=-1))
    yard.home()
    first = next(record for record in yard.records if record.faults)
    assert first.mode is Mode.SAFE_STOP


def test_a_driver_that_ramps_far_too_slowly_is_named_before_arming() -> None:
    yard = Yard(settings(), truth=settings(sim__drive_ramp_m_s2=3.0))
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    found = re.search(r"the driver ramps its speed by (\d\.\d) m/s²", yard.said)
    assert found is not None, yard.said
    assert float(found[1]) == pytest.approx(3.0, abs=0.3)
    assert f"set rig.acceleration_limit_m_s2 to {found[1]}" in yard.said


def test_a_ramp_so_slow_that_the_cart_seems_held_is_named_as_a_ramp() -> None:
    yard = Yard(settings(), truth=settings(sim__drive_ramp_m_s2=2.0))
    yard.home()
    assert "the driver ramps its speed by " in yard.said
    assert "held up" not in yard.said


def test_a_ramp_that_can_be_borne_is_the_limit_of_commands_and_plans() -> None:
    yard = Yard(settings(), truth=settings(sim__drive_ramp_m_s2=5.5))
    yard.home()
    assert yard.records[-1].mode is Mode.READY, yard.said
    model = yard.core._observer.model
    assert 4.4 < model.motor_acceleration_m_s2 < 5.8
    assert "drive ramp differs" in {fault.name for fault in yard.records[-1].faults}
    yard.tick(ask=(Request(RequestKind.SWING_UP),))
    before = len(yard.records)
    for _ in range(100):
        yard.tick()
    sent = [record.command.velocity_m_s for record in yard.records[before - 1 :]]
    steps = np.abs(np.diff(sent)) / 0.02
    assert steps.max() <= model.motor_acceleration_m_s2 + 1e-9
    assert steps.max() > 0.9 * model.motor_acceleration_m_s2


@pytest.mark.parametrize(
    "drive",
    [
        {"sim__tau_s": 0.15},
        {"sim__drive_ripple_m_s": 0.05},
        {"sim__delay_s": 0.058},
        {"sim__drive_ramp_m_s2": 9.0},
        {},
    ],
)
def test_a_slow_drive_is_taken_for_no_ramp(drive: dict[str, float]) -> None:
    yard = Yard(settings(), truth=settings(**drive))
    yard.home()
    assert yard.core.homed is not None, yard.said
    assert yard.core.homed.ramp_m_s2 == 0.0
