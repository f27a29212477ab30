"""A plan as a layer of a PyTorch network: exact gradients, and never a silent wrong one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cartpole.errors import UsageError
from cartpole.learning.errors import GradientError
from cartpole.messages import FloatArray, PlanStatus
from cartpole.optimizer.adjoint.gradient import Adjoint, Flaw, PlanGradient, smoothing
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.problem import Problem, StageWeights

Tensor = torch.Tensor
# A solve that needs more steps than this is given up.
BUDGET = 400
# A second plan within this share of the first one's cost is a rival.
RIVAL = 0.02
# The barrier's part in a loss from which a gradient counts as smoothed.
SMOOTH = 0.01
# Two plans are the same if their angles agree to this [rad].
SAME_RAD = 0.1
MODEL = ("length_m", "damping_1_s", "gravity_m_s2", "tau_s")
LIMITS = ("position_m", "lead", "command", "rate")
# Of a layer's parameters, in order.
NAMES = ("state", "reference", "model", "weights", "terminal", "limits")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a plan depends on, per problem: tensors (B, ...) or, for all problems, (...).

    ``state`` (5,), ``reference`` (N + 1,), ``model`` (length, damping, gravity, tau), ``weights``
    (6,) in the order of ``StageWeights``, ``terminal`` (5, 5), ``limits`` (position, lead, command,
    rate). ``None``: as in the layer's problem.
    """

    state: Tensor
    reference: Tensor | None = None
    model: Tensor | None = None
    weights: Tensor | None = None
    terminal: Tensor | None = None
    limits: Tensor | None = None


class MPCLayer(torch.nn.Module):
    """From parameters to plans, (states (B, N + 1, 5), inputs (B, N)).

    Fixed ``mu``, so that a plan is a smooth function; plans are polished to 1e-10 and then
    differentiated with a factor of their own. ``guesses`` begin the solves; the best plan is taken,
    and where another one costs nearly as much, or stalled on its way, the gradient means nothing
    (JUMPED). Flaws raise a GradientError in ``backward``; with ``on_flag="mask"`` the flawed
    problems of a batch get zero gradients, and ``flaws`` names them. ``allow`` are flaws that are
    accepted.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        mu: float = 1e-5,
        guesses: tuple[Guess, ...] = (Guess(0.0, 0.0, 1.0, np.pi),),
        on_flag: str = "raise",
        allow: Flaw = Flaw.NONE,
        polish: bool = True,
        tolerance: float = 1e-8,
        budget: int = BUDGET,
        accuracy: float = 0.01,
    ) -> None:
        super().__init__()
        if on_flag not in ("raise", "mask"):
            raise UsageError(f"on_flag is 'raise' or 'mask', not {on_flag!r}")
        self.problem, self.mu, self.guesses = problem, mu, guesses
        self.on_flag, self.allow, self.polish = on_flag, allow, polish
        self.tolerance, self.budget, self.accuracy = tolerance, budget, accuracy
        self.refused = (~allow).value
        self.flaws: list[Flaw] = []
        self.factorisations = 0

    def forward(
        self,
        state: Tensor,
        reference: Tensor | None = None,
        model: Tensor | None = None,
        weights: Tensor | None = None,
        terminal: Tensor | None = None,
        limits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Plans from ``state`` (B, 5); see ``Parameters`` for the rest."""
        given = Parameters(state, reference, model, weights, terminal, limits)
        if state.ndim != 2 or state.shape[1] != 5:
            raise UsageError(f"states are (B, 5), not {tuple(state.shape)}")
        filled = self._filled(given)
        states, inputs = _Plans.apply(self, *filled)  # type: ignore[no-untyped-call]
        return states, inputs

    def _filled(self, given: Parameters) -> list[Tensor]:
        """All parameters as (B, ...) in double precision."""
        p, batch = self.problem, given.state.shape[0]
        w = p.weights
        own: dict[str, FloatArray] = {
            "reference": p.reference_m,
            "model": np.array([getattr(p.model, name) for name in MODEL]),
            "weights": np.array(
                [w.position, w.velocity, w.angle, w.rate_of_angle, w.command, w.rate]
            ),
            "terminal": p.terminal,
            "limits": np.array([getattr(p.limits, name) for name in LIMITS]),
        }
        filled = [given.state.to(torch.float64)]
        for name, default in own.items():
            value = getattr(given, name)
            value = torch.as_tensor(default) if value is None else value.to(torch.float64)
            if value.shape[-default.ndim :] != default.shape:
                raise UsageError(f"{name} is (..., {default.shape}), not {tuple(value.shape)}")
            filled.append(value.expand(batch, *default.shape))
        return filled

    def solve(self, row: list[FloatArray]) -> tuple[Solver, Flaw]:
        """The best plan for one problem's parameters, and what is known to be wrong with it."""
        state, reference, model, weights, terminal, limits = row
        problem = replace(
            self.problem,
            reference_m=reference,
            model=replace(self.problem.model, **dict(zip(MODEL, map(float, model), strict=True))),
            weights=StageWeights(*map(float, weights)),
            terminal=0.5 * (terminal + terminal.T),
            limits=replace(
                self.problem.limits, **dict(zip(LIMITS, map(float, limits), strict=True))
            ),
        )
        plans = []
        for guess in self.guesses:
            solver = Solver(problem, mu=self.mu, tolerance=self.tolerance)
            solver.start(state, guess)
            solver.solve(self.budget)
            plans.append(solver)
        plans.sort(key=lambda solver: solver.score)
        best, flaw = plans[0], Flaw.NONE
        for other in plans[1:]:
            # One that stalled on its way may come to a plan that costs less.
            lost = other.status is not PlanStatus.CONVERGED
            near = lost or other.score - best.score <= RIVAL * abs(best.score)
            apart = np.abs(other.solution().states[:, 2] - best.solution().states[:, 2]).max()
            if near and apart > SAME_RAD:
                flaw |= Flaw.JUMPED
        return best, flaw


class _Plans(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: MPCLayer, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        n, batch = layer.problem.horizon, parameters[0].shape[0]
        states, inputs = np.empty((batch, n + 1, 5)), np.empty((batch, n))
        arrays = [value.detach().numpy() for value in parameters]
        ctx.layer, ctx.adjoints, ctx.sizes, layer.flaws = layer, [], [], []
        ctx.set_materialize_grads(False)  # torch's zeros cost more than numpy's
        for i in range(batch):
            solver, flaw = layer.solve([np.array(value[i]) for value in arrays])
            adjoint = Adjoint(solver, polish=layer.polish)
            if not layer.polish and adjoint.residual > layer.tolerance:
                flaw |= Flaw.UNCONVERGED
            adjoint.flaws |= flaw
            plan = solver.solution()
            states[i], inputs[i] = plan.states, plan.inputs
            ctx.adjoints.append(adjoint)
            ctx.sizes.append((size(plan.states), size(plan.inputs)))
            layer.flaws.append(adjoint.flaws)
        return torch.from_numpy(states), torch.from_numpy(inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        layer: MPCLayer = ctx.layer
        n, batch = layer.problem.horizon, len(ctx.adjoints)
        seeds_x = seeds_of(grads[0], (batch, n + 1, 5))
        seeds_w = seeds_of(grads[1], (batch, n))
        parts: list[PlanGradient] = []
        wrong: list[int] = []
        layer.factorisations = 0
        for i, adjoint in enumerate(ctx.adjoints):
            gradient, flaws = examined(layer, adjoint, seeds_x[i], seeds_w[i], ctx.sizes[i])
            layer.flaws[i] = flaws
            layer.factorisations += adjoint.factorisations
            parts.append(gradient)
            if flaws.value & layer.refused:
                wrong.append(i)
        if wrong and layer.on_flag == "raise":
            raise GradientError(
                f"no gradient of plan {wrong[0]} of {len(parts)}: {layer.flaws[wrong[0]]!r}"
            )
        out: list[Tensor | None] = [None]  # the layer itself
        for name, needed in zip(NAMES, ctx.needs_input_grad[1:], strict=True):
            if not needed:
                out.append(None)
                continue
            if len(parts) == 1:
                own = getattr(parts[0], name)  # reshaped: [None] leaves a stride of none
                stacked = own.reshape(1, *own.shape)
            else:
                stacked = np.stack([getattr(part, name) for part in parts])
            if wrong:
                stacked[wrong] = 0.0
            out.append(torch.from_numpy(stacked))
        return tuple(out)


def seeds_of(grad: Tensor | None, shape: tuple[int, ...]) -> FloatArray:
    """A loss's derivatives, which are ``None`` where it does not look; contiguous: a sum's gradient
    is one number told n times, which kernels know not."""
    return np.zeros(shape) if grad is None else np.ascontiguousarray(grad.numpy())


def size(values: FloatArray) -> float:
    """Euclidean norm."""
    flat = values.ravel()
    return math.sqrt(float(flat @ flat))


def examined(
    layer: MPCLayer,
    adjoint: Adjoint,
    states: FloatArray,
    inputs: FloatArray,
    sizes: tuple[float, float],
) -> tuple[PlanGradient, Flaw]:
    """One problem's gradient, and all that is wrong with it; ``sizes`` of the plan's arrays.

    A plan that was not polished is certified: one more Newton step must not move its gradient.
    """
    flaws = adjoint.flaws
    if layer.polish:
        gradient = adjoint.gradient(states, inputs)
    else:
        _first, gradient, change = adjoint.certified(states, inputs)
        if not change <= layer.accuracy:
            flaws |= Flaw.INACCURATE
    scale = size(states) * sizes[0] + size(inputs) * sizes[1]
    if smoothing(gradient, scale, layer.mu) > SMOOTH:
        flaws |= Flaw.SMOOTHED
    if not gradient.finite:
        flaws |= Flaw.INDEFINITE
    return gradient, flaws if adjoint.flaws is flaws else flaws | adjoint.flaws
