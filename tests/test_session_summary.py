"""The summary's figures, computed by hand for small runs."""

from __future__ import annotations

import json
import math

import pytest

from cartpole.config.schema import Config
from cartpole.messages import (
    NANOSECONDS,
    Command,
    Estimate,
    Fault,
    Mode,
    Severity,
    TickInput,
    TickRecord,
    TickTiming,
)
from cartpole.session.summary import Sample, SummaryBuilder

PERIOD_NS = 20_000_000


def record(
    index: int,
    mode: Mode,
    theta: float,
    p: float = 0.0,
    u: float = 0.0,
    faults: tuple[Fault, ...] = (),
) -> TickRecord:
    now = index * PERIOD_NS
    estimate = Estimate(now, (p, 0.0, theta, 0.0), (0.0,) * 4, 0.0, -1, -1)
    return TickRecord(
        index,
        TickInput(now),
        mode,
        True,
        True,
        estimate,
        None,
        Command(now, index, u, True, u),
        faults=faults,
    )


def test_time_zero_is_the_first_tick_of_swing_up() -> None:
    builder = SummaryBuilder(Config())
    for index in range(50):  # homing, out to the switch, and hanging upright by accident
        builder.add(record(index, Mode.HOMING, math.pi, p=0.44))
    for index in range(50, 100):
        builder.add(record(index, Mode.SWING_UP, 0.0, p=0.2, u=0.9))
    for index in range(100, 200):
        builder.add(record(index, Mode.BALANCE, -math.pi + 0.05, u=-0.1))
    got = builder.result()
    assert got["ticks"] == 150
    assert got["duration_s"] == pytest.approx(3.0)
    assert got["upright_at_s"] == pytest.approx(1.0)
    assert got["max_abs_p_m"] == 0.2
    assert got["max_abs_u_m_s"] == 0.9
    assert got["modes"] == pytest.approx({"HOMING": 1.0, "SWING_UP": 1.0, "BALANCE": 2.0})
    assert got["swing_ups"] == 1
    json.dumps(got, allow_nan=False)


def test_upright_must_hold_to_the_end() -> None:
    builder = SummaryBuilder(Config())
    for index in range(100):
        theta = math.pi if index < 99 else math.pi + 0.1001
        builder.add(record(index, Mode.BALANCE, theta))
    assert builder.result()["upright_at_s"] is None


def test_truth_wins_over_the_estimate_and_gives_the_error() -> None:
    builder = SummaryBuilder(Config())
    for index in range(10):
        truth = (0.3, -0.5, math.pi + 0.02 + 2 * math.pi, 0.0)
        builder.add(record(index, Mode.BALANCE, math.pi, p=0.1), truth)
    got = builder.result()
    assert got["max_abs_p_m"] == 0.3
    assert got["max_abs_v_m_s"] == 0.5
    assert got["theta_rms_rad_tail"] == pytest.approx(0.02)
    assert got["estimate_error"]["p_m_rms"] == pytest.approx(0.2)
    assert got["estimate_error"]["theta_rad_rms"] == pytest.approx(0.02)


def test_tail_is_the_last_five_seconds() -> None:
    builder = SummaryBuilder(Config())
    for index in range(1000):
        error = 0.09 if index < 700 else 0.01
        builder.add(record(index, Mode.BALANCE, math.pi + error))
    assert builder.result()["theta_rms_rad_tail"] == pytest.approx(0.01)


def test_no_figure_is_nan_and_an_empty_run_has_none() -> None:
    builder = SummaryBuilder(Config())
    json.dumps(builder.result(), allow_nan=False)
    builder.add(record(0, Mode.SWING_UP, math.nan, p=math.inf, u=math.nan))
    got = builder.result()
    json.dumps(got, allow_nan=False)
    assert got["final_state"] is None
    assert got["upright_at_s"] is None


def test_faults_are_named_once_with_their_time() -> None:
    builder = SummaryBuilder(Config())
    fault = Fault(5 * PERIOD_NS, "camera lost", Severity.BRAKE, "", "")
    for index in range(10):
        faults = (fault,) if index >= 5 else ()
        builder.add(record(index, Mode.SWING_UP, 0.0, faults=faults))
    assert builder.result()["faults"] == [
        {"t_s": pytest.approx(0.1), "name": "camera lost", "action": "brake"}
    ]


def test_timing_percentiles() -> None:
    builder = SummaryBuilder(Config())
    for index in range(101):
        timing = TickTiming(index * PERIOD_NS, index * 1000, 200_000, 50_000, index == 100)
        builder.add(record(index, Mode.SWING_UP, 0.0), None, timing)
    got = builder.result()
    assert got["timing"]["jitter_us_median"] == 50.0
    assert got["timing"]["jitter_us_max"] == 100.0
    assert got["timing"]["late_ticks"] == 1
    assert got["timing"]["period_s"] == pytest.approx(PERIOD_NS / NANOSECONDS)
    assert got["solver"]["median_us"] == 50.0


def test_a_long_sample_stays_small_and_fair() -> None:
    sample = Sample(most=64)
    for value in range(10_000):
        sample.add(float(value))
    assert len(sample._values) <= 64
    assert sample.percentile(50) == pytest.approx(5000, rel=0.05)
    assert sample.maximum() == 9999.0
