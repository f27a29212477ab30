"""The commands that look after recordings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from support.sessions import HOMED, FakeCore, inputs, write_session
from typer.testing import CliRunner

from cartpole.cli import exchange, replay, report, sessions
from cartpole.config.schema import Config
from cartpole.errors import ConfigError, SessionError
from cartpole.session.writer import SessionWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    write_session(path / "a.mcap", ticks=40)
    write_session(path / "b.mcap", ticks=60, lost_at=50)
    data = (path / "b.mcap").read_bytes()
    (path / "cut.mcap").write_bytes(data[: len(data) * 2 // 3])
    return path


def run(*arguments: str | Path, code: int = 0) -> str:
    app = typer.Typer()
    for module in (sessions, exchange, replay, report):
        module.register(app)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, SessionError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_sessions(folder: Path, tmp_path: Path) -> None:
    output = run("sessions", folder, "--json", tmp_path / "x.json")
    assert [line.split()[0] for line in output.splitlines()] == ["a.mcap", "b.mcap", "cut.mcap"]
    assert "cut off" in output.splitlines()[2]
    listed = json.loads((tmp_path / "x.json").read_text())["sessions"]
    assert listed[1]["outcome"] == "encoder lost"


def test_sessions_of_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no folder"):
        run("sessions", tmp_path / "missing")


def test_diff(folder: Path) -> None:
    output = run("diff", folder / "a.mcap", folder / "b.mcap")
    assert "settings: the same" in output
    assert "faults" in output


def test_recover(folder: Path, tmp_path: Path) -> None:
    output = run("recover", folder / "cut.mcap", "-o", tmp_path / "saved.mcap")
    assert "ends without its end mark" in output
    assert "cut off" not in run("sessions", tmp_path)


def test_check_tells_and_exits(folder: Path, tmp_path: Path) -> None:
    assert "I1 0, I2 0, I4 0, I6 0, I7 0" in run("check", folder / "b.mcap")
    core = FakeCore(Config(), HOMED)
    with SessionWriter(tmp_path / "fast.mcap", Config(), live=False) as writer:
        for tick in inputs(6):
            record = core.tick(tick)
            fast = replace(record.command, velocity_m_s=5.0)
            writer.put_tick(replace(record, command=fast) if record.index == 5 else record)
    output = run("check", tmp_path / "fast.mcap", "--json", tmp_path / "x.json", code=1)
    assert "I1 tick 5: command 5 m/s beyond 1.0 m/s" in output
    assert json.loads((tmp_path / "x.json").read_text())["violations"]["I1"] == 2


def test_export(folder: Path, tmp_path: Path) -> None:
    assert "40 rows" in run("export", folder / "a.mcap", "--csv", tmp_path / "a.csv")


def test_report_with_film(folder: Path, tmp_path: Path) -> None:
    page, film = tmp_path / "a.html", tmp_path / "a.mp4"
    run("report", folder / "a.mcap", "-o", page, "--video", film)
    assert page.stat().st_size > 10_000
    assert film.stat().st_size > 1000


def test_missing_recording_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="cannot read") as caught:
        run("check", tmp_path / "missing.mcap")
    assert "\n" not in str(caught.value)


def test_overrides_change_what_was_recorded() -> None:
    change = replay.settings_change(None, ["controller.weights.angle=3"])
    assert change is not None
    rig = Config().rig.model_copy(update={"name": "mine"})
    changed = change(Config().model_copy(update={"rig": rig}))
    assert changed.controller.weights.angle == 3.0
    assert changed.rig.name == "mine"
    assert replay.settings_change(None, None) is None
    wrong = replay.settings_change(None, ["controller.weights.angel=3"])
    assert wrong is not None
    with pytest.raises(ConfigError, match="angle"):
        wrong(Config())
