"""Outputs never overwrite what is read, nor what others made; what is shown is escaped."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from support.sessions import write_session
from typer.testing import CliRunner

from cartpole.cli import exchange, replay, report, sessions
from cartpole.cli.common import write_json
from cartpole.config.load import load_config
from cartpole.errors import CartpoleError, SessionError, UsageError
from cartpole.session.outputs import begins_with, written
from cartpole.shown import shown


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outputs") / "run.mcap"
    write_session(path, ticks=30)
    return path


def run(*arguments: str | Path) -> str:
    app = typer.Typer()
    for module in (sessions, exchange, replay, report):
        module.register(app)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, CartpoleError):
        raise result.exception
    return result.output


@pytest.mark.parametrize(
    "words",
    [
        ("report", "{}", "-o", "{}"),
        ("report", "{}", "-o", "{}", "--force"),
        ("report", "{}", "--video", "{}"),
        ("export", "{}", "--csv", "{}"),
        ("recover", "{}", "-o", "{}", "--force"),
    ],
)
def test_an_input_is_never_overwritten(recording: Path, words: tuple[str, ...]) -> None:
    before = recording.read_bytes()
    with pytest.raises(UsageError, match="what is read"):
        run(*(word.format(recording) for word in words))
    assert recording.read_bytes() == before
    assert {one.name for one in recording.parent.iterdir()} <= {"run.mcap", "run.html"}


def test_figures_never_overwrite_a_recording(recording: Path) -> None:
    before = recording.read_bytes()
    with pytest.raises(UsageError, match="already"):
        run("check", recording, "--json", recording)
    assert recording.read_bytes() == before


def test_what_others_made_stays_unless_forced(recording: Path, tmp_path: Path) -> None:
    for words in (("report", recording, "-o"), ("export", recording, "--csv")):
        other = tmp_path / "other"
        other.write_text("a letter")
        with pytest.raises(UsageError, match="--force"):
            run(*words, other)
        assert other.read_text() == "a letter"
        run(*words, other, "--force")
        run(*words, other)  # its own may be written again
        assert other.read_text() != "a letter"
        other.unlink()


def test_folders_are_made_and_failures_leave_nothing(recording: Path, tmp_path: Path) -> None:
    assert "30 rows" in run("export", recording, "--csv", tmp_path / "a" / "b" / "x.csv")
    write_json(tmp_path / "c" / "x.json", {"a": 1})
    with pytest.raises(ZeroDivisionError), written(tmp_path / "x.csv") as beside:
        beside.write_text(str(1 / 0))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "c"]
    (tmp_path / "file").write_text("")
    with pytest.raises((SessionError, UsageError)):
        run("export", recording, "--csv", tmp_path / "file" / "x.csv")
    with pytest.raises(UsageError, match="folder"):
        run("export", recording, "--csv", tmp_path)


def test_a_file_is_ours_by_how_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ours: one")
    with written(path, ours=begins_with(b"ours")) as beside:
        beside.write_bytes(b"ours: two")
    assert path.read_bytes() == b"ours: two"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError), written(link):
        pass


def test_what_is_shown_is_one_line_that_no_terminal_obeys() -> None:
    assert shown("plain text, größer, 2 °C") == "plain text, größer, 2 °C"
    bad = shown("a\x1b[31mb\nc\r\x9b2J\u202ed\u2028e\ud800")
    assert bad == "a\\x1b[31mb\\nc\\r\\x9b2J\\u202ed\\u2028e\\ud800"
    assert len(shown("x" * 10_000)) == 2000


def test_home_is_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = tmp_path / "rig.yaml"
    settings.write_text('session:\n  folder: "~/recordings"\nservice:\n  socket: ~/c.sock\n')
    config = load_config(settings)
    assert config.session.folder == f"{tmp_path}/recordings"
    assert config.service.socket == f"{tmp_path}/c.sock"
