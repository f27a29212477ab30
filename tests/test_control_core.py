"""The core: modes, faults, fall-back, requests; driven in virtual time on the simulated rig."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config, Controller, Sim, Weights
from cartpole.control.core import ControlCore
from cartpole.control.planning import PlanMaker, RigPlanner
from cartpole.messages import (
    BoardStatus,
    Detection,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Mode,
    Plan,
    PlanStatus,
    Request,
    RequestKind,
    TickInput,
    TickRecord,
)
from cartpole.rules.control import change, config_of, governor_limits, settings_of
from cartpole.rules.optimizer import planner_rules
from cartpole.rules.sim import rig_rules
from cartpole.sim.rig import VirtualRig

PERIOD_NS = 20_000_000


class Bench:
    """A core on the simulated rig whose measurements a test may tamper with."""

    def __init__(self, config: Config | None = None, planner: PlanMaker | None = None) -> None:
        self.config = config or Config()
        self.rig = VirtualRig(rig_rules(self.config), 0, t_ns=PERIOD_NS)
        homed = self.rig.homing if self.config.sim.homed else None
        self.core = ControlCore(settings_of(self.config), homed=homed, planner=planner)
        self.now_ns = PERIOD_NS
        self.more: tuple[Measurement, ...] = (
            LinkEvent(PERIOD_NS, Link.MOTOR, LinkState.UP, "simulated"),
        )
        self.tamper: Callable[[tuple[Measurement, ...]], tuple[Measurement, ...]] = lambda m: m
        self.records: list[TickRecord] = []

    def tick(self, *requests: RequestKind | Request, gap_ns: int = PERIOD_NS) -> TickRecord:
        self.now_ns += gap_ns
        asked = tuple(r if isinstance(r, Request) else Request(r) for r in requests)
        measurements = self.tamper((*self.more, *self.rig.advance(self.now_ns)))
        self.more = ()
        record = self.core.tick(TickInput(self.now_ns, measurements, asked, 60))
        self.rig.send(self.now_ns, record.command)
        self.core.after_tick()
        self.records.append(record)
        return record

    def ticks(self, count: int) -> TickRecord:
        for _ in range(count):
            record = self.tick()
        return record

    def fly(self, seconds: float = 0.5) -> TickRecord:
        self.ticks(10)
        self.tick(RequestKind.ARM, RequestKind.SWING_UP)
        return self.ticks(round(seconds * 50))

    @property
    def events(self) -> str:
        return "; ".join(event for record in self.records for event in record.events)


class BrokenPlanner(RigPlanner):
    """A planner that breaks when told to."""

    status: PlanStatus | None = None

    def plan(self, *asked: Any, **more: Any) -> Plan:
        plan = super().plan(*asked, **more)
        if self.status is PlanStatus.NOT_FINITE:
            states = np.full_like(plan.states, math.nan)
            return dataclasses.replace(plan, status=self.status, states=states)
        return plan if self.status is None else dataclasses.replace(plan, status=self.status)


def without(kind: type) -> Callable[[tuple[Measurement, ...]], tuple[Measurement, ...]]:
    return lambda found: tuple(item for item in found if not isinstance(item, kind))


def test_comes_up_disarmed_and_silent() -> None:
    bench = Bench()
    for _ in range(20):
        record = bench.tick()
        assert record.mode is Mode.DISARMED
        assert not record.command.enable
        assert record.command.velocity_m_s == 0.0


def test_swings_up_and_balances_inside_the_limits() -> None:
    bench = Bench()
    record = bench.fly(4.0)
    assert record.mode is Mode.BALANCE
    truth = bench.rig.truth(bench.now_ns)
    assert abs(math.remainder(truth[2] - math.pi, 2 * math.pi)) < 0.05
    limits = governor_limits(bench.config)
    sent = [record.command.velocity_m_s for record in bench.records]
    steps = np.abs(np.diff([0.0, *sent]))
    assert max(map(abs, sent)) <= limits.velocity_m_s
    assert steps.max() <= limits.acceleration_m_s2 * limits.period_s + 1e-9
    assert [r.command.sequence for r in bench.records] == list(range(len(sent)))


def test_same_inputs_same_records() -> None:
    first, second = Bench(), Bench()
    first.fly(2.5)
    second.fly(2.5)
    for a, b in zip(first.records, second.records, strict=True):
        assert a.command == b.command
        assert a.estimate == b.estimate
        if a.plan is not None:
            assert b.plan is not None
            assert a.plan.states.tobytes() == b.plan.states.tobytes()


def test_homing_finds_the_middle_and_the_gain() -> None:
    bench = Bench(Config(sim=Sim(homed=False)))
    bench.ticks(10)
    bench.tick(RequestKind.ARM)
    while bench.tick().mode is Mode.HOMING:
        assert len(bench.records) < 1500
    assert bench.records[-1].mode is Mode.READY
    assert bench.records[-1].homed
    bench.ticks(25)
    estimate = bench.records[-1].estimate
    assert estimate is not None
    truth = bench.rig.truth(bench.now_ns)
    assert estimate.state[0] == pytest.approx(truth[0], abs=0.002)


@pytest.mark.parametrize(
    ("sim", "says"),
    [
        (Sim(homed=False, counts_per_m_s=15000.0, dead_band_counts=100.0), "commanded speed"),
        (Sim(homed=False, cart_counts_per_m=2000.0), "unit"),
        (Sim(homed=False, counts_per_m_s=100000.0), "does not move"),
    ],
)
def test_homing_refuses_wrong_units(sim: Sim, says: str) -> None:
    bench = Bench(Config(sim=sim))
    bench.ticks(10)
    bench.tick(RequestKind.ARM)
    for _ in range(1500):
        if bench.tick().mode is Mode.FAULT:
            break
    assert bench.records[-1].mode is Mode.FAULT
    assert says in bench.events


def test_plan_that_is_not_finite_falls_back_in_the_same_tick() -> None:
    config = Config()
    planner = BrokenPlanner(planner_rules(config))
    bench = Bench(config, planner)
    assert bench.fly(4.0).mode is Mode.BALANCE
    planner.status = PlanStatus.NOT_FINITE
    record = bench.tick()
    assert math.isfinite(record.command.velocity_m_s)
    assert bench.tick().mode is Mode.LQR_FALLBACK
    assert bench.ticks(100).mode is Mode.LQR_FALLBACK
    truth = bench.rig.truth(bench.now_ns)
    assert abs(math.remainder(truth[2] - math.pi, 2 * math.pi)) < 0.1
    planner.status = None
    assert bench.ticks(10).mode is Mode.BALANCE


def test_two_bad_plans_are_bridged_then_lqr_flies() -> None:
    config = Config()
    planner = BrokenPlanner(planner_rules(config))
    bench = Bench(config, planner)
    bench.fly(4.0)
    planner.status = PlanStatus.BUDGET
    assert bench.ticks(2).mode is Mode.BALANCE
    bench.ticks(2)
    assert bench.records[-1].mode is Mode.LQR_FALLBACK


ENCODERS_ALONE = with_values(Config(), {"camera.source": "none"})


def test_silent_encoder_brakes_and_latches_until_reset() -> None:
    bench = Bench(ENCODERS_ALONE)
    bench.fly(0.4)
    bench.tamper = without(EncoderSample)
    bench.ticks(5)
    assert bench.records[-1].mode in (Mode.SAFE_STOP, Mode.FAULT)
    record = bench.ticks(80)
    assert record.mode is Mode.FAULT
    assert record.command.velocity_m_s == 0.0
    assert not record.command.enable
    assert {fault.name for fault in record.faults} >= {"encoder lost"}
    bench.tamper = lambda m: m
    bench.tick(RequestKind.ARM)
    assert bench.records[-1].mode is Mode.FAULT
    record = bench.tick(RequestKind.RESET)
    assert record.mode is Mode.DISARMED
    assert not record.homed


def test_lost_camera_only_degrades() -> None:
    bench = Bench()
    bench.fly(4.0)
    bench.tamper = without(Detection)
    record = bench.ticks(100)
    assert record.mode is Mode.BALANCE
    assert [fault.name for fault in record.faults] == ["camera lost"]
    bench.tamper = lambda m: m
    assert bench.ticks(20).faults == ()


@pytest.mark.parametrize(
    ("measurement", "name"),
    [
        (lambda t: BoardStatus(t, estop=True), "emergency stop"),
        (lambda t: BoardStatus(t, fault_code=3), "board fault"),
        (lambda t: EncoderSample(t, t, 0, 0, limit_high=True), "limit switch"),
    ],
)
def test_off_at_once(measurement: Callable[[int], Measurement], name: str) -> None:
    bench = Bench()
    bench.fly(0.3)
    assert bench.records[-1].command.velocity_m_s != 0.0
    bench.tamper = lambda found: (*found, measurement(bench.now_ns))
    record = bench.tick()
    assert record.mode is Mode.FAULT
    assert record.command.velocity_m_s == 0.0
    assert not record.command.enable
    assert name in {fault.name for fault in record.faults}


def test_board_that_reboots_stops_the_drive() -> None:
    bench = Bench()
    bench.tamper = lambda found: (*found, BoardStatus(bench.now_ns, boot_id=7))
    bench.fly(0.3)
    bench.tamper = lambda found: (*found, BoardStatus(bench.now_ns, boot_id=8))
    assert bench.tick().mode is Mode.FAULT


def test_late_tick_brakes() -> None:
    bench = Bench()
    bench.fly(0.3)
    bench.tick(gap_ns=150_000_000)
    assert "tick late" in bench.events


def test_gap_of_fifty_milliseconds_is_survived() -> None:
    bench = Bench()
    bench.fly(4.0)
    bench.tick(gap_ns=50_000_000)
    assert bench.ticks(50).mode is Mode.BALANCE


def test_drive_that_does_not_follow_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.fly(0.3)
    monkeypatch.setattr(bench.rig.plant, "command", lambda _t_ns, _velocity: None)
    for _ in range(40):
        if bench.tick().mode is Mode.FAULT:
            break
    assert "velocity stuck" in bench.events


def test_stop_brakes_then_disarms() -> None:
    bench = Bench()
    bench.fly(0.3)
    assert bench.tick(RequestKind.STOP).mode is Mode.SAFE_STOP
    record = bench.ticks(60)
    assert record.mode is Mode.DISARMED
    assert not record.armed
    assert record.command.velocity_m_s == 0.0


def test_unplugged_encoder_loses_homing_and_never_rearms_by_itself() -> None:
    bench = Bench(ENCODERS_ALONE)
    bench.fly(0.3)
    down = LinkEvent(bench.now_ns, Link.ENCODER, LinkState.DOWN, "gone")
    bench.tamper = lambda found: (down, *found)
    bench.tick()
    bench.tamper = lambda found: found
    record = bench.ticks(150)
    assert record.mode is Mode.FAULT
    assert not record.homed


def test_wrong_camera_delay_is_called_out() -> None:
    bench = Bench(Config(sim=Sim(camera_latency_s=0.012)))

    def older(found: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
        return tuple(
            dataclasses.replace(item, t_ns=item.t_ns + 6_000_000)
            if isinstance(item, Detection)
            else item
            for item in found
        )

    bench.tamper = older
    record = bench.fly(6.0)
    assert "camera delay" in {fault.name for fault in record.faults}


def refusals() -> Iterator[tuple[Request, str]]:
    yield Request(RequestKind.SWING_UP), "arm first"
    yield Request(RequestKind.RESET), "no fault"
    yield Request(RequestKind.TARGET, value=5.0), "refused"
    yield Request(RequestKind.TARGET, value=math.nan), "refused"


@pytest.mark.parametrize(("request_", "says"), list(refusals()))
def test_refused_requests_say_why(request_: Request, says: str) -> None:
    bench = Bench()
    bench.ticks(5)
    record = bench.tick(request_)
    assert record.mode is Mode.DISARMED
    assert says in bench.events


def test_arming_without_data_is_refused() -> None:
    bench = Bench()
    bench.tamper = without(EncoderSample)
    bench.ticks(5)
    assert bench.tick(RequestKind.ARM).mode is Mode.DISARMED
    assert "no fresh encoder sample" in bench.events


def test_live_settings_change_and_others_are_refused() -> None:
    bench = Bench()
    bench.fly(4.0)
    live = bench.config.model_copy(
        update={"controller": Controller(weights=Weights(position=2.0), target_m=0.1)}
    )
    bench.tick(change(live))
    assert "settings changed" in bench.events
    bench.ticks(200)
    assert bench.rig.truth(bench.now_ns)[0] == pytest.approx(0.1, abs=0.02)
    frozen = live.model_copy(update={"rig": live.rig.model_copy(update={"name": "other"})})
    bench.tick(change(frozen))
    assert "rig.name: restart needed" in bench.events
    assert config_of(bench.core.settings) == live


def test_pushes_are_caught_inside_the_limits() -> None:
    for push in (0.5, -1.0, 2.0):
        bench = Bench()
        bench.fly(3.5)
        bench.rig.plant.push(pole_rad_s=push)
        worst = 0.0
        for _ in range(250):
            bench.tick()
            worst = max(worst, abs(bench.rig.truth(bench.now_ns)[0]))
        assert bench.records[-1].mode is Mode.BALANCE
        assert worst <= bench.config.rig.position_limit_m


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_pushed_pole_without_a_plan_is_caught_not_let_go(side: float) -> None:
    """Beyond the regulator's region energy control would ask for nothing until it hangs."""
    settings = settings_of(Config())
    pilot = ControlCore(settings)._pilot
    model = settings.rules.model
    pilot._memory.bad_in_a_row = 3
    pushed = np.array([0.0, 0.0, math.pi + side * 0.1, side * 1.1, 0.0])
    flight = pilot._fall_back(pushed, 0.0, None, model)
    assert flight.source == "lqr"
    assert side * flight.velocity_m_s < 0.0  # the cart goes under the pole
    hanging = np.array([0.0, 0.0, 0.3, 0.0, 0.0])
    assert pilot._fall_back(hanging, 0.0, None, model).source == "energy"


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_cart_just_beyond_its_limit_is_led_back_where_plans_fail(side: float) -> None:
    """A drive that does not obey exactly brings it there; the pole need not be given up."""
    bench = Bench()
    bench.fly(4.0)
    pilot, model = bench.core._pilot, bench.core.rules.model
    limit = bench.config.rig.position_limit_m
    for beyond_m, bad, source in ((0.004, 3, "energy"), (0.03, 3, "none"), (0.004, 60, "none")):
        pilot._memory.bad_in_a_row = bad
        state = np.array([side * (limit + beyond_m), 0.0, math.pi + side * 0.2, 0.0, 0.0])
        flight = pilot._fall_back(state, 0.0, None, model)
        assert flight.source == source
        assert side * flight.velocity_m_s < 0.0 or source == "none"
    # A good plan leads it back at once: nothing else is there to fly until it has proved itself.
    state = np.array([side * (limit + 0.004), 0.0, 0.5, 0.0, 0.0])
    pilot._memory.good_in_a_row = 0
    reference = np.zeros(len(pilot.times_s))
    flight = pilot.fly(state, reference, 400, bench.now_ns + PERIOD_NS, model)
    assert flight.source == "plan"


def test_a_plan_made_before_the_pole_was_hit_bridges_nothing() -> None:
    bench = Bench()
    bench.fly(4.0)
    pilot, good = bench.core._pilot, bench.core._memory.pilot.good
    assert good is not None
    model, there = bench.core.rules.model, good.states[3].copy()
    at_ns = good.start_ns + 3 * PERIOD_NS
    assert pilot._bridge(at_ns, there, model) == good.states[4, 4]
    hit = there + np.array([0.0, 0.0, 0.02, 1.2, 0.0])
    assert pilot._bridge(at_ns, hit, model) is None


def test_a_falling_pole_is_caught_by_the_first_good_plan() -> None:
    """Five of them in a row are asked for otherwise, and energy control would let it go."""
    bench = Bench()
    bench.fly(4.0)
    pilot = bench.core._pilot
    falling = np.array([0.0, 0.0, math.pi + 0.06, 1.0, 0.0])
    reference = np.zeros(len(pilot.times_s))
    for angle, source in ((falling[2], "plan"), (0.3, "energy")):
        state = np.array([0.0, 0.0, angle, falling[3], 0.0])
        pilot._memory.good_in_a_row = 0
        flight = pilot.fly(state, reference, 200, bench.now_ns + PERIOD_NS, bench.core.rules.model)
        assert flight.plan is not None
        assert flight.plan.status in (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)
        assert flight.source == source


@pytest.mark.parametrize("push", [-1.12, 1.12])
def test_a_push_of_most_of_what_can_be_caught_is_caught(push: float) -> None:
    bench = Bench()
    bench.fly(5.0)
    bench.rig.plant.push(pole_rad_s=push)
    farthest = 0.0
    for _ in range(150):
        bench.tick()
        angle = math.remainder(bench.rig.truth(bench.now_ns)[2] - math.pi, 2.0 * math.pi)
        farthest = max(farthest, abs(angle))
    assert farthest < 0.5
    assert abs(angle) < 0.1
