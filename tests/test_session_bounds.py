"""No file makes a reader slow or large: bombs, files in another order, jumps of time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from mcap.writer import CompressionType, Writer
from support.sessions import FakeCore, write_session

from cartpole.session import report_data
from cartpole.session.mcap_scan import LARGEST_TEXTS
from cartpole.session.reader import open_session
from cartpole.session.replay import replay

MOST_KB = 256 << 10


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bounds") / "run.mcap"
    write_session(path, ticks=120, lost_at=90)
    return path


def rewritten(
    source: Path,
    path: Path,
    *,
    by_time: bool = False,
    compression: CompressionType = CompressionType.ZSTD,
    chunk: int = 1 << 20,
    chunked: bool = True,
    without: str = "",
    reverse_halves: bool = False,
    twice: bool = False,
    shuffled: bool = False,
) -> Path:
    """The recording as another tool would write it."""
    session = open_session(source)
    found = list(session.messages())
    if by_time:
        found.sort(key=lambda one: one[1])
    if shuffled:
        Random(1).shuffle(found)
    if reverse_halves:
        found = found[len(found) // 2 :] + found[: len(found) // 2]
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=chunk, compression=compression, use_chunking=chunked)
        writer.start()
        channels: dict[str, int] = {}
        for topic, log_time, publish_time, data in found * (2 if twice else 1):
            if topic == without:
                continue
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "json", 0)
            writer.add_message(channels[topic], log_time, data, publish_time)
        for name, content in session.contents.attachments.items():  # at the end, as tools do
            writer.add_attachment(0, 0, name, "text/plain", content)
        for name, told in session.metadata.items():
            writer.add_metadata(name, dict(told))
        writer.finish()  # type: ignore[no-untyped-call]
    return path


@pytest.mark.parametrize(
    "how",
    [
        {"by_time": True},
        {"by_time": True, "chunk": 2000},
        {"compression": CompressionType.LZ4},
        {"compression": CompressionType.NONE, "chunk": 1000},
        {"chunked": False},
        {"chunked": False, "by_time": True},
        {"reverse_halves": True, "chunk": 4000},
        {"reverse_halves": True, "chunk": 30_000},
        {"twice": True},
        {"twice": True, "by_time": True},
        {"without": "/timing"},
        {"shuffled": True, "chunk": 3000},
        {"shuffled": True, "chunked": False},
    ],
    ids=str,
)
def test_what_tools_make_of_a_file_gives_the_same_ticks(
    recording: Path, tmp_path: Path, how: dict[str, object]
) -> None:
    copy = rewritten(recording, tmp_path / "copy.mcap", **how)  # type: ignore[arg-type]
    session = open_session(copy)
    whole, found = list(open_session(recording).ticks()), list(session.ticks())
    assert [repr(tick.input) for tick in found] == [repr(tick.input) for tick in whole]
    # Nobody can know that more of a whole tick will come: what does is counted.
    unsure = {"/truth", "/timing", "/plan_trajectory"} if "shuffled" in how else set()
    for tick in [*whole, *found]:
        for topic in {*unsure, how.get("without", "")}:
            tick.exact.pop(str(topic), None)
    assert [tick.exact for tick in found] == [tick.exact for tick in whole]
    assert replay(session, make_core=FakeCore).bitwise_equal


def test_a_topic_that_is_gone_is_counted(recording: Path, tmp_path: Path) -> None:
    session = open_session(rewritten(recording, tmp_path / "x.mcap", without="/estimate"))
    assert list(session.ticks()) == []
    assert session.account.left_out == {"ticks that are not whole: no /estimate": 120}
    assert not session.whole


def bomb(path: Path, kind: str) -> Path:
    """A small file that would be large."""
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=24 << 20)
        writer.start()
        if kind == "attachments":
            for number in range(40):
                writer.add_attachment(0, 0, f"a{number}", "text/plain", bytes(8 << 20))
        elif kind == "metadata":
            for number in range(40):
                writer.add_metadata(f"m{number}", {"x": "y" * LARGEST_TEXTS})
        elif kind == "schemas":
            for number in range(40):
                schema = writer.register_schema(f"s{number}", "jsonschema", bytes(4 << 20))
                channel = writer.register_channel(f"/c{number}", "json", schema)
                writer.add_message(channel, 1, b"{}", 1)
        else:
            topic = "/state" if kind == "state" else "/estimate"
            channel = writer.register_channel(topic, "json", 0)
            for number in range(20):
                writer.add_message(channel, number, b"[" + b"{}," * (7 << 20) + b"0]", number)
        writer.finish()  # type: ignore[no-untyped-call]
    return path


COMMANDS = """
import contextlib, io, sys, typer
from pathlib import Path
from cartpole.cli import exchange, report, sessions
from cartpole.errors import CartpoleError
from typer.testing import CliRunner
path, folder = Path(sys.argv[1]), Path(sys.argv[2])
app = typer.Typer()
for module in (exchange, report, sessions):
    module.register(app)
for words in (
    ("check", path), ("report", path, "-o", folder / "x.html"), ("sessions", path.parent),
    ("export", path, "--csv", folder / "x.csv"), ("recover", path, "-o", folder / "x.mcap"),
    ("diff", path, path), ("import", path, "-o", folder / "y.mcap"),
):
    result = CliRunner().invoke(app, [str(word) for word in words])
    allowed = (CartpoleError, SystemExit)
    assert result.exception is None or isinstance(result.exception, allowed), result.exc_info
# Not ru_maxrss, which is inherited from whoever forked.
status = Path("/proc/self/status").read_text()
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("kind", ["attachments", "metadata", "schemas", "state", "messages"])
def test_bombs_stay_within_memory(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(bomb(tmp_path / "bomb.mcap", kind)), str(folder)],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < MOST_KB


@pytest.mark.parametrize(
    "row", ["0.02,0,1\n", ",,\n", "1" * 9000 + "\n", "\n", '"' * 99 + "\n"], ids=range(5)
)
def test_no_table_is_led_to_fill_the_memory(tmp_path: Path, row: str) -> None:
    path = tmp_path / "bomb.csv"
    path.write_text("t_s,p_m,theta_rad\n" + row * ((12 << 20) // len(row)))
    code = (
        "import sys; from pathlib import Path\n"
        "from cartpole.errors import CartpoleError\n"
        "from cartpole.session.tables import read_table\n"
        "try: read_table(Path(sys.argv[1]))\n"
        "except CartpoleError as error: assert len(str(error)) < 1000\n"
        "else: raise AssertionError\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST_KB


def test_a_long_report_is_thinned(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_data, "MOST_ROWS", 20)
    found = report_data.gather(open_session(recording))
    assert found.ticks == 120
    assert len(found.columns.t) < 20
    assert len(found.columns.modes) == len(found.columns.t)


def test_a_film_of_a_jump_in_time_ends(tmp_path: Path) -> None:
    from dataclasses import replace

    from support.sessions import HOMED, inputs

    from cartpole.config.schema import Config
    from cartpole.session.video import write_video
    from cartpole.session.writer import SessionWriter

    core, path = FakeCore(Config(), HOMED), tmp_path / "jump.mcap"
    with SessionWriter(path, Config(), live=False) as writer:
        for number, given in enumerate(inputs(6)):
            late = given.now_ns + (10**17 if number > 3 else 0)
            writer.put_tick(core.tick(replace(given, now_ns=late)))
    assert write_video(path, tmp_path / "x.mp4") < 100
