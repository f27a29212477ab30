"""Every request has an answer of its own, whoever else asks and whatever else the tick sees."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.messages import (
    Answer,
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
from cartpole.rules.control import change, settings_of
from cartpole.session.invariants import Invariants
from cartpole.session.reader import open_session
from cartpole.session.writer import SessionWriter

PERIOD_NS = 20_000_000
ARM, STOP = Request(RequestKind.ARM), Request(RequestKind.STOP)
BAD_TARGET = Request(RequestKind.TARGET, value=9.0)


class Desk:
    """A homed core at rest with fresh samples."""

    def __init__(self, config: Config | None = None) -> None:
        self.core = ControlCore(settings_of(config or Config()), homed=HomingResult(0.0, 0.0))
        self.now_ns = 0
        self.tick(seen=(LinkEvent(0, Link.MOTOR, LinkState.UP, "connected"),))

    def tick(self, *requests: Request, seen: tuple[Measurement, ...] = ()) -> TickRecord:
        self.now_ns += PERIOD_NS
        sample = EncoderSample(self.now_ns - 1_000_000, self.now_ns, 0, 0)
        return self.core.tick(TickInput(self.now_ns, (sample, *seen), requests, 60))


def oks(record: TickRecord) -> list[bool]:
    return [answer.ok for answer in record.answers]


def test_one_client_is_not_told_of_the_others_mistake() -> None:
    desk = Desk()
    record = desk.tick(BAD_TARGET, ARM)
    assert record.mode is Mode.READY
    assert oks(record) == [False, True]
    assert record.answers[1] == Answer(True, "armed")
    assert "9.0 m is outside" in record.answers[0].text


def test_a_stop_succeeds_whatever_the_motor_says() -> None:
    desk = Desk()
    desk.tick(ARM)
    told_no = LinkEvent(desk.now_ns, Link.MOTOR, LinkState.REFUSED, "busy")
    record = desk.tick(STOP, seen=(told_no,))
    assert any("refused" in event for event in record.events)
    assert record.answers == (Answer(True, "stop: braking"),)


def requests() -> list[tuple[Request, bool]]:
    """What a core at rest, disarmed and homed says to each kind of request."""
    far = Reference(ReferenceShape.SINE, 0.0, 5.0, 4.0)
    near = Reference(ReferenceShape.SINE, 0.0, 0.1, 4.0)
    return [
        (STOP, True),
        (Request(RequestKind.DISARM), True),
        (Request(RequestKind.SWING_UP), False),
        (Request(RequestKind.RESET), True),
        (Request(RequestKind.TARGET, value=0.1), True),
        (Request(RequestKind.TARGET, value=math.nan), False),
        (Request(RequestKind.REFERENCE, reference=near), True),
        (Request(RequestKind.REFERENCE, reference=far), False),
        (Request(RequestKind.REFERENCE), False),
        (Request(RequestKind.CONFIG), False),
        (change(Config()), True),
        (change(with_values(Config(), {"rig.name": "b"})), False),
        (ARM, True),
        (ARM, False),
        (Request(RequestKind.SWING_UP), True),
        (Request(RequestKind.HOME), False),
    ]


def test_each_request_of_a_tick_has_its_answer_in_order() -> None:
    asked = requests()
    record = Desk().tick(*(request for request, _ in asked))
    assert oks(record) == [ok for _, ok in asked]
    assert all(answer.text and "\n" not in answer.text for answer in record.answers)


def test_arming_that_homes_first_says_so() -> None:
    core = ControlCore(settings_of(Config()))
    sample = EncoderSample(PERIOD_NS - 1, PERIOD_NS, 0, 0)
    up = LinkEvent(0, Link.MOTOR, LinkState.UP, "connected")
    core.tick(TickInput(PERIOD_NS, (up, sample), (), 60))
    wanted = (ARM, Request(RequestKind.SWING_UP))
    record = core.tick(TickInput(2 * PERIOD_NS, (sample,), wanted, 60))
    assert record.mode is Mode.HOMING
    assert [answer.text for answer in record.answers] == [
        "armed, homing",
        "swing-up follows homing",
    ]
    assert oks(record) == [True, True]


def test_a_recording_keeps_the_answers(tmp_path: Path) -> None:
    desk, path = Desk(), tmp_path / "run.mcap"
    with SessionWriter(path, Config(), live=False) as writer:
        records = [desk.tick(BAD_TARGET, ARM), desk.tick()]
        for record in records:
            writer.put_tick(record)
    read = [tick.record() for tick in open_session(path).ticks()]
    assert [record.answers for record in read] == [record.answers for record in records]


@pytest.mark.parametrize("answered", [True, False])
def test_recordings_from_before_there_were_answers_read(tmp_path: Path, answered: bool) -> None:
    """Their changes of limits are judged by what the core itself decides by."""
    slower = with_values(Config(), {"rig.velocity_limit_m_s": 0.1})
    desk, path = Desk(), tmp_path / "old.mcap"
    records = [
        desk.tick(change(slower)),
        desk.tick(ARM),
        desk.tick(change(Config())),  # armed: refused
        desk.tick(),
    ]
    fast = dataclasses.replace(records[-1].command, velocity_m_s=0.12)
    records[-1] = dataclasses.replace(records[-1], command=fast)
    if not answered:
        records = [dataclasses.replace(record, answers=()) for record in records]
    with SessionWriter(path, Config(), live=False) as writer:
        for record in records:
            writer.put_tick(record)
    invariants = Invariants(Config())
    found = [invariants.check(tick.record()) for tick in open_session(path).ticks()]
    assert len(found) == len(records)
    assert [violation.invariant for violation in found[-1]][:1] == ["I1"]
    assert not any(found[:-1])
