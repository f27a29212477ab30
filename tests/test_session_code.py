"""A recording never leads to code: what it names is refused until a user names it himself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.sessions import HOMED, FakeCore, inputs

from cartpole.cli.replay import named_code
from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.errors import UsageError
from cartpole.messages import Request
from cartpole.model.user import load_user_model
from cartpole.rules.control import change
from cartpole.session.code import code_named, code_told
from cartpole.session.listing import describe
from cartpole.session.provenance import provenance
from cartpole.session.reader import open_session
from cartpole.session.replay import replay
from cartpole.session.writer import SessionWriter

KEY = "optimizer.user_cost"


def record(path: Path, config: Config, requests: dict[int, Request] | None = None) -> None:
    core = FakeCore(Config(), HOMED)
    with SessionWriter(path, config, provenance(config, "abc"), live=False) as writer:
        writer.put_start(HOMED)
        for index, given in enumerate(inputs(8)):
            more = (requests or {}).get(index)
            asked = replace(given, requests=() if more is None else (more,))
            writer.put_tick(core.tick(asked))


def with_cost(file: Path) -> Config:
    return with_values(Config(), {KEY: f"{file}:cost", "optimizer.backend": "torch"})


def test_recorded_code_is_refused_until_it_is_named(tmp_path: Path) -> None:
    file, path = tmp_path / "cost.py", tmp_path / "run.mcap"
    file.write_text("def cost(x, u, t=None):\n    return x\n")
    record(path, with_cost(file))
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    session = open_session(path)
    with pytest.raises(UsageError, match="--set optimizer"):
        replay(session, make_core=FakeCore)
    with pytest.raises(UsageError, match="names code"):
        replay(session, make_core=FakeCore, allowed={KEY: "another.py:cost"})
    assert replay(session, make_core=FakeCore, allowed={KEY: f"{file}:cost"}).bitwise_equal
    assert not (tmp_path / "ran").exists()
    assert "CHANGED" in code_told(session, session.config)[0]
    assert describe(path).code == (f"{file}:cost",)


def test_a_recorded_model_is_refused_and_flies_again_once_named(tmp_path: Path) -> None:
    """The true controller: a model of one's own is code like a cost, and replays bit for bit."""
    pytest.importorskip("sympy")
    from cartpole.daemon.virtual import run_virtual
    from cartpole.session.summary import SummaryBuilder

    file, path = tmp_path / "model.py", tmp_path / "run.mcap"
    mark = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    file.write_text(
        f"{mark}def accelerations(x, u, q, m):\n"
        "    vdot = 20 * (u - x[1])\n"
        "    return vdot, -3 * (9.81 * m.sin(x[2]) + vdot * m.cos(x[2]))\n"
    )
    named = f"{file}:accelerations"
    config = with_values(Config(), {"optimizer.user_model": named})
    run_virtual(config, 0.6, SummaryBuilder(config, "abc", "def"), path, lambda _s: None)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    load_user_model.cache_clear()
    session = open_session(path)
    with pytest.raises(UsageError, match=r"--set optimizer\.user_model"):
        replay(session)
    with pytest.raises(UsageError, match="names code"):
        replay(session, allowed={KEY: named})
    assert not (tmp_path / "ran").exists()
    assert replay(session, allowed={"optimizer.user_model": named}).bitwise_equal
    assert (tmp_path / "ran").exists()


def test_code_that_comes_with_a_request_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(path, Config(), {4: change(with_cost(tmp_path / "x.py"))})
    with pytest.raises(UsageError, match="names code"):
        replay(open_session(path), make_core=FakeCore)


def test_only_what_the_user_writes_counts_as_named(tmp_path: Path) -> None:
    assert named_code(None, ["controller.weights.angle=3"]) == {}
    assert named_code(None, [f"{KEY}=a.py:f"]) == {KEY: "a.py:f"}
    settings = tmp_path / "mine.yaml"
    settings.write_text("optimizer:\n  user_cost: b.py:g\n  backend: torch\n")
    assert named_code(settings, None) == {KEY: "b.py:g"}


def test_unchanged_code_is_told_with_its_hash(tmp_path: Path) -> None:
    file, path = tmp_path / "cost.py", tmp_path / "run.mcap"
    file.write_text("def cost(x, u, t=None):\n    return x\n")
    record(path, with_cost(file))
    session = open_session(path)
    assert code_named(session.config) == {KEY: f"{file}:cost"}
    (line,) = code_told(session, session.config)
    assert "as recorded" in line
    assert session.provenance[f"{KEY}.sha256"][:16] in line
    file.unlink()
    assert "unreadable" in code_told(session, session.config)[0]
