"""Recordings in other people's viewers: Rerun opens them, and what is exported for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from support.sessions import HOMED, FakeCore, FakeFrame, inputs, write_session
from typer.testing import CliRunner

from cartpole.cli import exchange
from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.errors import UsageError
from cartpole.messages import TickTiming
from cartpole.session.channels import CHANNELS, schema
from cartpole.session.reader import open_session
from cartpole.session.rrd import CURVES, tips
from cartpole.session.writer import SessionWriter

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "swing-up.mcap"
RERUN = Path(sys.executable).with_name("rerun")
needs_rerun = pytest.mark.skipif(not RERUN.exists(), reason="needs rerun-sdk: cartpole[viewers]")


def rerun(home: Path, *words: str | Path) -> str:
    done = subprocess.run(
        [RERUN, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home), "NO_COLOR": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def entities(home: Path, path: Path) -> dict[str, set[str]]:
    """What an .rrd holds: components by entity."""
    found: dict[str, set[str]] = {}
    pattern = re.compile(r"Chunk\(.*? - (/\S+) - data columns: \[(.*?)\]")
    for entity, columns in pattern.findall(rerun(home, "rrd", "print", path)):
        found.setdefault(entity, set()).update(columns.split())
    return found


def export(*words: str | Path) -> str:
    app = typer.Typer()
    exchange.register(app)
    app.command("x")(lambda: None)
    result = CliRunner().invoke(app, ["export", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.output


@needs_rerun
def test_rerun_opens_a_recording_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    write_session(path, ticks=60, lost_at=40)
    for source in (path, GOLDEN):
        target = tmp_path / f"{source.stem}.rrd"
        told = rerun(tmp_path, "mcap", "convert", source, "-o", target)
        assert "WARN" not in re.sub(r".*Application ID.*", "", told)
        assert "without error" in rerun(tmp_path, "rrd", "verify", target)
        found = entities(tmp_path, target)
        topics = {topic for topic, *_ in open_session(source).messages()}
        assert topics <= found.keys()
        assert {"/__mcap_attachments", "/__mcap_metadata"} <= found.keys()
        assert "issue" not in rerun(tmp_path, "mcap", "check", source).lower().replace("issues", "")


@needs_rerun
def test_what_is_exported_has_curves_pictures_rig_and_plans(tmp_path: Path) -> None:
    path, config = tmp_path / "run.mcap", with_values(Config(), {"session.frames": "all"})
    core, ticks = FakeCore(config, HOMED), 60
    with SessionWriter(path, config, live=False) as writer:
        for k, given in enumerate(inputs(ticks, lost_at=40)):
            shade = np.full((24, 32), k, dtype=np.uint8)
            writer.put_frame(FakeFrame(shade, given.now_ns, k))
            timing = TickTiming(given.now_ns, 5_000, 300_000, 100_000, False)
            writer.put_tick(core.tick(given), (0.0, 0.0, 0.0, 0.0), timing)
    target = tmp_path / "run.rrd"
    assert f"{ticks} ticks in" in export(path, "--rrd", target, "--csv", tmp_path / "run.csv")
    assert (tmp_path / "run.csv").exists()
    assert "without error" in rerun(tmp_path, "rrd", "verify", target)
    found = entities(tmp_path, target)
    flown = {f"/{name}" for name in CURVES}
    assert flown <= found.keys()
    assert all("Scalars:scalars" in found[name] for name in flown)
    assert "LineStrips3D:strips" in found["/rig/pole"]
    assert "LineStrips3D:strips" in found["/rig/plans"]
    assert "Boxes3D:centers" in found["/rig/cart"]
    assert "TextLog:text" in found["/events/mode"]
    assert "TextLog:text" in found["/events/fault"]
    assert "EncodedImage:blob" in found["/picture"]
    export(path, "--rrd", target)  # its own may be written again
    shutil.copy(path, tmp_path / "other.rrd")
    with pytest.raises(UsageError, match="--force"):
        export(path, "--rrd", tmp_path / "other.rrd")


def paths_in(layout: object) -> list[str]:
    """What the panels of a Foxglove layout draw: ``/topic.field``."""
    if isinstance(layout, list):
        return [path for inner in layout for path in paths_in(inner)]
    if not isinstance(layout, dict):
        return []
    own = [text for key, text in layout.items() if key in ("value", "topicPath", "imageTopic")]
    return own + [path for inner in layout.values() for path in paths_in(inner)]


def test_foxglove_finds_by_name_what_the_layout_draws(tmp_path: Path) -> None:
    paths = paths_in(json.loads((ROOT / "docs" / "foxglove-layout.json").read_text()))
    assert len(paths) > 10
    for path in paths:
        assert "[" not in path
        topic, _, name = path.partition(".")
        assert not name or name in json.loads(schema(CHANNELS[topic]))["properties"], path
    recording = tmp_path / "run.mcap"
    write_session(recording, ticks=20)
    session = open_session(recording)
    for topic in ("estimate", "truth"):
        named, plain = session.table(f"named/{topic}"), session.table(topic)
        columns = ["p_m", "v_m_s", "theta_rad", "omega_rad_s"]
        assert list(named.columns) == columns
        assert len(named) == 20
        assert (named == plain[columns]).all().all()


def test_export_asks_to_what(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--csv FILE for a table, --rrd FILE"):
        export(tmp_path / "x.mcap")


def test_a_pole_hangs_down_stands_up_and_turns_to_the_right() -> None:
    states = np.array([[0.1, 0, 0.0], [0.1, 0, np.pi], [0.1, 0, np.pi / 2]])
    assert np.allclose(tips(states, 0.5), [[0.1, 0, -0.5], [0.1, 0, 0.5], [0.6, 0, 0.0]])
