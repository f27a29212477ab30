"""A replay in parts at once says what a replay tick after tick says, or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mcap.writer import CompressionType
from test_session_bounds import rewritten

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.daemon import virtual
from cartpole.errors import UsageError
from cartpole.messages import TickInput
from cartpole.rules.control import change
from cartpole.session import parallel
from cartpole.session.container import Container
from cartpole.session.packing import pack
from cartpole.session.reader import Session, open_session
from cartpole.session.recorded import RecordedTick
from cartpole.session.replay import replay
from cartpole.session.resume import controller
from cartpole.session.summary import SummaryBuilder
from cartpole.session.ticks import COMPARED
from cartpole.session.writer import SessionWriter

CONFIG = with_values(Config(), {"sim.homed": True})


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "SHORTEST_S", 0.5)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parallel") / "run.mcap"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(virtual, "STATE_EVERY_TICKS", 40)
        virtual.run_virtual(CONFIG, 4.0, SummaryBuilder(CONFIG), path)
    return path


def in_parts(session: Session, processes: int = 3) -> dict[str, object] | None:
    found = parallel.replay_in_parts(session, processes)
    return None if found is None else found.figures()


@pytest.mark.parametrize("processes", [2, 3])
def test_the_same_figures(recording: Path, processes: int) -> None:
    session = open_session(recording)
    whole = replay(session)
    assert whole.bitwise_equal
    assert in_parts(session, processes) == whole.figures()


@pytest.mark.parametrize(
    "how",
    [
        {"by_time": True},
        {"compression": CompressionType.LZ4, "chunk": 20_000},
        {"reverse_halves": True, "chunk": 20_000},
        {"reverse_halves": True, "chunk": 400_000},  # one chunk holds the end and the beginning
    ],
    ids=str,
)
def test_copies_of_other_tools(recording: Path, tmp_path: Path, how: dict[str, object]) -> None:
    copy = rewritten(recording, tmp_path / "copy.mcap", **how)  # type: ignore[arg-type]
    found = in_parts(open_session(copy))
    assert found is not None
    assert found["bitwise_equal"] is True
    assert found["compared_ticks"] == len(list(open_session(recording).ticks()))


def changed_copy(source: Path, path: Path, topic: str, index: int, old: bytes, new: bytes) -> Path:
    """A copy in which one message of a topic says something else."""
    session = open_session(source)
    with path.open("w+b") as stream:
        copy = Container(stream, session.contents.attachments, session.metadata)
        count = 0
        for found, log_time, publish_time, data in session.messages():
            if found == topic:
                if count == index:
                    assert old in data
                    data = data.replace(old, new, 1)
                count += 1
            copy.add([(found, log_time, data)], publish_time)
        copy.finish()
    return path


@pytest.mark.parametrize(
    ("topic", "index", "old", "new"),
    [
        ("/command", 190, b'"sequence":190', b'"sequence":191'),  # in the last part
        ("/estimate", 3, b'"rejected":0', b'"rejected":1'),
        ("/state", 1, b'"index":79', b'"index":78'),
        ("/tick", 150, b'"plan":true', b'"plan":false'),
    ],
)
def test_what_differs_is_no_result(
    recording: Path, tmp_path: Path, topic: str, index: int, old: bytes, new: bytes
) -> None:
    copy = changed_copy(recording, tmp_path / "copy.mcap", topic, index, old, new)
    assert in_parts(open_session(copy)) is None


def test_code_that_a_request_names_is_not_run(recording: Path, tmp_path: Path) -> None:
    """However the request is spelled, and if no other part noticed it."""
    ran, code = tmp_path / "ran", tmp_path / "evil.py"
    code.write_text(f"open({str(ran)!r}, 'w')\n\ndef cost(x, u, t=None):\n    return x\n")
    evil = {"optimizer.user_cost": f"{code}:cost", "optimizer.backend": "torch"}
    settings = with_values(CONFIG, evil).model_dump(mode="json")
    request = {"kind": "config", "value": 0.0, "config": settings}
    line = json.dumps(request, separators=(" , ", " : ")).encode()
    path = tmp_path / "evil.mcap"
    session = open_session(recording)
    with path.open("w+b") as stream:
        copy = Container(stream, session.contents.attachments, session.metadata)
        for topic, log_time, publish_time, data in session.messages():
            if topic == "/tick" and b'"index":50,' in data:
                copy.add([("/request", publish_time, line)], publish_time)
                data = data.replace(b'"requests":0', b'"requests":1')
            copy.add([(topic, log_time, data)], publish_time)
        copy.finish()
    evil_session = open_session(path)
    assert any(one.settings for tick in evil_session.ticks() for one in tick.input.requests)
    assert in_parts(evil_session) is None
    with pytest.raises(UsageError, match="names code"):
        list(parallel._fly(evil_session, parallel._Part(None, None), None))
    assert not ran.exists()


def test_an_end_that_is_not_the_next_beginning(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tick of every part is as recorded, but the parts do not belong together."""
    from cartpole.session import resume

    monkeypatch.setattr(parallel, "remembering", lambda core: _older(resume.remembering(core)))
    assert in_parts(open_session(recording)) is None


def test_a_state_that_is_not_what_was_remembered(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its index it fits, and each part flies as recorded from its own beginning."""
    monkeypatch.setattr(parallel, "pack", lambda state: pack(state) + b" ")
    assert in_parts(open_session(recording)) is None


def _older(state: object) -> object:
    import dataclasses

    return dataclasses.replace(state, index=state.index - 1)  # type: ignore[type-var,attr-defined]


def test_a_cut_off_recording_is_replayed_the_slow_way(recording: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(recording.read_bytes()[:-100_000])
    session = open_session(cut)
    assert in_parts(session) is None
    assert replay(session).told


def test_no_part_begins_behind_a_change_of_settings(tmp_path: Path) -> None:
    """What was asked for on the way is not in the state: the part before would have to say it."""
    path = tmp_path / "changed.mcap"
    core = controller(CONFIG, None)
    asked = change(with_values(CONFIG, {"controller.weights.angle": 1.7}))
    with SessionWriter(path, CONFIG, {}, live=False) as writer:
        for index in range(200):
            requests = (asked,) if index == 90 else ()
            record = core.tick(TickInput(10**9 + index * 20_000_000, (), requests))
            core.after_tick()  # type: ignore[attr-defined]
            writer.put_tick(record)
            if index % 40 == 39:
                writer.put_state(record.input.now_ns, core.state())  # type: ignore[attr-defined]
    parts = parallel._parts(open_session(path), 5)
    assert [part.begin and part.begin.index for part in parts] == [None, 39, 79]
    assert in_parts(open_session(path), 5) == replay(open_session(path)).figures()


def test_what_cannot_be_read_is_no_difference_within_a_tolerance(
    recording: Path, tmp_path: Path
) -> None:
    """Compared as bytes, a broken estimate is still a tick that is not whole."""
    copy = changed_copy(
        recording, tmp_path / "copy.mcap", "/estimate", 100, b'"rejected":0', b'"rejected":"x"'
    )
    session = open_session(copy)
    found = replay(session, git="another")
    assert found.gap_at == 100
    assert any("rejected" in line for line in found.told)


def test_a_tick_reads_what_it_is_asked_for(recording: Path) -> None:
    def told(tick: RecordedTick) -> str:
        return repr((tick.estimate, tick.plan, tick.command, tick.truth, tick.timing))

    session = open_session(recording)
    eager = [told(tick) for tick in session.ticks()]
    assert [told(tick) for tick in session.ticks(COMPARED)] == eager
