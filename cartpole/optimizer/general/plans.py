"""Plans for many starts over one program, and gradients of losses on them.

The horizon's steps are alike: one set of parameters and limits a plan. ``threads`` share a batch;
each plan is what it would be alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit

from cartpole.errors import UsageError
from cartpole.messages import FloatArray
from cartpole.model.programs import Program
from cartpole.optimizer.general.adjoint import make_gradient
from cartpole.optimizer.general.interior import SOLVED
from cartpole.optimizer.general.newton import make_solve

RELAXED = 8  # in a status: a limit gave way to a start beyond it


@dataclass(frozen=True, slots=True)
class Plans:
    """Solved or not: ``z`` (B, N+1, n+m) as (x, u), the last u without meaning, with all that a
    gradient needs; ``q`` (B, p), and the limits (B, n+m) that were kept.

    ``lam`` (B, N+1, n) are the steps' multipliers, ``zl`` and ``zu`` the limits'; ``error`` (B,) is
    the KKT residual of the barrier's problem as a share of what cancels in it, ``cost`` (B,)
    without the barrier.
    """

    states_per_step: int
    q: FloatArray
    lower: FloatArray
    upper: FloatArray
    z: FloatArray
    lam: FloatArray
    zl: FloatArray
    zu: FloatArray
    solved: Any
    relaxed: Any
    steps: Any
    error: FloatArray
    cost: FloatArray

    @property
    def states(self) -> FloatArray:
        """(B, N+1, n)."""
        return self.z[:, :, : self.states_per_step]

    @property
    def inputs(self) -> FloatArray:
        """(B, N, m)."""
        return self.z[:, :-1, self.states_per_step :]


@dataclass(frozen=True, slots=True)
class PlansGradient:
    """dl by starts (B, n), parameters (B, p), limits (B, n+m), mu (B,); numbers where ``good``."""

    start: FloatArray
    parameters: FloatArray
    lower: FloatArray
    upper: FloatArray
    mu: FloatArray
    good: Any
    factorisations: int


def make_rollout(program: Program) -> Any:
    """``rollout(q (B, p), z (B, N+1, n+m))``: states that follow from the first and the inputs."""
    parts, n = program.parts, program.states

    def rollout(q: Any, z: Any) -> None:
        for b in range(z.shape[0]):
            for k in range(z.shape[1] - 1):
                parts.step(z[b, k, :n], z[b, k, n:], q[b], z[b, k + 1, :n])

    return njit(cache=True, nogil=True, error_model="numpy")(rollout)


class PlanSolver:
    """Plans of ``horizon`` steps over a program, at a barrier parameter ``mu``."""

    def __init__(
        self,
        program: Program,
        horizon: int,
        *,
        mu: float = 1e-6,
        tolerance: float = 1e-10,
        budget: int = 200,
        threads: int = 1,
    ) -> None:
        if horizon < 1 or not mu > 0.0 or threads < 1:
            raise UsageError(f"horizon {horizon}, mu {mu}, threads {threads}: all are positive")
        self.program, self.horizon, self.mu = program, horizon, mu
        self.tolerance, self.budget = tolerance, budget
        self._solve, self._gradient = make_solve(program), make_gradient(program)
        self._rollout = make_rollout(program)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._threads = threads

    def _shared(self, call: Any, arrays: tuple[Any, ...], *rest: Any) -> list[Any]:
        """A kernel over parts of the batch, one a thread; ``rest`` goes behind the fourth array."""
        batch = len(arrays[0])
        edges = np.linspace(0, batch, min(self._threads, batch) + 1).astype(int)

        def part(i: int) -> Any:
            own = [array[edges[i] : edges[i + 1]] for array in arrays]
            return call(*own[:4], *rest, *own[4:])

        if self._pool is None or len(edges) < 3:
            return [part(i) for i in range(len(edges) - 1)]
        return list(self._pool.map(part, range(len(edges) - 1)))

    def solve(
        self,
        start: FloatArray,
        q: FloatArray,
        lower: FloatArray | float = -np.inf,
        upper: FloatArray | float = np.inf,
        guess: FloatArray | None = None,
    ) -> Plans:
        """Plans from ``start`` (B, n) with parameters (B, p) or (p,) and limits (B, n+m), (n+m,) or
        one number; ``guess`` (B, N, m) are inputs to begin from, none of them zero inputs. A
        linear-quadratic program begins from its plan without limits instead."""
        n, m, steps = self.program.states, self.program.inputs, self.horizon
        if start.ndim != 2 or start.shape[1] != n:
            raise UsageError(f"starts are (B, {n}), not {start.shape}")
        batch = len(start)
        q = spread("parameters", q, batch, self.program.parameters)
        low = spread("lower limits", lower, batch, n + m)
        high = spread("upper limits", upper, batch, n + m)
        if not (low < high).all():
            raise UsageError("lower limits are below the upper ones")
        z = np.zeros((batch, steps + 1, n + m))
        z[:, 0, :n] = start
        if guess is not None:
            if guess.shape != (batch, steps, m):
                raise UsageError(f"a guess is ({batch}, {steps}, {m}), not {guess.shape}")
            z[:, :-1, n:] = np.clip(guess, low[:, None, n:], high[:, None, n:])
        if not self.program.linear_quadratic:
            self._rollout(q, z)
            z[~np.isfinite(z).all(axis=(1, 2)), 1:] = 0.0
        plans = self._empty(q, low, high, z)
        self._run(np.ascontiguousarray(start, dtype=float), plans, self.budget, True)
        return plans

    def _empty(self, q: FloatArray, low: FloatArray, high: FloatArray, z: FloatArray) -> Plans:
        batch, n = len(z), self.program.states
        solved, relaxed, steps = (np.zeros(batch, dtype=np.int64) for _ in range(3))
        return Plans(
            n, q, low, high, z, np.zeros((batch, self.horizon + 1, n)), np.zeros(z.shape),
            np.zeros(z.shape), solved, relaxed, steps, np.zeros(batch), np.zeros(batch),
        )  # fmt: skip

    def _run(self, start: FloatArray, plans: Plans, budget: int, cold: bool) -> None:
        tolerance = self.tolerance if cold else 0.0
        self._shared(
            self._solve,
            (
                start, plans.q, plans.lower, plans.upper, plans.z, plans.lam, plans.zl, plans.zu,
                plans.solved, plans.steps, plans.error, plans.cost,
            ),
            self.mu, tolerance, budget, cold,
        )  # fmt: skip
        if cold:
            plans.relaxed[:] = plans.solved & RELAXED
            plans.solved[:] = plans.solved % RELAXED == SOLVED

    def stepped(self, plans: Plans) -> Plans:
        """One Newton step more."""
        copies: dict[str, Any] = {name: np.array(getattr(plans, name)) for name in ARRAYS}
        after = replace(plans, **copies)
        self._run(np.ascontiguousarray(after.z[:, 0, : plans.states_per_step]), after, 1, False)
        after.solved[:] = plans.solved
        return after

    def gradient(self, plans: Plans, states: FloatArray, inputs: FloatArray) -> PlansGradient:
        """For losses with the derivatives ``states`` (B, N+1, n) and ``inputs`` (B, N, m)."""
        n, size = self.program.states, plans.z.shape[2]
        if states.shape != plans.states.shape or inputs.shape != plans.inputs.shape:
            raise UsageError(
                f"a loss on these plans is by {plans.states.shape} and {plans.inputs.shape}"
            )
        batch = len(plans.z)
        seeds = np.zeros(plans.z.shape)
        seeds[:, :, :n], seeds[:, :-1, n:] = states, inputs
        by_x0, by_q = np.zeros((batch, n)), np.zeros((batch, self.program.parameters))
        by_low, by_high = np.zeros((batch, size)), np.zeros((batch, size))
        by_mu, good = np.zeros(batch), np.zeros(batch, dtype=np.int64)
        counts = self._shared(
            self._gradient,
            (
                plans.q, plans.lower, plans.upper, plans.z, plans.lam, seeds, by_x0, by_q, by_low,
                by_high, by_mu, good,
            ),
            self.mu,
        )  # fmt: skip
        return PlansGradient(by_x0, by_q, by_low, by_high, by_mu, good != 0, sum(counts))


ARRAYS = tuple(name for name in Plans.__slots__ if name != "states_per_step")


def spread(what: str, values: FloatArray | float, batch: int, width: int) -> FloatArray:
    """(batch, width), a copy."""
    array = np.asarray(values, dtype=float)
    if array.shape not in ((), (width,), (batch, width)):
        raise UsageError(f"{what} are ({batch}, {width}) or ({width},), not {array.shape}")
    return np.array(np.broadcast_to(array, (batch, width)))
