"""The penalty method: exact gradient, a band that is its matrix, a plan near the compiled one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cartpole.config.schema import Config, Optimizer
from cartpole.messages import PlanStatus, U
from cartpole.model.dynamics import rig_step
from cartpole.optimizer.backends import make_planner
from cartpole.optimizer.penalty.planner import PenaltyPlanner
from cartpole.optimizer.penalty.solver import RHO, STEPS_PER_TICK, PenaltySolver
from cartpole.optimizer.problem import PESSIMISM
from cartpole.rules.model import model_of
from cartpole.rules.optimizer import planner_rules, problem_from_config

NEAR_UPRIGHT = np.array([0.05, 0.0, np.pi - 0.15, 0.0, 0.0])


def config(backend: str = "penalty") -> Config:
    return Config(optimizer=Optimizer(backend=backend, horizon_steps=60))  # type: ignore[arg-type]


def random_solver() -> PenaltySolver:
    rng = np.random.default_rng(3)
    problem = problem_from_config(Config(optimizer=Optimizer(horizon_steps=12)))
    solver = PenaltySolver(problem)
    solver.y = rng.normal(0.0, 0.1, solver.y.shape)
    # Rates near, not far beyond, their limit: the barrier is exponential.
    solver.first = np.array([0.02, 0.1, 0.3, -0.2, 0.05])
    rates = 0.8 * problem.limits.rate * rng.uniform(-1.0, 1.0, problem.horizon)
    solver.y[:, 4] = solver.first[4] + np.cumsum(problem.steps_s * rates)
    solver.multipliers = rng.normal(0.0, 1.0, solver.multipliers.shape)
    return solver


def test_gradient_is_that_of_the_merit() -> None:
    solver = random_solver()
    _band, gradient = solver.band(solver.y)
    step = 1e-6
    for index in range(0, gradient.size, 7):
        values = []
        for side in (step, -step):
            y = solver.y.copy()
            y.flat[index] += side
            values.append(solver.merit(y))
        slope = (values[0] - values[1]) / (2 * step)
        assert gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-2)


def test_band_is_symmetric_positive_and_acts_as_the_gradients_derivative() -> None:
    solver = random_solver()
    solver.multipliers[:] = 0.0
    # On the dynamics the curvature that Gauss-Newton leaves out vanishes.
    for k in range(solver.y.shape[0]):
        solver.y[k, :4] -= solver._defects(solver.y)[0][k] * solver.problem.steps_s[k]
    band, _gradient = solver.band(solver.y)
    size = band.shape[1]
    matrix = np.zeros((size, size))
    for offset in range(band.shape[0]):
        matrix[np.arange(offset, size), np.arange(size - offset)] = band[offset, : size - offset]
    matrix += np.tril(matrix, -1).T
    assert np.linalg.eigvalsh(matrix).min() > 0.0
    direction = np.random.default_rng(4).normal(size=solver.y.shape)
    step = 1e-7
    ahead = solver.band(solver.y + step * direction)[1]
    behind = solver.band(solver.y - step * direction)[1]
    expected = (ahead - behind) / (2 * step)
    error = np.abs(matrix @ direction.ravel() - expected).max()
    assert error <= 1e-4 * np.abs(expected).max()


def test_plan_approaches_the_compiled_one() -> None:
    reference = np.zeros(problem_from_config(config()).horizon + 1)
    exact = make_planner(planner_rules(config("compiled"))).plan(NEAR_UPRIGHT, reference, 200, 0)
    penalty = make_planner(planner_rules(config()))
    assert isinstance(penalty, PenaltyPlanner)
    plan = penalty.plan(NEAR_UPRIGHT, reference, 200, 0)
    assert plan.status in (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)
    assert plan.cost == pytest.approx(exact.cost, rel=0.2)
    assert np.abs((plan.states - exact.states)[:, [0, 2]]).max() < 0.1


def test_penalty_alone_leaves_a_defect_that_multipliers_remove() -> None:
    planner = make_planner(planner_rules(config()))
    assert isinstance(planner, PenaltyPlanner)
    solver, reference = planner._solver, np.zeros(planner.problem.horizon + 1)
    planner.plan(NEAR_UPRIGHT, reference, 4, 0)
    first = solver.defect
    for _round in range(6):
        solver.newton(STEPS_PER_TICK)
        solver.lift()
    assert RHO == 100.0
    assert solver.defect < 0.1 * first


def test_plans_are_for_the_model_that_is_handed_in() -> None:
    planner = make_planner(planner_rules(config()))
    reference = np.zeros(planner.problem.horizon + 1)
    learned = replace(model_of(config()), length_m=0.65, tau_s=0.09, gain=0.8)
    plan = planner.plan(NEAR_UPRIGHT, reference, 200, 0, learned)
    flown, x = replace(learned, length_m=PESSIMISM * 0.65), plan.states[0]
    for k in range(20):
        u = float(plan.states[k + 1, U])
        x = np.array([*rig_step(tuple(x[:U]), u, 0.02, flown.coefficients), u])
    assert x[:U] == pytest.approx(plan.states[20, :U], abs=0.02)
    # Its commands are speeds of the cart: 0.8 of what the wire may carry.
    lying = planner.plan(np.zeros(5), reference, 60, 10**12, learned)
    assert np.abs(lying.states[1:, U]).max() <= 0.8 * config().rig.velocity_limit_m_s


def test_budget_and_nonsense() -> None:
    planner = make_planner(planner_rules(config()))
    reference = np.zeros(planner.problem.horizon + 1)
    assert planner.plan(np.full(5, np.nan), reference, 60, 0).status is PlanStatus.NOT_FINITE
    assert planner.plan(np.zeros(5), reference, 0, 0).status is PlanStatus.NO_BUDGET
    start_ns = 0
    for state in ([0.0] * 5, [0.5, 3.0, 40.0, -30.0, 5.0], [0.0] * 5):
        plan = planner.plan(np.array(state), reference, 7, start_ns)
        assert plan.newton_steps <= 7
        assert np.isfinite(plan.states).all()
        assert np.abs(plan.states[1:, 4]).max() <= planner.problem.limits.command
        planner.prepare()
        start_ns += 20_000_000
