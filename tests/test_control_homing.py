"""Homing on the simulated rig: nothing is pushed, nothing is taken for granted, twelve seconds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from support.yard import Four, Yard, settings

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.governor import within
from cartpole.control.homing import Homing
from cartpole.control.homing_records import HomingPhase
from cartpole.messages import (
    EncoderSample,
    HomingResult,
    Measurement,
    Mode,
    Request,
    RequestKind,
)
from cartpole.rules.control import homing_rules
from cartpole.rules.firmware_bridge import link_rules
from cartpole.sim.rig import VirtualRig


def test_finds_both_zeros_and_what_the_moves_show() -> None:
    yard = Yard(settings(), (-0.1, 0.0, 0.2, 0.0))
    assert yard.home() <= 12.0
    assert yard.records[-1].mode is Mode.READY
    found, true = yard.core.homed, yard.rig.homing
    assert found is not None
    assert found.cart_zero_counts == pytest.approx(true.cart_zero_counts, abs=40)
    assert found.pole_zero_counts == pytest.approx(true.pole_zero_counts, abs=0.5)
    assert found.travel_m == pytest.approx(0.88, abs=0.003)
    assert found.gain == pytest.approx(1.0, abs=0.01)
    assert found.coupling_1_m == pytest.approx(3.0, rel=0.02)
    assert found.lag_s == pytest.approx(0.058, abs=0.015)


@pytest.mark.parametrize("p_m", [0.4401, 0.445, -0.4401, -0.445])
def test_a_switch_that_the_cart_began_on_is_where_it_let_go(p_m: float) -> None:
    """Taken for where the crawl ended, the middle was up to 5 mm off: as much as accuses counts."""
    yard = Yard(settings(), (p_m, 0.0, 0.0, 0.0))
    yard.home()
    found, true = yard.core.homed, yard.rig.homing
    assert found is not None, yard.said
    assert found.cart_zero_counts == pytest.approx(true.cart_zero_counts, abs=30)
    assert found.travel_m == pytest.approx(0.88, abs=0.003)


def test_a_switch_that_comes_and_goes_under_a_standing_cart_is_the_one_it_stands_on() -> None:
    yard = Yard(settings(), (0.0, 0.0, 0.0, 0.0))
    honest = yard.rig.advance
    shaken = [False]

    def advance(now_ns: int) -> tuple[Measurement, ...]:
        """Pressed in half of the samples of the first tenth of a second, and once in the crawl."""
        found = list(honest(now_ns))
        state = yard.core._memory.homing
        looks = state is not None and state.phase is HomingPhase.LOOK
        crawls = state is not None and state.phase is HomingPhase.CRAWL and not shaken[0]
        shaken[0] = shaken[0] or crawls
        early = looks and state is not None and now_ns - state.started_ns < 100_000_000
        for n, one in enumerate(found):
            if isinstance(one, EncoderSample) and (crawls or (early and n % 2)):
                found[n] = replace(one, limit_high=True)
        return tuple(found)

    yard.rig.advance = advance  # type: ignore[method-assign]
    yard.home()
    assert shaken[0]
    assert "the right switch was pressed" not in yard.said


@pytest.mark.parametrize("active", ["high", "low"])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, 1)])
def test_any_signs_and_either_level(active: str, signs: tuple[int, int, int]) -> None:
    motor, cart, pole = signs
    yard = Yard(
        settings(
            motor__sign=motor,
            encoder__cart_sign=cart,
            encoder__pole_sign=pole,
            encoder__switch_active=active,
        ),
        (0.2, 0.0, 1.0, 0.0),
    )
    assert yard.home() <= 12.0
    assert yard.records[-1].mode is Mode.READY


def test_twelve_seconds_on_a_long_track_from_its_far_end() -> None:
    """The way to the switches leaves no time to calm this pole wholly: the filter takes it."""
    long = settings(
        rig__track_length_m=1.14,
        rig__position_limit_m=0.49,
        sim__damping_1_s=0.0,
        sim__counts_per_m_s=1620.0,
    )
    yard = Yard(long, (0.53, 0.0, -2.4, -7.3))
    assert yard.home() <= 12.0
    assert yard.records[-1].mode is Mode.READY


@pytest.mark.parametrize("friction", [(0.0, 0.0), (0.3, 1.0)])
@pytest.mark.parametrize("start", [(0.43, 0.0, 3.1, 0.0), (-0.44, 0.0, -2.0, 8.0)])
def test_twelve_seconds_whatever_the_friction_and_the_swing(
    start: Four, friction: tuple[float, float]
) -> None:
    damping, dry = friction
    yard = Yard(settings(sim__damping_1_s=damping, sim__coulomb_rad_s2=dry), start)
    assert yard.home() <= 12.0
    assert yard.records[-1].mode is Mode.READY
    angle = math.remainder(yard.truths[-1][2], 2.0 * math.pi)
    assert abs(angle) < 0.1


@pytest.mark.parametrize("start", [(0.43, 0.0, 3.1, 0.0), (-0.44, 0.0, -2.0, 8.0)])
def test_a_bridge_board_need_cut_no_command(start: Four) -> None:
    config = settings(sim__damping_1_s=0.0)
    told = link_rules(config)
    yard = Yard(config, start)
    yard.home()
    homing = (record.command for record in yard.records if record.command.homing)
    fastest = max(abs(command.velocity_m_s) for command in homing)
    assert 2.0 * homing_rules(config).speed_m_s < fastest <= told.homing_speed_m_s


def test_the_zero_is_right_after_turns_of_the_pole() -> None:
    yard = Yard(settings(sim__damping_1_s=0.0), (0.0, 0.0, 0.0, 13.0))
    yard.home()
    found, true = yard.core.homed, yard.rig.homing
    assert found is not None
    turns = (found.pole_zero_counts - true.pole_zero_counts) / 1200.0
    assert turns == pytest.approx(round(turns), abs=0.5 / 1200.0)
    estimate = yard.records[-1].estimate
    assert estimate is not None
    assert abs(estimate.state[2]) < 0.2


def test_both_switches_pressed_move_nothing() -> None:
    yard = Yard(settings(), truth=settings(sim__switch_active="low"))
    yard.home()
    assert all(record.command.velocity_m_s == 0.0 for record in yard.records)
    assert "encoder.switch_active" in yard.said
    assert yard.records[-1].mode in (Mode.DISARMED, Mode.FAULT)


def test_both_switches_pressed_on_the_way_stop_it_at_once() -> None:
    yard = Yard(settings())
    yard.tick(ask=(Request(RequestKind.ARM),))
    for _ in range(40):
        yard.tick()
    assert yard.records[-1].command.velocity_m_s != 0.0
    yard.rig.plant.limits = lambda t_ns: (True, True)  # type: ignore[method-assign]
    for _ in range(2):
        yard.tick()
    assert "both switches read pressed" in yard.said
    assert yard.records[-1].mode is Mode.SAFE_STOP


@pytest.mark.parametrize("name", ["low", "high"])
def test_one_switch_that_stays_pressed_is_named(name: str) -> None:
    yard = Yard(settings())

    def stuck(t_ns: int) -> tuple[bool, bool]:
        p = yard.rig.plant.advance(t_ns)[0]
        return p <= -0.44 or name == "low", p >= 0.44 or name == "high"

    yard.rig.plant.limits = stuck  # type: ignore[method-assign]
    for _ in range(5):
        yard.tick()
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    assert f"the {'left' if name == 'low' else 'right'} switch stays pressed" in yard.said
    assert yard.moved_m < 0.06


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_the_other_level_at_an_end_pushes_less_than_a_centimetre(end: float) -> None:
    """There the pressed switch reads free and the free one pressed: the cart is led outward."""
    yard = Yard(settings(), (0.455 * end, 0.0, 0.0, 0.0), settings(sim__switch_active="low"))
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    outward = yard.pushed_s(lambda truth: abs(truth[0]) > 0.45) * 0.06
    assert outward < 0.02
    assert yard.moved_m < 0.02


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sim.motor_sign": -1}, "motor.sign is reversed"),
        ({"sim.cart_sign": -1}, "encoder.cart_sign is reversed"),
    ],
)
def test_a_reversed_sign_is_named_in_the_first_centimetres(
    wrong: dict[str, Any], named: str
) -> None:
    yard = Yard(settings(), truth=with_values(settings(), wrong))
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    assert named in yard.said
    assert yard.moved_m <= 0.02


def test_a_reversed_pole_encoder_is_named_before_the_pole_is_driven() -> None:
    yard = Yard(settings(), (0.0, 0.0, 0.5, 0.0), settings(sim__pole_sign=-1))
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    assert "encoder.pole_sign is reversed" in yard.said
    assert abs(yard.truths[-1][2]) < 1.0


@pytest.mark.parametrize(
    ("wrong", "says", "most_m"),
    [
        ({"sim.counts_per_m_s": 150.0, "sim.dead_band_counts": 100.0}, "commanded speed", 0.12),
        ({"sim.counts_per_m_s": 15000.0, "sim.dead_band_counts": 100.0}, "a unit of", 0.03),
        ({"sim.cart_counts_per_m": 2000.0}, "a unit of", 0.03),
        ({"sim.counts_per_m_s": 100000.0}, "does not move", 0.03),
    ],
)
def test_wrong_units_are_named_before_the_cart_is_fast(
    wrong: dict[str, Any], says: str, most_m: float
) -> None:
    quiet = {"sim.cart_disturbance": 0.0}
    yard = Yard(settings(), truth=with_values(settings(), wrong | quiet))
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    assert says in yard.said
    assert yard.moved_m < most_m


def test_a_held_cart_is_let_go_within_a_third_of_a_second() -> None:
    def hold(rig: VirtualRig, _t: float) -> None:
        state = rig.plant._state
        if state[0] < -0.2:
            state[0], state[1] = -0.2, 0.0

    yard = Yard(settings(), each=hold)
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    assert "held up" in yard.said
    assert yard.pushed_s(lambda truth: truth[0] <= -0.199) <= 0.36


def test_a_cart_held_from_the_start_is_let_go_within_a_third_of_a_second() -> None:
    def hold(rig: VirtualRig, _t: float) -> None:
        rig.plant._state[0] = rig.plant._state[1] = 0.0

    yard = Yard(settings(), each=hold)
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT, yard.said
    assert yard.pushed_s(lambda _truth: True) <= 0.36


def test_a_drive_that_sticks_at_the_crawl_is_not_held() -> None:
    """It stands until it is told more than 7 cm/s."""
    sticks = settings(sim__drive_stiction_m_s2=1.4, sim__cart_disturbance=0.0)
    yard = Yard(settings(), truth=sticks)
    yard.home()
    assert yard.records[-1].mode is Mode.READY, yard.said


def test_a_track_shorter_than_the_limits_never_arms() -> None:
    truth = settings(rig__track_length_m=0.802)
    yard = Yard(settings(rig__position_limit_m=0.42), truth=truth)
    yard.home()
    assert yard.records[-1].mode is Mode.FAULT
    assert "rig.position_limit_m 0.420 m lies outside" in yard.said
    yard = Yard(settings(), truth=truth)
    yard.home()
    assert yard.records[-1].mode is Mode.READY
    limits = within(yard.core.rules.governor, yard.core.homed)
    assert limits.stop_m == pytest.approx(0.401, abs=0.002)


def test_an_earlier_homing_is_believed_while_it_stands_the_tolerances() -> None:
    homing = Homing(homing_rules(Config()))
    assert homing.believes(HomingResult(0.0, 0.0))
    assert homing.believes(HomingResult(0.0, 0.0, travel_m=0.87, gain=1.05))
    assert not homing.believes(HomingResult(0.0, 0.0, travel_m=0.7))
    assert not homing.believes(HomingResult(0.0, 0.0, travel_m=0.88, gain=1.2))
