"""Gradients through a plan, against sixth-order differences of plans solved to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cartpole.config.schema import Config
from cartpole.errors import UsageError
from cartpole.messages import FloatArray
from cartpole.optimizer.adjoint.gradient import Adjoint, Flaw, PlanGradient
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.problem import InputKind, Limits, Problem, StageWeights
from cartpole.rules.optimizer import problem_from_config

N = 20
MU = 1e-4
STATE = np.array([0.05, 0.1, 2.2, 1.0, 0.1])


def problem(kind: InputKind) -> Problem:
    rig = problem_from_config(Config())
    rig = replace(rig, steps_s=np.full(N, 0.04), reference_m=np.full(N + 1, 0.05))
    if kind is InputKind.VELOCITY:
        return rig
    return replace(
        rig,
        kind=kind,
        weights=StageWeights(2.0, 0.1, 5.0, 0.1, 0.01),
        terminal=np.diag([40.0, 2.0, 100.0, 2.0, 0.0]),
        limits=Limits(position_m=0.4, command=12.0, lead=1.5),
    )


def solved(p: Problem, state: FloatArray = STATE, mu: float = MU) -> Adjoint:
    solver = Solver(p, mu=mu, tolerance=1e-9)
    solver.start(state, Guess(0.0, 0.0, 1.0, np.pi))
    solver.solve(300)
    return Adjoint(solver)


class Loss:
    """A fixed random linear function of the plan."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.states = rng.normal(size=(N + 1, 5))
        self.inputs = 0.1 * rng.normal(size=N)

    def of(self, p: Problem, state: FloatArray = STATE, mu: float = MU) -> float:
        plan = solved(p, state, mu).solver.solution()
        return float((self.states * plan.states).sum() + self.inputs @ plan.inputs)


def slope(f: Callable[[float], float], h: float) -> float:
    """Sixth-order difference."""
    return sum(c * (f(j * h) - f(-j * h)) for j, c in ((1, 45), (2, -9), (3, 1))) / (60 * h)


@pytest.fixture(params=list(InputKind), ids=lambda kind: kind.name.lower())
def case(request: pytest.FixtureRequest) -> tuple[Problem, PlanGradient, Loss]:
    loss, p = Loss(), problem(request.param)
    if p.kind is InputKind.ACCELERATION:
        loss.states[:, 4] = 0.0
    found = solved(p)
    assert found.flaws is Flaw.NONE
    assert found.factorisations == 1
    return p, found.gradient(loss.states, loss.inputs), loss


def test_gradients_are_those_of_differences(case: tuple[Problem, PlanGradient, Loss]) -> None:
    p, gradient, loss = case
    velocity = p.kind is InputKind.VELOCITY
    pairs = []
    near = 1e-4 if velocity else 5e-6  # a limit that holds is as near as mu over its multiplier
    names: tuple[str, ...] = ("length_m", "damping_1_s", "gravity_m_s2", "tau_s")
    for exact, name in zip(gradient.model, names, strict=True):
        value = getattr(p.model, name)
        pairs.append((exact, slope(lambda d, n=name, v=value: loss.of(  # type: ignore[misc]
            replace(p, model=replace(p.model, **{n: v + d}))), 1e-3 * value)))  # fmt: skip
    names = ("position", "velocity", "angle", "rate_of_angle", "command", "rate")
    for exact, name in zip(gradient.weights, names, strict=True):
        value = getattr(p.weights, name)
        pairs.append((exact, slope(lambda d, n=name, v=value: loss.of(  # type: ignore[misc]
            replace(p, weights=replace(p.weights, **{n: v + d}))),
            2e-3 * value + 1e-9)))  # fmt: skip
    names = ("position_m", "lead", "command", "rate")
    for exact, name in zip(gradient.limits[: 4 if velocity else 3], names, strict=False):
        value = getattr(p.limits, name)
        pairs.append((exact, slope(lambda d, n=name, v=value: loss.of(  # type: ignore[misc]
            replace(p, limits=replace(p.limits, **{n: v + d}))), near * value)))  # fmt: skip
    for i in range(5 if velocity else 4):
        unit = np.eye(5)[i]
        pairs.append((gradient.state[i], slope(lambda d, e=unit: loss.of(  # type: ignore[misc]
            p, STATE + d * e), 1e-3)))  # fmt: skip
    for k in (0, 7, N):
        unit = np.eye(N + 1)[k]
        pairs.append((gradient.reference[k], slope(lambda d, e=unit: loss.of(  # type: ignore[misc]
            replace(p, reference_m=p.reference_m + d * e)), 1e-3)))  # fmt: skip
    both = np.zeros((5, 5))
    both[2, 3] = both[3, 2] = 0.5
    pairs.append((gradient.terminal[2, 3], slope(lambda d: loss.of(
        replace(p, terminal=p.terminal + d * both)), 1e-3)))  # fmt: skip
    pairs.append((gradient.mu, slope(lambda d: loss.of(p, mu=MU + d), 2e-4 * MU)))
    exact, differences = np.array(pairs).T
    np.testing.assert_allclose(exact, differences, rtol=1e-6, atol=5e-8)


def test_a_kept_factor_would_be_wrong_and_a_loose_plan_says_so() -> None:
    """What the certificate says of a loose plan is its true error, to a factor of two."""
    loss, p = Loss(), problem(InputKind.VELOCITY)
    exact = solved(p).gradient(loss.states, loss.inputs)
    solver = Solver(p, mu=MU, tolerance=1e-2)
    solver.start(STATE, Guess(0.0, 0.0, 1.0, np.pi))
    solver.solve(300)
    loose = Adjoint(solver, polish=False)
    before, after, change = loose.certified(loss.states, loss.inputs)
    error = np.abs(before.model - exact.model).max() / np.abs(exact.model).max()
    rest = np.abs(after.model - exact.model).max() / np.abs(exact.model).max()
    assert rest < 0.5 * error
    assert change > 0.5 * error
    assert loose.factorisations == 2


def test_flaws_are_named() -> None:
    p = problem(InputKind.VELOCITY)
    solver = Solver(p, mu=MU)
    solver.start(np.array([0.0, 0.0, 0.0, 0.0, 0.0]), Guess(1.0, 0.2, 1.0, np.pi))
    solver.solve(1)
    assert Adjoint(solver, tolerance=1e-30).flaws & Flaw.UNCONVERGED
    beyond = solved(p, np.array([0.40, 0.5, 3.0, 0.0, 0.5]))
    assert Flaw.RELAXED in beyond.flaws
    with pytest.raises(UsageError):
        beyond.gradient(np.zeros((N, 5)), np.zeros(N))
