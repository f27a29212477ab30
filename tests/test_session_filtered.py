"""What a tool took out of a recording is missed by every command, at its ends and in its list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from support.sessions import HOMED, FakeCore, inputs, write_session
from test_session_doubled import Messages, changed
from typer.testing import CliRunner

from cartpole.cli import exchange, report, sessions
from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.session.channels import LAST_TICK
from cartpole.session.folder import part_path
from cartpole.session.listing import describe
from cartpole.session.reader import open_session
from cartpole.session.recover import recover
from cartpole.session.replay import replay
from cartpole.session.tally import adds_up
from cartpole.session.ticks import Gap
from cartpole.session.writer import SessionWriter

TICKS = 60


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filtered") / "run.mcap"
    write_session(path, ticks=TICKS, lost_at=50)
    return path


def at(index: int) -> int:
    return inputs(TICKS)[index].now_ns


def since(found: Messages) -> Messages:
    return [one for one in found if one[2] >= at(20)]


def until(found: Messages) -> Messages:
    return [one for one in found if one[2] < at(40)]


def between(found: Messages) -> Messages:
    return since(until(found))


def without(topic: str) -> Callable[[Messages], Messages]:
    return lambda found: [one for one in found if one[0] != topic]


def said(*words: str | Path) -> tuple[int, str]:
    app = typer.Typer()
    for module in (sessions, exchange, report):
        module.register(app)
    result = CliRunner().invoke(app, [str(word) for word in words])
    text = result.output + (str(result.exception) if result.exception else "")
    return (result.exit_code, text)


@pytest.mark.parametrize(
    ("taken", "gaps", "missing"),
    [
        (since, [Gap(0, 20)], 20),
        (until, [Gap(40, TICKS)], 20),
        (between, [Gap(0, 20), Gap(40, TICKS)], 40),
        (without("/estimate"), [Gap(0, TICKS)], TICKS),
    ],
)
def test_what_is_gone_at_the_ends_is_missed(
    recording: Path,
    tmp_path: Path,
    taken: Callable[[Messages], Messages],
    gaps: list[Gap],
    missing: int,
) -> None:
    found = taken(list(open_session(recording).messages()))
    copy = changed(recording, tmp_path / "copy.mcap", found, chunk=4000)
    session = open_session(copy)
    ticks = list(session.ticks())
    assert len(ticks) == TICKS - missing
    assert session.account.gaps == gaps
    assert session.account.missing == missing
    assert not session.whole
    word = f"missing: {missing} ticks"
    code, text = said("check", copy)
    assert code == 1
    assert word in text
    code, text = said("export", copy, "--csv", tmp_path / "x.csv")
    assert code == (0 if ticks else 1)
    assert word in text
    assert (tmp_path / "x.csv").exists() == bool(ticks)
    assert word in said("diff", copy, recording)[1]
    entry = describe(copy)
    assert not entry.whole
    assert word in entry.line()
    if ticks:
        assert word in said("report", copy, "-o", tmp_path / "x.html")[1]
        recover(copy, tmp_path / "saved.mcap")
        saved = open_session(tmp_path / "saved.mcap")
        assert len(list(saved.ticks())) == len(ticks)
        assert saved.account.missing == missing


@pytest.mark.parametrize("topic", ["/encoder", "/request", "/plan", "/command", "/tick", "/fault"])
def test_a_list_does_not_believe_the_summary_at_the_end(
    recording: Path, tmp_path: Path, topic: str
) -> None:
    found = without(topic)(list(open_session(recording).messages()))
    assert len(found) < len(list(open_session(recording).messages()))
    copy = changed(recording, tmp_path / "copy.mcap", found, chunk=4000)
    assert not adds_up(open_session(copy))
    assert not describe(copy).whole
    assert describe(copy).damage
    assert describe(recording).whole
    assert describe(recording).damage == ""


def test_a_replay_of_what_was_cut_says_so(recording: Path, tmp_path: Path) -> None:
    copy = changed(recording, tmp_path / "x.mcap", until(list(open_session(recording).messages())))
    result = replay(open_session(copy), make_core=FakeCore)
    assert result.bitwise_equal
    assert result.told == [f"missing: 20 ticks, 40 to {TICKS - 1}"]


@pytest.mark.parametrize("claim", ["9" * 400, "-1", "x", "", "1e3"])
def test_what_a_file_claims_of_its_end_may_be_nonsense(
    recording: Path, tmp_path: Path, claim: str
) -> None:
    session = open_session(recording)
    session.contents.metadata[LAST_TICK]["index"] = claim
    assert len(list(session.ticks())) == TICKS
    assert session.claimed == (0, None)


def test_a_continuation_that_is_gone_is_missed(tmp_path: Path) -> None:
    config = with_values(Config(), {"session.max_file_mb": 1, "session.frames": "none"})
    path, core = tmp_path / "run.mcap", FakeCore(Config(), HOMED)
    with SessionWriter(path, config, live=False) as writer:
        for one in inputs(4000):
            writer.put_tick(core.tick(one))
    whole = open_session(path)
    count = sum(1 for _ in whole.ticks())
    assert len(whole.parts) > 1
    assert whole.whole
    last = part_path(path, len(whole.parts))
    last.unlink()
    left = open_session(path)
    assert sum(1 for _ in left.ticks()) < count
    assert not left.whole
    assert left.told() == [f"it goes on in {last.name}, which is not there"]
    assert last.name in describe(path).line()
