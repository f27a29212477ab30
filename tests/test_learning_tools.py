"""Bands from products, a soft choice, a sampling planner, a linear layer: held to the obvious."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cartpole.errors import UsageError
from cartpole.learning.band import comb, dense, random_probing, symmetric_half
from cartpole.learning.linear import LinearProblem, differentiate, solve
from cartpole.learning.sampling import (
    cross_entropy,
    limited_multi_label,
    limited_multi_label_back,
)


def banded(n: int, b: int, rng: np.random.Generator) -> np.ndarray:
    matrix = rng.standard_normal((n, n))
    away = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.where(away <= b, matrix, 0.0)


class Counted:
    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix, self.products = matrix, 0

    def __call__(self, probes: np.ndarray) -> np.ndarray:
        self.products += probes.shape[1]
        return np.asarray(self.matrix @ probes)


def test_any_band_from_combs_and_from_random_probes() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        n, b = int(rng.integers(2, 40)), int(rng.integers(0, 6))
        matrix = banded(n, b, rng)
        product = Counted(matrix)
        assert np.array_equal(dense(comb(product, n, b)), matrix)
        assert product.products == 2 * b + 1
        product = Counted(matrix)
        found = dense(random_probing(product, n, b, rng))
        assert found == pytest.approx(matrix, abs=1e-9)
        assert product.products == 2 * b + 3


def test_half_the_products_do_for_a_symmetric_band() -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        n, b = int(rng.integers(1, 60)), int(rng.integers(0, 9))
        matrix = banded(n, b, rng)
        matrix = matrix + matrix.T
        product = Counted(matrix)
        assert dense(symmetric_half(product, n, b)) == pytest.approx(matrix, abs=1e-12)
        assert product.products == b + 1


def test_a_soft_choice_sums_to_its_number_and_has_a_gradient() -> None:
    rng = np.random.default_rng(3)
    scores, seed = rng.normal(size=12), rng.normal(size=12)
    chosen = limited_multi_label(scores, 4.0)
    assert chosen.sum() == pytest.approx(4.0, abs=1e-12)
    assert (np.argsort(chosen) == np.argsort(scores)).all()
    back = limited_multi_label_back(chosen, seed)
    for i in range(12):
        e = np.eye(12)[i] * 1e-5
        change = limited_multi_label(scores + e, 4.0) - limited_multi_label(scores - e, 4.0)
        assert back[i] == pytest.approx(seed @ change / 2e-5, abs=1e-8)
    hard = limited_multi_label(1e3 * scores, 4.0)
    assert sorted(np.flatnonzero(hard > 0.5)) == sorted(np.argsort(scores)[-4:])
    with pytest.raises(UsageError):
        limited_multi_label(scores, 12.0)


def test_samples_come_near_the_best_commands() -> None:
    best = np.linspace(-1.0, 1.0, 8)

    def cost(tried: np.ndarray) -> np.ndarray:
        return np.asarray(((tried - best) ** 2).sum(axis=1))

    found = cross_entropy(
        cost, np.zeros(8), np.ones(8), np.random.default_rng(4), samples=200, rounds=30
    )
    assert found.costs[-1] < 1e-3 * found.costs[0]
    assert found.mean == pytest.approx(best, abs=0.05)


def linear_problem(rng: np.random.Generator) -> LinearProblem:
    root, last = rng.standard_normal((6, 6)), rng.standard_normal((4, 4))
    return LinearProblem(
        cost=root @ root.T + np.eye(6),
        slope=rng.standard_normal(6),
        last=last @ last.T,
        step=0.5 * rng.standard_normal((4, 6)),
        drift=0.1 * rng.standard_normal(4),
        horizon=7,
    )


def test_a_linear_layer_differentiates_by_all_that_it_has() -> None:
    rng = np.random.default_rng(5)
    problem, start = linear_problem(rng), rng.standard_normal(4)
    seeds, end = rng.standard_normal((7, 6)), rng.standard_normal(4)

    def loss(problem: LinearProblem, start: np.ndarray) -> float:
        plan = solve(problem, start)
        return float((seeds * plan.z).sum() + end @ plan.end)

    def slope(moved: Callable[[float], float]) -> float:
        return (moved(1e-5) - moved(-1e-5)) / 2e-5

    found = differentiate(problem, solve(problem, start), seeds, end)
    for name in ("cost", "slope", "last", "step", "drift"):
        value = getattr(problem, name)
        way = rng.standard_normal(value.shape)
        if name in ("cost", "last"):
            way = way + way.T

        def moved(by: float, name: str = name, way: np.ndarray = way) -> float:
            return loss(replace(problem, **{name: getattr(problem, name) + by * way}), start)

        assert (getattr(found, name) * way).sum() == pytest.approx(slope(moved), rel=1e-6)
    way = rng.standard_normal(4)
    assert found.start @ way == pytest.approx(
        slope(lambda by: loss(problem, start + by * way)), rel=1e-6
    )


def test_a_linear_plan_solves_its_dense_system() -> None:
    rng = np.random.default_rng(6)
    problem, start = linear_problem(rng), rng.standard_normal(4)
    plan = solve(problem, start)
    for k in range(7):
        ahead = plan.z[k + 1, :4] if k < 6 else plan.end
        assert problem.step @ plan.z[k] + problem.drift == pytest.approx(ahead)
        pull = problem.cost @ plan.z[k] + problem.slope + problem.step.T @ plan.multipliers[k + 1]
        assert pull[4:] == pytest.approx(np.zeros(2), abs=1e-9)
        assert pull[:4] == pytest.approx(plan.multipliers[k], abs=1e-9)
    with pytest.raises(UsageError):
        solve(replace(problem, cost=-problem.cost), start)
