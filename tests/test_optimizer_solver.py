"""One plan: optimality against an independent Lagrangian, limits, warm start, odd inputs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit
from test_optimizer_derivatives import COUPLING, DAMPING, GRAVITY, reference_step

from cartpole.config.schema import Config
from cartpole.errors import UsageError
from cartpole.messages import PlanStatus
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.compiled import kkt
from cartpole.optimizer.compiled import layout as rows_of
from cartpole.optimizer.compiled.newton import newton
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.compiled.view import stage
from cartpole.optimizer.compiled.workspace import rows
from cartpole.optimizer.iteration import make_newton, make_step
from cartpole.optimizer.problem import InputKind, Limits, Problem, StageWeights, regulator
from cartpole.rules.optimizer import problem_from_config

N = 60


def acceleration_problem(n: int = N) -> Problem:
    terminal = np.zeros((5, 5))
    terminal[range(4), range(4)] = (40.0, 2.0, 100.0, 2.0)
    return Problem(
        kind=InputKind.ACCELERATION,
        steps_s=np.linspace(0.015, 0.03, n),  # growing
        model=ModelParameters(length_m=1.5 / COUPLING, damping_1_s=DAMPING, gravity_m_s2=GRAVITY),
        weights=StageWeights(2.0, 0.1, 5.0, 0.1, 0.01),
        terminal=terminal,
        limits=Limits(position_m=0.4, command=12.0, lead=1.5),
        reference_m=np.linspace(0.0, 0.1, n + 1),
    )


def velocity_problem(n: int = N) -> Problem:
    problem = problem_from_config(Config())
    return replace(
        problem,
        steps_s=np.full(n, 0.03),
        model=replace(problem.model, length_m=1.5 / COUPLING, damping_1_s=DAMPING),
        reference_m=np.zeros(n + 1),
    )


def solved(problem: Problem, *, tolerance: float = 1e-6, target: float = np.pi) -> Solver:
    gain = regulator(problem.model, problem.weights, 0.02)[0]
    solver = Solver(problem, gain=gain, mu=1e-7, tolerance=tolerance)
    solver.start(np.zeros(5), Guess(1.0, 0.15, 1.0, target))
    assert solver.solve(500) is PlanStatus.CONVERGED
    return solver


def lagrangian(solver: Solver, z: np.ndarray) -> complex:
    """Cost + multipliers times dynamics + multipliers times limits, from the problem's statement.

    z holds p, v, theta, omega of stages 1 ... N and the commands of stages 0 ... N - 1.
    """
    problem, n = solver.problem, solver.horizon
    velocity = problem.kind is InputKind.VELOCITY

    def r(row: int) -> np.ndarray:
        return np.asarray(rows(solver.rows, row)[: n + 1])

    x = np.zeros((n + 1, 4), complex)
    x[0] = [r(i)[0] for i in range(4)]
    x[1:] = z[: 4 * n].reshape(n, 4)
    u = z[4 * n :]
    h, tau, w = problem.steps_s, problem.model.tau_s, problem.weights
    before = np.concatenate([[0.0], u[:-1]])
    rate = (u - before) / h
    target = solver.scalars[rows_of.THETA_REF]
    off = x.copy()
    off[:, 0] -= problem.reference_m
    off[:, 2] -= target
    stage = w.position * off[:n, 0] ** 2 + w.velocity * off[:n, 1] ** 2 + w.angle * off[:n, 2] ** 2
    stage = stage + w.rate_of_angle * off[:n, 3] ** 2 + w.command * u**2
    if velocity:
        stage = stage + w.rate * rate**2
    last = np.append(off[n], u[-1] if velocity else 0.0)
    total = h @ stage + 0.5 * last @ problem.terminal @ last
    for k in range(n):
        e = u[k] - x[k, 1] if velocity else u[k]
        decay = np.exp(-h[k] / tau) if velocity else 0.0
        c2 = h[k] - tau * (1 - decay) if velocity else h[k] ** 2 / 2
        e1 = 1 - decay if velocity else h[k]
        scale, middle, end = 1.0, 1.0, 1.0
        if velocity:
            scale, middle, end = 1 / tau, np.exp(-h[k] / 2 / tau), decay
        pole = reference_step(np.array([x[k, 2], x[k, 3], e]), scale, middle, end, h[k])
        ahead = np.array([x[k, 0] + h[k] * x[k, 1] + c2 * e, x[k, 1] + e1 * e, *pole])
        multipliers = np.array(
            [r(rows_of.LP)[k + 1], r(rows_of.LV)[k + 1], r(rows_of.LTH)[k + 1],
             r(rows_of.LOM)[k + 1]]
        )  # fmt: skip
        # The solver's own coordinates hold e = u - v in place of u.
        multipliers[1] -= r(rows_of.LE)[k + 1] if velocity else 0.0
        total += multipliers @ (ahead - x[k + 1])
    lead = problem.limits.lead_p * x[:, 0] + problem.limits.lead_v * x[:, 1]
    total += (r(rows_of.ZPU) - r(rows_of.ZPL))[1:] @ x[1:, 0]
    total += (r(rows_of.ZGU) - r(rows_of.ZGL))[1:] @ lead[1:]
    total += (r(rows_of.ZUU) - r(rows_of.ZUL))[:n] @ u
    if velocity:
        total += (r(rows_of.ZWU) - r(rows_of.ZWL))[:n] @ rate
    return complex(total)


@pytest.mark.parametrize("kind", ["acceleration", "velocity"])
def test_a_converged_plan_is_stationary(kind: str) -> None:
    problem = acceleration_problem() if kind == "acceleration" else velocity_problem()
    solver = solved(problem)
    plan = solver.solution()
    z = np.concatenate([plan.states[1:, :4].ravel(), rows(solver.rows, rows_of.U)[:N]])
    worst = 0.0
    for i in range(len(z)):
        step = z.astype(complex)
        step[i] += 1e-30j
        worst = max(worst, abs(lagrangian(solver, step).imag / 1e-30))
    # In these variables a command's entry is that of its rate over the step length, twice.
    assert worst <= 1e-6 * (2.0 / problem.steps_s.min() if kind != "acceleration" else 1.5)
    assert plan.residual <= 1e-6
    assert np.isclose(plan.cost, lagrangian_cost(problem, solver), rtol=1e-12)


def lagrangian_cost(problem: Problem, solver: Solver) -> float:
    """The cost alone: the Lagrangian with all multipliers at zero."""
    bare = Solver(problem)
    bare.rows[:] = solver.rows
    bare.scalars[:] = solver.scalars
    for row in (*range(rows_of.LP, rows_of.LE + 1), *range(rows_of.ZPL, rows_of.ZWU + 1)):
        rows(bare.rows, row)[:] = 0.0
    plan = solver.solution()
    z = np.concatenate([plan.states[1:, :4].ravel(), rows(solver.rows, rows_of.U)[:N]])
    return lagrangian(bare, z.astype(complex)).real


def test_both_ways_round_cost_the_same() -> None:
    problem = velocity_problem()
    left = Solver(problem, mu=1e-7)
    left.start(np.zeros(5), Guess(-1.0, 0.15, 1.0, -np.pi))
    left.solve(500)
    right = solved(problem)
    assert np.isclose(left.cost, right.cost, rtol=1e-7)
    assert np.allclose(left.solution().states, -right.solution().states, atol=1e-4)


def test_limits_hold_at_every_iterate_and_bind_somewhere() -> None:
    problem = acceleration_problem()
    problem = replace(problem, reference_m=np.zeros(N + 1))
    solver = Solver(problem, mu=1e-7)
    solver.start(np.zeros(5), Guess(1.0, 0.15, 1.0, np.pi))
    for _ in range(120):
        status = solver.solve(1)
        plan = solver.solution()
        assert np.abs(plan.states[:, 0]).max() < 0.4
        assert np.abs(plan.states[:, 1]).max() < 1.5
        assert np.abs(plan.inputs).max() < 12.0
        if status is PlanStatus.CONVERGED:
            break
    assert status is PlanStatus.CONVERGED
    assert np.abs(plan.states[:, 0]).max() > 0.399


def test_a_warm_start_is_the_shifted_plan() -> None:
    solver = solved(velocity_problem())
    plan = solver.solution()
    multipliers = rows(solver.rows, rows_of.LTH)[: N + 1].copy()
    status = solver.step(plan.states[1], 1, 0)
    assert status in (PlanStatus.BUDGET, PlanStatus.FEASIBLE)
    moved = solver.solution()
    assert np.allclose(moved.states[: N - 1], plan.states[1:N], rtol=0, atol=1e-9)
    assert np.allclose(moved.inputs[: N - 1], plan.inputs[1:], rtol=0, atol=1e-7)
    assert np.array_equal(rows(solver.rows, rows_of.LTH)[:N], multipliers[1:])


@pytest.mark.parametrize("kind", list(InputKind))
@pytest.mark.parametrize("start", [(0.47, 0.0), (0.39, 1.4), (-0.3, -1.49), (0.0, 2.5)])
def test_a_start_beyond_the_limits_is_brought_back(
    kind: InputKind, start: tuple[float, float]
) -> None:
    problem = velocity_problem() if kind is InputKind.VELOCITY else acceleration_problem()
    solver = Solver(problem, mu=1e-5)
    p, v = start
    state = np.array([p, v, 3.0, 0.5, min(v, 0.99)])
    solver.start(state, Guess(0.0, 0.0, 1.0, np.pi))
    for _ in range(40):
        solver.solve(1)
    plan = solver.solution()
    assert np.isfinite(plan.states).all()
    assert abs(plan.states[-1, 0]) <= problem.limits.position_m
    assert plan.states[:, 0].max() <= max(p, 0.0) + 0.5 * v * abs(v) / 6.0 + 0.3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(5))
def test_a_state_that_is_not_finite(bad: float, place: int) -> None:
    solver = solved(velocity_problem())
    before = solver.solution()
    state = np.zeros(5)
    state[place] = bad
    assert solver.step(state, 1, 5) is PlanStatus.NOT_FINITE
    assert np.array_equal(solver.solution().states, before.states)


def test_a_corrupt_plan_is_noticed() -> None:
    solver = solved(velocity_problem())
    rows(solver.rows, rows_of.TH)[7] = np.nan
    assert solver.solve(5) is PlanStatus.NOT_FINITE


def test_absurd_states_end_with_a_status() -> None:
    random = np.random.default_rng(0)
    solver = Solver(velocity_problem(), mu=1e-4)
    for _ in range(30):
        state = random.normal(size=5) * 10.0 ** random.integers(-3, 6, size=5)
        solver.start(state, Guess(1.0, 0.2, 1.0, np.pi))
        assert isinstance(solver.solve(10), PlanStatus)
        assert solver.steps <= 10


def test_arrays_that_do_not_fit() -> None:
    problem = acceleration_problem()
    for wrong in (
        replace(problem, steps_s=np.full(N, -0.02)),
        replace(problem, steps_s=np.full(1, 0.02), reference_m=np.zeros(2)),
        replace(problem, reference_m=np.zeros(N)),
        replace(problem, terminal=np.triu(np.ones((5, 5)))),
    ):
        with pytest.raises(UsageError):
            Solver(wrong)


def test_the_iteration_is_the_same_compiled_and_as_plain_python() -> None:
    """Over the same kernels, from ten random states: not a bit differs."""
    plain = SimpleNamespace(start=kkt.start, step=make_step(kkt), measure=kkt.measure)
    solve = make_newton(plain)
    random = np.random.default_rng(5)
    for i in range(10):
        problem = velocity_problem() if i % 2 else acceleration_problem()
        state = np.array([*random.uniform(-0.2, 0.2, 2), *random.uniform(-3.0, 3.0, 2), 0.0])
        compiled, python = Solver(problem, mu=1e-7), Solver(problem, mu=1e-7)
        for solver in (compiled, python):
            solver.start(state, Guess(1.0, 0.15, 1.0, np.pi))
        status = newton(compiled.rows, compiled.scalars, N, compiled.kind, 100)
        assert solve(python.rows, python.scalars, N, python.kind, 100) == status
        assert python.rows.tobytes() == compiled.rows.tobytes()
        assert python.scalars.tobytes() == compiled.scalars.tobytes()


def test_a_stage_view_is_the_workspace() -> None:
    @njit
    def numbers(ws: np.ndarray) -> tuple[float, float, tuple[int, ...]]:
        x, ahead = stage(ws, 0), stage(ws, 1)
        ahead[rows_of.TH, 3] = 7.0
        return x[rows_of.OM, 5], ahead[rows_of.OM, 5], x.shape

    solver = Solver(velocity_problem())
    rows(solver.rows, rows_of.OM)[5:7] = 1.0, 2.0
    assert numbers(solver.rows) == (1.0, 2.0, (rows_of.ROWS + 1, rows_of.STRIDE))
    assert rows(solver.rows, rows_of.TH)[4] == 7.0
