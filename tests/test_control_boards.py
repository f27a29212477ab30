"""Boards that do not answer, refuse or are gone, and a cart out of its track: it is braked."""

from __future__ import annotations

import dataclasses

import pytest
from support.flights import MS, PERIOD_NS, Flight, Found

from cartpole.config.schema import Config
from cartpole.control.governor import GovernorLimits, govern
from cartpole.messages import (
    BoardStatus,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Mode,
    RequestKind,
)
from cartpole.rules.control import governor_limits


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
    assert govern(1.5, 0.5, None, 0.0, limits, 0.5).velocity_m_s == pytest.approx(0.5 + whole)
    assert govern(0.0, 1.5, None, 0.0, limits, 0.1).velocity_m_s == pytest.approx(1.5 - 5 * whole)
    assert govern(0.0, -1.0, None, 0.0, limits, 0.5).velocity_m_s == 0.0
    assert govern(-1.0, 0.1, None, 0.0, limits, 0.5).velocity_m_s == pytest.approx(0.1 - whole)
    flight = Flight()
    flight.up(0.1)
    before = flight.records[-1].command.velocity_m_s
    record = flight.tick(gap_ns=2 * MS)
    assert abs(record.command.velocity_m_s - before) <= 8.0 * 0.002 + 1e-12


@pytest.mark.parametrize("ticks", [10, 15, 36, 40, 60, 90])
@pytest.mark.parametrize("gap_ms", [250, 490])
def test_a_drive_that_its_board_stopped_is_not_told_to_drive_on(ticks: int, gap_ms: int) -> None:
    """The host stands still for longer than the board waits; the cart was fast. Nor is it dead."""
    flight = Flight()
    flight.up(0.02 * ticks)
    flight.tick(gap_ns=gap_ms * MS)
    assert flight.faults == ["tick late"]
    assert flight.records[-1].command.velocity_m_s == 0.0


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
