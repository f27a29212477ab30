"""Safety limits change while disarmed, as a whole, everywhere; otherwise nothing changes (I9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cartpole.config.load import disarmed_fields, live_fields, with_values
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.messages import (
    BoardStatus,
    EncoderSample,
    HomingResult,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Mode,
    Reference,
    ReferenceShape,
    Request,
    RequestKind,
    TickInput,
    TickRecord,
)
from cartpole.rules.control import change, config_of, settings_of
from cartpole.rules.sim import rig_rules
from cartpole.session.invariants import Invariants
from cartpole.session.reader import open_session
from cartpole.session.replay import replay
from cartpole.session.writer import SessionWriter
from cartpole.sim.rig import VirtualRig
from cartpole.sim.run import VirtualRun

PERIOD_NS = 20_000_000
SLOW = {
    "rig.velocity_limit_m_s": 0.6,  # plans get longer, too
    "rig.acceleration_limit_m_s2": 5.0,
    "rig.position_limit_m": 0.3,
    "safety.stop_margin_m": 0.01,
}


def to(config: Config, values: dict[str, Any]) -> Request:
    return change(with_values(config, values))


def fly(run: VirtualRun, mode: Mode, seconds: float = 20.0) -> TickRecord:
    """Tick until the mode is reached."""
    ticks = run.ticks()
    for _ in range(round(50 * seconds)):
        record = next(ticks).record
        if record.mode is mode:
            return record
    raise AssertionError(f"{mode} was not reached, {record.mode} instead")


def test_the_limits_are_marked_and_only_they() -> None:
    limits = disarmed_fields()
    assert {key for key in limits if key.startswith("rig.")} == {
        "rig.position_limit_m",
        "rig.velocity_limit_m_s",
        "rig.acceleration_limit_m_s2",
    }
    safety = {f"safety.{name}" for name in type(Config().safety).model_fields}
    assert safety <= limits
    assert all(key.startswith(("rig.", "safety.")) for key in limits)
    assert not limits & live_fields()


@pytest.mark.parametrize("backend", ["compiled", "penalty"])
def test_new_limits_hold_for_the_next_flight(backend: str) -> None:
    config = with_values(Config(), {"optimizer.backend": backend})
    first = [to(config, SLOW)]
    run = VirtualRun(config, 0, disturb=lambda _now, _rig: (first.pop(),) if first else ())
    ticks = run.ticks()
    changed = with_values(config, SLOW)
    invariants = Invariants(config)
    records = []
    for _ in range(250):
        tick = next(ticks)
        records.append(tick.record)
        assert invariants.check(tick.record, tick.truth) == []
    assert config_of(run.core.settings) == changed
    assert any("settings changed" in event for event in records[0].events)
    assert max(abs(r.command.velocity_m_s) for r in records) == pytest.approx(0.6, abs=0.1)
    assert max(abs(r.command.velocity_m_s) for r in records) <= 0.6
    plans = [r.plan for r in records if r.plan is not None]
    assert len(plans[0].inputs) > config.optimizer.horizon_steps
    assert any(r.mode in (Mode.SWING_UP, Mode.BALANCE) for r in records)


def refused(core: ControlCore, mode: Mode, values: dict[str, Any], now_ns: int) -> str:
    """The core's answer to new settings in a mode that the test has brought it to."""
    assert core.mode is mode
    before = config_of(core.settings)
    record = core.tick(TickInput(now_ns, (), (to(before, values),), 60))
    assert config_of(core.settings) is before
    (event,) = [event for event in record.events if "settings" in event]
    return event


@pytest.mark.parametrize("mode", [Mode.HOMING, Mode.READY, Mode.SWING_UP, Mode.BALANCE])
def test_refused_while_armed(mode: Mode) -> None:
    config = with_values(Config(), {"sim.homed": mode is not Mode.HOMING})
    requests: tuple[Request, ...] = (Request(RequestKind.ARM),)
    if mode not in (Mode.READY, Mode.HOMING):
        requests += (Request(RequestKind.SWING_UP),)
    run = VirtualRun(config, 0, requests=requests)
    now_ns = fly(run, mode).input.now_ns + PERIOD_NS
    told = refused(run.core, mode, {"rig.velocity_limit_m_s": 0.9}, now_ns)
    assert told == (
        "settings refused: rig.velocity_limit_m_s: only while disarmed: stop and disarm first "
        "(nothing was changed)"
    )


def test_refused_in_a_fault_until_the_reset() -> None:
    run = VirtualRun(Config(), 0)
    now_ns = fly(run, Mode.SWING_UP).input.now_ns + PERIOD_NS
    run.core.tick(TickInput(now_ns, (BoardStatus(now_ns, estop=True),), (), 60))
    told = refused(run.core, Mode.FAULT, {"safety.lag_error_s": 0.2}, now_ns + PERIOD_NS)
    assert "only while disarmed: reset first" in told


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"rig.track_length_m": 0.9, "rig.velocity_limit_m_s": 0.9}, "restart needed"),
        ({"rig.track_length_m": 0.9, "controller.weights.angle": 2.0}, "restart needed"),
    ],
)
def test_a_mixed_change_is_all_or_nothing(values: dict[str, Any], told: str) -> None:
    core = ControlCore(settings_of(Config()))
    answer = refused(core, Mode.DISARMED, values, PERIOD_NS)
    assert told in answer
    assert "rig.velocity_limit_m_s" not in answer  # names what stands against it


def test_armed_a_mixed_change_is_refused_and_disarmed_it_is_whole() -> None:
    mixed = {"rig.velocity_limit_m_s": 0.9, "controller.weights.angle": 2.0}
    run = VirtualRun(Config(), 0)
    now_ns = fly(run, Mode.BALANCE).input.now_ns + PERIOD_NS
    assert "only while disarmed" in refused(run.core, Mode.BALANCE, mixed, now_ns)
    core = ControlCore(settings_of(Config()))
    core.tick(TickInput(PERIOD_NS, (), (to(Config(), mixed),), 60))
    assert config_of(core.settings) == with_values(Config(), mixed)


def test_the_order_within_a_tick_decides() -> None:
    rig = VirtualRig(rig_rules(Config()), 0, t_ns=PERIOD_NS)
    arm, change = Request(RequestKind.ARM), to(Config(), SLOW)
    for requests, taken in (((arm, change), False), ((change, arm), True)):
        core = ControlCore(settings_of(Config()), homed=rig.homing)
        up = LinkEvent(PERIOD_NS, Link.MOTOR, LinkState.UP, "simulated")
        core.tick(TickInput(PERIOD_NS, (up,), (), 60))
        for tick in range(2, 12):
            now_ns = tick * PERIOD_NS
            core.tick(TickInput(now_ns, rig.advance(now_ns) or (_sample(now_ns),), (), 60))
        core.tick(TickInput(12 * PERIOD_NS, (_sample(12 * PERIOD_NS),), requests, 60))
        assert core.mode is Mode.READY
        assert (config_of(core.settings) == with_values(Config(), SLOW)) is taken


def _sample(now_ns: int) -> EncoderSample:
    return EncoderSample(now_ns - 1_000_000, now_ns, 0, 0)


def test_a_smaller_track_moves_the_target_inside() -> None:
    core = ControlCore(settings_of(Config()))
    sine = Reference(ReferenceShape.SINE, 0.1, 0.1, 4.0)
    core.tick(TickInput(PERIOD_NS, (), (Request(RequestKind.REFERENCE, reference=sine),), 60))
    change = to(Config(), {"rig.position_limit_m": 0.1})
    record = core.tick(TickInput(2 * PERIOD_NS, (), (change,), 60))
    assert record.target_m == pytest.approx(0.07)
    assert "target 0.070 m" in record.events


def test_homing_beyond_a_new_tolerance_is_void() -> None:
    homed = HomingResult(0.0, 0.0, travel_m=0.9, gain=1.04)
    core = ControlCore(settings_of(Config()), homed=homed)
    record = core.tick(TickInput(PERIOD_NS, (), (to(Config(), {"safety.lag_error_s": 0.2}),), 60))
    assert record.homed
    change = to(config_of(core.settings), {"safety.gain_tolerance": 0.03})
    record = core.tick(TickInput(2 * PERIOD_NS, (), (change,), 60))
    assert not record.homed
    assert "homing is outside the new tolerances: home again" in record.events


def test_no_arming_before_the_board_has_the_limits() -> None:
    config = with_values(Config(), {"motor.protocol": "bridge", "encoder.protocol": "bridge"})
    core = ControlCore(settings_of(config), homed=HomingResult(0.0, 0.0))
    now_ns = 0

    def tick(*found: Measurement, ask: tuple[Request, ...] = ()) -> TickRecord:
        nonlocal now_ns
        now_ns += PERIOD_NS
        return core.tick(TickInput(now_ns, (_sample(now_ns), *found), ask, 60))

    def up(t_ns: int) -> LinkEvent:
        return LinkEvent(t_ns, Link.MOTOR, LinkState.UP, "said")

    tick(up(1))
    arm = Request(RequestKind.ARM)
    # The UP in the same tick was said before the board was told.
    record = tick(up(now_ns + 1), ask=(to(config, SLOW), arm))
    assert any("has not confirmed the new limits" in event for event in record.events)
    assert "confirmed" in "".join(tick(ask=(arm,)).events)
    tick(up(now_ns + 1))
    assert tick(ask=(arm,)).mode is Mode.READY


def test_a_session_with_such_changes_replays_bit_for_bit(tmp_path: Path) -> None:
    """Swing up, be refused, stop, change the limits, swing up again under them."""
    config = Config()
    plan = {
        40: (to(config, SLOW),),  # refused: armed
        60: (Request(RequestKind.STOP),),
        130: (to(config, SLOW),),
        140: (Request(RequestKind.ARM), Request(RequestKind.SWING_UP)),
    }
    count = iter(range(10_000))
    path = tmp_path / "run.mcap"
    with SessionWriter(path, config, live=False) as writer:
        run = VirtualRun(config, 3, disturb=lambda _now, _rig: plan.get(next(count), ()))
        writer.put_start(run.homed)
        ticks = run.ticks()
        for _ in range(330):
            tick = next(ticks)
            writer.put_tick(tick.record, tick.truth)
    assert config_of(run.core.settings) == with_values(config, SLOW)
    session = open_session(path)
    told = [event for tick in session.ticks() for event in tick.line.events if "settings" in event]
    assert ["refused" in event for event in told] == [True, False]
    result = replay(session)
    assert result.bitwise_equal, result.first
    assert result.ticks == 330
    last = list(session.ticks())[-1]
    assert last.line.mode in (Mode.SWING_UP, Mode.BALANCE)
