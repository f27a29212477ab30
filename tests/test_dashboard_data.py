"""The page's numbers without a browser: bounded windows, curves, sliders, permissions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cartpole.dashboard.charts import charts, options, series
from cartpole.dashboard.feed import PLANS, SAMPLES, WINDOW_S, History
from cartpole.dashboard.look import MODE_COLOURS
from cartpole.dashboard.sliders import STEPS, Scale, unit_of
from cartpole.dashboard.words import is_recording, recording_text
from cartpole.messages import Mode
from cartpole.remote.operator import Operator


def _status(t_s: float, **more: Any) -> dict[str, Any]:
    return {"t_ns": round(t_s * 1e9), "command_m_s": 0.1, "target_m": 0.0, **more}


def _plan() -> dict[str, list[float]]:
    return {
        "t_s": [0.0, 0.5, 1.0],
        "p_m": [0.0, 0.1, 0.2],
        "theta_rad": [0.0, math.pi, math.pi],
        "u_m_s": [0.0, 1.0, 0.0],
    }


def test_an_hour_of_status_keeps_a_fixed_window() -> None:
    history = History()
    for tick in range(72_000):
        history.add(_status(0.05 * tick, plan=_plan()))
    assert len(history.samples) == SAMPLES
    assert len(history.plans) == PLANS
    drawn = [series(chart, list(history.samples), list(history.plans)) for chart in charts(0.4, 1)]
    assert all(len(line) <= SAMPLES for lines in drawn for line in lines)
    times = [point[0] for lines in drawn for line in lines for point in line]
    assert min(time for time in times if time is not None) >= -WINDOW_S


def test_a_status_seen_twice_counts_once_and_a_new_clock_begins_anew() -> None:
    history = History()
    history.add(_status(5.0))
    history.add(_status(5.0))
    assert len(history.samples) == 1
    history.add(_status(6.0))
    history.add(_status(1.0))
    assert [sample["t_s"] for sample in history.samples] == [1.0]


def test_every_curve_has_a_place_in_its_options() -> None:
    history = History()
    history.add(_status(1.0, plan=_plan()))
    for chart in charts(0.4, 1.0):
        drawn = series(chart, list(history.samples), list(history.plans))
        assert len(options(chart)["series"]) == len(drawn)


def test_the_pole_plan_is_measured_from_upright() -> None:
    history = History()
    history.add(_status(1.0, plan=_plan()))
    pole = next(chart for chart in charts(0.4, 1.0) if chart.plan == "theta_rad")
    newest = series(pole, list(history.samples), list(history.plans))[-1]
    assert newest[0] == [0.0, pytest.approx(-180.0)]
    assert newest[-1] == [1.0, pytest.approx(0.0)]


def test_without_commands_only_looking_and_stopping_are_asked(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "nobody", commands=False)
    for word in ("arm", "set", "save", "swing-up", "reload"):
        assert "commands are off" in operator.ask({"do": word})["error"]
    for word in ("stop", "status", "fields"):
        assert "no daemon answers" in operator.ask({"do": word})["error"]


@pytest.mark.parametrize(
    "field",
    [
        {"value": 1.0, "low": 0.0, "high": 1e4},
        {"value": 5e-5, "low": 0.0, "high": 0.01},
        {"value": 60, "low": 1, "high": 254},
        {"value": 0.0, "low": 0.0, "high": 1e4},
    ],
)
def test_sliders_stay_inside_the_bounds(field: dict[str, Any]) -> None:
    scale = Scale.of(field, None)
    values = [scale.at(step) for step in range(STEPS + 1)]
    assert values == sorted(values)
    assert field["low"] <= values[0] <= values[-1] <= field["high"]
    assert scale.at(scale.position(field["value"])) == pytest.approx(
        field["value"], rel=0.03, abs=1
    )


def test_a_hanging_pole_does_not_cross_the_plot() -> None:
    history = History()
    for tick, angle in enumerate((3.1, -3.1, -3.0, 3.1)):
        history.add(_status(1.0 + 0.05 * tick, from_upright_rad=angle))
    pole = next(chart for chart in charts(0.4, 1.0) if chart.plan == "theta_rad")
    curve = series(pole, list(history.samples), [])[0]
    shown = [None if value is None else round(value) for _, value in curve]
    assert shown == [178, None, -178, -172, None, 178]


def test_what_the_page_says_of_a_recording() -> None:
    going = {"name": "a.mcap", "seconds": 75.2, "bytes": 3_400_000, "dropped": 0, "error": ""}
    assert recording_text({"recording": going}) == "recording a.mcap  1:15  3.4 MB"
    assert is_recording({"recording": going})
    assert "2 lost" in recording_text({"recording": {**going, "dropped": 2}})
    full = {"recording": {**going, "error": "No space left on device"}}
    assert recording_text(full) == "recording a.mcap ended: No space left on device"
    assert not is_recording(full)
    assert recording_text({"recording": None, "mode": "READY"}) == "not recording"
    assert recording_text({}) == ""


def test_every_mode_has_a_colour_of_its_own() -> None:
    assert {mode.value for mode in Mode} <= MODE_COLOURS.keys()
    driven = [MODE_COLOURS[mode.value] for mode in Mode]
    assert len(set(driven)) == len(driven)


def test_a_slider_says_its_unit() -> None:
    wanted = {
        "controller.target_m": "m",
        "rig.velocity_limit_m_s": "m/s",
        "rig.acceleration_limit_m_s2": "m/s²",
        "estimator.pole_noise_rad_s": "rad/s",
        "controller.weights.angle": "",
    }
    assert {key: unit_of(key) for key in wanted} == wanted
    assert Scale.text(0.123456, "m/s") == "0.1235 m/s"
    assert Scale.text(2.0) == "2"


def test_all_plots_have_one_time_axis_and_steps_are_not_drawn_with_milliseconds() -> None:
    shown = [options(chart)["xAxis"] for chart in charts(0.4, 1.0)]
    assert {(axis["min"], axis["max"]) for axis in shown} == {(-WINDOW_S, 2.0)}
    (steps,) = [chart for chart in charts(0.4, 1.0) if "steps" in chart.title.lower()]
    assert [line.name for line in steps.lines] == ["steps"]
