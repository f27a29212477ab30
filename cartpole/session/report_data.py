"""What a report shows, gathered from a recording in one pass."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cartpole.errors import SessionError
from cartpole.messages import (
    NANOSECONDS,
    Detection,
    DetectionStatus,
    EncoderSample,
    Mode,
    Severity,
)
from cartpole.session.summary import ACTIONS, SummaryBuilder

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import Fault
    from cartpole.session.reader import RecordedTick, Session

MOST_FANS = 60
MOST_EVENTS = 500
MOST_ROWS = 100_000  # half an hour at 50 Hz; of a longer recording every second tick, and so on
MOST_AGES = 100_000
NAN = math.nan


def _column() -> array[float]:
    return array("d")


@dataclass(slots=True)
class Columns:
    """One value a tick, ``nan`` where there is none; SI, times in seconds from the first tick."""

    t: array[float] = field(default_factory=_column)
    p: array[float] = field(default_factory=_column)
    v: array[float] = field(default_factory=_column)
    theta: array[float] = field(default_factory=_column)
    omega: array[float] = field(default_factory=_column)
    sigma_theta: array[float] = field(default_factory=_column)
    true_p: array[float] = field(default_factory=_column)
    true_theta: array[float] = field(default_factory=_column)
    target: array[float] = field(default_factory=_column)
    u: array[float] = field(default_factory=_column)
    steps: array[float] = field(default_factory=_column)
    kkt: array[float] = field(default_factory=_column)
    cost: array[float] = field(default_factory=_column)
    nis_camera: array[float] = field(default_factory=_column)
    nis_encoder: array[float] = field(default_factory=_column)
    late_us: array[float] = field(default_factory=_column)
    compute_us: array[float] = field(default_factory=_column)
    solver_us: array[float] = field(default_factory=_column)
    modes: list[Mode] = field(default_factory=list)

    def thin(self) -> None:
        """Keep every second row."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name)[::2])


@dataclass(slots=True)
class Sensor:
    """How a sensor's samples came."""

    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    longest_gap_s: float = 0.0
    ages_ms: array[float] = field(default_factory=_column)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def rate_hz(self) -> float:
        """Mean rate."""
        span = (self.last_ns - self.first_ns) / NANOSECONDS
        return (self.count - 1) / span if span > 0 else 0.0

    @property
    def age_ms(self) -> float:
        """Median age at the tick that used it."""
        ordered = sorted(self.ages_ms)
        return ordered[len(ordered) // 2] if ordered else 0.0

    def add(self, t_ns: int, now_ns: int) -> None:
        """A sample that was true at ``t_ns`` and used at ``now_ns``."""
        if self.count:
            self.longest_gap_s = max(self.longest_gap_s, (t_ns - self.last_ns) / NANOSECONDS)
        else:
            self.first_ns = t_ns
        self.count += 1
        self.last_ns = max(self.last_ns, t_ns)
        if len(self.ages_ms) < MOST_AGES:
            self.ages_ms.append((now_ns - t_ns) / 1e6)


@dataclass(frozen=True, slots=True)
class Fan:
    """A plan as it was seen at its tick: times [s] from the first tick, positions and angles."""

    t: list[float]
    p: list[float]
    theta: list[float]


@dataclass(slots=True)
class Gathered:
    """Everything a report needs."""

    config: Config
    columns: Columns = field(default_factory=Columns)
    sensors: dict[str, Sensor] = field(default_factory=dict)
    fans: list[Fan] = field(default_factory=list)
    faults: list[tuple[float, str, str, str, str]] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    consistency: dict[str, float] = field(default_factory=dict)
    rejected: int = 0
    ticks: int = 0
    stride: int = 1  # of the rows in ``columns``
    summary: dict[str, Any] = field(default_factory=dict)


def gather(session: Session) -> Gathered:
    """Read the recording once; raises SessionError if there is no whole tick in it."""
    found = Gathered(session.config)
    builder = SummaryBuilder(session.config)
    known: set[tuple[int, str]] = set()
    start_ns: int | None = None
    plans: list[RecordedTick] = []
    for tick in session.ticks():
        now_ns = tick.line.now_ns
        start_ns = now_ns if start_ns is None else start_ns
        t_s = (now_ns - start_ns) / NANOSECONDS
        builder.add(tick.record_without_arrays(), tick.truth, tick.timing)
        if found.ticks % found.stride == 0:
            _columns(found.columns, tick, t_s)
        found.ticks += 1
        if len(found.columns.t) >= MOST_ROWS:
            found.columns.thin()
            found.stride *= 2
        _sensors(found.sensors, tick)
        _notes(found, tick, t_s, known)
        if tick.estimate is not None:
            found.rejected = tick.estimate.rejected
        if "/plan_trajectory" in tick.exact:
            plans.append(tick)
            if len(plans) > 4 * MOST_FANS:  # keep every second one, evenly
                plans = plans[::2]
    if start_ns is None:
        raise SessionError(f"{session.path} holds no whole tick")
    found.summary = builder.result(str(session.path))
    step = max(1, math.ceil(len(plans) / MOST_FANS))
    found.fans = [fan for tick in plans[::step] if (fan := _fan(tick, start_ns)) is not None]
    for name in ("camera", "encoder"):
        values = [x for x in getattr(found.columns, f"nis_{name}") if math.isfinite(x) and x > 0]
        if values:
            found.consistency[name] = sum(values) / len(values)
    return found


def _columns(columns: Columns, tick: RecordedTick, t_s: float) -> None:
    estimate, plan, timing = tick.estimate, tick.plan, tick.timing
    state = estimate.state if estimate is not None else (NAN,) * 4
    truth = tick.truth if tick.truth is not None else (NAN,) * 4
    row = {
        "t": t_s,
        "p": state[0],
        "v": state[1],
        "theta": state[2],
        "omega": state[3],
        "sigma_theta": estimate.sigma[2] if estimate is not None else NAN,
        "true_p": truth[0],
        "true_theta": truth[2],
        "target": tick.line.target_m,
        "u": tick.command.velocity_m_s,
        "steps": plan.newton_steps if plan is not None else NAN,
        "kkt": plan.kkt_residual if plan is not None else NAN,
        "cost": plan.cost if plan is not None else NAN,
        "nis_camera": estimate.nis_camera if estimate is not None else NAN,
        "nis_encoder": estimate.nis_encoder if estimate is not None else NAN,
        "late_us": timing.late_ns / 1e3 if timing is not None else NAN,
        "compute_us": timing.compute_ns / 1e3 if timing is not None else NAN,
        "solver_us": timing.solver_ns / 1e3
        if timing is not None and timing.solver_ns >= 0
        else NAN,
    }
    for name, value in row.items():
        getattr(columns, name).append(value)
    columns.modes.append(tick.line.mode)


def _sensors(sensors: dict[str, Sensor], tick: RecordedTick) -> None:
    for measurement in tick.input.measurements:
        if isinstance(measurement, EncoderSample):
            sensors.setdefault("encoders", Sensor()).add(measurement.t_ns, tick.line.now_ns)
        elif isinstance(measurement, Detection):
            camera = sensors.setdefault("camera", Sensor())
            camera.add(measurement.t_ns, tick.line.now_ns)
            if measurement.status is not DetectionStatus.OK:
                camera.refused[measurement.status.name.lower()] += 1


def _notes(found: Gathered, tick: RecordedTick, t_s: float, known: set[tuple[int, str]]) -> None:
    for fault in tick.faults:
        if (fault.t_ns, fault.name) not in known and len(known) < MOST_EVENTS:
            known.add((fault.t_ns, fault.name))
            found.faults.append(_fault_row(fault, t_s))
    for event in tick.line.events:
        if len(found.events) < MOST_EVENTS:
            found.events.append((t_s, event))


def _fault_row(fault: Fault, t_s: float) -> tuple[float, str, str, str, str]:
    severity = ACTIONS[Severity(fault.severity)]
    return t_s, fault.name, severity, fault.meaning, fault.next_step


def _fan(tick: RecordedTick, start_ns: int) -> Fan | None:
    trajectory = tick.trajectory
    if trajectory is None or not trajectory.times_s:
        return None
    begin = (trajectory.start_ns - start_ns) / NANOSECONDS
    times = [begin + t for t in trajectory.times_s]
    states = trajectory.states[: len(times)]
    if len(states) < 2 or any(len(state) < 3 for state in states):
        return None
    return Fan(times[: len(states)], [s[0] for s in states], [s[2] for s in states])
