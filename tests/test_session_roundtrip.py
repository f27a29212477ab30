"""A session as a table, and back: to pandas, to CSV and through `import` again."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from support.sessions import write_session

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.errors import UsageError
from cartpole.session.columns import LAYOUTS
from cartpole.session.exchange import export_csv, import_settings, import_table
from cartpole.session.reader import Session, open_session
from cartpole.session.table_rows import NO_VALUE
from cartpole.session.tables import read_table
from cartpole.session.writer import SessionWriter
from cartpole.sim.run import VirtualRun

BLIND = 7  # ticks before the first estimate


@pytest.fixture(scope="module")
def flown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A swing-up whose first ticks have no estimate, as those of a rig that is not homed."""
    path = tmp_path_factory.mktemp("roundtrip") / "run.mcap"
    config = with_values(Config(), {"sim.homed": True})
    run = VirtualRun(config, 3)
    with SessionWriter(path, config, live=False) as writer:
        writer.put_start(run.homed)
        for tick in run.ticks():
            record = tick.record
            if record.index < BLIND:
                record = dataclasses.replace(record, estimate=None)
            writer.put_tick(record, tick.truth, tick.timing)
            if record.index == 150:
                break
    return path


def test_export_then_import_gives_the_motion_back(flown: Path, tmp_path: Path) -> None:
    session = open_session(flown)
    assert export_csv(session, tmp_path / "a.csv") == 151
    table = read_table(tmp_path / "a.csv")
    assert table.layout.name == LAYOUTS["export"].name
    assert [(one.why, one.rows) for one in table.left_out] == [(NO_VALUE, BLIND)]
    (run,) = table.runs
    known = [tick for tick in session.ticks() if tick.estimate is not None]
    states = np.array([tick.estimate.state for tick in known if tick.estimate is not None])
    times = np.array([tick.line.now_ns for tick in known])
    assert np.array_equal(run.p_m, states[:, 0])  # numbers are written as they are
    assert np.allclose(run.theta_rad, states[:, 2], atol=1e-12)
    assert np.allclose(run.t_s, (times - times[0]) / 1e9, atol=1e-12)
    assert run.u_m_s is not None
    assert np.array_equal(run.u_m_s, [tick.command.velocity_m_s for tick in known])

    config = import_settings("export", session.config)
    ((path, found),) = import_table(table, config, tmp_path / "b.mcap")
    assert found.samples == len(known)
    assert found.rejected < 0.05 * found.samples
    again = [tick.estimate for tick in open_session(path).ticks()]
    last = again[-1]
    assert last is not None
    assert last.state[0] == pytest.approx(states[-1, 0], abs=0.002)
    assert math.remainder(last.state[2] - states[-1, 2], 2 * math.pi) == pytest.approx(0, abs=0.01)


def test_a_channel_as_a_table(flown: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas: cartpole[data]")
    session = Session(flown)
    table = session.table("estimate")
    assert isinstance(table, pandas.DataFrame)
    known = [tick for tick in session.ticks() if tick.estimate is not None]
    assert len(table) == len(known)
    assert table.index.name == "t_s"
    assert table.index[0] == pytest.approx(BLIND * 0.02)
    assert table.index.is_monotonic_increasing
    for place, name in enumerate(("p_m", "v_m_s", "theta_rad", "omega_rad_s")):
        assert table[name].dtype == np.float64
        wanted = [tick.estimate.state[place] for tick in known if tick.estimate is not None]
        assert table[name].tolist() == wanted
    commands = session.table("/command")
    assert commands["velocity_m_s"].tolist() == [
        tick.command.velocity_m_s for tick in session.ticks()
    ]
    assert set(session.table("tick")["mode"]) == {tick.line.mode for tick in session.ticks()}
    assert len(session.table("raw")) == 0


@pytest.mark.parametrize("topic", ["", "state", "nothing", "/", "../estimate"])
def test_only_channels_are_tables(flown: Path, topic: str) -> None:
    pytest.importorskip("pandas", reason="needs pandas: cartpole[data]")
    with pytest.raises(UsageError, match="one of tick, encoder"):
        Session(flown).table(topic)


def test_every_channel_of_a_rich_recording_is_a_table(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="needs pandas: cartpole[data]")
    path = tmp_path / "rich.mcap"
    write_session(path, ticks=60, lost_at=40)
    session = Session(path)
    found = {topic for topic, *_ in session.messages()}
    for topic in found - {"/state"}:
        assert len(session.table(topic)) > 0
