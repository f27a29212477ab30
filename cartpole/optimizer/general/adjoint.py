"""Gradients of losses on solved plans: one exact factor each, one sweep, one contraction.

At a fixed mu a plan solves F(z, q) = 0, so dl/dq = -F_q' F_z^-1 (loss's gradient). F_z is the
matrix of a Newton step, symmetric: the adjoint is one more right-hand side of the recursion, with
exact curvature and the barrier's at multiplier = mu / slack. What the program's parameters do to
the conditions is contracted by the program itself (``contract``), so no mixed derivatives are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cartpole.model.programs import Program
from cartpole.optimizer.general.newton import equipped


def make_gradient(program: Program) -> Any:
    """``gradient(q (B, p), lo, hi (B, n+m), z (B, N+1, n+m), mu, lam (B, N+1, n), seeds
    (B, N+1, n+m), by_x0 (B, n), by_q (B, p), by_lo, by_hi (B, n+m), by_mu (B,), good (B,)) ->
    factorisations``, of losses with the derivatives ``seeds`` by the plans.

    ``good`` is 0 where the plan is no minimum: its gradients are not numbers.
    """
    parts, n, m = equipped(program), program.states, program.inputs
    size = n + m
    compiled = njit(cache=True, nogil=True, error_model="numpy")

    def gradient(
        q: Any, lo: Any, hi: Any, z: Any, mu: float, lam: Any, seeds: Any, by_x0: Any, by_q: Any,
        by_lo: Any, by_hi: Any, by_mu: Any, good: Any,
    ) -> int:  # fmt: skip
        steps = z.shape[1] - 1
        jac, hess = np.zeros((steps, n, size)), np.zeros((steps + 1, size, size))
        g, gap = np.zeros((steps + 1, size)), np.zeros((steps, n))
        rows, pivots = np.zeros((steps, m, size)), np.zeros((steps, m))
        worth, pull = np.zeros((steps + 1, n, n)), np.zeros((steps + 1, n))
        feed, diag, d = (
            np.zeros((steps, m)),
            np.zeros((steps + 1, size)),
            np.zeros((steps + 1, size)),
        )
        a, slope = np.zeros((steps + 1, n)), np.zeros((steps + 1, size))
        for b in range(z.shape[0]):
            now, low, high = z[b], lo[b], hi[b]
            parts.expand(now, lam[b], q[b], jac, hess, g, gap)
            gap[:] = 0.0
            for k in range(steps + 1):
                for i in range(size):
                    slope[k, i] = seeds[b, k, i]
                    diag[k, i] = 0.0
                    if (k == 0 and i < n) or (k == steps and i >= n):
                        continue
                    below, above = 1.0 / (now[k, i] - low[i]), 1.0 / (high[i] - now[k, i])
                    diag[k, i] = mu * (below * below + above * above)
            by_q[b] = 0.0
            by_lo[b] = 0.0
            by_hi[b] = 0.0
            good[b] = parts.factor(jac, hess, diag, 0.0, rows, pivots, worth)
            if not good[b]:
                by_x0[b] = by_q[b] = by_lo[b] = by_hi[b] = np.nan
                by_mu[b] = np.nan
                continue
            parts.backward(jac, rows, pivots, worth, slope, gap, pull, feed)
            parts.forward(jac, rows, pivots, worth, gap, pull, feed, d, a)
            for i in range(n):
                by_x0[b, i] = pull[0, i]
            total = 0.0
            for k in range(steps + 1):
                for i in range(size):
                    if (k == 0 and i < n) or (k == steps and i >= n):
                        continue
                    below, above = 1.0 / (now[k, i] - low[i]), 1.0 / (high[i] - now[k, i])
                    total += d[k, i] * (above - below)
                    by_lo[b, i] -= mu * d[k, i] * below * below
                    by_hi[b, i] -= mu * d[k, i] * above * above
            by_mu[b] = total
            for k in range(steps):
                parts.contract(now[k, :n], now[k, n:], q[b], lam[b, k + 1], d[k], a[k + 1], by_q[b])
            parts.end_contract(now[steps, :n], q[b], d[steps], by_q[b])
        return len(z)

    return compiled(gradient)
