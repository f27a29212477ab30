"""The recorder: what it writes, what it drops, and what it does when the disk does not want."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from support.sessions import HOMED, PERIOD_NS, FakeCore, FakeFrame, inputs, write_session

from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.messages import TickInput
from cartpole.rules.control import settings_of
from cartpole.session import folder
from cartpole.session import writer as writer_module
from cartpole.session.channels import CHANNELS
from cartpole.session.frames import FlightRecorder
from cartpole.session.opening import open_writer
from cartpole.session.reader import open_session
from cartpole.session.writer import SessionWriter


def with_session(**values: Any) -> Config:
    config = Config()
    return config.model_copy(update={"session": config.session.model_copy(update=values)})


def check_against(schema: dict[str, Any], value: Any) -> None:
    """As much of JSON Schema as the recordings' schemas use."""
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
    }
    kind: str = schema["type"]
    if kind == "number":
        assert isinstance(value, int | float) or value in ("nan", "inf", "-inf")
        return
    wanted: Any = kinds[kind]
    assert isinstance(value, wanted), (schema, value)
    if "enum" in schema:
        assert value in schema["enum"]
    if kind == "object" and "properties" in schema:
        assert value.keys() <= schema["properties"].keys()
        for name, inner in value.items():
            check_against(schema["properties"][name], inner)
    if kind == "array":
        places = schema.get("prefixItems") or [schema["items"]] * len(value)
        for place, inner in zip(places, value, strict=True):
            check_against(place, inner)


def test_every_channel_reads_plainly_and_fits_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    core = FakeCore(Config(), HOMED)
    with SessionWriter(path, with_session(frames="all"), live=False) as writer:
        writer.put_start(HOMED)
        for tick in inputs(60, lost_at=40):
            writer.put_raw(tick.now_ns, "motor", "out", b"M1: 5\r\n")
            writer.put_tick(core.tick(tick), (0.0, 0.0, 3.0, 0.0))
        writer.put_frame(FakeFrame(np.full((48, 64), 7, np.uint8), 5, 1))
        writer.put_event(3, "note", "text")
        writer.put_state(4, ControlCore(settings_of(Config())).state())
    seen: set[str] = set()
    with path.open("rb") as stream:
        reader = make_reader(stream)
        for schema, channel, message in reader.iter_messages():
            assert schema is not None
            assert schema.encoding == "jsonschema"
            assert channel.message_encoding == "json"
            check_against(json.loads(schema.data), json.loads(message.data))
            seen.add(channel.topic)
        attachments = {a.name for a in reader.iter_attachments()}
        metadata = {m.name: m.metadata for m in reader.iter_metadata()}
    assert seen == set(CHANNELS) - {"/timing"}
    assert {"config.json", "config.yaml"} <= attachments
    assert json.loads(metadata["summary"]["json"])["ticks"] > 0


def tick_of(index: int) -> TickInput:
    return TickInput(1_000_000_000 + index * PERIOD_NS)


class Full(BytesIO):
    """A disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


def test_a_full_disk_ends_the_recording_not_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.touch()
    writer = SessionWriter(path, Config(), opener=lambda _: Full(60_000))
    core = FakeCore(Config(), HOMED)
    for index in range(20_000):
        writer.put_tick(core.tick(tick_of(index)))
        if writer.status().error:
            break
        time.sleep(0.0002)
    status = writer.status()
    assert not status.recording
    assert "No space" in status.error
    writer.put_tick(core.tick(tick_of(99)))  # harmless, and counted
    assert writer.status().dropped == status.dropped + 1
    writer.close()


def wait_for(found: Callable[[], object], seconds: float = 20.0) -> object:
    end_s = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return answer


def test_a_removed_folder_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux goes on writing into a file that nobody will ever see."""
    monkeypatch.setattr(writer_module, "SYNC_S", 0.05)
    path = tmp_path / "folder" / "run.mcap"
    path.parent.mkdir()
    writer = SessionWriter(path, Config())
    writer.put_tick(FakeCore(Config(), None).tick(tick_of(0)))
    assert not writer.status().error
    shutil.rmtree(path.parent)
    assert "removed" in str(wait_for(lambda: writer.status().error))
    assert not writer.status().recording
    (line,) = writer.notices()
    assert line.startswith("run.mcap ended early: its file, or the whole folder, was removed")
    writer.put_tick(FakeCore(Config(), None).tick(tick_of(1)))
    assert writer.status().dropped == 1
    writer.close()
    assert not path.parent.exists()


def test_a_moved_file_is_told_once_and_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SYNC_S", 0.02)
    writer = SessionWriter(tmp_path / "run.mcap", Config())
    core = FakeCore(Config(), None)
    writer.put_tick(core.tick(tick_of(0)))
    (tmp_path / "run.mcap").rename(tmp_path / "moved.mcap")
    wait_for(lambda: writer._moved)
    time.sleep(0.2)
    writer.put_tick(core.tick(tick_of(1)))
    writer.close()
    (line,) = writer.notices()
    assert "moved, or its disk unmounted?" in line
    session = open_session(tmp_path / "moved.mcap")
    assert sum(1 for _ in session.ticks()) == 2
    assert session.whole


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE", 10)
    core = FakeCore(Config(), HOMED)
    with SessionWriter(tmp_path / "run.mcap", Config()) as writer:
        record = core.tick(tick_of(0))
        for _ in range(500):  # faster than anybody writes: raw bytes do not wake the thread
            writer.put_raw(1, "encoder", "in", b"x")
        writer.put_tick(record)
        dropped = writer.status().dropped
    assert 0 < dropped <= 491


def test_virtual_time_never_drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE", 10)
    path = tmp_path / "run.mcap"
    core = FakeCore(Config(), HOMED)
    with SessionWriter(path, Config(), live=False) as writer:
        for index in range(500):
            writer.put_tick(core.tick(tick_of(index)))
        assert writer.status().dropped == 0
    assert sum(1 for _ in open_session(path).ticks()) == 500


def test_a_killed_process_loses_at_most_the_last_chunk(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from support.sessions import *\n"
        "w = SessionWriter(Path(sys.argv[1]), Config()); core = FakeCore(Config(), HOMED)\n"
        "w.put_start(HOMED)\n"
        "for i in range(100000):\n"
        "    w.put_tick(core.tick(TickInput(10**9 + i * PERIOD_NS)))\n"
        "    if i == 60: print('go', flush=True)\n"
        "    time.sleep(0.01)\n"
    )
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path), here], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    time.sleep(0.5)  # by then the first sixty ticks are long flushed
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    session = open_session(path)
    assert sum(1 for _ in session.ticks()) >= 61
    assert session.truncated
    assert session.homed == HOMED


def test_rotation_continues_in_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "FLUSH_S", 0.0)
    path = tmp_path / "run.mcap"
    config = with_session(max_file_mb=1)
    core = FakeCore(Config(), HOMED)
    rng = np.random.default_rng(0)
    with SessionWriter(path, config, live=False) as writer:
        writer.put_start(HOMED)
        for index in range(60):
            writer.put_raw(1, "encoder", "in", rng.bytes(40_000))
            writer.put_tick(core.tick(tick_of(index)))
    session = open_session(path)
    assert len(session.parts) >= 2
    assert [tick.line.index for tick in session.ticks()] == list(range(60))
    assert not session.truncated
    second = open_session(session.parts[1])
    assert second.first_number == 2
    assert second.homed == HOMED
    assert [entry.name for entry in folder.recordings(tmp_path)] == ["run.mcap"]


def test_pictures_of_the_minute_before_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    core = FakeCore(Config(), HOMED)
    with SessionWriter(path, with_session(frames="fault"), live=False) as writer:
        for index, tick in enumerate(inputs(600, lost_at=300)):
            picture = np.full((48, 64), index % 200, np.uint8)
            writer.put_frame(FakeFrame(picture, tick.now_ns, index))
            writer.put_tick(core.tick(tick))
    frames = list(open_session(path).frames())
    # the fault is at tick 300 and five seconds (250 ticks) after it are kept, too
    assert [frame.sequence for frame in frames] == list(range(551))
    assert abs(int(frames[123].pixels()[24, 32]) - 123) <= 3


def test_no_pictures_without_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with SessionWriter(path, with_session(frames="fault"), live=False) as writer:
        writer.put_frame(FakeFrame(np.zeros((48, 64), np.uint8), 5, 1))
        writer.put_tick(FakeCore(Config(), HOMED).tick(tick_of(0)))
    assert list(open_session(path).frames()) == []


def test_every_nth_picture(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with SessionWriter(path, with_session(frames="all", frame_every=3), live=False) as writer:
        for index in range(9):
            writer.put_frame(FakeFrame(np.zeros((48, 64), np.uint8), index, index))
    assert [frame.sequence for frame in open_session(path).frames()] == [2, 5, 8]


def test_flight_recorder_is_bounded() -> None:
    recorder = FlightRecorder(seconds=1.0, most_bytes=1000)
    for index in range(1000):
        recorder.add(index * 1_000_000, index, b"x" * 100)
    assert recorder.bytes <= 1000
    recorder = FlightRecorder(seconds=0.1, most_bytes=1 << 30)
    for index in range(1000):
        recorder.add(index * 1_000_000, index, b"x")
    assert recorder.bytes == 101


def test_links_and_odd_names_are_no_recordings(tmp_path: Path) -> None:
    write_session(tmp_path / "real.mcap", ticks=3)
    (tmp_path / "link.mcap").symlink_to(tmp_path / "real.mcap")
    for name in (".hidden", "a b", "é" * 3, "-x"):
        (tmp_path / f"{name}.mcap").write_bytes((tmp_path / "real.mcap").read_bytes())
    assert folder.recordings(tmp_path) == [tmp_path / "real.mcap"]


def test_open_writer_names_by_date_and_makes_room(tmp_path: Path) -> None:
    config = with_session(folder=str(tmp_path / "new"), max_folder_mb=10)
    (tmp_path / "new").mkdir()
    old = tmp_path / "new" / "20200101-000000.mcap"
    old.write_bytes(b"x" * (11 << 20))
    kept = with_session(folder=str(tmp_path / "new"), max_folder_mb=10, keep_newest=1)
    with open_writer(None, config, live=False):
        assert old.exists()  # one of the newest five
    with open_writer(None, kept, live=False) as writer:
        pass
    assert not old.exists()
    assert "removed 20200101-000000.mcap" in writer.notices()[0]
    assert [event.name for event in open_session(writer.path).events()] == ["removed"]
    assert writer.path.parent == tmp_path / "new"
    assert "git" in open_session(writer.path).provenance
