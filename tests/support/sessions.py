"""A small deterministic controller and recordings of it, for the tests of sessions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cartpole.config.schema import Config
from cartpole.control.memory import CoreMemory
from cartpole.errors import SessionError
from cartpole.messages import (
    BoardStatus,
    Command,
    Detection,
    DetectionStatus,
    EncoderSample,
    Estimate,
    Fault,
    FloatArray,
    HomingResult,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Mode,
    Plan,
    PlanStatus,
    Reference,
    ReferenceShape,
    Request,
    RequestKind,
    Settings,
    Severity,
    TickInput,
    TickRecord,
    TickTiming,
)
from cartpole.rules.control import change, config_of
from cartpole.session.writer import SessionWriter

PERIOD_NS = 20_000_000
HOMED = HomingResult(12.5, -3.25, 0.88, 1.01)
STEPS = 12


class FakeCore:
    """Mixes everything it is given into its outputs, so that any lost bit shows."""

    def __init__(self, config: Config, homed: HomingResult | None) -> None:
        self._config = config
        self._state = np.array([0.1, 0.2, 0.3, 0.4])
        self._index = -1
        self._faults: tuple[Fault, ...] = ()
        self._offset = 0.0 if homed is None else homed.cart_zero_counts * 1e-3

    def tick(self, tick: TickInput) -> TickRecord:
        self._index += 1
        for measurement in tick.measurements:
            self._absorb(measurement)
        for request in tick.requests:
            if request.settings is not None:
                self._config = config_of(request.settings)
            if request.reference is not None:
                self._state[0] += request.reference.amplitude_m
            self._state[1] += request.value / 7.0
        weight = self._config.controller.weights.angle
        self._state = np.sin(self._state * 1.7 + self._offset) + 1e-3 * tick.newton_budget
        p, v, theta, omega = state = self._state.tolist()
        times: FloatArray = np.asarray(np.arange(STEPS) * 0.02, dtype=np.float64)
        states = np.outer(np.arange(STEPS + 1), np.ones(5)) * self._state[0] * weight
        flying = self._index > 3
        plan = Plan(
            tick.now_ns,
            PlanStatus.CONVERGED,
            2,
            1e-7 * abs(state[0]),
            math.exp(state[1] * weight),
            "left",
            times,
            states,
            np.asarray(times * theta, dtype=np.float64),
        )
        u = 0.01 * math.tanh(state[3] * weight) if flying else 0.0
        mode = Mode.FAULT if self._faults else Mode.SWING_UP if flying else Mode.READY
        return TickRecord(
            self._index,
            tick,
            mode,
            True,
            True,
            Estimate(tick.now_ns, (p, v, theta, omega), (1e-3,) * 4, 1 / 3, 7, 9, math.pi, math.e),
            plan if flying else None,
            Command(tick.now_ns, self._index, u, flying, u * 1.1, "speed" if u > 0.005 else ""),
            0.1,
            self._faults,
            ("started",) if self._index == 0 else (),
        )

    def hint(self, t_ns: int) -> None:
        """No idea."""

    def restore(self, state: CoreMemory) -> None:
        raise SessionError("this one remembers nothing")

    def adopt(self, settings: Settings) -> None:
        self._config = config_of(settings)

    def _absorb(self, measurement: Measurement) -> None:
        if isinstance(measurement, EncoderSample):
            self._state[0] += measurement.cart_counts * 1e-5
        elif isinstance(measurement, Detection):
            if measurement.status is DetectionStatus.OK:
                self._state[2] += 0.1 * measurement.theta_rad
        elif isinstance(measurement, LinkEvent) and measurement.state is LinkState.DOWN:
            self._faults = (
                Fault(measurement.t_ns, "encoder lost", Severity.BRAKE, "no samples", "plug it in"),
            )


@dataclass(frozen=True)
class FakeFrame:
    """A picture."""

    data: np.ndarray
    t_ns: int
    sequence: int


def inputs(ticks: int, seed: int = 0, lost_at: int | None = None) -> list[TickInput]:
    """Inputs with every kind of measurement and request, non-finite numbers included."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(ticks):
        now = 1_000_000_000 + index * PERIOD_NS
        found: list[Measurement] = []
        for k in range(int(rng.integers(0, 5))):
            found.append(
                EncoderSample(now - k * 5_000_000, now - k, int(rng.integers(-9999, 9999)), -k)
            )
        for _ in range(int(rng.integers(0, 3))):
            theta = float(rng.uniform(-np.pi, np.pi))
            sigma = float(rng.uniform(1e-4, 1e-2))
            corners = tuple((float(x), float(x) / 3) for x in rng.uniform(0, 320, 4))
            found.append(
                Detection(
                    now, now, index, DetectionStatus.OK, theta, 0.1, sigma, sigma, 1.0, corners
                )
            )
        if index % 10 == 5:
            found.append(Detection(now, now, index, DetectionStatus.NO_BLOB))
            found.append(Detection(now, now, index, DetectionStatus.LOW_CONFIDENCE, math.nan, -0.0))
            found.append(BoardStatus(now, 3, True, 0, -math.inf))
        if index == lost_at:
            found.append(LinkEvent(now, Link.ENCODER, LinkState.DOWN, 'gone: "null" \u2013 \x07'))
        rng.shuffle(found)
        made.append(TickInput(now, tuple(found), _requests(index), int(rng.integers(0, 13))))
    return made


def _requests(index: int) -> tuple[Request, ...]:
    if index == 2:
        return (Request(RequestKind.ARM), Request(RequestKind.TARGET, 0.1 + 0.2))
    if index == 20:
        sine = Reference(ReferenceShape.SINE, 0.0, 1 / 7, 6.0)
        return (Request(RequestKind.REFERENCE, reference=sine),)
    if index == 30:
        weights = Config().controller.weights.model_copy(update={"angle": 1.5})
        controller = Config().controller.model_copy(update={"weights": weights})
        changed = Config().model_copy(update={"controller": controller})
        return (change(changed),)
    return ()


def write_session(path: Path, ticks: int = 100, seed: int = 0, lost_at: int | None = None) -> None:
    """A recording of the fake controller."""
    config = Config()
    core = FakeCore(config, HOMED)
    with SessionWriter(path, config, {"git": "abc"}, live=False) as writer:
        writer.put_start(HOMED)
        for tick in inputs(ticks, seed, lost_at):
            writer.put_raw(tick.now_ns, "encoder", "out", b"a")
            writer.put_raw(tick.now_ns, "encoder", "in", bytes(range(256)))
            record = core.tick(tick)
            truth = (0.1, 0.2, math.pi, float(record.index))
            writer.put_tick(record, truth, TickTiming(tick.now_ns, 5000, 300_000, 100_000))
