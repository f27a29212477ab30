"""Plans as a layer: gradcheck, batches, and flaws that raise or are masked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cartpole.config.schema import Config
from cartpole.errors import UsageError
from cartpole.learning import Flaw, GradientError
from cartpole.messages import PlanStatus
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.rules.optimizer import problem_from_config

torch = pytest.importorskip("torch")
from cartpole.learning import MPCLayer  # noqa: E402

N = 12
PROBLEM = replace(
    problem_from_config(Config()), steps_s=np.full(N, 0.05), reference_m=np.zeros(N + 1)
)
BOTH_WAYS = (Guess(1.0, 0.2, 1.0, np.pi), Guess(-1.0, 0.2, 1.0, -np.pi))
STATES = [[0.05, 0.1, 2.4, 1.0, 0.1], [-0.1, 0.0, 3.4, 0.0, 0.0]]


def test_gradcheck() -> None:
    layer = MPCLayer(PROBLEM, mu=1e-3, allow=Flaw.SMOOTHED)
    state = torch.tensor(STATES, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([7.0, 2.0, 5.0, 0.02, 0.1, 0.002], dtype=torch.float64)
    weights.requires_grad_()
    model = torch.tensor([0.5, 0.05, 9.81, 0.05], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda s, w, m: layer(s, weights=w, model=m),
        (state, weights, model),
        eps=1e-5,
        atol=1e-5,
        rtol=1e-4,
    )
    assert layer.factorisations == len(STATES)


def test_a_boundary_between_two_ways_up_raises_or_is_masked() -> None:
    """Hanging at rest: left or right cost the same, and a breath decides."""
    hanging = torch.tensor([[0.0] * 5, STATES[1]], dtype=torch.float64, requires_grad=True)
    problem = replace(PROBLEM, steps_s=np.full(40, 0.04), reference_m=np.zeros(41))
    problem = replace(problem, model=replace(problem.model, length_m=0.4))
    states, _inputs = MPCLayer(problem, guesses=BOTH_WAYS, allow=Flaw.SMOOTHED)(hanging)
    with pytest.raises(GradientError, match="JUMPED"):
        states.sum().backward()
    layer = MPCLayer(problem, guesses=BOTH_WAYS, on_flag="mask", allow=Flaw.SMOOTHED)
    layer(hanging)[0].sum().backward()
    assert Flaw.JUMPED in layer.flaws[0]
    assert hanging.grad is not None
    assert not hanging.grad[0].any()


def test_a_rival_that_stalled_on_its_way_may_be_the_better_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It came to 100.8 and stalled; a micrometre aside it reached 89.4, the other one 89.8."""
    fallen = torch.tensor([STATES[0]], dtype=torch.float64, requires_grad=True)
    layer = MPCLayer(PROBLEM, guesses=BOTH_WAYS, on_flag="mask", allow=Flaw.SMOOTHED)
    layer(fallen)[0].sum().backward()
    assert Flaw.JUMPED not in layer.flaws[0]

    class Stalling(Solver):
        def solve(self, budget: int) -> PlanStatus:
            made.append(self)
            return super().solve(6 if len(made) == 1 else budget)

    made: list[Solver] = []
    monkeypatch.setattr("cartpole.learning.layer.Solver", Stalling)
    layer(fallen)[0].sum().backward()
    assert Flaw.JUMPED in layer.flaws[0]


def test_a_start_beyond_a_limit_and_a_solve_cut_short_raise() -> None:
    beyond = torch.tensor([[0.40, 0.5, 3.0, 0.0, 0.5]], dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradientError, match="RELAXED"):
        MPCLayer(PROBLEM)(beyond)[0].sum().backward()
    state = torch.tensor(STATES[:1], dtype=torch.float64, requires_grad=True)
    hasty = MPCLayer(PROBLEM, polish=False, budget=4)
    with pytest.raises(GradientError, match="UNCONVERGED"):
        hasty(state)[0].sum().backward()


def test_shapes_are_checked() -> None:
    with pytest.raises(UsageError):
        MPCLayer(PROBLEM)(torch.zeros(5))
    with pytest.raises(UsageError):
        MPCLayer(PROBLEM)(torch.zeros(1, 5), weights=torch.zeros(3))
    with pytest.raises(UsageError):
        MPCLayer(PROBLEM, on_flag="ignore")
