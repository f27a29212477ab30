"""Cost and dynamics in PyTorch: the same iterates, a user's own cost, the closed loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cartpole.config.schema import Config, Optimizer
from cartpole.errors import ConfigError
from cartpole.messages import PlanStatus
from cartpole.optimizer.backends import make_planner
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.problem import Problem, StageWeights, regulator
from cartpole.rules.optimizer import planner_rules, problem_from_config

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

USER_COST = Path(__file__).resolve().parent.parent / "examples" / "user_cost.py"
N = 20


def random_problem(rng: np.random.Generator) -> Problem:
    """Another rig, other weights, growing steps."""
    problem = problem_from_config(Config(optimizer=Optimizer(horizon_steps=N)))
    weights = np.exp(rng.normal(0.0, 1.0, 6)) * [1.0, 0.1, 5.0, 0.1, 0.05, 0.01]
    model = replace(
        problem.model,
        length_m=rng.uniform(0.3, 0.8),
        damping_1_s=rng.uniform(0.0, 0.2),
        tau_s=rng.uniform(0.02, 0.08),
    )
    stage = StageWeights(*weights)
    return replace(
        problem,
        steps_s=np.linspace(0.02, rng.uniform(0.02, 0.06), N),
        model=model,
        weights=stage,
        terminal=regulator(model, stage, 0.02)[1],
        reference_m=rng.uniform(-0.1, 0.1, N + 1),
    )


def test_iterates_equal_the_compiled_ones() -> None:
    from cartpole.optimizer.torch.program import Program, UserModel
    from cartpole.optimizer.torch.solver import TorchSolver

    rng = np.random.default_rng(1)
    worst = 0.0
    program = Program(N, UserModel())
    for _ in range(100):  # problems
        problem = random_problem(rng)
        gain = regulator(problem.model, problem.weights, 0.02)[0]
        state = np.array([*rng.uniform(-0.2, 0.2, 2), *rng.uniform(-4.0, 4.0, 2), 0.1])
        guess = Guess(rng.choice([-1.0, 1.0]), 0.15, 1.0, rng.choice([-np.pi, np.pi]))
        both = [
            Solver(problem, gain=gain, mu=1e-6),
            TorchSolver(problem, gain=gain, mu=1e-6, program=program),
        ]
        for solver in both:
            solver.start(state, guess)
        for _step in range(6):
            first, second = (solver.solve(1) for solver in both)
            assert first is second
            a, b = (solver.solution() for solver in both)
            worst = max(worst, np.abs(a.states - b.states).max(), np.abs(a.inputs - b.inputs).max())
            if first is PlanStatus.CONVERGED:
                break
    assert worst <= 1e-8


def test_the_band_is_that_of_finite_differences() -> None:
    from cartpole.optimizer.compiled import layout as rows_of
    from cartpole.optimizer.compiled.workspace import rows
    from cartpole.optimizer.torch.program import Program, load_user_model
    from cartpole.optimizer.torch.solver import TorchSolver

    rng = np.random.default_rng(2)
    program = Program(N, load_user_model(f"{USER_COST}:cost"))
    solver = TorchSolver(random_problem(rng), program=program)
    for row in range(rows_of.TP, rows_of.TW + 1):
        rows(solver.rows, row)[: N + 1] = rng.normal(0.0, 0.3, N + 1)
    for row in (rows_of.TLTH, rows_of.TLOM):
        rows(solver.rows, row)[: N + 1] = rng.normal(0.0, 1.0, N + 1)
    model = solver.parts.model
    model.evaluate(solver.rows, solver.scalars)
    here = model.derivatives
    step, k = 1e-5, 7
    for column in range(6):
        spot = (rows_of.TP + column) * rows_of.STRIDE + k
        gradients, costs = [], []
        for side in (step, -2.0 * step):
            solver.rows[spot] += side
            costs.append(model.evaluate(solver.rows, solver.scalars))
            gradients.append(model.derivatives.gradient[k])
        solver.rows[spot] += step
        slope = (gradients[0] - gradients[1]) / (2 * step)
        assert here.hessian[k, column] == pytest.approx(slope, abs=1e-6)
        assert here.gradient[k, column] == pytest.approx(
            (costs[0] - costs[1]) / (2 * step), abs=1e-6
        )


def test_a_users_cost_converges_inside_the_limits() -> None:
    from cartpole.optimizer.torch.program import Program, load_user_model
    from cartpole.optimizer.torch.solver import TorchSolver

    problem = problem_from_config(Config(optimizer=Optimizer(horizon_steps=40)))
    problem = replace(problem, steps_s=np.full(problem.horizon, 0.02))
    gain = regulator(problem.model, problem.weights, 0.02)[0]
    program = Program(problem.horizon, load_user_model(f"{USER_COST}:cost"))
    solver = TorchSolver(problem, gain=gain, program=program, mu=1e-6)
    solver.start(np.array([0.0, 0.0, 3.0, 0.0, 0.0]), Guess(0.0, 0.0, 1.0, np.pi))
    assert solver.solve(80) is PlanStatus.CONVERGED
    solution = solver.solution()
    assert np.abs(solution.states[:, 0]).max() <= problem.limits.position_m
    assert np.abs(solution.states[:, 4]).max() <= problem.limits.command
    assert solution.states[-1, 2] == pytest.approx(np.pi, abs=0.05)


@pytest.mark.parametrize("where", ["nothing.py:cost", "cost", f"{USER_COST}:nothing"])
def test_a_wrong_user_cost_is_named(where: str) -> None:
    with pytest.raises(ConfigError, match="user_cost"):
        make_planner(planner_rules(Config(optimizer=Optimizer(backend="torch", user_cost=where))))


def test_planner_keeps_its_budget_and_survives_nonsense() -> None:
    from cartpole.optimizer.torch.planner import TICK_STEPS

    planner = make_planner(
        planner_rules(Config(optimizer=Optimizer(backend="torch", horizon_steps=30)))
    )
    reference = np.zeros(planner.problem.horizon + 1)
    start_ns = 0
    for state in ([0.0, 0.0, 3.0, 0.0, 0.0], [np.nan] * 5, [0.5, 2.0, 50.0, -20.0, 3.0]):
        plan = planner.plan(np.array(state), reference, 60, start_ns)
        assert plan.newton_steps <= TICK_STEPS
        assert np.isfinite(plan.states).all()
        planner.prepare()
        start_ns += 20_000_000
    assert planner.plan(np.zeros(5), reference, 0, start_ns).status is PlanStatus.NO_BUDGET


def test_backend_without_torch_does_not_import_it() -> None:
    import subprocess
    import sys

    code = "import sys, cartpole.optimizer.backends; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_recording_equals_what_it_recorded_and_branches_run_unrecorded() -> None:
    from cartpole.optimizer.torch.program import Program, Stage, UserModel
    from cartpole.optimizer.torch.solver import TorchSolver

    def branching(stage: Stage) -> torch.Tensor:
        flat = stage.p * stage.p + stage.w * stage.w
        return flat if bool(flat.sum() > 0.0) else 2.0 * flat

    def plain(stage: Stage) -> torch.Tensor:
        return stage.p * stage.p + stage.w * stage.w

    problem = random_problem(np.random.default_rng(5))
    plans = []
    for cost, recorded in ((plain, True), (branching, False)):
        program = Program(N, UserModel(cost=cost))
        assert program.recorded is recorded
        solver = TorchSolver(problem, program=program)
        solver.start(np.zeros(5), Guess(1.0, 0.1, 1.0, np.pi))
        solver.solve(3)
        plans.append(solver.solution().states)
    assert np.abs(plans[0] - plans[1]).max() <= 1e-10
