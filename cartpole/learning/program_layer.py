"""Plans over a program of one's own as a layer of a PyTorch network; flaws as in ``layer``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cartpole.errors import UsageError
from cartpole.learning.errors import GradientError
from cartpole.learning.layer import RIVAL, SMOOTH
from cartpole.messages import FloatArray
from cartpole.model.programs import Program
from cartpole.optimizer.adjoint.gradient import Flaw
from cartpole.optimizer.general.plans import ARRAYS, Plans, PlansGradient, PlanSolver

Tensor = torch.Tensor
# Two plans are the same if their states agree to this share of the largest one.
SAME = 0.05
POLISHED = 1e-10


class ProgramLayer(torch.nn.Module):
    """From starts and parameters to plans, (states (B, N + 1, n), inputs (B, N, m)).

    Fixed ``mu``, so that a plan is a smooth function; plans are solved to 1e-10 and then
    differentiated with a factor of their own. ``lower`` and ``upper`` (n + m,) limit (x, u).
    ``guesses`` are inputs (N, m) to begin from; the best plan is taken, and where another one
    costs nearly as much, or stalled, the gradient means nothing (JUMPED). Flaws raise a
    GradientError in ``backward``; with ``on_flag="mask"`` the flawed problems of a batch get zero
    gradients, and ``flaws`` names them. ``allow`` are flaws that are accepted. With
    ``polish=False`` plans are solved to ``tolerance`` and gradients certified: one more Newton
    step must not move them by ``accuracy``.
    """

    def __init__(
        self,
        program: Program,
        horizon: int,
        *,
        lower: FloatArray | float = -np.inf,
        upper: FloatArray | float = np.inf,
        mu: float = 1e-5,
        guesses: tuple[FloatArray, ...] = (),
        on_flag: str = "raise",
        allow: Flaw = Flaw.NONE,
        polish: bool = True,
        tolerance: float = 1e-8,
        budget: int = 200,
        accuracy: float = 0.01,
        threads: int = 1,
    ) -> None:
        super().__init__()
        if on_flag not in ("raise", "mask"):
            raise UsageError(f"on_flag is 'raise' or 'mask', not {on_flag!r}")
        self.solver = PlanSolver(
            program, horizon, mu=mu, tolerance=POLISHED if polish else tolerance, budget=budget,
            threads=threads,
        )  # fmt: skip
        self.lower, self.upper, self.guesses = lower, upper, guesses
        self.on_flag, self.allow, self.polish, self.accuracy = on_flag, allow, polish, accuracy
        self.flaws: list[Flaw] = []
        self.factorisations = 0

    def forward(
        self,
        state: Tensor,
        parameters: Tensor,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Plans from ``state`` (B, n) by ``parameters`` (p,) or (B, p), limits (n+m,) or
        (B, n+m) in place of the layer's own."""
        program, batch = self.solver.program, state.shape[0]
        size = program.states + program.inputs
        given = [state.to(torch.float64)]
        for name, width, value in (
            ("parameters", program.parameters, parameters),
            ("lower", size, self.lower if lower is None else lower),
            ("upper", size, self.upper if upper is None else upper),
        ):
            one = torch.as_tensor(value, dtype=torch.float64)
            if one.ndim > 2 or one.shape not in ((), (width,), (batch, width)):
                raise UsageError(f"{name} is ({width},) or ({batch}, {width}), not {one.shape}")
            given.append(one.expand(batch, width))
        states, inputs = _Plans.apply(self, *given)  # type: ignore[no-untyped-call]
        return states, inputs

    def solve(
        self, start: FloatArray, q: FloatArray, lower: FloatArray, upper: FloatArray
    ) -> tuple[Plans, Any]:
        """The best plan of each problem, and which have a rival (B,)."""
        batch, rivals = len(start), np.zeros(len(start), dtype=bool)
        guesses = [np.broadcast_to(one, (batch, *one.shape)) for one in self.guesses]
        plans = [
            self.solver.solve(start, q, lower, upper, guesses[i] if guesses else None)
            for i in range(max(1, len(guesses)))
        ]
        best = plans[0]
        for other in plans[1:]:
            cost, new = (np.where(one.solved, one.cost, np.inf) for one in (best, other))
            with np.errstate(invalid="ignore"):
                near = np.abs(new - cost) <= RIVAL * np.minimum(np.abs(new), np.abs(cost))
                apart = np.abs(best.states - other.states).max(axis=(1, 2))
                apart = ~(apart <= SAME * np.abs(best.states).max(axis=(1, 2)))
            # One that stalled on its way may come to a plan that costs less.
            near |= np.isinf(cost) | np.isinf(new)
            better = new < cost
            rivals = near & apart | rivals & ~(better & ~near)
            for name in ARRAYS:
                getattr(best, name)[better] = getattr(other, name)[better]
        return best, rivals


class _Plans(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: ProgramLayer, *given: Tensor) -> tuple[Tensor, Tensor]:
        plans, rivals = layer.solve(*(np.array(value.detach().numpy()) for value in given))
        ctx.layer, ctx.plans, ctx.rivals = layer, plans, rivals
        layer.flaws = named(flawed(layer, plans, rivals))
        return torch.tensor(plans.states), torch.tensor(plans.inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        layer: ProgramLayer = ctx.layer
        seeds = [np.ascontiguousarray(grad.numpy()) for grad in grads]
        gradient, codes = examined(layer, ctx.plans, ctx.rivals, *seeds)
        layer.flaws = named(codes)
        wrong = np.flatnonzero(codes & (~layer.allow).value)
        if len(wrong) and layer.on_flag == "raise":
            first = int(wrong[0])
            raise GradientError(
                f"no gradient of plan {first} of {len(codes)}: {layer.flaws[first]!r}"
            )
        out: list[Tensor | None] = [None]  # the layer itself
        parts = (gradient.start, gradient.parameters, gradient.lower, gradient.upper)
        for part, needed in zip(parts, ctx.needs_input_grad[1:], strict=True):
            if len(wrong):
                part[wrong] = 0.0
            out.append(torch.from_numpy(part) if needed else None)
        return tuple(out)


def flawed(layer: ProgramLayer, plans: Plans, rivals: Any) -> Any:
    """Codes of what is known to be wrong before a loss is."""
    codes = np.where(plans.solved, 0, Flaw.UNCONVERGED.value)
    codes |= np.where(plans.relaxed, Flaw.RELAXED.value, 0)
    return codes | np.where(rivals, Flaw.JUMPED.value, 0)


def named(codes: Any) -> list[Flaw]:
    """One a problem."""
    return [Flaw(int(code)) if code else Flaw.NONE for code in codes]


def examined(
    layer: ProgramLayer, plans: Plans, rivals: Any, states: FloatArray, inputs: FloatArray
) -> tuple[PlansGradient, Any]:
    """Gradients, and codes of all that is wrong with each."""
    solver, codes = layer.solver, flawed(layer, plans, rivals)
    gradient = solver.gradient(plans, states, inputs)
    layer.factorisations = gradient.factorisations
    if not layer.polish:
        plans = solver.stepped(plans)
        after = solver.gradient(plans, states, inputs)
        layer.factorisations += after.factorisations
        change = np.maximum(
            moved(gradient.start, after.start), moved(gradient.parameters, after.parameters)
        )
        codes |= np.where(change <= layer.accuracy, 0, Flaw.INACCURATE.value)
        gradient = after
    scale = np.sqrt((states**2).sum(axis=(1, 2)) * (plans.states**2).sum(axis=(1, 2)))
    scale += np.sqrt((inputs**2).sum(axis=(1, 2)) * (plans.inputs**2).sum(axis=(1, 2)))
    codes |= np.where(gradient.good, 0, Flaw.INDEFINITE.value)
    barrier = solver.mu * np.abs(gradient.mu) > SMOOTH * np.maximum(scale, np.finfo(float).tiny)
    return gradient, codes | np.where(barrier, Flaw.SMOOTHED.value, 0)


def moved(before: FloatArray, after: FloatArray) -> FloatArray:
    """(B,): largest change as a share of the largest entry."""
    size = np.maximum(np.abs(after).max(axis=1), np.finfo(float).tiny)
    change: FloatArray = np.abs(after - before).max(axis=1) / size
    return change
