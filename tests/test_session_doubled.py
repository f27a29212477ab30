"""Messages that a tool wrote again: each counts once, none stands in for one that is missing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from mcap.writer import Writer
from support.sessions import HOMED, FakeCore, inputs, write_session

from cartpole.config.schema import Config
from cartpole.messages import EncoderSample, Fault, LinkEvent, Measurement, Severity, TickInput
from cartpole.session.exchange import export_csv
from cartpole.session.order import in_order, order_of
from cartpole.session.reader import open_session
from cartpole.session.writer import SessionWriter

Messages = list[tuple[str, int, int, bytes]]
Change = Callable[[Random, Messages], Messages]


def changed(source: Path, path: Path, found: Messages, *, chunk: int = 0) -> Path:
    """``found`` in place of the recording's messages; ``chunk`` in bytes, none if 0."""
    session = open_session(source)
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=chunk or 1 << 20, use_chunking=chunk > 0)
        writer.start()
        channels: dict[str, int] = {}
        for topic, log_time, publish_time, data in found:
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "json", 0)
            writer.add_message(channels[topic], log_time, data, publish_time)
        for name, content in session.contents.attachments.items():
            writer.add_attachment(0, 0, name, "text/plain", content)
        for name, told in session.metadata.items():
            writer.add_metadata(name, dict(told))
        writer.finish()  # type: ignore[no-untyped-call]
    return path


def recorded(path: Path, given: list[TickInput]) -> Path:
    core = FakeCore(Config(), HOMED)
    with SessionWriter(path, Config(), live=False) as writer:
        writer.put_start(HOMED)
        for one in given:
            writer.put_tick(core.tick(one))
    return path


def doubled(rng: Random, found: Messages) -> Messages:
    return found + rng.sample(found, 60)


def rotated(rng: Random, found: Messages) -> Messages:
    cut = rng.randrange(len(found))
    return found[cut:] + found[:cut]


def shuffled(rng: Random, found: Messages) -> Messages:
    return rng.sample(found, len(found))


@pytest.mark.parametrize("chunk", [0, 500, 4000, 1 << 20])
@pytest.mark.parametrize(
    "changes", [(doubled, shuffled), (doubled, rotated), (rotated, doubled), (shuffled, doubled)]
)
def test_doubled_and_in_any_order_it_is_the_same_ticks(
    tmp_path: Path, changes: tuple[Change, ...], chunk: int
) -> None:
    path = tmp_path / "run.mcap"
    write_session(path, ticks=40, lost_at=30)
    whole = [repr((tick.line, tick.input, tick.faults)) for tick in open_session(path).ticks()]
    for seed in range(12):
        rng, found = Random(seed), list(open_session(path).messages())
        for change in changes:
            found = change(rng, found)
        copy = open_session(changed(path, tmp_path / "copy.mcap", found, chunk=chunk))
        assert [repr((one.line, one.input, one.faults)) for one in copy.ticks()] == whole, seed


def test_a_double_does_not_stand_in_for_what_is_gone(tmp_path: Path) -> None:
    """As many messages as were written, of which one is there twice and another not at all."""
    path = recorded(tmp_path / "run.mcap", inputs(20))
    first: dict[int, TickInput] = {one.now_ns: one for one in inputs(20)}
    hit = next(t for t, one in first.items() if len(one.measurements) > 2)
    found = list(open_session(path).messages())
    kinds = ("/encoder", "/detection", "/board", "/link")
    places = [k for k, one in enumerate(found) if one[2] == hit and one[0] in kinds]
    found[places[1]] = found[places[0]]
    session = open_session(changed(path, tmp_path / "copy.mcap", found))
    ticks = {tick.line.now_ns: repr(tick.input.measurements) for tick in session.ticks()}
    assert ticks == {t: repr(one.measurements) for t, one in first.items() if t != hit}
    assert session.account.left_out == {"ticks that are not whole: measurements missing": 1}
    assert not session.whole


@pytest.mark.parametrize("change", [list, lambda found: found * 2, lambda found: found[::-1] * 2])
def test_equal_measurements_of_a_tick_are_as_many_as_there_were(
    tmp_path: Path, change: Callable[[Messages], Messages]
) -> None:
    """Bytes that a wire doubled give two samples that are equal in everything."""
    given = []
    for one in inputs(20):
        sample = EncoderSample(one.now_ns, one.now_ns, 4, 5)
        given.append(replace(one, measurements=(sample, *one.measurements, sample)))
    path = recorded(tmp_path / "run.mcap", given)
    found = change(list(open_session(path).messages()))
    session = open_session(changed(path, tmp_path / "copy.mcap", found))
    assert [repr(tick.input.measurements) for tick in session.ticks()] == [
        repr(one.measurements) for one in given
    ]


def test_the_order_of_measurements_some_of_which_are_equal() -> None:
    one, two = EncoderSample(1, 1, 4, 5), EncoderSample(1, 1, 4, 6)
    three = EncoderSample(2, 2, 4, 5)
    for given in ([one, two, one], [three, one, one], [one, one, one], [two, three, one]):
        order = order_of(tuple(given))
        different: list[Measurement] = []
        for sample in given:
            if sample not in different:
                different.append(sample)
        assert in_order(different[::-1], order) == given
    assert order_of((one, two, three)) == ()


@pytest.mark.parametrize("topic", ["/estimate", "/command", "/tick", "/truth"])
def test_a_tick_of_which_two_things_are_said_is_left_out(tmp_path: Path, topic: str) -> None:
    path = tmp_path / "run.mcap"
    write_session(path, ticks=20)
    found = list(open_session(path).messages())
    k = [k for k, one in enumerate(found) if one[0] == topic][10]
    kind, log_time, publish_time, data = found[k]
    other = next(one[3] for one in found if one[0] == topic and one[3] != data)
    found.insert(k, (kind, log_time, publish_time, other))
    session = open_session(changed(path, tmp_path / "copy.mcap", found))
    assert [tick.line.index for tick in session.ticks()] == [k for k in range(20) if k != 10]
    assert session.account.left_out == {f"ticks that are not whole: {topic} says two things": 1}


def test_a_table_has_one_line_a_tick_whatever_a_fault_is_called(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    core = FakeCore(Config(), HOMED)
    fault = Fault(1, "a\n\x1b[2Jb", Severity.BRAKE, "", "")
    with SessionWriter(path, Config(), live=False) as writer:
        for one in inputs(5):
            writer.put_tick(replace(core.tick(one), faults=(fault,)))
    rows = export_csv(open_session(path), tmp_path / "run.csv")
    lines = (tmp_path / "run.csv").read_text().splitlines()
    assert len(lines) == rows + 1 == 6
    assert "\x1b" not in lines[1]
    assert next(csv.DictReader(lines))["faults"] == "a\\n\\x1b[2Jb"


def test_recordings_of_old_that_do_not_tell_equal_ones_still_open(tmp_path: Path) -> None:
    """Their lines say no order: as many as were written is all that is known."""
    given = []
    for one in inputs(10):
        event = next(m for one in inputs(60, lost_at=3) for m in one.measurements
                     if isinstance(m, LinkEvent))  # fmt: skip
        given.append(replace(one, measurements=(event, event)))
    path = recorded(tmp_path / "run.mcap", given)
    found = [
        (topic, log, publish, data.replace(b',"order":[0,0]', b""))
        for topic, log, publish, data in open_session(path).messages()
    ]
    session = open_session(changed(path, tmp_path / "copy.mcap", found, chunk=4000))
    assert [tick.input.measurements for tick in session.ticks()] == [
        one.measurements for one in given
    ]
