"""The plots: what each shows, and its numbers out of the feed's window. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cartpole.dashboard.feed import PLANS, WINDOW_S, Status

AHEAD_S = 2.0
# Of a brightness that reads on a dark page and on a light one.
INK, FAINT, GRID = "#7f8b9a", "#7d8896", "rgba(128, 140, 155, .25)"
BLUE, ORANGE, GREEN, RED = "#3f8df0", "#e08a2e", "#2fae74", "#e5534b"

Points = list[list[float | None]]  # None: the curve is broken here
Get = Callable[[Status], float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve of the past."""

    name: str
    colour: str
    get: Get
    dashed: bool = False
    step: bool = False
    turn: float = 0.0  # an angle: this much is nothing, and half of it no way for a curve to go


@dataclass(frozen=True, slots=True)
class Chart:
    """One plot; ``plan`` names the plan's row drawn ahead of now, with ``plan_scale``."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    plan: str = ""
    plan_value: Callable[[float], float] = lambda value: value
    low: float | None = None
    high: float | None = None
    every: float | None = None


def _state(key: str, scale: float = 1.0) -> Get:
    def get(sample: Status) -> float | None:
        state = sample.get("state")
        return None if state is None else scale * state[key]

    return get


def _part(section: str, key: str, scale: float = 1.0) -> Get:
    def get(sample: Status) -> float | None:
        value = (sample.get(section) or {}).get(key)
        return None if value is None else scale * value

    return get


def _upright(sample: Status) -> float | None:
    value = sample.get("from_upright_rad")
    return None if value is None else math.degrees(value)


def charts(position_limit_m: float, velocity_limit_m_s: float) -> tuple[Chart, ...]:
    """The page's plots in reading order."""
    room_m, speed = 1.1 * position_limit_m, 1.1 * velocity_limit_m_s
    return (
        Chart(
            "Cart position",
            "m",
            (
                Line("cart", BLUE, _state("p_m")),
                Line("target", FAINT, lambda s: s.get("target_m"), dashed=True),
            ),
            plan="p_m",
            low=-room_m,
            high=room_m,
        ),
        Chart(
            "Pole, from upright",
            "°",
            (Line("pole", ORANGE, _upright, turn=360.0),),
            plan="theta_rad",
            plan_value=lambda theta: math.degrees(math.remainder(theta - math.pi, math.tau)),
            low=-180,
            high=180,
            every=90,
        ),
        Chart(
            "Command and cart speed",
            "m/s",
            (
                Line("command", GREEN, lambda s: s.get("command_m_s"), step=True),
                Line("cart", BLUE, _state("v_m_s")),
            ),
            plan="u_m_s",
            low=-speed,
            high=speed,
        ),
        Chart("Pole speed", "rad/s", (Line("pole", ORANGE, _state("omega_rad_s")),)),
        Chart(
            "Newton steps of a tick",
            "",
            (Line("steps", BLUE, _part("solver", "newton_steps"), step=True),),
            low=0,
        ),
        Chart(
            "Time of a tick",
            "ms",
            (
                Line("solver", GREEN, _part("timing", "solver_us", 1e-3)),
                Line("compute", BLUE, _part("timing", "compute_us", 1e-3)),
                Line("late", RED, _part("timing", "late_us", 1e-3)),
            ),
            low=0,
        ),
    )


def options(chart: Chart) -> dict[str, Any]:
    """ECharts options with empty curves in the order of :func:`series`."""
    label = {"color": FAINT, "fontSize": 10}
    shown = [_series(line.name, line.colour, line.dashed, line.step) for line in chart.lines]
    if chart.plan:
        colour = chart.lines[0].colour
        for age in range(PLANS):
            ahead = _series("plan", colour, False, False)
            ahead["lineStyle"] = {"width": 1.2, "opacity": 0.15 + 0.85 * (age + 1) / PLANS}
            shown.append(ahead)
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "title": {
            "text": chart.title + (f"  [{chart.unit}]" if chart.unit else ""),
            "textStyle": {"color": INK, "fontSize": 12, "fontWeight": 500},
            "left": 4,
            "top": 0,
        },
        "legend": {
            "right": 6,
            "top": 0,
            "itemWidth": 14,
            "itemHeight": 2,
            "icon": "rect",
            "textStyle": label,
            "data": [line.name for line in chart.lines],
        },
        "grid": {"left": 44, "right": 10, "top": 26, "bottom": 20},
        "xAxis": {
            "type": "value",
            "min": -WINDOW_S,
            "max": AHEAD_S,  # the same time axis in all plots, those without a plan too
            "interval": 2,
            "axisLabel": {**label, ":formatter": "value => value + ' s'"},
            "axisLine": {"show": False, "onZero": False},
            "axisTick": {"show": False},
            "splitLine": {"lineStyle": {"color": GRID}},
        },
        "yAxis": {
            "type": "value",
            "min": chart.low,
            "max": chart.high,
            "scale": True,
            "splitNumber": 4,
            "interval": chart.every,
            "axisLine": {"show": True, "lineStyle": {"color": FAINT, "opacity": 0.6}},  # now
            "axisTick": {"show": False},
            "axisLabel": {
                **label,
                ":formatter": "value => +value.toFixed(2)",
                "showMaxLabel": chart.every is not None or chart.high is None,
                "showMinLabel": chart.every is not None or chart.high is None,
            },
            "splitLine": {"lineStyle": {"color": GRID}},
        },
        "series": shown,
    }


def _series(name: str, colour: str, dashed: bool, step: bool) -> dict[str, Any]:
    return {
        "name": name,
        "type": "line",
        "showSymbol": False,
        "silent": True,
        "step": "end" if step else False,
        "itemStyle": {"color": colour},
        "lineStyle": {"width": 1.6, "type": "dashed" if dashed else "solid"},
        "data": [],
    }


def series(chart: Chart, samples: list[Status], plans: list[tuple[float, Status]]) -> list[Points]:
    """Points [seconds from now, value] of every curve; now is the last sample."""
    now_s = samples[-1]["t_s"] if samples else 0.0
    shown = [_past(line, samples, now_s) for line in chart.lines]
    if chart.plan:
        fan = [_ahead(chart, t_s - now_s, plan) for t_s, plan in plans]
        shown += [[] for _ in range(PLANS - len(fan))] + fan
    return shown


def _past(line: Line, samples: list[Status], now_s: float) -> Points:
    points: Points = []
    before: float | None = None
    for sample in samples:
        value = line.get(sample)
        if value is None or now_s - sample["t_s"] > WINDOW_S:
            continue
        at_s = round(sample["t_s"] - now_s, 3)
        if line.turn and before is not None and abs(value - before) > line.turn / 2:
            points.append([at_s, None])  # past the bottom: not across the whole plot
        points.append([at_s, round(value, 4)])
        before = value
    return points


def _ahead(chart: Chart, offset_s: float, plan: Status) -> Points:
    pairs = zip(plan["t_s"], plan[chart.plan], strict=False)
    points: Points = []
    before: float | None = None
    for t_s, value in pairs:
        shown = chart.plan_value(value)
        if chart.plan == "theta_rad" and before is not None and abs(shown - before) > 180.0:
            break  # past the bottom the curve would cross the whole plot
        points.append([round(offset_s + t_s, 3), round(shown, 4)])
        before = shown
    return points
