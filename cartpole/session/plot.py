"""A run on one picture (PNG)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.messages import NANOSECONDS, FloatArray, Mode

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import TickRecord
    from cartpole.session.replay import ReplayResult

BEFORE = 0.12  # of the width, at most, for homing
MODE_COLOURS = {
    Mode.DISARMED: "#d9d9d9",
    Mode.HOMING: "#cfe3f5",
    Mode.READY: "#e8f0f7",
    Mode.SWING_UP: "#fdebc8",
    Mode.BALANCE: "#d5efd6",
    Mode.LQR_FALLBACK: "#e6d6f2",
    Mode.SAFE_STOP: "#f9cfc0",
    Mode.FAULT: "#f2a5a5",
}


def plot_session(
    source: Path | Iterable[TickRecord], output: Path, config: Config | None = None
) -> None:
    """Draw angle, position, commands and solver over time.

    ``source`` is a recording or records; ``config`` gives the limits when records are handed in.
    """
    if isinstance(source, Path):
        from cartpole.session.reader import open_session

        session = open_session(source)
        config = session.config
        records: Iterable[TickRecord] = (tick.record_without_arrays() for tick in session.ticks())
    else:
        records = source
    _draw(_columns(records), config, output)


def _columns(records: Iterable[TickRecord]) -> dict[str, list[Any]]:
    """Plain columns, one entry a tick; ``nan`` where there is nothing."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("t", "mode", "p", "v", "theta", "u", "target", "steps", "kkt")
    }
    for record in records:
        state = record.estimate.state if record.estimate is not None else (math.nan,) * 4
        plan = record.plan
        row = {
            "t": record.input.now_ns / NANOSECONDS,
            "mode": record.mode,
            "p": state[0],
            "v": state[1],
            "theta": state[2],
            "u": record.command.velocity_m_s,
            "target": record.target_m,
            "steps": plan.newton_steps if plan is not None else math.nan,
            "kkt": plan.kkt_residual if plan is not None else math.nan,
        }
        for name, value in row.items():
            columns[name].append(value)
    zero = _zero(columns)
    columns["t"] = [time_s - zero for time_s in columns["t"]]
    return columns


def _zero(columns: dict[str, list[Any]]) -> float:
    """Time is counted from the first swing-up, as in the summary; else from the first tick."""
    times, modes = columns["t"], columns["mode"]
    if Mode.SWING_UP in modes:
        return float(times[modes.index(Mode.SWING_UP)])
    return float(times[0]) if times else 0.0


def _narrow_before_zero(axis: Any, t: list[float]) -> None:
    """Give what came before the swing-up (homing) at most ``BEFORE`` of the width."""
    before, after = -t[0], t[-1]
    if before <= 0.0 or after <= 0.0:
        return
    slope = min(1.0, BEFORE / (1.0 - BEFORE) * after / before)

    def narrowed(x: FloatArray) -> FloatArray:
        return np.where(x < 0.0, x * slope, x)

    def widened(x: FloatArray) -> FloatArray:
        return np.where(x < 0.0, x / slope, x)

    from matplotlib.ticker import MaxNLocator

    axis.set_xscale("function", functions=(narrowed, widened))
    axis.set_xlim(t[0], t[-1])
    steps = (float(step) for step in MaxNLocator(8).tick_values(0.0, after))
    axis.set_xticks([t[0], *(step for step in steps if 0.0 <= step <= after)])
    axis.xaxis.set_major_formatter(lambda x, _place: f"{x:.3g}")


def _draw(columns: dict[str, list[Any]], config: Config | None, output: Path) -> None:
    figure, axes = _figure(4)
    t = columns["t"]
    angle, position, speed, solver = axes
    angle.plot(t, columns["theta"], color="#1f5fa8")
    for turn in _upright_turns(columns["theta"]):
        angle.axhline(turn, color="#2d7d32", linewidth=0.7, linestyle="--")
    angle.set_ylabel("theta [rad]\n(0 hanging)")
    position.plot(t, columns["p"], color="#1f5fa8", label="position")
    position.plot(t, columns["target"], color="#888888", linewidth=0.8, label="target")
    position.set_ylabel("p [m]")
    speed.plot(t, columns["v"], color="#1f5fa8", label="velocity")
    speed.step(t, columns["u"], where="post", color="#c4561a", linewidth=0.8, label="command")
    speed.set_ylabel("v, u [m/s]")
    if config is not None:
        _limits(position, config.rig.position_limit_m)
        _limits(speed, config.rig.velocity_limit_m_s)
    solver.step(t, columns["steps"], where="post", color="#5b3a8e", linewidth=0.8)
    solver.set_ylabel("Newton steps")
    solver.set_xlabel("time from the swing-up [s]" if t and t[0] < 0.0 else "time [s]")
    if t:
        _narrow_before_zero(solver, t)
    for axis in (position, speed):
        axis.legend(loc="upper right", fontsize=7, frameon=False)
    _mode_bands(axes, columns)
    figure.savefig(output)


def _figure(rows: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.1 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    for axis in axes:
        axis.grid(linewidth=0.3)
        axis.margins(x=0)
    return figure, axes


def _limits(axis: Any, limit: float) -> None:
    for value in (-limit, limit):
        axis.axhline(value, color="#b3261e", linewidth=0.7, linestyle=":")


def _upright_turns(thetas: list[float]) -> list[float]:
    """The upright angles within the range seen (a few at most)."""
    finite = [theta for theta in thetas if math.isfinite(theta)]
    if not finite:
        return []
    low = math.floor((min(finite) - math.pi) / (2 * math.pi))
    high = math.ceil((max(finite) - math.pi) / (2 * math.pi))
    turns = [math.pi + 2 * math.pi * k for k in range(max(low, -20), min(high, 20) + 1)]
    return [turn for turn in turns if min(finite) - 1 <= turn <= max(finite) + 1]


def mode_spans(t: list[float], modes: list[Mode]) -> list[tuple[float, float, Mode]]:
    """(from, to, mode) of each stretch in one mode; times in seconds."""
    spans: list[tuple[float, float, Mode]] = []
    for time_s, mode in zip(t, modes, strict=True):
        if spans and spans[-1][2] is mode:
            spans[-1] = (spans[-1][0], time_s, mode)
        else:
            if spans:
                spans[-1] = (spans[-1][0], time_s, spans[-1][2])
            spans.append((time_s, time_s, mode))
    return spans


def _mode_bands(axes: list[Any], columns: dict[str, list[Any]]) -> None:
    from matplotlib.patches import Patch

    seen: dict[Mode, Any] = {}
    for begin, end, mode in mode_spans(columns["t"], columns["mode"]):
        for axis in axes:
            axis.axvspan(begin, end, color=MODE_COLOURS[mode], alpha=0.6, linewidth=0)
        seen.setdefault(mode, Patch(color=MODE_COLOURS[mode], label=mode.value))
    if seen:
        axes[0].legend(
            handles=list(seen.values()), loc="lower right", fontsize=7, ncols=4, frameon=False
        )


def plot_replay(result: ReplayResult, output: Path) -> None:
    """Recorded against replayed: angle, position, command, cost of the plan."""
    names = {"theta_rad": "theta [rad]", "p_m": "p [m]", "u_m_s": "u [m/s]", "plan_cost": "cost"}
    figure, axes = _figure(len(names))
    for axis, (name, label) in zip(axes, names.items(), strict=True):
        series = result.series.get(name)
        if series is None:
            continue
        axis.plot(series.t_s, series.recorded, color="#1f5fa8", label="recorded")
        axis.plot(series.t_s, series.replayed, color="#c4561a", linewidth=0.8, label="replayed")
        axis.set_ylabel(label)
    if result.first is not None:
        for axis in axes:
            axis.axvline(result.first.t_s, color="#b3261e", linewidth=0.7, linestyle=":")
    axes[0].legend(loc="upper right", fontsize=7, frameon=False)
    axes[-1].set_xlabel("time [s]")
    figure.savefig(output)
