"""Plans over programs of one's own: the same plans as others find, exact gradients, flaws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cartpole.errors import UsageError
from cartpole.learning import Flaw, GradientError
from cartpole.learning.linear import LinearProblem, differentiate, solve
from cartpole.messages import FloatArray
from cartpole.model.linear_program import linear_parameters, linear_program
from cartpole.model.programs import Program, compile_program
from cartpole.optimizer.general.plans import Plans, PlansGradient, PlanSolver

torch = pytest.importorskip("torch")
pytest.importorskip("sympy")
N = 16
MU = 1e-3
Q = np.array([5.0, 0.1, 4.0, 1.0, 0.05, 2.0])
LOWER, UPPER = np.array([-np.inf, -3.0, -1.0]), np.array([np.inf, 3.0, 1.0])
STARTS = np.array([[2.4, 1.0], [3.6, -1.5], [1.2, 0.3], [2.8, 2.5]])


def swing(x: Any, u: Any, q: Any, m: Any) -> Any:
    """A pendulum with a motor in its joint, theta zero hanging, steps of .1 s."""
    turn = -q[0] * m.sin(x[0]) - q[1] * x[1] + q[2] * u[0]
    return x[0] + 0.1 * x[1] + 0.005 * turn, x[1] + 0.1 * turn


def paid(x: Any, u: Any, q: Any, m: Any) -> Any:
    return q[3] * (1 + m.cos(x[0])) + 0.1 * x[1] ** 2 + q[4] * u[0] ** 2


def ending(x: Any, q: Any, m: Any) -> Any:
    return 10 * (1 + m.cos(x[0])) + q[5] * x[1] ** 2


@pytest.fixture(scope="module")
def pendulum() -> Program:
    return compile_program(swing, paid, 2, 1, 6, last=ending)


@pytest.fixture(scope="module")
def solver(pendulum: Program) -> PlanSolver:
    return PlanSolver(pendulum, N, mu=MU, tolerance=1e-11)


GIVEN = (Q, LOWER, UPPER)
STEPS = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # of differences
NEAR = 0.3  # how far from a plan one by other numbers may be and still be the same


def polished(solver: PlanSolver, given: Sequence[FloatArray], guess: Any = None) -> Plans:
    """To rounding: what differences of 1e-8 and better need."""
    start, q, lower, upper = given
    plans = solver.solve(start, q, lower, upper, guess)
    assert plans.solved.all()
    return solver.stepped(solver.stepped(plans))


def differences(
    solver: PlanSolver, given: Sequence[FloatArray], base: Plans, place: int, i: int,
    seeds: tuple[FloatArray, FloatArray],
) -> FloatArray:  # fmt: skip
    """Sixth-order differences of the loss by entry ``i`` of one of the plan's data, (steps, B); no
    numbers where a plan left its basin."""
    found = []
    for h in STEPS:
        total = np.zeros(len(base.z))
        for times, weight in ((1, 45), (2, -9), (3, 1), (-1, -45), (-2, 9), (-3, -1)):
            moved = list(given)
            moved[place] = moved[place] + times * h * np.eye(moved[place].shape[-1])[i]
            near = polished(solver, moved, base.inputs)
            far = np.abs(near.states - base.states).max((1, 2)) > NEAR
            total += weight * ((seeds[0] * near.states).sum((1, 2)) + np.where(far, np.nan, 0.0))
            total += weight * (seeds[1] * near.inputs).sum((1, 2))
        found.append(total / (60 * h))
    return np.array(found)


def test_gradients_are_those_of_differences_to_1e_8(pendulum: Program) -> None:
    """By starts, parameters and limits of thirty plans, of each gradient's largest entry."""
    solver, rng = PlanSolver(pendulum, N, mu=MU, tolerance=1e-12), np.random.default_rng(2)
    starts = np.column_stack((rng.uniform(0.8, 4.2, 30), rng.uniform(-2.5, 2.5, 30)))
    given = (starts, *GIVEN)
    plans = polished(solver, given)
    assert (np.abs(plans.inputs) > 0.99).any((1, 2)).sum() >= 20  # limits hold, and are active
    assert (np.abs(plans.states[:, 1:, 1]) > 2.9).any(1).sum() >= 15
    seeds = rng.normal(size=plans.states.shape), rng.normal(size=plans.inputs.shape)
    gradient = solver.gradient(plans, *seeds)
    assert gradient.good.all()
    assert gradient.factorisations == len(starts)
    found = (gradient.start, gradient.parameters, gradient.lower, gradient.upper)
    every, seen = np.arange(len(starts)), 0
    for place, exact in enumerate(found):
        for i in range(exact.shape[1]):
            if place > 1 and i == 0:
                assert not exact[:, 0].any()  # no limit there
                continue
            steps = differences(solver, given, plans, place, i, seeds)
            # Where two neighbouring steps agree best, truncation and rounding are both small.
            gaps = np.abs(np.diff(steps, axis=0))
            gaps[np.isnan(gaps)] = np.inf
            best, same = gaps.argmin(axis=0), np.isfinite(gaps).any(axis=0)
            errors = np.abs(np.array([steps[best, every], steps[best + 1, every]]) - exact[:, i])
            error = errors.min(axis=0) / np.abs(exact).max(axis=1)
            assert (error[same] < 1e-8).all(), (place, i)
            seen += int(same.sum())
    assert seen >= 0.95 * 12 * len(starts)


def test_a_plan_is_the_same_alone_in_a_batch_and_on_threads(
    pendulum: Program, solver: PlanSolver
) -> None:
    together = solver.solve(STARTS, Q, LOWER, UPPER)
    threads = PlanSolver(pendulum, N, mu=MU, tolerance=1e-11, threads=2)
    assert np.array_equal(threads.solve(STARTS, Q, LOWER, UPPER).z, together.z)
    for i, start in enumerate(STARTS):
        alone = solver.solve(start[None], Q, LOWER, UPPER)
        assert np.array_equal(alone.z[0], together.z[i])


def lqr(rng: np.random.Generator, n: int, m: int) -> tuple[LinearProblem, FloatArray]:
    """A random one without limits, and its parameters as a program's."""
    root = rng.normal(size=(n + m, n + m))
    cost, last = root @ root.T + np.eye(n + m), np.eye(n)
    step = np.hstack((np.eye(n) + 0.2 * rng.normal(size=(n, n)), rng.normal(size=(n, m))))
    drift, tilt = rng.normal(size=n), rng.normal(size=n + m)
    q = linear_parameters(step, drift, cost, tilt, last, np.zeros(n))
    return LinearProblem(cost, tilt, last, step, drift, N), q


def test_a_linear_program_is_the_linear_layers_plan_and_gradient() -> None:
    n, m, rng = 3, 2, np.random.default_rng(4)
    problem, q = lqr(rng, n, m)
    start = rng.normal(size=n)
    exact = solve(problem, start)
    program = linear_program(n, m)
    plans = PlanSolver(program, N).solve(start[None], q)
    assert np.abs(plans.z[0, :-1] - exact.z).max() < 1e-12
    seeds, end = rng.normal(size=(N, n + m)), rng.normal(size=n)
    told = differentiate(problem, exact, seeds, end)
    states = np.vstack((seeds[:, :n], end))[None]
    gradient = PlanSolver(program, N).gradient(plans, states, seeds[None, :, n:])
    last = told.last.ravel()
    parts = (told.step.ravel(), told.drift, told.cost.ravel(), told.slope, last)
    wanted = np.concatenate(parts)
    size = np.abs(wanted).max()
    assert np.abs(gradient.parameters[0, : len(wanted)] - wanted).max() < 1e-11 * size
    assert np.abs(gradient.start[0] - told.start).max() < 1e-11 * size


def test_loops_over_matrices_and_a_trace_are_one_program() -> None:
    """With limits on states and inputs, some of them active."""
    n, m, rng = 2, 1, np.random.default_rng(5)
    _problem, q = lqr(rng, n, m)
    q[6:8] *= 0.2  # the drift: all limits can be kept
    at = np.cumsum([0, n * (n + m), n, (n + m) ** 2, n + m, n * n])

    def step(x: Any, u: Any, p: Any, _m: Any) -> Any:
        z = (*x, *u)
        return [sum(p[i * 3 + j] * z[j] for j in range(3)) + p[at[1] + i] for i in range(n)]

    def cost(x: Any, u: Any, p: Any, _m: Any) -> Any:
        z = (*x, *u)
        quadratic = sum(p[at[2] + 3 * i + j] * z[i] * z[j] for i in range(3) for j in range(3))
        return quadratic / 2 + sum(p[at[3] + i] * z[i] for i in range(3))

    def last(x: Any, p: Any, _m: Any) -> Any:
        quadratic = sum(p[at[4] + 2 * i + j] * x[i] * x[j] for i in range(n) for j in range(n))
        return quadratic / 2 + sum(p[at[5] + i] * x[i] for i in range(n))

    traced = compile_program(step, cost, n, m, len(q), last=last)
    assert traced.linear_quadratic
    starts = 0.5 * rng.normal(size=(6, n))
    limits = np.array([np.inf, 0.42, 0.55])
    found: list[tuple[Plans, PlansGradient]] = []
    for program in (linear_program(n, m), traced):
        one = PlanSolver(program, N, mu=1e-4)
        plans = one.solve(starts, q, -limits, limits)
        assert plans.solved.all()
        seeds = np.ones(plans.states.shape), np.ones(plans.inputs.shape)
        found.append((plans, one.gradient(plans, *seeds)))
    assert np.abs(found[0][0].inputs).max() > 0.54
    assert np.abs(found[0][0].states[:, 1:, 1]).max() > 0.41
    assert np.abs(found[0][0].z - found[1][0].z).max() < 1e-9
    size = np.abs(found[0][1].parameters).max()
    assert np.abs(found[0][1].parameters - found[1][1].parameters).max() < 1e-8 * size


def layer_of(program: Program, **options: Any) -> Any:
    from cartpole.learning import ProgramLayer

    return ProgramLayer(program, N, lower=LOWER, upper=UPPER, mu=MU, **options)


def test_gradcheck(pendulum: Program) -> None:
    layer = layer_of(pendulum, allow=Flaw.SMOOTHED)
    given = [torch.tensor(one, requires_grad=True) for one in (STARTS[:2], Q)]
    upper = torch.tensor(UPPER, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, q, u: layer(x, q, upper=u), (*given, upper), eps=1e-6, atol=1e-5, rtol=1e-4
    )
    assert layer.factorisations == 2


def test_flaws_raise_or_are_masked(pendulum: Program) -> None:
    q = torch.tensor(Q, requires_grad=True)
    fast = torch.tensor([[2.4, 3.5]], requires_grad=True, dtype=torch.float64)
    with pytest.raises(GradientError, match="RELAXED"):
        layer_of(pendulum)(fast, q)[0].sum().backward()
    good = torch.tensor(STARTS[:1], requires_grad=True)
    with pytest.raises(GradientError, match="UNCONVERGED"):
        layer_of(pendulum, budget=3)(good, q)[0].sum().backward()
    hasty = layer_of(pendulum, polish=False, tolerance=0.3)
    with pytest.raises(GradientError, match="INACCURATE"):
        hasty(good, q)[0].sum().backward()
    both = torch.tensor([[2.4, 3.5], [2.4, 1.0]], requires_grad=True, dtype=torch.float64)
    masked = layer_of(pendulum, on_flag="mask", allow=Flaw.SMOOTHED)
    masked(both, q)[0].sum().backward()
    assert Flaw.RELAXED in masked.flaws[0]
    assert masked.flaws[1] in (Flaw.NONE, Flaw.SMOOTHED)
    assert both.grad is not None
    assert not both.grad[0].any()
    assert both.grad[1].any()


def test_two_ways_up_that_cost_the_same_are_no_function(pendulum: Program) -> None:
    right = np.ones((N, 1))
    layer = layer_of(pendulum, guesses=(right, -right), allow=~Flaw.JUMPED)
    hanging = torch.tensor([[0.0, 0.0]], requires_grad=True, dtype=torch.float64)
    states, _inputs = layer(hanging, torch.tensor(Q))
    with pytest.raises(GradientError, match="JUMPED"):
        states.sum().backward()


def test_a_rival_that_stalled_may_be_the_better_plan(
    pendulum: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layer_of(pendulum, guesses=(np.ones((N, 1)), -np.ones((N, 1))), on_flag="mask")
    leaning = torch.tensor([[2.4, 1.0]], requires_grad=True, dtype=torch.float64)
    layer(leaning, torch.tensor(Q))
    whole: Callable[..., Plans] = layer.solver.solve
    calls: list[Plans] = []

    def stalling(*asked: Any) -> Plans:
        plans = whole(*asked)
        calls.append(plans)
        if len(calls) == 1:
            return plans
        return replace(plans, z=plans.z + 1.0, solved=np.zeros(1, dtype=bool))

    assert Flaw.JUMPED not in layer.flaws[0]
    monkeypatch.setattr(layer.solver, "solve", stalling)
    layer(leaning, torch.tensor(Q))
    assert Flaw.JUMPED in layer.flaws[0]


def test_misuse_is_said(pendulum: Program, solver: PlanSolver) -> None:
    with pytest.raises(UsageError, match="starts"):
        solver.solve(np.zeros(2), Q)
    with pytest.raises(UsageError, match="parameters"):
        solver.solve(STARTS, np.zeros(3))
    with pytest.raises(UsageError, match="below"):
        solver.solve(STARTS, Q, UPPER, LOWER)
    with pytest.raises(UsageError, match="on_flag"):
        layer_of(pendulum, on_flag="ignore")
    with pytest.raises(UsageError, match="unknown"):
        compile_program(lambda x, u, q, m: (x[0] + m.Symbol("k"),), lambda x, *_: x[0], 1, 1, 1)
