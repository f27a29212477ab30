"""The governor's bounds by their own figures: each term of each is noticed when it is gone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cartpole.config.schema import Config
from cartpole.control.governor import (
    LAG_FACTOR,
    GovernorLimits,
    for_model,
    govern,
    outward_bound,
    within,
)
from cartpole.messages import HomingResult
from cartpole.model.parameters import ModelParameters
from cartpole.rules.control import governor_limits

# Room so wide that only the silent host bounds.
WIDE = GovernorLimits(
    velocity_m_s=5.0,
    acceleration_m_s2=8.0,
    position_m=5.0,
    stop_m=0.44,
    margin_m=0.005,
    lag_s=0.065,
    notice_s=0.12,
    period_s=0.02,
)
NARROW = replace(WIDE, stop_m=50.0, position_m=0.36)


def way_of_a_silent_host(speed: float) -> float:
    """From I2's words: the speed is kept until it is noticed and the lag is over, then braked."""
    braked = speed * speed / (2.0 * WIDE.acceleration_m_s2)
    return speed * (WIDE.notice_s + WIDE.lag_s) + braked


@pytest.mark.parametrize("position", [0.0, 0.2, 0.4])
def test_a_silent_host_stops_a_margin_before_the_switch(position: float) -> None:
    bound = outward_bound(position, 0.0, 0.0, WIDE)
    assert way_of_a_silent_host(bound) == pytest.approx(0.44 - 0.005 - position)


def test_what_is_in_flight_uses_up_room() -> None:
    bound = outward_bound(0.2, 0.0, 0.05, WIDE)
    assert way_of_a_silent_host(bound) == pytest.approx(0.44 - 0.005 - 0.25)
    less = outward_bound(0.25, 0.0, 0.0, NARROW)
    assert outward_bound(0.2, 0.0, 0.05, NARROW) == pytest.approx(less)


def test_beyond_the_margin_nothing_goes_outward() -> None:
    assert outward_bound(0.435, 0.0, 0.0, WIDE) <= 0.0
    assert outward_bound(0.36, 0.0, 0.0, NARROW) == 0.0
    assert outward_bound(0.5, 0.0, 0.0, WIDE) <= 0.0


def test_a_moving_cart_has_less_room_by_its_lag() -> None:
    moving = outward_bound(0.2, 0.5, 0.0, NARROW)
    assert moving == pytest.approx(outward_bound(0.2 + 0.5 * NARROW.lag_s, 0.0, 0.0, NARROW))
    # A cart that moves inward is given a little more, never its whole lag.
    inward = outward_bound(0.29, 0.0, 0.0, NARROW)
    assert outward_bound(0.3, -0.5, 0.0, NARROW) == pytest.approx(inward)


def test_a_stronger_drive_has_less_room() -> None:
    strong = outward_bound(0.26, 0.0, 0.0, replace(NARROW, gain=2.0))
    assert strong == pytest.approx(outward_bound(0.31, 0.0, 0.0, NARROW))


def test_both_ends_alike() -> None:
    for position, velocity, flying in ((0.3, 0.4, 0.01), (0.42, 0.0, 0.0), (0.2, -0.3, -0.02)):
        limits = replace(WIDE, position_m=0.36)
        right = govern(3.0, 2.0, (position, velocity), flying, limits)
        left = govern(-3.0, -2.0, (-position, -velocity), -flying, limits)
        assert right.velocity_m_s == -left.velocity_m_s
        assert right.limited_by == left.limited_by


def test_an_unknown_position_leaves_speed_and_acceleration() -> None:
    assert govern(0.1, 0.0, None, 0.0, NARROW).velocity_m_s == 0.1
    assert govern(0.1, 0.0, (math.nan, 0.0), 0.0, NARROW).velocity_m_s == 0.1
    assert govern(0.1, 0.0, (0.5, 0.0), 0.0, NARROW).velocity_m_s == 0.0
    assert govern(9.0, 4.99, None, 0.0, NARROW).velocity_m_s == 5.0


def test_the_shorter_track_counts() -> None:
    assert within(WIDE, None) == WIDE
    assert within(WIDE, HomingResult(0.0, 0.0, 0.80)).stop_m == 0.40
    assert within(WIDE, HomingResult(0.0, 0.0, 0.90)) == WIDE
    assert within(WIDE, HomingResult(0.0, 0.0, 0.0)) == WIDE


def test_a_drive_found_slower_or_stronger_counts() -> None:
    slow = for_model(WIDE, ModelParameters(tau_s=0.1, gain=1.2))
    assert slow.lag_s == pytest.approx(LAG_FACTOR * 0.1)
    assert slow.gain == 1.2
    quick = for_model(WIDE, ModelParameters(tau_s=0.01, gain=0.8))
    assert (quick.lag_s, quick.gain) == (WIDE.lag_s, 1.0)


def test_settings_reach_the_governor() -> None:
    config = Config()
    limits = governor_limits(config)
    assert limits.lag_s == pytest.approx(1.3 * config.motor.tau_s)
    silence = config.safety.board_timeout_s + config.controller.period_s
    assert limits.notice_s == pytest.approx(silence)
    assert limits.stop_m == config.rig.track_length_m / 2
    assert limits.margin_m == config.safety.stop_margin_m
    assert limits.position_m == config.rig.position_limit_m
    assert limits.acceleration_m_s2 == min(
        config.rig.acceleration_limit_m_s2, config.motor.acceleration_m_s2
    )
