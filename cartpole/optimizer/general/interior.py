"""Plans over a program by a primal-dual interior point, at a barrier parameter that stays.

    min sum_k cost(x_k, u_k, q) + last(x_N, q),  x_{k+1} = step(x_k, u_k, q),  lo <= (x, u) <= hi

States are unknowns with defects, limits hold strictly at every iterate. A linear-quadratic program
takes Mehrotra's corrector steps (SIAM J. Optim. 2, 1992) from its plan without limits; any other
backtracks on cost - mu sum ln(slack) + nu sum |defect| while mu falls as Fiacco and McCormick have
it, and where the inputs' curvature is not positive its diagonal grows until it is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# What a solve ends with.
SOLVED, SPENT, STALLED = 0, 1, 2
TO_BOUNDARY = 0.995
ARMIJO = 1e-4
BACKTRACKS = 25
LARGEST_SHIFT = 1e8
# A start beyond a limit moves the limit this much farther, as a share of its size.
WIDER = 0.02
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})


@compiled
def widened(x0: Any, lo: Any, hi: Any, own_lo: Any, own_hi: Any) -> bool:
    """The limits (n+m,) that a plan from ``x0`` (n,) can keep; whether any gave way."""
    relaxed = False
    for i in range(lo.shape[0]):
        own_lo[i], own_hi[i] = lo[i], hi[i]
        if i < x0.shape[0]:
            room = WIDER * (abs(x0[i]) + 1e-2)
            if x0[i] <= lo[i]:
                own_lo[i] = x0[i] - room
                relaxed = True
            if x0[i] >= hi[i]:
                own_hi[i] = x0[i] + room
                relaxed = True
    return relaxed


@compiled
def enter(z: Any, x0: Any, lo: Any, hi: Any, zl: Any, zu: Any, mu: float, depth: float) -> None:
    """Begin at ``x0``, all else inside its limits by ``depth`` of their distance; multipliers."""
    steps, size, n = z.shape[0] - 1, z.shape[1], x0.shape[0]
    for i in range(n):
        z[0, i] = x0[i]
    for k in range(steps + 1):
        for i in range(size):
            zl[k, i] = zu[k, i] = 0.0
            if (k == 0 and i < n) or (k == steps and i >= n):
                continue
            low, high = lo[i] > -math.inf, hi[i] < math.inf
            room = depth * min(1.0, hi[i] - lo[i])
            if low:
                z[k, i] = max(z[k, i], lo[i] + room)
            if high:
                z[k, i] = min(z[k, i], hi[i] - room)
            if low:
                zl[k, i] = mu / (z[k, i] - lo[i])
            if high:
                zu[k, i] = mu / (hi[i] - z[k, i])


@compiled
def barrier(z: Any, zl: Any, zu: Any, lo: Any, hi: Any, diag: Any) -> tuple[float, int]:
    """Curvature of the limits into ``diag`` (N+1, n+m); sum of slack times multiplier, count."""
    total, count = 0.0, 0
    for k in range(z.shape[0]):
        for i in range(z.shape[1]):
            diag[k, i] = 0.0
            if zl[k, i] > 0.0:
                slack = z[k, i] - lo[i]
                diag[k, i] += zl[k, i] / slack
                total += zl[k, i] * slack
                count += 1
            if zu[k, i] > 0.0:
                slack = hi[i] - z[k, i]
                diag[k, i] += zu[k, i] / slack
                total += zu[k, i] * slack
                count += 1
    return total, count


@compiled
def slopes(
    g: Any, z: Any, zl: Any, zu: Any, lo: Any, hi: Any, mu: float, cl: Any, cu: Any, out: Any
) -> None:
    """Gradients (N+1, n+m) of cost and barrier; ``cl`` and ``cu`` the second order of slack times
    multiplier that a corrector takes off ``mu``."""
    for k in range(z.shape[0]):
        for i in range(z.shape[1]):
            out[k, i] = g[k, i]
            if zl[k, i] > 0.0:
                out[k, i] -= (mu - cl[k, i]) / (z[k, i] - lo[i])
            if zu[k, i] > 0.0:
                out[k, i] += (mu - cu[k, i]) / (hi[i] - z[k, i])


@compiled
def multipliers(
    z: Any, zl: Any, zu: Any, lo: Any, hi: Any, mu: float, cl: Any, cu: Any, d: Any, dl: Any,
    du: Any,
) -> tuple[float, float]:  # fmt: skip
    """Directions ``dl``, ``du`` of the multipliers for the direction ``d``; the shares of a step
    that reach the boundary of slacks and of multipliers, 1e-300 at least."""
    primal, dual = 1e-300, 1e-300  # inverses
    for k in range(z.shape[0]):
        for i in range(z.shape[1]):
            if zl[k, i] > 0.0:
                inverse = 1.0 / (z[k, i] - lo[i])
                dl[k, i] = (mu - cl[k, i] - zl[k, i] * d[k, i]) * inverse - zl[k, i]
                primal = max(primal, -d[k, i] * inverse)
                dual = max(dual, -dl[k, i] / zl[k, i])
            if zu[k, i] > 0.0:
                inverse = 1.0 / (hi[i] - z[k, i])
                du[k, i] = (mu - cu[k, i] + zu[k, i] * d[k, i]) * inverse - zu[k, i]
                primal = max(primal, d[k, i] * inverse)
                dual = max(dual, -du[k, i] / zu[k, i])
    return 1.0 / primal, 1.0 / dual


@compiled
def second_order(
    z: Any, zl: Any, zu: Any, lo: Any, hi: Any, d: Any, dl: Any, du: Any, alpha: float, cl: Any,
    cu: Any,
) -> float:  # fmt: skip
    """Products of changes of slack and multiplier into ``cl``, ``cu``; the sum of slack times
    multiplier after ``alpha`` of the step."""
    total = 0.0
    for k in range(z.shape[0]):
        for i in range(z.shape[1]):
            if zl[k, i] > 0.0:
                cl[k, i] = d[k, i] * dl[k, i]
                slack = z[k, i] - lo[i] + alpha * d[k, i]
                total += slack * (zl[k, i] + alpha * dl[k, i])
            if zu[k, i] > 0.0:
                cu[k, i] = -d[k, i] * du[k, i]
                slack = hi[i] - z[k, i] - alpha * d[k, i]
                total += slack * (zu[k, i] + alpha * du[k, i])
    return total


@compiled
def residual(
    jac: Any, g: Any, gap: Any, lam: Any, z: Any, zl: Any, zu: Any, lo: Any, hi: Any, mu: float
) -> tuple[float, float]:
    """Largest entry of the barrier's KKT conditions, and the size of what cancels there."""
    steps, n, size = jac.shape
    worst, large = 0.0, 1.0
    pull = np.empty(size)
    for k in range(steps + 1):
        for i in range(size):
            pull[i] = g[k, i] - zl[k, i] + zu[k, i]
            if i < n:
                pull[i] -= lam[k, i]
                large = max(large, abs(lam[k, i]))
            if zl[k, i] > 0.0:
                worst = max(worst, abs(zl[k, i] * (z[k, i] - lo[i]) - mu))
            if zu[k, i] > 0.0:
                worst = max(worst, abs(zu[k, i] * (hi[i] - z[k, i]) - mu))
        if k < steps:
            for r in range(n):
                a = lam[k + 1, r]
                worst = max(worst, abs(gap[k, r]))
                for i in range(size):
                    pull[i] += a * jac[k, r, i]
        for i in range(size):
            if (k > 0 or i >= n) and (k < steps or i < n):
                worst = max(worst, abs(pull[i]))
    return worst, large


@compiled
def slack_logs(z: Any, zl: Any, zu: Any, lo: Any, hi: Any) -> float:
    """Sum of ln(slack) of all limits."""
    total = 0.0
    for k in range(z.shape[0]):
        for i in range(z.shape[1]):
            if zl[k, i] > 0.0:
                total += math.log(z[k, i] - lo[i])
            if zu[k, i] > 0.0:
                total += math.log(hi[i] - z[k, i])
    return total
