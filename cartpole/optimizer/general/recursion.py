"""The block recursion for stages of any size: factor once, then as many right-hand sides as wanted.

A stage's unknowns are z = (x, u). With the cost-to-go 1/2 x' P x + s' x behind a step x+ = F z + c

    M = H + F' P+ F,    inputs eliminated from the last one on:  M = sum w w' / pivot + P

so a factor is the rows w of the inputs, one over their pivots, and P. The sizes are constants of
the compiled code, inner loops run over whole rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

FUSED = {"contract", "nsz"}
# An input's curvature below this share of its own size is none.
PIVOT = 1e-13


def make_recursion(n: int, m: int) -> tuple[Any, Any, Any]:
    """``(factor, backward, forward)`` for ``n`` states and ``m`` inputs; see each."""
    size = n + m
    compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath=FUSED)

    def factor(
        jac: Any, hess: Any, diag: Any, shift: float, rows: Any, pivots: Any, worth: Any
    ) -> bool:
        """Of ``jac`` (N, n, n+m) and ``hess`` (N+1, n+m, n+m) with ``diag`` (N+1, n+m) and
        ``shift`` on its diagonal: ``rows`` (N, m, n+m), ``pivots`` (N, m) as one over them,
        ``worth`` (N+1, n, n). False: the inputs' curvature is not positive."""
        steps = jac.shape[0]
        ahead, total = np.empty((n, size)), np.empty((size, size))
        for i in range(n):
            for j in range(n):
                worth[steps, i, j] = hess[steps, i, j]
            worth[steps, i, i] += diag[steps, i] + shift
        for back in range(steps):
            k = steps - 1 - back
            for i in range(n):
                a = worth[k + 1, i, 0]
                for j in range(size):
                    ahead[i, j] = a * jac[k, 0, j]
                for r in range(1, n):
                    a = worth[k + 1, i, r]
                    for j in range(size):
                        ahead[i, j] += a * jac[k, r, j]
            for i in range(size):
                for j in range(size):
                    total[i, j] = hess[k, i, j]
                for r in range(n):
                    a = jac[k, r, i]
                    for j in range(size):
                        total[i, j] += a * ahead[r, j]
                total[i, i] += diag[k, i] + shift
            for back_input in range(m):
                c = size - 1 - back_input
                if not total[c, c] > PIVOT * (abs(hess[k, c, c]) + diag[k, c] + shift):
                    return False
                inverse = 1.0 / total[c, c]
                pivots[k, c - n] = inverse
                for j in range(size):
                    rows[k, c - n, j] = total[c, j]
                for i in range(c):
                    a = total[c, i] * inverse
                    for j in range(size):
                        total[i, j] -= a * total[c, j]
            for i in range(n):
                for j in range(n):
                    worth[k, i, j] = 0.5 * (total[i, j] + total[j, i])
        return True

    def backward(
        jac: Any, rows: Any, pivots: Any, worth: Any, slope: Any, gap: Any, pull: Any, feed: Any
    ) -> None:
        """Of linear costs ``slope`` (N+1, n+m) and defects ``gap`` (N, n): the cost-to-go's
        gradients ``pull`` (N+1, n) and the inputs' ``feed`` (N, m)."""
        steps = jac.shape[0]
        q, t = np.empty(size), np.empty(n)
        for i in range(n):
            pull[steps, i] = slope[steps, i]
        for back in range(steps):
            k = steps - 1 - back
            for i in range(n):
                t[i] = pull[k + 1, i]
            for r in range(n):
                a = gap[k, r]
                for i in range(n):
                    t[i] += a * worth[k + 1, r, i]
            for j in range(size):
                q[j] = slope[k, j]
            for r in range(n):
                a = t[r]
                for j in range(size):
                    q[j] += a * jac[k, r, j]
            for back_input in range(m):
                c = size - 1 - back_input
                a = q[c] * pivots[k, c - n]
                feed[k, c - n] = a
                for j in range(c):
                    q[j] -= a * rows[k, c - n, j]
            for i in range(n):
                pull[k, i] = q[i]

    def forward(
        jac: Any, rows: Any, pivots: Any, worth: Any, gap: Any, pull: Any, feed: Any, d: Any,
        lam: Any,
    ) -> None:  # fmt: skip
        """The direction ``d`` (N+1, n+m) from a start that stays, and its multipliers ``lam``
        (N+1, n): the cost-to-go's gradients there."""
        steps = jac.shape[0]
        for i in range(n):
            d[0, i] = 0.0
            lam[0, i] = pull[0, i]
        for k in range(steps):
            for c in range(n, size):
                a = 0.0
                for j in range(c):
                    a += rows[k, c - n, j] * d[k, j]
                d[k, c] = -feed[k, c - n] - a * pivots[k, c - n]
            for r in range(n):
                a = gap[k, r]
                for j in range(size):
                    a += jac[k, r, j] * d[k, j]
                d[k + 1, r] = a
            for i in range(n):
                lam[k + 1, i] = pull[k + 1, i]
            for r in range(n):
                a = d[k + 1, r]
                for i in range(n):
                    lam[k + 1, i] += a * worth[k + 1, r, i]
        for c in range(n, size):
            d[steps, c] = 0.0

    return compiled(factor), compiled(backward), compiled(forward)
