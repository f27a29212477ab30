"""Writing, reading, replaying and recovering recordings of a small controller."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from support.sessions import HOMED, FakeCore, inputs, write_session

from cartpole.config.schema import Config
from cartpole.errors import SessionError, UsageError
from cartpole.messages import Mode, TickInput, TickRecord
from cartpole.session.reader import open_session
from cartpole.session.recover import recover
from cartpole.session.replay import replay as replay_session


def change_weight(config: Config) -> Config:
    weights = config.controller.weights.model_copy(update={"angle": 2.0})
    controller = config.controller.model_copy(update={"weights": weights})
    return config.model_copy(update={"controller": controller})


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sessions") / "run.mcap"
    write_session(path, ticks=100, lost_at=80)
    return path


def test_inputs_read_back_exactly(recording: Path) -> None:
    session = open_session(recording)
    ticks = list(session.ticks())
    expected = inputs(100, lost_at=80)
    assert len(ticks) == 100
    for tick, given in zip(ticks, expected, strict=True):
        # repr tells -0.0 from 0.0 and nan from nothing, which == does not
        assert repr(tick.input) == repr(given)
    assert session.homed == HOMED
    assert session.config == Config()
    assert not session.truncated


def test_records_read_back(recording: Path) -> None:
    core = FakeCore(Config(), HOMED)
    for tick, given in zip(open_session(recording).ticks(), inputs(100, lost_at=80), strict=True):
        record = core.tick(given)
        read = tick.record()
        assert read.estimate == record.estimate
        assert read.command == record.command
        assert read.faults == record.faults
        assert (read.mode, read.events, read.target_m) == (record.mode, record.events, 0.1)
        assert tick.truth == (0.1, 0.2, math.pi, float(record.index))
        assert tick.timing is not None
        if tick.trajectory is not None:
            assert read.plan is not None
            assert record.plan is not None
            assert read.plan.states.tobytes() == record.plan.states.tobytes()


def test_every_fifth_plan_is_whole(recording: Path) -> None:
    ticks = list(open_session(recording).ticks())
    plans = [tick for tick in ticks if tick.plan is not None]
    assert len(plans) == 96
    assert [tick.trajectory is not None for tick in plans] == [i % 5 == 0 for i in range(96)]


def test_unchanged_replay_is_bitwise_equal(recording: Path) -> None:
    result = replay_session(open_session(recording), make_core=FakeCore)
    assert result.bitwise_equal
    assert result.first is None
    assert result.ticks == result.compared == 100
    assert result.summary["bitwise_equal"] is True
    assert result.summary["faults"][0]["name"] == "encoder lost"


def test_a_changed_weight_differs_first_where_it_first_acts(recording: Path) -> None:
    result = replay_session(open_session(recording), change_weight, make_core=FakeCore)
    assert not result.bitwise_equal
    assert result.first is not None
    assert result.first.tick == 4  # the first tick that flies
    assert set(result.first.signals) == {"plan", "command"}
    assert result.differences["u_m_s"].largest > 0
    assert result.differences["p_m"].largest == 0


def test_one_bit_in_the_estimate_is_found(recording: Path) -> None:
    class OneBitOff(FakeCore):
        def tick(self, tick: TickInput) -> TickRecord:
            record = super().tick(tick)
            if record.index != 42 or record.estimate is None:
                return record
            p, v, theta, omega = record.estimate.state
            state = (p, v, theta, math.nextafter(omega, 10.0))
            return replace(record, estimate=replace(record.estimate, state=state))

    result = replay_session(open_session(recording), make_core=OneBitOff)
    assert result.first is not None
    assert result.first.tick == 42
    assert result.first.signals == ("estimate",)
    assert 0 < result.differences["omega_rad_s"].largest < 1e-15


def test_window(recording: Path) -> None:
    result = replay_session(open_session(recording), make_core=FakeCore, from_s=0.5, to_s=1.0)
    assert result.bitwise_equal
    assert result.ticks == 51
    assert not result.truncated
    assert result.compared == 26


@pytest.mark.parametrize("window", [(1e6, math.inf), (2.0, 1.0)])
def test_nothing_compared_is_nothing_the_same(recording: Path, window: tuple[float, float]) -> None:
    with pytest.raises(SessionError, match="no tick from"):
        replay_session(
            open_session(recording), make_core=FakeCore, from_s=window[0], to_s=window[1]
        )


def test_forgetting_the_start_is_noticed(recording: Path) -> None:
    result = replay_session(
        open_session(recording), make_core=lambda config, _: FakeCore(config, None)
    )
    assert not result.bitwise_equal
    assert result.first is not None
    assert result.first.tick == 0


def test_cut_session_recovers_and_replays(recording: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.mcap"
    write_session(long, ticks=1500)
    data = long.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(data[: len(data) * 6 // 10])
    saved = tmp_path / "saved.mcap"
    found = recover(cut, saved)
    assert found.damage
    session = open_session(saved)
    result = replay_session(session, make_core=FakeCore)
    assert result.bitwise_equal
    assert result.ticks == found.ticks
    assert 0 < result.ticks < 1500
    assert not session.truncated
    # and the cut file itself, too
    direct = replay_session(open_session(cut), make_core=FakeCore)
    assert direct.bitwise_equal
    assert direct.truncated
    assert direct.ticks == found.ticks


def test_recover_refuses_to_overwrite_the_broken_file(recording: Path) -> None:
    with pytest.raises(UsageError, match="what is read"):
        recover(recording, recording, force=True)
    other = recording.with_name("other.mcap")
    other.write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="--force"):
        recover(recording, other)
    assert other.read_bytes() == b"somebody's"
    recover(recording, other, force=True)
    assert open_session(other).metadata
    other.unlink()


def test_recovering_a_whole_file_keeps_everything(recording: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.mcap"
    found = recover(recording, saved)
    assert found.damage == ()
    ours = [(topic, data) for topic, _, _, data in open_session(recording).messages()]
    theirs = [(topic, data) for topic, _, _, data in open_session(saved).messages()]
    assert ours == theirs
    assert open_session(saved).provenance == {"git": "abc"}


def test_modes_in_the_summary(recording: Path) -> None:
    result = replay_session(open_session(recording), make_core=FakeCore)
    assert set(result.summary["modes"]) == {Mode.READY, Mode.SWING_UP, Mode.FAULT}
