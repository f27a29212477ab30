"""Kept flights, flown and replayed again: the same to the last bit on the same build.

Elsewhere (another processor, another numba) sums are rounded otherwise, and a flight that is
flown again drifts apart as two flights do; a replay, which is told the recorded measurements, stays
within the tolerances below. After a change that is meant: ``make golden``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from golden.scenes import SCENES, Scene, compare, fly, same_build

from cartpole.messages import Mode
from cartpole.session.reader import open_session
from cartpole.session.replay import replay

# Largest difference of a replay on another build: state [m, m/s, rad, rad/s] and command [m/s].
STATE, COMMAND = 2e-3, 2e-2


@pytest.fixture(params=SCENES, ids=lambda scene: scene.name)
def scene(request: pytest.FixtureRequest) -> Scene:
    found = request.param
    assert isinstance(found, Scene)
    return found


def test_replay_gives_the_kept_flight(scene: Scene) -> None:
    result = replay(open_session(scene.path))
    assert result.gap_at is None
    if same_build():
        assert result.bitwise_equal, f"first difference: {result.first}"
        return
    for name, difference in result.differences.items():
        if name in ("p_m", "v_m_s", "theta_rad", "omega_rad_s"):
            assert difference.largest < STATE, name
        if name == "u_m_s":
            assert difference.largest < COMMAND


def test_flown_again_is_the_kept_flight(scene: Scene, tmp_path: Path) -> None:
    if not same_build():
        pytest.skip("recorded on another processor or by another numba: `make golden` here first")
    fly(scene, tmp_path / "new.mcap")
    drift = compare(scene.path, tmp_path / "new.mcap")
    assert drift.none, drift.first


def test_scenes_show_what_they_are_for() -> None:
    modes = {
        scene.name: {tick.line.mode for tick in open_session(scene.path).ticks()}
        for scene in SCENES
    }
    assert {Mode.SWING_UP, Mode.BALANCE} <= modes["swing-up"] & modes["camera-only"]
    assert {Mode.SAFE_STOP, Mode.FAULT, Mode.HOMING, Mode.BALANCE} <= modes["encoder-only"]
