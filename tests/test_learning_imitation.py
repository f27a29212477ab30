"""Programs of one's own, and imitation: parameters from recorded commands alone."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cartpole.errors import UsageError
from cartpole.learning.imitation import commands, imitate, make_solver
from cartpole.model.programs import compile_program

pytest.importorskip("sympy")
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "force_cart.py"
EXPERTS, STEPS = 12, 20


@pytest.fixture(scope="module")
def cart() -> tuple[Any, np.ndarray]:
    example = runpy.run_path(str(EXAMPLE))
    program = compile_program(example["dynamics"], example["cost"], 4, 1, 4)
    return make_solver(program), np.array(example["TRUTH"])


def starts(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (EXPERTS, 4)) * [0.5, 0.5, 0.8, 1.0]


def test_commands_differentiate_by_the_parameters(cart: tuple[Any, np.ndarray]) -> None:
    solve, truth = cart
    x0 = starts(1)
    us, du, residual = commands(solve, x0, truth, np.zeros((EXPERTS, STEPS)))
    assert residual < 1e-8
    for j in range(4):
        e = np.eye(4)[j] * 1e-5 * truth[j]
        ahead, behind = (commands(solve, x0, truth + side * e, us)[0] for side in (1.0, -1.0))
        slope = (ahead - behind) / (2e-5 * truth[j])
        assert np.abs(slope - du[..., j]).max() < 1e-6 * np.abs(du[..., j]).max()


def test_four_parameters_from_commands_alone(cart: tuple[Any, np.ndarray]) -> None:
    solve, truth = cart
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        x0 = starts(seed)
        expert = commands(solve, x0, truth, np.zeros((EXPERTS, STEPS)))[0]
        first = truth * np.exp(rng.uniform(-1.0, 1.0, 4) * np.log(3.0))
        found = imitate(solve, x0, expert, first, rng)
        assert np.abs(found.parameters / truth - 1.0).max() < 1e-7


def test_two_inputs_are_refused() -> None:
    program = compile_program(
        lambda x, u, q, _m: (x[0] + q[0] * u[0] + u[1],),
        lambda x, u, _q, _m: x[0] ** 2 + u[0] ** 2,
        1,
        2,
        1,
    )
    with pytest.raises(UsageError, match="one command"):
        make_solver(program)
