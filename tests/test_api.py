"""The Python door: plan, simulate, drive, an environment for learners, notebooks."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import cartpole
from cartpole.errors import ConfigError, UsageError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def test_importing_the_door_loads_nothing_heavy() -> None:
    code = (
        "import sys, cartpole; cartpole.__dir__(); "
        "sys.exit(bool({'numba', 'numpy', 'scipy', 'torch', 'gymnasium'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_door_opens_and_is_documented() -> None:
    for name in ("Flight", "Planner", "Rig", "Session", "simulate"):
        assert name in dir(cartpole)
        assert getattr(cartpole, name).__doc__
    with pytest.raises(AttributeError, match="nonsense"):
        _ = cartpole.nonsense


def test_a_flight_is_the_command_line_s() -> None:
    first = cartpole.simulate(seed=7, duration_s=3.0)
    again = cartpole.simulate(seed=7, duration_s=3.0)
    assert first.upright_at_s is not None
    assert first.upright_at_s < 2.2
    assert np.array_equal(first.state, again.state)
    assert abs(first.state[-1, 2] - np.pi) < 0.1
    assert first.t_s[first.mode.index("SWING_UP")] == 0.0
    pytest.importorskip("pandas", reason="needs pandas: pip install cartpole[data]")
    table = first.table()
    assert len(table) == len(first.t_s)
    assert table["theta_rad"].iloc[-1] == first.state[-1, 2]


def test_changes_reach_the_simulated_rig_and_mistakes_are_named() -> None:
    longer = cartpole.simulate(seed=1, duration_s=0.2, changes={"sim.length_m": 0.7})
    usual = cartpole.simulate(seed=1, duration_s=0.2)
    assert not np.array_equal(longer.state, usual.state)
    with pytest.raises(ConfigError, match="lenght_m"):
        cartpole.simulate(changes={"pole.lenght_m": 0.7})


def test_a_plan_from_rest_ends_upright_inside_the_limits() -> None:
    planner = cartpole.Planner()
    plan = planner.plan((0.0, 0.0, 0.0, 0.0))
    limits = planner.config.rig
    assert plan.status == 0
    assert abs(plan.states[-1, 2]) == pytest.approx(np.pi, abs=0.1)
    assert np.abs(plan.states[:, 0]).max() <= limits.position_limit_m
    assert np.abs(plan.states[:, 4]).max() <= limits.velocity_limit_m_s + 1e-9
    with pytest.raises(UsageError, match="a state is"):
        planner.plan((0.0, 0.0))


def test_a_rig_driven_by_hand_obeys_the_governor() -> None:
    rig = cartpole.Rig()
    limits = rig.config.rig
    before = rig.command_m_s
    for _ in range(100):
        rig.step(9.0)
        assert abs(rig.command_m_s) <= limits.velocity_limit_m_s
        step = limits.acceleration_limit_m_s2 * rig.config.controller.period_s
        assert abs(rig.command_m_s - before) <= step + 1e-9
        before = rig.command_m_s
    assert 0.1 < rig.state[0] < limits.track_length_m / 2
    with pytest.raises(UsageError, match="finite"):
        rig.step(float("nan"))


def test_gymnasium_s_own_checker_accepts_the_environment() -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium: cartpole[gym]")
    from gymnasium.utils.env_checker import check_env

    cartpole.register_envs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its hints are no errors
        check_env(gymnasium.make("cartpole/SwingUp-v0", render_mode="rgb_array").unwrapped)


def test_environments_run_side_by_side_and_repeat_for_a_seed() -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium: cartpole[gym]")
    cartpole.register_envs()

    def fly() -> list[np.ndarray]:
        many = gymnasium.make_vec("cartpole/SwingUp-v0", num_envs=2)
        seen = [many.reset(seed=3)[0]]
        seen += [many.step(np.full((2, 1), 0.3, dtype=np.float32))[0] for _ in range(20)]
        many.close()
        return seen

    first, again = fly(), fly()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[-1][0], first[-1][1])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="needs nbclient: cartpole[notebooks]")
    import nbclient
    import nbformat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the notebook libraries about themselves
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        nbclient.NotebookClient(
            notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
