"""Guards that are true: each names the cause that it is, and only that one; in virtual time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.control.drive_watch import DriveMemory, DriveRules, follow, stuck
from cartpole.control.governor import GovernorLimits, govern, narrowed
from cartpole.messages import (
    BoardStatus,
    Detection,
    DetectionStatus,
    EncoderSample,
    HomingResult,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Mode,
    Request,
    RequestKind,
    TickInput,
    TickRecord,
)
from cartpole.rules.control import governor_limits, settings_of
from cartpole.rules.sim import rig_rules
from cartpole.sim.rig import VirtualRig

PERIOD_NS = 20_000_000
MS = 1_000_000
Found = tuple[Measurement, ...]
UP = LinkEvent(PERIOD_NS, Link.MOTOR, LinkState.UP, "simulated")


class Flight:
    """A core in flight on a simulated rig; ``tamper`` changes what it hears."""

    def __init__(self, **values: Any) -> None:
        self.config = with_values(Config(), {k.replace("__", "."): v for k, v in values.items()})
        self.rig = VirtualRig(rig_rules(self.config), 0, t_ns=PERIOD_NS)
        self.core = ControlCore(settings_of(self.config), homed=self.rig.homing)
        self.now_ns = PERIOD_NS
        self.tamper: Callable[[Found], Found] = lambda found: found
        self.records: list[TickRecord] = []
        self.tick(UP)

    def tick(
        self, *more: Measurement, ask: tuple[RequestKind, ...] = (), gap_ns: int = PERIOD_NS
    ) -> TickRecord:
        self.now_ns += gap_ns
        found = (*self.tamper(self.rig.advance(self.now_ns)), *more)
        requests = tuple(Request(kind) for kind in ask)
        record = self.core.tick(TickInput(self.now_ns, found, requests, 60))
        self.rig.send(self.now_ns, record.command)
        self.core.after_tick()
        self.records.append(record)
        return record

    def run(self, seconds: float) -> TickRecord:
        for _ in range(round(50 * seconds)):
            record = self.tick()
        return record

    def up(self, seconds: float = 4.0) -> TickRecord:
        self.run(0.2)
        self.tick(ask=(RequestKind.ARM, RequestKind.SWING_UP))
        return self.run(seconds)

    @property
    def faults(self) -> list[str]:
        return [fault.name for fault in self.records[-1].faults]

    @property
    def said(self) -> str:
        return "; ".join(event for record in self.records for event in record.events)


def without(*kinds: type) -> Callable[[Found], Found]:
    return lambda found: tuple(item for item in found if not isinstance(item, kinds))


# Arming


def sample(now_ns: int, **flags: bool) -> EncoderSample:
    return EncoderSample(now_ns - MS, now_ns, 0, 0, **flags)


def asked(*heard: Measurement, homed: bool = True) -> TickRecord:
    """The tick in which a core that has heard this is asked to arm."""
    known = HomingResult(0.0, 0.0) if homed else None
    core = ControlCore(settings_of(Config()), homed=known)
    core.tick(TickInput(PERIOD_NS, (sample(PERIOD_NS), *heard), (), 60))
    now_ns = 2 * PERIOD_NS
    return core.tick(TickInput(now_ns, (), (Request(RequestKind.ARM),), 60))


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        ((), "motor is down: it has not said that it is up"),
        ((UP, BoardStatus(PERIOD_NS, fault_code=3)), "the board has latched fault 3"),
        ((UP, BoardStatus(PERIOD_NS, estop=True)), "the e-stop is pressed"),
        ((UP, sample(PERIOD_NS, limit_low=True, limit_high=True)), "encoder.switch_active"),
        ((UP, sample(PERIOD_NS, limit_low=True)), "the left limit switch is pressed"),
        ((UP, sample(PERIOD_NS, limit_high=True)), "the right limit switch is pressed"),
    ],
)
def test_arming_is_refused(heard: Found, why: str) -> None:
    record = asked(*heard)
    assert record.mode is Mode.DISARMED
    assert not record.answers[0].ok
    assert why in record.answers[0].text


def test_arming_is_granted_and_homing_may_leave_a_switch() -> None:
    assert asked(UP).mode is Mode.READY
    assert asked(UP, sample(PERIOD_NS, limit_low=True), homed=False).mode is Mode.HOMING
    both = sample(PERIOD_NS, limit_low=True, limit_high=True)
    assert asked(UP, both, homed=False).mode is Mode.DISARMED


# Switches, stamps


@pytest.mark.parametrize("side", ["limit_low", "limit_high"])
def test_a_switch_pressed_between_two_ticks_is_seen(side: str) -> None:
    flight = Flight()
    flight.up(0.4)

    def pressed(found: Found) -> Found:
        samples = [item for item in found if isinstance(item, EncoderSample)]
        one = dataclasses.replace(samples[0], **{side: True})
        return tuple(one if item is samples[0] else item for item in found)

    flight.tamper = pressed
    assert flight.tick().mode is Mode.FAULT
    assert "limit switch" in flight.faults


def test_a_frame_from_the_future_changes_nothing() -> None:
    flight = Flight()
    flight.up()
    hour = 3_600_000_000_000
    ahead = Detection(
        flight.now_ns + hour, flight.now_ns + hour, 1, DetectionStatus.OK, 3.0, 0.0, 0.001, 0.001
    )
    for _ in range(50):
        record = flight.tick(ahead)
        assert record.estimate is not None
        assert 0 <= record.estimate.encoder_age_ns < 60 * MS
    assert record.mode is Mode.BALANCE
    assert "in the future is not used" in flight.said
    truth = flight.rig.truth(flight.now_ns)
    assert abs(math.remainder(truth[2] - math.pi, 2.0 * math.pi)) < 0.05


# The camera against the encoders


def all_frames(change: Callable[[Detection], Detection]) -> Callable[[Found], Found]:
    return lambda found: tuple(
        change(item) if isinstance(item, Detection) else item for item in found
    )


def test_missed_counts_are_told_from_fresh_frames_that_fit() -> None:
    flight = Flight()
    flight.up()
    flight.tamper = all_frames(lambda one: dataclasses.replace(one, p_m=one.p_m + 0.008))
    flight.run(0.5)
    assert "missed counts" in flight.faults


def test_a_last_frame_that_was_off_stops_nothing() -> None:
    flight = Flight()
    flight.up()
    flight.tamper = all_frames(lambda one: dataclasses.replace(one, p_m=one.p_m + 0.009))
    flight.tick()
    flight.tamper = without(Detection)
    assert flight.run(1.0).mode is Mode.BALANCE
    assert flight.faults == ["camera lost"]


def test_a_frozen_camera_is_lost_and_says_nothing_of_counts() -> None:
    flight = Flight()
    flight.up(0.6)
    kept: list[Detection] = []

    def frozen(found: Found) -> Found:
        frames = [one for one in found if isinstance(one, Detection)]
        kept.extend(frames[:1] if not kept else [])
        shown = [dataclasses.replace(kept[0], t_ns=f.t_ns, arrival_ns=f.arrival_ns)
                 for f in frames] if kept else []  # fmt: skip
        return (*without(Detection)(found), *shown)

    flight.tamper = frozen
    flight.run(0.2)
    assert flight.faults == ["camera lost"]
    assert flight.run(4.0).mode is Mode.BALANCE
    assert "same picture again" in flight.said


def test_a_reflection_is_rejected_by_name() -> None:
    flight = Flight()
    flight.up()
    flight.tamper = all_frames(
        lambda one: dataclasses.replace(one, theta_rad=one.theta_rad - 1.5, p_m=one.p_m + 0.1)
    )
    record = flight.run(0.3)
    assert record.mode is Mode.BALANCE
    assert "camera rejected" in flight.said
    assert "missed counts" not in flight.said


def test_stamps_an_hour_behind_end_in_the_camera_lost() -> None:
    flight = Flight()
    flight.up()
    hour = 3_600_000_000_000
    flight.tamper = all_frames(lambda one: dataclasses.replace(one, t_ns=one.t_ns - hour))
    assert flight.run(0.6).mode is Mode.BALANCE
    assert flight.faults == ["camera lost"]


# Silence and who is to blame


def test_an_encoder_board_that_is_silent_for_half_a_second_is_flown_through() -> None:
    flight = Flight()
    flight.up()
    flight.tamper = without(EncoderSample)
    flight.run(0.5)
    assert flight.faults == ["encoder silent"]
    flight.tamper = lambda found: found
    record = flight.run(1.0)
    assert record.mode is Mode.BALANCE
    assert record.faults == ()
    assert "its counts agree with the camera" in flight.said


def test_after_a_second_the_camera_alone_is_not_enough() -> None:
    flight = Flight()
    flight.up()
    flight.tamper = without(EncoderSample)
    flight.run(0.9)
    assert flight.records[-1].mode is Mode.BALANCE
    flight.run(0.4)
    assert "encoder lost" in flight.faults
    assert flight.records[-1].mode in (Mode.SAFE_STOP, Mode.FAULT)


def test_counts_that_come_back_changed_are_not_believed() -> None:
    flight = Flight()
    flight.up()
    flight.tamper = without(EncoderSample)
    flight.run(0.2)
    flight.tamper = lambda found: tuple(
        dataclasses.replace(item, cart_counts=item.cart_counts + 1000)
        if isinstance(item, EncoderSample)
        else item
        for item in found
    )
    flight.run(0.6)
    assert flight.records[-1].mode is Mode.BALANCE
    flight.run(0.6)
    assert "encoder lost" in flight.faults
    assert "do not agree with the camera" in flight.said


def test_room_is_cut_while_the_camera_alone_sees_the_cart() -> None:
    limits = governor_limits(Config())
    near = narrowed(limits, 0.05)
    cart = (limits.position_m - 0.02, 0.0)
    assert govern(0.5, 0.1, cart, 0.0, limits).velocity_m_s > 0.0
    assert (
        govern(0.5, 0.1, cart, 0.0, near).velocity_m_s
        < govern(0.5, 0.1, cart, 0.0, limits).velocity_m_s
    )


def test_a_host_that_stood_still_is_named_and_no_board() -> None:
    flight = Flight(camera__source="none")
    flight.up(0.4)
    flight.tamper = without(EncoderSample)  # nobody read meanwhile
    flight.tick(gap_ns=70 * MS)
    flight.tick()
    flight.tick()
    assert flight.faults == ["tick late"]
    assert "the host stood still for 70 ms" in flight.said
    assert "encoder lost" not in flight.said


def test_a_host_that_stood_still_for_a_moment_is_flown_through() -> None:
    flight = Flight(camera__source="none")
    flight.up()
    flight.tamper = without(EncoderSample)
    flight.tick(gap_ns=70 * MS)
    flight.tamper = lambda found: found
    assert flight.run(1.0).mode is Mode.BALANCE


def test_a_reader_that_was_not_run_is_named_and_no_board() -> None:
    flight = Flight(camera__source="none")
    flight.up(0.4)
    flight.tamper = without(EncoderSample)
    for _ in range(6):
        flight.tick(LinkEvent(flight.now_ns, Link.ENCODER, LinkState.STARVED, "not run for 50 ms"))
    assert flight.faults == ["host starved"]


def test_garble_is_named_where_it_is_the_cause() -> None:
    flight = Flight(camera__source="none")
    flight.up(0.4)
    garbled = LinkEvent(flight.now_ns, Link.ENCODER, LinkState.GARBLED, "nonsense")
    for _ in range(10):
        flight.tick(garbled)  # beside good samples: nothing
    assert flight.faults == []
    flight.tamper = without(EncoderSample)
    for _ in range(6):
        flight.tick(garbled)
    assert flight.faults == ["encoder garbled"]


@pytest.mark.parametrize(("protocol", "source"), [("none", "sim"), ("arduino_ascii", "none")])
def test_a_hole_of_sixty_milliseconds_is_flown_through(protocol: str, source: str) -> None:
    flight = Flight(encoder__protocol=protocol, camera__source=source)
    flight.up(5.0)
    assert flight.records[-1].mode is Mode.BALANCE
    for _ in range(5):
        flight.tamper = without(EncoderSample, Detection)
        flight.run(0.06)
        flight.tamper = lambda found: found
        assert flight.run(1.0).mode is Mode.BALANCE
    flight.tamper = without(EncoderSample, Detection)
    flight.run(0.2)
    assert flight.records[-1].mode in (Mode.SAFE_STOP, Mode.FAULT)


def test_no_command_but_braking_comes_from_an_old_state() -> None:
    flight = Flight(camera__source="none")
    flight.up(0.4)
    flight.tamper = without(EncoderSample)
    for _ in range(6):
        before = abs(flight.records[-1].command.velocity_m_s)
        record = flight.tick()
        assert record.estimate is not None
        if record.estimate.encoder_age_ns > 60 * MS:
            assert record.command.requested_m_s == 0.0
            assert abs(record.command.velocity_m_s) <= before


# The drive


DRIVE = DriveRules(1.0, 0.05, 8.0, 0.02, 5)


def trace(response: Callable[[float, float], float], seconds: float = 1.0) -> bool:
    """Whether a drive whose speed goes ``response(v, u)`` in a tick is called stuck."""
    memory, speed = DriveMemory(), 0.0
    for tick in range(round(50 * seconds)):
        command = math.copysign(1.0, math.sin(2.0 * math.pi * tick / 40))
        speed = response(speed, command)
        memory = follow(memory, DRIVE, command, speed)
        if stuck(memory, DRIVE):
            return True
    return False


def test_one_wrong_count_is_no_dead_drive() -> None:
    """A digit lost on a wire without a check sum, in any tick of a swing-up: a fork of each."""
    flight = Flight()
    flight.up(0.1)
    for _ in range(90):
        twin = flight.core.fork()
        record = flight.tick()
        found = record.input.measurements
        last = [one for one in found if isinstance(one, EncoderSample)][-1]
        others = [one for one in found if one is not last]
        for off in (-400, 400):
            wrong = dataclasses.replace(last, cart_counts=last.cart_counts + off)
            spoilt = dataclasses.replace(record.input, measurements=(*others, wrong))
            faults = twin.fork().tick(spoilt).faults
            assert "velocity stuck" not in {fault.name for fault in faults}


def test_slow_drives_are_not_stuck_and_dead_ones_are() -> None:
    assert not trace(lambda v, u: v + (u - v) * (1.0 - math.exp(-0.02 / 0.15)))  # three times tau
    assert not trace(lambda v, u: v + math.copysign(min(0.06, abs(u - v)), u - v))  # 3 m/s^2
    assert not trace(lambda v, u: v + 0.33 * (0.9 * u - v))  # gain
    assert trace(lambda _v, _u: 0.0)
    assert trace(lambda _v, _u: 0.7)


def test_a_command_without_its_sign_is_no_dead_drive() -> None:
    """Five ticks as they were seen: a start, one tick of the wrong sign, a belt that swings."""
    rules = DriveRules(1.5, 0.065, 13.0, 0.02, 5)
    memory = DriveMemory()
    for command, speed in ((-0.2, 0.02), (-0.45, 0.02), (-0.7, -0.07), (-0.95, -0.05), (-0.7, 0.02),
                           (-0.8, 0.0)):  # fmt: skip
        memory = follow(memory, rules, command, speed)
        assert not stuck(memory, rules)
    for _ in range(8):
        memory = follow(memory, rules, -0.9, 0.0)
    assert stuck(memory, rules)


def test_a_dead_drive_is_noticed_in_a_tenth_of_a_second_while_swinging() -> None:
    flight = Flight()
    flight.up(0.3)
    flight.rig.plant.command = lambda t_ns, velocity_m_s: None  # type: ignore[method-assign]
    held, before = 0, flight.rig.truth(flight.now_ns)[1]
    for _ in range(60):
        record = flight.tick()
        speed = flight.rig.truth(flight.now_ns)[1]
        still, before = abs(speed - before) < 0.03, speed
        held += still and abs(record.command.velocity_m_s - speed) > 0.3
        if record.faults:
            break
    assert flight.faults[0] == "velocity stuck"
    assert held <= 7  # 100 ms of judged ticks, the first command and the tick that says it


def test_a_dead_drive_is_noticed_within_a_second_while_balancing() -> None:
    flight = Flight()
    flight.up()
    flight.rig.plant.command = lambda t_ns, velocity_m_s: None  # type: ignore[method-assign]
    flight.run(1.0)
    assert "velocity stuck" in flight.faults


def status(flight: Flight, acknowledged: int, enabled: bool = True) -> BoardStatus:
    return BoardStatus(
        flight.now_ns + PERIOD_NS, enabled=enabled, acknowledged_sequence=acknowledged
    )


@pytest.mark.parametrize("deaf", [True, False])
def test_a_board_that_does_not_answer_is_braked(deaf: bool) -> None:
    flight = Flight()
    flight.tick(ask=(RequestKind.ARM,))
    for _ in range(20):
        flight.tick(status(flight, flight.records[-1].index))
    assert flight.faults == []
    last = flight.records[-1].index
    for _ in range(8):
        flight.tick(status(flight, last if deaf else flight.records[-1].index, enabled=deaf))
    assert flight.faults == ["no response"]


REFUSED = LinkEvent(PERIOD_NS, Link.MOTOR, LinkState.REFUSED, "no")
DOWN = LinkEvent(PERIOD_NS, Link.MOTOR, LinkState.DOWN, "unplugged")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ((BoardStatus(PERIOD_NS, boot_id=1), BoardStatus(PERIOD_NS, boot_id=1)), []),
        (
            (BoardStatus(PERIOD_NS, boot_id=1), BoardStatus(PERIOD_NS, boot_id=2)),
            ["board rebooted"],
        ),
        ((BoardStatus(PERIOD_NS, estop=True),), ["emergency stop"]),
        ((BoardStatus(PERIOD_NS, fault_code=3),), ["board fault"]),
        ((DOWN,), ["motor lost"]),
        ((REFUSED,), []),
        ((REFUSED, REFUSED), ["driver refuses"]),
    ],
)
def test_what_a_board_says_is_named_in_the_tick_that_hears_it(
    said: Found, names: list[str]
) -> None:
    flight = Flight()
    flight.up(0.2)
    record = flight.tick(*said)
    assert flight.faults == names
    assert (record.mode in (Mode.SAFE_STOP, Mode.FAULT)) is bool(names)


def test_no_tick_for_an_eighth_of_a_second_brakes_though_every_board_speaks() -> None:
    flight = Flight()
    flight.up(0.4)
    flight.tick(gap_ns=90 * MS)
    assert flight.faults == []
    flight.run(0.2)
    flight.tick(gap_ns=125 * MS)
    assert flight.faults == ["tick late"]


def test_the_slew_of_a_tick_is_what_the_elapsed_time_allows() -> None:
    limits: GovernorLimits = governor_limits(Config())
    whole = limits.acceleration_m_s2 * limits.period_s
    assert govern(1.0, 0.0, None, 0.0, limits, 0.02).velocity_m_s == pytest.approx(whole)
    assert govern(1.0, 0.0, None, 0.0, limits, 0.005).velocity_m_s == pytest.approx(whole / 4)
    assert govern(1.0, 0.0, None, 0.0, limits, 0.5).velocity_m_s == pytest.approx(whole)
    flight = Flight()
    flight.up(0.1)
    before = flight.records[-1].command.velocity_m_s
    record = flight.tick(gap_ns=2 * MS)
    assert abs(record.command.velocity_m_s - before) <= 8.0 * 0.002 + 1e-12


# Driver, track, control


def test_a_driver_that_says_no_once_is_asked_again_and_twice_is_a_fault() -> None:
    flight = Flight()
    flight.up()
    no = LinkEvent(flight.now_ns, Link.MOTOR, LinkState.REFUSED, "over temperature")
    flight.tick(no)
    assert flight.faults == []
    flight.tick(LinkEvent(flight.now_ns, Link.MOTOR, LinkState.UP, "answers"))
    flight.tick(no)
    assert flight.faults == []  # the one before was mended
    record = flight.tick(no)
    assert flight.faults == ["driver refuses"]
    assert "over temperature" in record.faults[0].meaning
    assert record.mode is Mode.SAFE_STOP


def test_a_motor_whose_port_is_gone_is_a_fault_in_the_same_tick() -> None:
    flight = Flight()
    flight.up()
    record = flight.tick(LinkEvent(flight.now_ns, Link.MOTOR, LinkState.DOWN, "unplugged"))
    assert flight.faults == ["motor lost"]
    assert record.mode is Mode.SAFE_STOP
    again = flight.tick(ask=(RequestKind.ARM,))
    assert not again.answers[0].ok


def test_a_cart_beyond_its_limit_is_braked() -> None:
    """Pushed out by a hand; up to two centimetres beyond, the governor leads it back."""
    for beyond_m, named in ((0.012, []), (0.03, ["outside track"])):
        flight = Flight(camera__source="none")
        flight.up()
        limit = flight.config.rig.position_limit_m
        scale = flight.config.encoder.cart_counts_per_m
        counts = round((limit + beyond_m) * scale)

        def pushed(found: Found, counts: int = counts) -> Found:
            return tuple(
                dataclasses.replace(m, cart_counts=counts) if isinstance(m, EncoderSample) else m
                for m in found
            )

        flight.tamper = pushed
        for _ in range(12):
            flight.tick()
        assert [name for name in flight.faults if name == "outside track"] == named


def test_where_nothing_may_fly_the_cart_is_braked() -> None:
    """No plan, and the cart beyond where regulator and energy control may take over."""
    flight = Flight(controller__feed_back_only=True)
    flight.up(1.0)
    state = (flight.config.rig.position_limit_m + 0.01, 0.0, 0.3, 0.0)
    flight.core._observer.predict = lambda t_ns: state  # type: ignore[method-assign]
    record = flight.tick()
    assert "no control" in flight.faults
    assert record.command.velocity_m_s == pytest.approx(0.0, abs=0.5)
    assert flight.run(1.0).mode is Mode.FAULT
    assert flight.records[-1].command.velocity_m_s == 0.0


def test_a_drive_that_has_just_begun_to_move_is_no_dead_one() -> None:
    rules = DriveRules(1.0, 0.05, 8.0, 0.02, 5)
    memory, speed = DriveMemory(), 0.0
    for _ in range(5):
        memory = follow(memory, rules, 0.6, speed)
    assert not stuck(memory, rules)  # one tick is missing
    for _ in range(2):
        speed += 0.02
        memory = follow(memory, rules, 0.6, speed)
        assert len(memory.progress) >= rules.ticks
    assert not stuck(memory, rules)
    for _ in range(2):
        memory = follow(memory, rules, 0.6, speed)
    assert stuck(memory, rules)
