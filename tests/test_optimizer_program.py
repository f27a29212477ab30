"""Equations of a user's own: exact derivatives, the same plans, flown by YAML and twenty lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cartpole.config.load import load_config, with_values
from cartpole.config.schema import Config
from cartpole.errors import ConfigError, UsageError
from cartpole.messages import PlanStatus
from cartpole.model.user import load_user_model
from cartpole.optimizer.backends import make_planner
from cartpole.optimizer.bank.planner import Planner
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.problem import InputKind, regulator, rig_problem
from cartpole.optimizer.program.solver import ProgramSolver
from cartpole.rules.optimizer import planner_rules
from cartpole.rules.sim import rig_rules
from cartpole.sim.plant import Plant
from cartpole.sim.run import VirtualRun

pytest.importorskip("sympy")
ROOT = Path(__file__).resolve().parent.parent
FURUTA = f"{ROOT / 'examples' / 'furuta.py'}:accelerations"
OWN = """
PARAMETERS = (3.0, 9.81, 0.05, 0.05)  # c, g, b, tau

def accelerations(x, u, q, m):
    c, g, b, tau = q
    vdot = (u - x[1]) / tau
    return vdot, -c * (g * m.sin(x[2]) + vdot * m.cos(x[2])) - b * x[3]
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return f"{file}:accelerations"


def test_first_and_second_derivatives_of_a_step() -> None:
    user, rng = load_user_model(FURUTA), np.random.default_rng(1)
    out, jac, hess, h = np.empty(4), np.empty((4, 5)), np.empty((5, 5)), 0.02

    def slope(z: np.ndarray) -> np.ndarray:
        user.parts.expand(z[:4], z[4], h, np.array(user.q), lam, out, jac, hess)
        return lam @ jac

    for _ in range(5):
        z, lam, e = rng.normal(size=5), rng.normal(size=4), 1e-5
        slope(z)
        first, second = jac.copy(), hess.copy()
        assert np.array_equal(out, user.step(z[:4], z[4], h)) or np.allclose(
            out, user.step(z[:4], z[4], h), atol=1e-14
        )
        for i, d in enumerate(np.eye(5) * e):
            ahead, behind = z + d, z - d
            change = user.step(ahead[:4], ahead[4], h) - user.step(behind[:4], behind[4], h)
            assert first[:, i] == pytest.approx(change / (2 * e), abs=1e-8)
            assert second[i] == pytest.approx((slope(ahead) - slope(behind)) / (2 * e), abs=1e-8)


def test_the_rigs_own_equations_give_the_rigs_own_plan(own: str) -> None:
    rules = planner_rules(Config())
    problem, user = rig_problem(rules), load_user_model(own)
    problem = rig_problem(planner_rules(with_values(Config(), {"pole.length_m": 0.5 / 1.04})))
    gain = regulator(problem.model, problem.weights, rules.step_s)[0]
    a, b = user.linear(rules.step_s)
    from cartpole.model.linear import linear_model

    exact = linear_model(problem.model, rules.step_s)
    assert a == pytest.approx(exact[0], abs=1e-3)
    assert b == pytest.approx(exact[1], abs=1e-5)
    state = np.array([0.05, 0.0, 2.5, 0.5, 0.0])
    plans = []
    for solver in (
        Solver(problem, gain=gain, mu=1e-5, tolerance=1e-6),
        ProgramSolver(problem, user=user, gain=gain, mu=1e-5, tolerance=1e-6),
    ):
        solver.start(state, Guess(0.0, 0.0, 1.0, np.pi))
        assert solver.solve(200) is PlanStatus.CONVERGED
        plans.append(solver.solution())
    # The cart's lag is exact in one and a Runge-Kutta step in the other.
    assert plans[1].cost == pytest.approx(plans[0].cost, rel=1e-3)
    assert plans[1].states == pytest.approx(plans[0].states, abs=5e-3)


def test_plans_keep_all_limits_from_any_state() -> None:
    rules = planner_rules(with_values(Config(), {"optimizer.user_model": FURUTA}))
    planner = make_planner(rules)
    assert isinstance(planner, Planner)
    limits, rng = planner.problem.limits, np.random.default_rng(2)
    for _ in range(3):
        state = np.array([*rng.uniform(-0.2, 0.2, 2), rng.uniform(-4, 4), rng.uniform(-3, 3), 0.0])
        planner.reset()
        for _tick in range(12):
            plan = planner.plan(state, np.zeros(planner.problem.horizon + 1), 60, 0)
        assert plan.status in (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)
        assert plan.newton_steps <= 20
        assert np.abs(plan.states[1:, 0]).max() <= limits.position_m
        assert np.abs(plan.states[1:, 4]).max() <= limits.command
        assert np.abs(plan.inputs).max() <= limits.rate


@pytest.mark.parametrize("name", ["force_cart", "furuta"])
def test_the_examples_swing_up_within_limits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(ROOT / "examples" / f"{name}.yaml")
    run, ticks = VirtualRun(config, 3), []
    for tick in run.ticks():
        ticks.append(tick)
        if len(ticks) > 250:
            break
    assert not any(tick.record.faults for tick in ticks)
    assert not run.rig.plant.is_smooth
    assert max(abs(tick.truth[0]) for tick in ticks) < config.rig.position_limit_m
    commands = np.array([tick.record.command.velocity_m_s for tick in ticks])
    assert np.abs(commands).max() <= config.rig.velocity_limit_m_s
    assert np.abs(np.diff(commands)).max() <= 0.02 * config.rig.acceleration_limit_m_s2 + 1e-9
    off = [abs(np.remainder(tick.truth[2], 2 * np.pi) - np.pi) for tick in ticks[-50:]]
    assert max(off) < 0.1


def test_the_pole_pushes_the_simulated_cart_back() -> None:
    """Without a command the configured servo holds still; a swinging pole moves the user's cart."""
    quiet = {"sim.cart_disturbance": 0.0, "sim.pole_disturbance": 0.0}
    for named, least, most in (("", 0.0, 1e-9), (FURUTA, 1e-3, 0.1)):
        config = with_values(Config(), {**quiet, "optimizer.user_model": named})
        plant = Plant(rig_rules(config), 0, (0.0, 0.0, 1.5, 0.0))
        reach = max(abs(plant.advance(20_000_000 * k)[0]) for k in range(1, 60))
        assert least <= reach <= most


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def accelerations(x, u, q, m):\n    return x[0]\n", "traced"),
        ("def accelerations(x, u, q, m):\n    return (u, u, u)\n", "two"),
        ("def accelerations(x, u, q, m):\n    return (u, 1 + u)\n", "no equilibrium"),
        ("PARAMETERS = 'abc'\ndef accelerations(x, u, q, m):\n    return (u, u)\n", "PARAMETERS"),
        ("raise RuntimeError('broken')\n", "broken"),
        ("accelerations = 3\n", "no function"),
    ],
)
def test_a_wrong_model_is_named(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=why) as error:
        load_user_model(f"{file}:accelerations")
    assert "optimizer.user_model" in str(error.value)


def test_another_backend_or_a_worn_rig_is_refused(own: str) -> None:
    config = with_values(Config(), {"optimizer.user_model": own, "optimizer.backend": "penalty"})
    with pytest.raises(ConfigError, match="compiled"):
        make_planner(planner_rules(config))
    worn = with_values(Config(), {"optimizer.user_model": own, "sim.drive_cogging_m_s2": 1.0})
    with pytest.raises(UsageError, match="imperfections"):
        Plant(rig_rules(worn), 0, (0.0, 0.0, 0.0, 0.0))
    problem = rig_problem(planner_rules(Config()))
    from dataclasses import replace

    with pytest.raises(UsageError, match="velocity"):
        ProgramSolver(replace(problem, kind=InputKind.ACCELERATION), user=load_user_model(own))
