"""Outputs never overwrite what is read, nor what others made; what is shown is escaped."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from support.sessions import write_session
from typer.testing import CliRunner

from cartpole.cli import calibrate, campaign, exchange, replay, report, sessions, simulate
from cartpole.cli import run as run_command
from cartpole.cli.common import write_json
from cartpole.config.load import load_config
from cartpole.errors import CartpoleError, SessionError, UsageError
from cartpole.session.outputs import PNG, begins_with, planned, written
from cartpole.shown import shown


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outputs") / "run.mcap"
    write_session(path, ticks=30)
    return path


def run(*arguments: str | Path) -> str:
    app = typer.Typer()
    for module in (sessions, exchange, replay, report, run_command, simulate, campaign):
        module.register(app)
    app.command()(calibrate.calibrate)
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


def test_a_campaigns_picture_overwrites_nothing(tmp_path: Path) -> None:
    other, runs = tmp_path / "other.png", tmp_path / "runs.jsonl"
    other.write_text("a letter")
    for more in ((), ("--replay", "0")):
        with pytest.raises(UsageError, match="already"):
            run("campaign", "--runs", "1", "--plot", other, *more)
    for option in ("--plot", "--json"):  # which is not there yet
        with pytest.raises(UsageError, match="what is read"):
            run("campaign", "--runs", "1", "--resume", runs, option, runs)
    assert other.read_text() == "a letter"
    assert list(tmp_path.iterdir()) == [other]


def test_the_picture_of_the_light_overwrites_nothing(recording: Path, tmp_path: Path) -> None:
    other = tmp_path / "plot-light.png"
    other.write_text("a letter")
    with pytest.raises(UsageError, match=r"plot-light\.png"):
        run("calibrate", "camera", "--session", recording, "--plot", tmp_path / "plot.png")
    assert list(tmp_path.iterdir()) == [other]


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


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--record", "{}"),
        ("simulate", "--record", "{}"),
        ("simulate", "--video", "{}"),
        ("simulate", "--plot", "{}"),
        ("simulate", "--json", "{}"),
        ("run", "--json", "{}"),
        ("replay", "{}", "--plot", "{}"),
        ("replay", "{}", "--plot", "new.png", "--json", "{}"),
        ("calibrate", "pole", "--session", "{}", "--plot", "{}"),
    ],
)
def test_a_recording_is_refused_as_output_before_anything_begins(
    recording: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object) -> None:
        raise AssertionError("the command began")

    for module in (run_command, simulate, calibrate):
        monkeypatch.setattr(module, "load", begun)
    before = recording.read_bytes()
    with pytest.raises(UsageError, match=r"already|what is read"):
        run(*(word.format(recording) for word in words))
    assert recording.read_bytes() == before


def test_a_planned_output_takes_the_place_of_its_like_only(tmp_path: Path) -> None:
    old, more = tmp_path / "run.mcap", tmp_path / "run-part2.mcap"
    old.write_bytes(b"a recording")
    more.write_bytes(b"its continuation")
    with pytest.raises(UsageError, match="--force"):
        planned(recording=old)
    old.rename(tmp_path / "kept")
    with pytest.raises(UsageError, match=r"run-part2.mcap is there"):
        planned(recording=old)  # the old continuation would be read as the new one's
    planned(recording=old, force=True)
    assert not more.exists()
    picture = tmp_path / "x.png"
    picture.write_bytes(PNG)
    planned(picture=picture)
    with pytest.raises(UsageError, match="two outputs"):
        planned(picture=picture, film=tmp_path / "y" / ".." / "x.png")
    settings = tmp_path / "settings.yaml"
    settings.write_text("rig: {}")
    with pytest.raises(UsageError, match="what is read"):
        planned(recording=settings, inputs=[settings], force=True)


def test_a_run_is_not_recorded_over_another_one(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    words = ("simulate", "--duration", "0.1", "--set", "sim.homed=true", "--record", path)
    run(*words)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--force"):
        run(*words)
    assert path.read_bytes() == before
    run(*words, "--set", "sim.seed=2", "--force", "--plot", tmp_path / "x.png")
    assert path.read_bytes() != before
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


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
