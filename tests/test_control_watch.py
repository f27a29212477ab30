"""Guards that are true: each names the cause that it is, and only that one; in virtual time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
from support.flights import MS, PERIOD_NS, UP, Flight, Found, without

from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.control.governor import govern, narrowed
from cartpole.control.watch import Watch
from cartpole.control.watch_records import Looked, WatchMemory
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
    since_ns = flight.now_ns

    def aside(one: Detection) -> Detection:  # by and by: all at once it were a camera pushed
        return dataclasses.replace(one, p_m=one.p_m + 2e-11 * max(0, one.t_ns - since_ns))

    flight.tamper = all_frames(aside)
    flight.run(0.6)
    assert flight.faults == ["missed counts"]


@pytest.mark.parametrize(("apart_m", "after_ms"), [(0.0051, 200), (0.0075, 140), (0.03, 100)])
def test_counts_that_are_far_off_are_missed_sooner(apart_m: float, after_ms: int) -> None:
    watch = Watch(settings_of(Config()).rules.watch, WatchMemory())
    looked = Looked(None, 0.0, 0, enabled=False, camera_residual_m=apart_m)
    told = [
        any(name == "missed counts" for name, _ in watch.check(k * 20 * MS, looked))
        for k in range(15)
    ]
    assert told.index(True) * 20 == after_ms


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
