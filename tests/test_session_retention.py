"""What goes to make room: whole recordings, the oldest, never the present, by any clock."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
from support.sessions import HOMED, FakeCore, inputs

from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.rules.control import settings_of
from cartpole.session import folder as folders
from cartpole.session.container import Container
from cartpole.session.reader import open_session
from cartpole.session.retention import DAY_S, claim, kept_in, next_serial, prune, serial_of
from cartpole.session.writer import SessionWriter

NOW_S = 1_790_000_000.0


def make(folder: Path, name: str, modified_s: float, size: int, parts: int = 1) -> Path:
    """A recording of the next number, with so many files of ``size`` bytes."""
    serial = next_serial(folder)
    first = folder / f"{name}.mcap"
    for number in range(1, parts + 1):
        path = folders.part_path(first, number)
        with path.open("w+b") as stream:
            told = {"number": str(number), "first": first.name, "serial": str(serial)}
            Container(stream, {"x": bytes(size)}, {"provenance": {}, "part": told}).finish()
        os.utime(path, (modified_s, modified_s))
    return first


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stamp(number: int) -> str:
    return f"20260101-{number:06d}"


def test_the_oldest_go_by_size_whole_and_with_a_word(tmp_path: Path) -> None:
    for number in range(6):
        make(tmp_path, stamp(number), NOW_S - 100 + number, 100_000, parts=2)
    (tmp_path / "mine.mcap").write_bytes(b"x" * 900_000)
    (tmp_path / "20250101-000000.mcap").symlink_to(tmp_path / "mine.mcap")
    removed = prune(tmp_path, 1_100_000, 1e9, 2, NOW_S, tmp_path / f"{stamp(5)}.mcap")
    assert [one.name for one in removed] == [f"{stamp(0)}.mcap", f"{stamp(1)}.mcap"]
    assert "2 files" in str(removed[0])
    assert len(kept_in(tmp_path)) == 4
    assert all(len(one.files) == 2 for one in kept_in(tmp_path))
    assert {"mine.mcap", "20250101-000000.mcap"} <= set(names(tmp_path))


@pytest.mark.parametrize("theirs", ["999999999", "99999999999", "9" * 19, "9" * 400])
def test_a_number_in_a_strangers_file_pushes_nobody_aside(tmp_path: Path, theirs: str) -> None:
    stranger = tmp_path / f"{stamp(0)}.mcap"
    with stranger.open("w+b") as stream:
        Container(stream, {}, {"part": {"number": "1", "serial": theirs}}).finish()
    os.utime(stranger, (NOW_S - 50, NOW_S - 50))
    # By a clock that goes backwards: only their numbers tell their order.
    mine = [make(tmp_path, stamp(k), NOW_S - k, 100_000) for k in range(1, 9)]
    order = [one.name for one in kept_in(tmp_path) if one.name != stranger.name]
    assert order == [path.name for path in mine]
    prune(tmp_path, 300_000, 1e9, 2, NOW_S, mine[-1])
    assert mine[-1].exists()
    assert not mine[0].exists()


def test_neither_the_present_nor_the_newest_go(tmp_path: Path) -> None:
    paths = [make(tmp_path, stamp(k), NOW_S + k, 100_000, parts=2) for k in range(5)]
    busy = folders.part_path(paths[0], 2).open("rb")
    claim(busy.fileno())
    removed = prune(tmp_path, 0, 0.0, 2, NOW_S + 10, paths[1])
    assert [one.name for one in removed] == [paths[2].name]
    busy.close()
    assert [one.name for one in prune(tmp_path, 0, 0.0, 2, NOW_S + 10, paths[1])] == [paths[0].name]


def test_ages_count_where_the_clock_can_be_believed(tmp_path: Path) -> None:
    for day in range(10):
        make(tmp_path, stamp(day), NOW_S + day * DAY_S, 1000)
    now_s = NOW_S + 9 * DAY_S
    present = tmp_path / "none"
    gone = prune(tmp_path, 1 << 40, 6.5 * DAY_S, 1, now_s, present)
    assert [one.name for one in gone] == [f"{stamp(k)}.mcap" for k in range(3)]
    assert "older than" in gone[0].why


@pytest.mark.parametrize("now_s", [NOW_S + 400 * DAY_S, NOW_S - 400 * DAY_S, 1000.0])
def test_a_wrong_clock_removes_nothing(tmp_path: Path, now_s: float) -> None:
    for number in range(5):
        make(tmp_path, stamp(number), NOW_S + number, 1000)
    make(tmp_path, "19700101-000100", 100.0, 1000)
    assert prune(tmp_path, 1 << 40, 30 * DAY_S, 1, now_s, tmp_path / "none") == []


def test_ten_days_with_a_clock_that_jumps(tmp_path: Path) -> None:
    """An hour a recording: the newest are whole, what is being written is never touched."""
    jumps_s = (0.0, 400 * DAY_S, -400 * DAY_S, -NOW_S + 50.0, 3.0)
    made: list[Path] = []
    for hour in range(240):
        now_s = NOW_S + hour * 3600.0 + jumps_s[(hour // 17) % len(jumps_s)]
        path = make(tmp_path, stamp(hour), now_s, 20_000, parts=1 + hour % 3)
        made.append(path)
        with folders.part_path(path, 1 + hour % 3).open("rb") as stream:
            claim(stream.fileno())
            prune(tmp_path, 400_000, 2 * DAY_S, 4, now_s, path)
            prune(tmp_path, 400_000, 2 * DAY_S, 4, now_s, tmp_path / "another")
        kept = kept_in(tmp_path)
        assert [one.name for one in kept[-4:]] == [one.name for one in made[-4:]]
        for one in kept:
            assert len(one.files) == 1 + made.index(one.files[0]) % 3
        assert sum(one.bytes for one in kept) < 400_000 + 4 * 3 * 30_000


def test_a_recording_whose_first_file_is_gone_opens(tmp_path: Path) -> None:
    first = make(tmp_path, stamp(1), NOW_S, 10, parts=3)
    first.unlink()
    second = folders.part_path(first, 2)
    assert folders.recordings(tmp_path) == [second]
    assert open_session(second).parts == [second, folders.part_path(first, 3)]
    assert serial_of(second) == 1


def test_long_recordings_go_on_in_others_that_begin_with_a_state(tmp_path: Path) -> None:
    session = Config().session.model_copy(
        update={"max_file_mb": 1, "max_folder_mb": 10, "keep_newest": 1}
    )
    config = Config().model_copy(update={"session": session})
    core = FakeCore(config, HOMED)
    real = ControlCore(settings_of(config)).state()
    path = tmp_path / "20260101-000000.mcap"
    asked = 0
    with SessionWriter(path, config, live=False, managed=True) as writer:
        writer.put_start(HOMED)
        for given in inputs(900):
            record = core.tick(given)
            writer.put_raw(given.now_ns, "encoder", "in", os.urandom(24_000))
            writer.put_tick(record)
            if writer.wants_state:
                real.index = record.index
                writer.put_state(given.now_ns, copy.deepcopy(real))
                asked += 1
    assert asked
    assert len(writer.paths) >= 2
    kept = kept_in(tmp_path)
    assert kept[-1].name == writer.paths[-1].name
    for one in kept:
        for part in one.files:
            if part not in (path, kept[-1].files[-1]):
                ticks = list(open_session(part).ticks())
                assert not ticks or any(tick.state_before for tick in ticks[:5])
