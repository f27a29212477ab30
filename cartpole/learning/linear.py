"""A linear-quadratic plan and its gradients: a layer's linear case, where all is exact at once.

    min sum_k 1/2 z_k' C z_k + c' z_k + 1/2 x_N' E x_N,   x_{k+1} = F z_k + f,  z = (x, u)

The plan is one linear system; the adjoint of a loss on it is the same system with the loss's
gradient as linear costs and no start, so one recursion serves both (Amos et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray


@dataclass(frozen=True, slots=True)
class LinearProblem:
    """``cost`` C (n + m, n + m), ``slope`` c (n + m,), ``last`` E (n, n), ``step`` F (n, n + m),
    ``drift`` f (n,), ``horizon`` N."""

    cost: FloatArray
    slope: FloatArray
    last: FloatArray
    step: FloatArray
    drift: FloatArray
    horizon: int


@dataclass(frozen=True, slots=True)
class LinearPlan:
    """States and inputs z (N, n + m), last state (n,), multipliers (N + 1, n)."""

    z: FloatArray
    end: FloatArray
    multipliers: FloatArray


def solve(problem: LinearProblem, start: FloatArray) -> LinearPlan:
    """The plan from ``start`` (n,)."""
    n, slopes = len(start), np.tile(problem.slope, (problem.horizon, 1))
    return _sweep(problem, slopes, np.zeros(n), problem.drift, start)


def _sweep(
    p: LinearProblem, slopes: FloatArray, end: FloatArray, drift: FloatArray, start: FloatArray
) -> LinearPlan:
    """Backward: cost-to-go and gains; forward: the plan. ``slopes`` (N, n + m) and ``end`` (n,)."""
    n, steps = len(start), p.horizon
    values, gradients = [p.last], [end]
    gains = []
    for k in range(steps - 1, -1, -1):
        value, gradient = values[-1], gradients[-1]
        total = p.cost + p.step.T @ value @ p.step
        pull = slopes[k] + p.step.T @ (gradient + value @ drift)
        own = total[n:, n:]
        try:
            np.linalg.cholesky(own)
        except np.linalg.LinAlgError:
            raise UsageError("the inputs' curvature is not positive: no plan is best") from None
        gain = -np.linalg.solve(own, np.column_stack((total[n:, :n], pull[n:])))
        gains.append(gain)
        values.append(total[:n, :n] + total[:n, n:] @ gain[:, :n])
        gradients.append(pull[:n] + total[:n, n:] @ gain[:, n])
    values, gradients, gains = values[::-1], gradients[::-1], gains[::-1]
    x, z, multipliers = start, [], []
    for k in range(steps):
        multipliers.append(values[k] @ x + gradients[k])
        u = gains[k][:, :n] @ x + gains[k][:, n]
        z.append(np.concatenate((x, u)))
        x = p.step @ z[-1] + drift
    multipliers.append(values[steps] @ x + gradients[steps])
    return LinearPlan(np.array(z), x, np.array(multipliers))


@dataclass(frozen=True, slots=True)
class LinearGradient:
    """dl by the problem's fields and by the start."""

    cost: FloatArray
    slope: FloatArray
    last: FloatArray
    step: FloatArray
    drift: FloatArray
    start: FloatArray


def differentiate(
    problem: LinearProblem, plan: LinearPlan, seeds: FloatArray, end: FloatArray
) -> LinearGradient:
    """For a loss with the derivatives ``seeds`` (N, n + m) by z and ``end`` (n,) by the last x."""
    n = len(plan.end)
    d = _sweep(problem, seeds, end, np.zeros(n), np.zeros(n))
    lam, nu = plan.multipliers[1:], d.multipliers[1:]
    cost = d.z.T @ plan.z
    last = np.outer(d.end, plan.end)
    return LinearGradient(
        cost=0.5 * (cost + cost.T),
        slope=d.z.sum(axis=0),
        last=0.5 * (last + last.T),
        step=lam.T @ d.z + nu.T @ plan.z,
        drift=nu.sum(axis=0),
        start=d.multipliers[0],
    )
