"""The figures of a run, gathered tick by tick: written once for ``run``, ``simulate``, ``replay``.

Memory is bounded whatever the length of the run: maxima and sums are exact, percentiles come from
an evenly thinned sample once there are more than ``_SAMPLES`` ticks.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from cartpole.messages import NANOSECONDS, Mode, Severity

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import Fault, TickRecord, TickTiming

TAIL_S = 5.0
UPRIGHT_RAD = 0.1
_SAMPLES = 1 << 14
_MOST_FAULTS = 1000

ACTIONS = {
    Severity.WARNING: "warning",
    Severity.DEGRADED: "degraded",
    Severity.BRAKE: "brake",
    Severity.OFF: "off",
}

Vector4 = tuple[float, float, float, float]


def from_upright(theta_rad: float) -> float:
    """Angle from the nearest upright position, in [-pi, pi]; positive counter-clockwise."""
    return math.remainder(theta_rad - math.pi, 2.0 * math.pi)


class Sample:
    """Values for percentiles in bounded memory: every k-th one, k doubling when it is full."""

    def __init__(self, most: int = _SAMPLES) -> None:
        self._values = array("d")
        self._most = most
        self._stride = 1
        self._seen = 0
        self.largest = -math.inf

    def add(self, value: float) -> None:
        """Take a finite value."""
        self.largest = max(self.largest, value)
        if self._seen % self._stride == 0:
            if len(self._values) >= self._most:
                self._values = self._values[::2]
                self._stride *= 2
            self._values.append(value)
        self._seen += 1

    def percentile(self, percent: float) -> float | None:
        """The value below which ``percent`` of the sample lies; None without values."""
        if not self._values:
            return None
        ordered = sorted(self._values)
        place = percent / 100.0 * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    def maximum(self) -> float | None:
        """The largest of all values taken; None without values."""
        return self.largest if self._seen else None


class TickFigures(NamedTuple):
    """What a summary takes of a tick, in plain values; None and -1: there was none.

    ``plan`` is (Newton steps, KKT residual), ``timing`` (missed, late, compute, solver) [ns],
    ``faults`` are (t_ns, name, severity).
    """

    now_ns: int
    mode: str
    u_m_s: float
    estimate: Vector4 | None
    truth: Vector4 | None
    plan: tuple[int, float] | None
    timing: tuple[int, int, int, int] | None
    faults: tuple[tuple[int, str, int], ...]


def tick_figures(
    record: TickRecord, truth: Vector4 | None = None, timing: TickTiming | None = None
) -> TickFigures:
    """``truth`` is a simulated rig's (p, v, theta, omega) at the tick's time."""
    estimate, plan = record.estimate, record.plan
    return TickFigures(
        record.input.now_ns,
        record.mode.value,
        float(record.command.velocity_m_s),
        None if estimate is None else estimate.state,
        truth,
        None if plan is None else (plan.newton_steps, float(plan.kkt_residual)),
        None if timing is None else _timing(timing),
        tuple(map(_fault, record.faults)) if record.faults else (),
    )


def _timing(timing: TickTiming) -> tuple[int, int, int, int]:
    return (int(timing.missed), timing.late_ns, timing.compute_ns, timing.solver_ns)


def _fault(fault: Fault) -> tuple[int, str, int]:
    return (fault.t_ns, fault.name, int(fault.severity))


class _Figures:
    """Everything that starts anew at time zero."""

    def __init__(self) -> None:
        self.ticks = 0
        self.first_ns = 0
        self.last_ns = 0
        self.upright_since_ns: int | None = None
        self.max_p = self.max_v = self.max_u = 0.0
        self.tail: deque[tuple[int, float]] = deque()
        self.final: Vector4 | None = None
        self.fallback_ticks = 0
        self.late_ticks = 0
        self.plans = 0
        self.newton_steps = 0
        self.kkt_residual: float | None = None
        self.solver_us, self.compute_us, self.jitter_us = Sample(), Sample(), Sample()
        self.error_squares = [0.0] * 4
        self.errors = 0


class SummaryBuilder:
    """Accumulates records; ``result`` is the summary of the run so far.

    Time zero is the first tick of SWING_UP (homing before it does not count); a run that never
    swings up counts from its first tick.
    """

    def __init__(self, config: Config, git: str = "", config_sha256: str = "") -> None:
        self._period_s = config.controller.period_s
        self._git, self._config_sha256 = git, config_sha256
        self._figures = _Figures()
        self._started = False
        self._previous: TickFigures | None = None
        self._modes: dict[str, float] = {}
        self._swing_ups = 0
        self._faults: dict[tuple[int, str], Severity] = {}

    def add(
        self,
        record: TickRecord,
        truth: Vector4 | None = None,
        timing: TickTiming | None = None,
    ) -> None:
        """Take a tick; ``truth`` is a simulated rig's (p, v, theta, omega) at the tick's time."""
        self.take(tick_figures(record, truth, timing))

    def take(self, tick: TickFigures) -> None:
        """Take a tick's figures."""
        entered = self._count_mode(tick)
        if entered == Mode.SWING_UP and not self._started:
            self._started = True
            self._figures = _Figures()
        figures = self._figures
        if figures.ticks == 0:
            figures.first_ns = tick.now_ns
        figures.ticks += 1
        figures.last_ns = tick.now_ns
        figures.fallback_ticks += tick.mode == Mode.LQR_FALLBACK
        figures.max_u = max(figures.max_u, _finite(abs(tick.u_m_s)))
        state = tick.truth if tick.truth is not None else tick.estimate
        if state is not None:
            self._take_state(tick.now_ns, tick.mode, state)
        if tick.truth is not None and tick.estimate is not None:
            self._take_error(tick.mode, tick.estimate, tick.truth)
        self._take_plan(tick.plan)
        self._take_timing(tick.timing)
        for t_ns, name, severity in tick.faults:
            if len(self._faults) < _MOST_FAULTS:
                self._faults.setdefault((t_ns, name), Severity(severity))
        self._previous = tick

    def result(
        self, session: str | None = None, bitwise_equal: bool | None = None
    ) -> dict[str, Any]:
        """The summary as plain JSON values; figures that were not measured are None."""
        f = self._figures
        duration_s = (f.last_ns - f.first_ns) / NANOSECONDS + self._period_s if f.ticks else 0.0
        modes = {mode: round(seconds, 9) for mode, seconds in self._modes.items()}
        if self._previous is not None:
            last = self._previous.mode
            modes[last] = round(modes.get(last, 0.0) + self._period_s, 9)
        summary: dict[str, Any] = {
            "duration_s": duration_s,
            "ticks": f.ticks,
            "upright_at_s": self._seconds(f.upright_since_ns),
            "swing_ups": self._swing_ups,
            "max_abs_p_m": f.max_p,
            "max_abs_v_m_s": f.max_v,
            "max_abs_u_m_s": f.max_u,
            "theta_rms_rad_tail": _rms([error for _, error in f.tail]),
            "final_state": list(f.final) if f.final is not None else None,
            "modes": modes,
            "fallback_ticks": f.fallback_ticks,
            "solver": {
                "median_us": f.solver_us.percentile(50),
                "p99_us": f.solver_us.percentile(99),
                "max_us": f.solver_us.maximum(),
                "newton_steps_mean": f.newton_steps / f.plans if f.plans else None,
                "kkt_residual_max": f.kkt_residual,
            },
            "timing": {
                "period_s": self._measured_period_s(),
                "jitter_us_median": f.jitter_us.percentile(50),
                "jitter_us_p99": f.jitter_us.percentile(99),
                "jitter_us_max": f.jitter_us.maximum(),
                "late_ticks": f.late_ticks,
                "compute_us_median": f.compute_us.percentile(50),
                "compute_us_p99": f.compute_us.percentile(99),
            },
            "faults": [
                {"t_s": self._seconds(t_ns), "name": name, "action": ACTIONS[severity]}
                for (t_ns, name), severity in self._faults.items()
            ],
            "session": session,
            "git": self._git,
            "config_sha256": self._config_sha256,
        }
        if f.errors:
            names = ("p_m_rms", "v_m_s_rms", "theta_rad_rms", "omega_rad_s_rms")
            roots = [math.sqrt(total / f.errors) for total in f.error_squares]
            summary["estimate_error"] = dict(zip(names, roots, strict=True))
        if bitwise_equal is not None:
            summary["bitwise_equal"] = bitwise_equal
        return summary

    def _seconds(self, t_ns: int | None) -> float | None:
        return None if t_ns is None else (t_ns - self._figures.first_ns) / NANOSECONDS

    def _measured_period_s(self) -> float:
        f = self._figures
        if f.ticks < 2:
            return self._period_s
        return (f.last_ns - f.first_ns) / NANOSECONDS / (f.ticks - 1)

    def _count_mode(self, tick: TickFigures) -> str | None:
        """Time in modes; returns the mode if it was entered with this tick."""
        previous, mode = self._previous, tick.mode
        if previous is not None:
            elapsed = (tick.now_ns - previous.now_ns) / NANOSECONDS
            self._modes[previous.mode] = self._modes.get(previous.mode, 0.0) + elapsed
            if previous.mode == mode:
                return None
        self._swing_ups += mode == Mode.SWING_UP
        return mode

    def _take_state(self, now_ns: int, mode: str, state: Vector4) -> None:
        if not all(math.isfinite(value) for value in state):
            return
        f = self._figures
        f.final = state
        if mode != Mode.HOMING:  # homing goes out to the switches on purpose
            f.max_p = max(f.max_p, abs(state[0]))
            f.max_v = max(f.max_v, abs(state[1]))
        error = from_upright(state[2])
        if abs(error) >= UPRIGHT_RAD:
            f.upright_since_ns = None
        elif f.upright_since_ns is None:
            f.upright_since_ns = now_ns
        f.tail.append((now_ns, error))
        while now_ns - f.tail[0][0] > TAIL_S * NANOSECONDS:
            f.tail.popleft()

    def _take_error(self, mode: str, state: Vector4, truth: Vector4) -> None:
        if mode not in (Mode.SWING_UP, Mode.BALANCE):
            return
        errors = [a - b for a, b in zip(state, truth, strict=True)]
        errors[2] = math.remainder(errors[2], 2.0 * math.pi)
        if all(math.isfinite(error) for error in errors):
            squares = self._figures.error_squares
            for place, error in enumerate(errors):
                squares[place] += error * error
            self._figures.errors += 1

    def _take_plan(self, plan: tuple[int, float] | None) -> None:
        if plan is None:
            return
        f = self._figures
        newton_steps, kkt_residual = plan
        f.plans += 1
        f.newton_steps += newton_steps
        if math.isfinite(kkt_residual):
            f.kkt_residual = max(f.kkt_residual or 0.0, kkt_residual)

    def _take_timing(self, timing: tuple[int, int, int, int] | None) -> None:
        if timing is None:
            return
        f = self._figures
        missed, late_ns, compute_ns, solver_ns = timing
        f.late_ticks += missed
        f.jitter_us.add(abs(late_ns) / 1e3)
        f.compute_us.add(compute_ns / 1e3)
        if solver_ns >= 0:
            f.solver_us.add(solver_ns / 1e3)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _rms(values: list[float]) -> float | None:
    return math.sqrt(sum(v * v for v in values) / len(values)) if values else None
