"""The report's figures, as the plain data that plotly.js draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.session.plot import MODE_COLOURS, mode_spans
from cartpole.session.summary import from_upright

if TYPE_CHECKING:
    from cartpole.messages import FloatArray
    from cartpole.session.report_data import Gathered

BLUE, ORANGE, GREEN, RED, GREY, PURPLE = (
    "#1f5fa8",
    "#c4561a",
    "#2d7d32",
    "#b3261e",
    "#9a9a9a",
    "#5b3a8e",
)
MOST_POINTS = 2500
Figure = dict[str, Any]


def plots(found: Gathered) -> list[tuple[str, str, Figure]]:
    """(title, note, figure) of each plot, in the order of the page."""
    drawn = [
        (
            "Motion",
            "Shaded: modes. Thin orange: plans as they were seen. Drag: zoom; double-click: back.",
            _motion(found),
        ),
        (
            "Phase portrait",
            "Angle from hanging against its rate; the dot is upright.",
            _phase(found),
        ),
        ("Solver", "", _solver(found)),
        ("Estimator", "", _estimator(found)),
    ]
    timing = _timing(found)
    if timing is not None:
        drawn.append(("Timing", "Late: from the deadline to the start of the tick.", timing))
    return drawn


def thinned(
    t: Sequence[float], y: Sequence[float], most: int = MOST_POINTS
) -> tuple[list[float], list[float | None]]:
    """At most ``most`` points that look the same: the least and greatest of each stretch."""
    times, values = np.asarray(t, np.float64), np.asarray(y, np.float64)
    if len(times) > most:
        keep = _extremes(values, most // 2)
        times, values = times[keep], values[keep]
    return [round(x, 4) for x in times.tolist()], _plain(values)


def _extremes(values: FloatArray, stretches: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    edges = np.linspace(0, len(values), stretches + 1).astype(np.int64)
    low = np.where(np.isfinite(values), values, np.inf)
    high = np.where(np.isfinite(values), values, -np.inf)
    picked = []
    for begin, end in itertools.pairwise(edges.tolist()):
        picked.append(begin + int(np.argmin(low[begin:end])))
        picked.append(begin + int(np.argmax(high[begin:end])))
    return np.unique(np.array(picked, dtype=np.int64))


def _plain(values: FloatArray) -> list[float | None]:
    return [float(f"{x:.6g}") if math.isfinite(x) else None for x in values.tolist()]


def _line(
    t: Sequence[float], y: Sequence[float], name: str, colour: str, axis: int = 1, **more: Any
) -> Figure:
    times, values = thinned(t, y)
    trace: Figure = {
        "type": "scatter",
        "mode": "lines",
        "x": times,
        "y": values,
        "name": name,
        "line": {"color": colour, "width": 1.4},
        "xaxis": "x",
        "yaxis": "y" if axis == 1 else f"y{axis}",
    }
    trace.update(more)
    return trace


def _stack(traces: list[Figure], titles: list[str], height: int, found: Gathered) -> Figure:
    """Rows above each other with one time axis."""
    layout: Figure = {
        "height": height,
        "margin": {"l": 70, "r": 20, "t": 10, "b": 40},
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 1.04},
        "plot_bgcolor": "#ffffff",
        "xaxis": {"title": {"text": "time [s]"}, "anchor": f"y{len(titles)}", "gridcolor": "#eee"},
        "shapes": _mode_shapes(found),
    }
    share = 1.0 / len(titles)
    for row, title in enumerate(titles):
        top = 1.0 - row * share
        key = "yaxis" if row == 0 else f"yaxis{row + 1}"
        layout[key] = {
            "title": {"text": title},
            "domain": [top - share + 0.02, top - 0.01],
            "gridcolor": "#eee",
            "zeroline": False,
        }
    if len(titles) == 1:
        layout["xaxis"]["anchor"] = "y"
    return {"data": traces, "layout": layout}


def _mode_shapes(found: Gathered) -> list[Figure]:
    spans = mode_spans(list(found.columns.t), found.columns.modes)
    shapes = []
    for begin, end, mode in spans[:500]:
        shapes.append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": begin,
                "x1": end,
                "y0": 0,
                "y1": 1,
                "fillcolor": MODE_COLOURS[mode],
                "opacity": 0.45,
                "line": {"width": 0},
                "layer": "below",
            }
        )
    for t_s, *_ in found.faults[:100]:
        shapes.append(
            {
                "type": "line",
                "xref": "x",
                "yref": "paper",
                "x0": t_s,
                "x1": t_s,
                "y0": 0,
                "y1": 1,
                "line": {"color": RED, "width": 1.5, "dash": "dot"},
            }
        )
    return shapes


def _level(t: Sequence[float], value: float, name: str, axis: int, colour: str = RED) -> Figure:
    return _line(
        [t[0], t[-1]],
        [value, value],
        name,
        colour,
        axis,
        line={"color": colour, "width": 1, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
    )


def _has(values: Sequence[float]) -> bool:
    return any(math.isfinite(value) for value in values)


def _motion(found: Gathered) -> Figure:
    c, rig = found.columns, found.config.rig
    traces: list[Figure] = []
    for number, fan in enumerate(found.fans):
        shown = {"legendgroup": "plans", "showlegend": number == 0, "hoverinfo": "skip"}
        thin = {"color": ORANGE, "width": 0.6}
        traces.append(_line(fan.t, fan.theta, "plans", ORANGE, 1, line=thin, opacity=0.6, **shown))
        shown["showlegend"] = False
        traces.append(_line(fan.t, fan.p, "plans", ORANGE, 2, line=thin, opacity=0.6, **shown))
    if _has(c.true_theta):
        traces.append(_line(c.t, c.true_theta, "true angle", GREY, 1))
        traces.append(_line(c.t, c.true_p, "true position", GREY, 2))
    traces.append(_line(c.t, c.theta, "angle", BLUE, 1))
    finite = [theta for theta in c.theta if math.isfinite(theta)]
    if finite:
        near = finite[-1] - from_upright(finite[-1])
        traces.append(_level(c.t, near, "upright", 1, GREEN))
    traces.append(_line(c.t, c.p, "position", BLUE, 2))
    traces.append(_line(c.t, c.target, "target", GREEN, 2))
    traces.append(_line(c.t, c.v, "velocity", BLUE, 3))
    traces.append(_line(c.t, c.u, "command", ORANGE, 3))
    for sign in (-1, 1):
        traces.append(_level(c.t, sign * rig.position_limit_m, "limit", 2))
        traces.append(_level(c.t, sign * rig.velocity_limit_m_s, "limit", 3))
    return _stack(traces, ["angle [rad], 0 hanging", "position [m]", "velocity [m/s]"], 760, found)


def _phase(found: Gathered) -> Figure:
    c = found.columns
    theta, omega = np.asarray(c.theta), np.asarray(c.omega)
    if len(theta) > MOST_POINTS:
        step = math.ceil(len(theta) / MOST_POINTS)
        theta, omega = theta[::step], omega[::step]
    finite = theta[np.isfinite(theta)]
    near = float(finite[-1] - from_upright(float(finite[-1]))) if len(finite) else math.pi
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": _plain(theta),
                "y": _plain(omega),
                "line": {"color": BLUE, "width": 1.2},
                "name": "path",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": [near],
                "y": [0],
                "marker": {"color": GREEN, "size": 9},
                "name": "upright",
            },
        ],
        "layout": {
            "height": 420,
            "margin": {"l": 70, "r": 20, "t": 10, "b": 50},
            "showlegend": False,
            "plot_bgcolor": "#ffffff",
            "xaxis": {"title": {"text": "angle [rad]"}, "gridcolor": "#eee", "zeroline": False},
            "yaxis": {"title": {"text": "rate [rad/s]"}, "gridcolor": "#eee", "zeroline": False},
        },
    }


def _solver(found: Gathered) -> Figure:
    c = found.columns
    traces = [
        _line(c.t, c.steps, "Newton steps", PURPLE, 1),
        _line(c.t, c.kkt, "KKT residual", BLUE, 2),
        _line(c.t, c.cost, "cost of the plan", ORANGE, 3),
    ]
    figure = _stack(traces, ["Newton steps", "KKT residual", "cost"], 560, found)
    figure["layout"]["yaxis2"].update({"type": "log", "exponentformat": "power"})
    return figure


def _estimator(found: Gathered) -> Figure:
    c = found.columns
    traces = [_line(c.t, c.sigma_theta, "deviation of the angle", PURPLE, 2)]
    for name, colour in (("camera", ORANGE), ("encoder", BLUE)):
        values = getattr(c, f"nis_{name}")
        if any(math.isfinite(value) and value > 0 for value in values):
            traces.append(_line(c.t, values, f"{name}", colour, 1))
    traces.append(_level(c.t, 1.0, "consistent", 1, GREEN))
    titles = ["innovation² / variance", "sigma of theta [rad]"]
    return _stack(traces, titles, 420, found)


def _timing(found: Gathered) -> Figure | None:
    c = found.columns
    if not _has(c.compute_us):
        return None
    traces = [_histogram(c.compute_us, "compute", BLUE, 1)]
    if _has(c.solver_us):
        traces.append(_histogram(c.solver_us, "solver", PURPLE, 1))
    if any(value != 0 for value in c.late_us if math.isfinite(value)):
        traces.append(_histogram(c.late_us, "late", ORANGE, 1))
    period = found.config.controller.period_s * 1e6
    return {
        "data": traces,
        "layout": {
            "height": 380,
            "barmode": "overlay",
            "bargap": 0,
            "margin": {"l": 70, "r": 20, "t": 10, "b": 50},
            "plot_bgcolor": "#ffffff",
            "legend": {"orientation": "h", "y": 1.08},
            "xaxis": {
                "title": {"text": f"µs, of a period of {period:.0f} µs"},
                "type": "log",
                "gridcolor": "#eee",
            },
            "yaxis": {"title": {"text": "ticks"}, "type": "log", "gridcolor": "#eee"},
        },
    }


def _histogram(values: Sequence[float], name: str, colour: str, low: float) -> Figure:
    """Bars over logarithmic bins, counted here so that the page stays small."""
    finite = np.asarray([max(x, low) for x in values if math.isfinite(x)])
    edges = np.geomspace(low, max(float(finite.max()) * 1.01, 10 * low), 90)
    counts, _ = np.histogram(finite, edges)
    centres = np.sqrt(edges[:-1] * edges[1:])
    return {
        "type": "bar",
        "x": _plain(centres),
        "y": counts.tolist(),
        "width": _plain(np.diff(edges)),
        "name": name,
        "marker": {"color": colour},
        "opacity": 0.7,
    }
