"""The governor: whatever is asked, what goes out keeps every limit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cartpole.config.schema import Config
from cartpole.control.governor import (
    _largest_command,
    braking_travel,
    for_model,
    govern,
)
from cartpole.messages import P
from cartpole.model.dynamics import rig_step
from cartpole.model.parameters import ModelParameters
from cartpole.rules.control import governor_limits

LIMITS = governor_limits(Config())
anything = st.floats(allow_nan=True, allow_infinity=True)


@given(desired=anything, previous=st.floats(-1.0, 1.0), p=st.floats(-0.44, 0.44), v=anything)
def test_speed_and_acceleration_hold_whatever_is_asked(
    desired: float, previous: float, p: float, v: float
) -> None:
    out = govern(desired, previous, (p, v), 0.0, LIMITS).velocity_m_s
    assert math.isfinite(out)
    assert abs(out) <= LIMITS.velocity_m_s + 1e-12
    step = LIMITS.acceleration_m_s2 * LIMITS.period_s
    assert abs(out - previous) <= step + 1e-12


@given(command=st.floats(0.0, 1.0))
def test_largest_command_inverts_braking_travel(command: float) -> None:
    travel = braking_travel(command, LIMITS)
    assert _largest_command(travel, LIMITS) == pytest.approx(command, abs=1e-9)


def test_braking_travel_is_the_area_of_the_staircase() -> None:
    step = LIMITS.acceleration_m_s2 * LIMITS.period_s
    for command in (0.05, 0.16, 0.5, 1.0):
        stairs, area = command, 0.0
        while stairs > 0.0:
            area += stairs * LIMITS.period_s
            stairs -= step
        assert braking_travel(command, LIMITS) == pytest.approx(area)


def test_what_limited_is_named() -> None:
    assert govern(math.nan, 0.0, (0.0, 0.0), 0.0, LIMITS).limited_by == "not finite"
    assert govern(5.0, 0.95, (0.0, 0.0), 0.0, LIMITS).limited_by == "speed"
    assert govern(0.5, 0.0, (0.0, 0.0), 0.0, LIMITS).limited_by == "acceleration"
    assert govern(0.5, 0.45, (0.34, 0.4), 0.0, LIMITS).limited_by == "track"
    assert govern(0.1, 0.05, (0.0, 0.0), 0.0, LIMITS).limited_by == ""


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), lag=st.floats(0.7, 1.3))
def test_an_adversary_cannot_leave_the_track(seed: int, lag: float) -> None:
    """Full commands in random directions; the drive lags by up to 30 % more than configured."""
    config = Config()
    rng = np.random.default_rng(seed)
    tau, period = config.motor.tau_s * lag, config.controller.period_s
    u, state = 0.0, (0.0, 0.0, 0.0, 0.0)
    drive = ModelParameters(tau_s=tau).coefficients
    for _ in range(400):
        desired = float(rng.choice([-2.0, 2.0])) if rng.random() < 0.1 else math.copysign(2.0, u)
        u = govern(desired, u, state[:2], 0.0, LIMITS).velocity_m_s
        state = rig_step(state, u, period, drive)
        assert abs(state[P]) <= config.rig.position_limit_m + 0.003


def test_zero_is_exactly_zero() -> None:
    out = govern(1e-12, 0.0, (0.0, 0.0), 0.0, LIMITS).velocity_m_s
    assert out == 0.0
    assert math.copysign(1.0, out) == 1.0


def test_a_driver_with_a_ramp_is_braked_no_harder_than_that() -> None:
    model = ModelParameters()
    slow = for_model(LIMITS, replace(model, motor_acceleration_m_s2=4.0))
    assert slow.acceleration_m_s2 == 4.0
    assert for_model(LIMITS, replace(model, motor_acceleration_m_s2=80.0)) == LIMITS
    assert govern(1.0, 0.0, (0.3, 0.0), 0.0, slow).velocity_m_s == pytest.approx(0.08)
