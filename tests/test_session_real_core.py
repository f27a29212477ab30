"""Sessions of the real controller on the simulated rig, with faults of every kind, replayed.

``CARTPOLE_SESSIONS=100 pytest tests/test_session_real_core.py`` is the long form.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.messages import (
    NANOSECONDS,
    Detection,
    EncoderSample,
    HomingResult,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Reference,
    ReferenceShape,
    Request,
    RequestKind,
    TickInput,
)
from cartpole.rules.control import change, settings_of
from cartpole.rules.sim import rig_rules
from cartpole.session.reader import open_session
from cartpole.session.redecode import RawInputs
from cartpole.session.replay import replay
from cartpole.session.writer import SessionWriter
from cartpole.sim.rig import VirtualRig

SESSIONS = int(os.environ.get("CARTPOLE_SESSIONS", "4"))
TICKS = 150
WEIGHT = "controller.weights.angle"


def spoil(
    rng: np.random.Generator, found: tuple[Measurement, ...], now_ns: int
) -> tuple[Measurement, ...]:
    """Lose, repeat, delay and corrupt measurements; let devices come and go."""
    kept: list[Measurement] = []
    for item in found:
        chance = rng.random()
        if chance < 0.03:
            continue
        if chance < 0.04 and isinstance(item, Detection):
            item = dataclasses.replace(item, theta_rad=math.nan)
        elif chance < 0.05 and isinstance(item, Detection):
            item = dataclasses.replace(item, theta_rad=float(rng.uniform(-3, 3)))
        elif chance < 0.06 and isinstance(item, EncoderSample):
            item = dataclasses.replace(item, t_ns=item.t_ns - int(rng.integers(0, 10**9)))
        kept.append(item)
        if chance > 0.99:
            kept.append(item)
    if rng.random() < 0.01:
        link = list(Link)[rng.integers(0, 4)]
        state = (LinkState.DOWN, LinkState.GARBLED, LinkState.UP)[rng.integers(0, 3)]
        kept.append(LinkEvent(now_ns, link, state, "spoilt"))
    return tuple(kept)


def ask(rng: np.random.Generator, config: Config, index: int) -> tuple[Request, ...]:
    """What an operator does, sensible or not."""
    if index == 15:
        return Request(RequestKind.ARM), Request(RequestKind.SWING_UP)
    if rng.random() > 0.04:
        return ()
    kind = list(RequestKind)[rng.integers(0, len(RequestKind))]
    if kind in (RequestKind.STOP, RequestKind.DISARM) and rng.random() < 0.7:
        return ()
    if kind is RequestKind.CONFIG:
        return (change(with_values(config, {WEIGHT: float(rng.uniform(0.5, 3))})),)
    if kind is RequestKind.REFERENCE:
        sine = Reference(ReferenceShape.SINE, 0.0, float(rng.uniform(0, 0.1)), 4.0)
        return (Request(kind, reference=sine),)
    return (Request(kind, value=float(rng.uniform(-0.1, 0.1))),)


def fly(path: Path | None, seed: int, *, faults: bool = True) -> tuple[Config, list[TickInput]]:
    """Run the controller on a simulated rig and record it; returns its inputs."""
    rng = np.random.default_rng([seed, 77])
    length = float(rng.uniform(0.4, 0.6)) if faults else 0.5
    config = with_values(Config(), {"sim.length_m": length, "sim.seed": seed})
    start = NANOSECONDS
    cores: list[ControlCore] = []
    writer = SessionWriter(path, config, live=False) if path is not None else None
    tap = writer.put_raw if writer is not None else None
    rig = VirtualRig(rig_rules(config), seed, hint=lambda t: cores[0].hint(t), t_ns=start, tap=tap)
    cores.append(ControlCore(settings_of(config), homed=rig.homing))
    if writer is not None:
        writer.put_start(rig.homing)
    inputs = []
    period_ns = round(config.controller.period_s * NANOSECONDS)
    for index in range(TICKS):
        now_ns = start + (index + 1) * period_ns
        found = rig.advance(now_ns)
        if index == 0:
            found = (LinkEvent(now_ns, Link.MOTOR, LinkState.UP), *found)
        budget = config.optimizer.newton_steps
        requests = ask(rng, config, index) if faults or index == 15 else ()
        if faults:
            found = spoil(rng, found, now_ns)
            budget = int(rng.integers(0, budget + 1))
        tick = TickInput(now_ns, found, requests, budget)
        inputs.append(tick)
        record = cores[0].tick(tick)
        rig.send(now_ns, record.command)
        if writer is not None:
            writer.put_tick(record, rig.truth(now_ns))
    if writer is not None:
        writer.close()
    return config, inputs


@pytest.mark.parametrize("seed", range(SESSIONS))
def test_faulty_sessions_replay_bit_for_bit(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    _, inputs = fly(path, seed)
    session = open_session(path)
    result = replay(session)
    assert result.bitwise_equal, result.first
    assert result.ticks == TICKS
    assert [repr(tick.input) for tick in session.ticks()] == [repr(tick) for tick in inputs]


def first_difference(config: Config, changed: Config, inputs: list[TickInput]) -> int:
    """By a second way: both controllers side by side in memory."""
    homed = first_homing(config)
    cores = [ControlCore(settings_of(settings), homed=homed) for settings in (config, changed)]
    for index, tick in enumerate(inputs):
        one, other = (core.tick(tick) for core in cores)
        if one.command != other.command or repr(one.estimate) != repr(other.estimate):
            return index
        if (one.plan is None) != (other.plan is None):
            return index
        if one.plan is not None and other.plan is not None:
            same = one.plan.states.tobytes() == other.plan.states.tobytes()
            if not same or one.plan.cost != other.plan.cost:
                return index
    return -1


def first_homing(config: Config) -> HomingResult:
    return VirtualRig(rig_rules(config), config.sim.seed, t_ns=NANOSECONDS).homing


def test_a_changed_weight_differs_first_where_two_controllers_do(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    config, inputs = fly(path, 5, faults=False)
    changed = with_values(config, {WEIGHT: 2.0 * config.controller.weights.angle})
    result = replay(open_session(path), lambda _: changed)
    assert result.first is not None
    assert result.first.tick == first_difference(config, changed, inputs)
    assert result.differences["u_m_s"].largest > 1e-3
    assert result.differences["p_m"].largest < 1e-2  # the measurements stay the recording's


def test_serial_bytes_decode_to_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    fly(path, 6, faults=False)
    session = open_session(path)
    result = replay(session, inputs=RawInputs(session, session.config))
    assert result.ticks == TICKS
    assert result.bitwise_equal, result.first
