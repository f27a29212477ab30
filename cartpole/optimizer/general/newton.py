"""The solve of one plan and of many over a compiled program; see ``interior`` for the method."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from cartpole.model.programs import Program
from cartpole.optimizer.general.interior import (
    ARMIJO,
    BACKTRACKS,
    LARGEST_SHIFT,
    SOLVED,
    SPENT,
    STALLED,
    TO_BOUNDARY,
    barrier,
    enter,
    multipliers,
    residual,
    second_order,
    slack_logs,
    slopes,
    widened,
)
from cartpole.optimizer.general.recursion import FUSED, make_recursion

FIRST_MU = 1.0
# Of a plan without limits: how far inside them it must stay to be no guess but nearly the plan.
INSIDE = 1e-3


def equipped(program: Program) -> Any:
    """The program's module, with the recursion for its sizes and its evaluation beside its own:
    what is compiled over a module keeps its place in the cache."""
    parts: Any = program.parts
    if not hasattr(parts, "factor"):
        parts.factor, parts.backward, parts.forward = make_recursion(program.states, program.inputs)
        parts.expand, parts.refresh, parts.worth = make_evaluation(parts, program.states)
    return parts


def make_evaluation(parts: Any, n: int) -> tuple[Any, Any, Any]:
    """``(expand, refresh, worth)``: all derivatives at an iterate; defects and gradients of a
    linear-quadratic one whose others stay; cost and sum of |defect| of a trial point."""
    compiled = njit(cache=True, nogil=True, error_model="numpy")

    def expand(z: Any, lam: Any, q: Any, jac: Any, hess: Any, g: Any, gap: Any) -> None:
        steps = jac.shape[0]
        for k in range(steps):
            parts.stage(z[k, :n], z[k, n:], q, lam[k + 1], gap[k], jac[k], g[k], hess[k])
            for i in range(n):
                gap[k, i] -= z[k + 1, i]
        g[steps] = 0.0
        parts.end(z[steps, :n], q, g[steps], hess[steps])

    def refresh(z: Any, q: Any, hess: Any, g: Any, gap: Any) -> None:
        steps = gap.shape[0]
        for k in range(steps):
            parts.first(z[k, :n], z[k, n:], q, gap[k], g[k])
            for i in range(n):
                gap[k, i] -= z[k + 1, i]
        parts.end(z[steps, :n], q, g[steps], hess[steps])

    def worth(z: Any, q: Any, ahead: Any, cost: Any) -> tuple[float, float]:
        steps = z.shape[0] - 1
        parts.last(z[steps, :n], q, cost)
        total, defect = cost[0], 0.0
        for k in range(steps):
            parts.cost(z[k, :n], z[k, n:], q, cost)
            total += cost[0]
            parts.step(z[k, :n], z[k, n:], q, ahead)
            for i in range(n):
                defect += abs(ahead[i] - z[k + 1, i])
        return total, defect

    return compiled(expand), compiled(refresh), compiled(worth)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FUSED)
def advance(z: Any, alpha: float, d: Any, hess: Any, g: Any, gap: Any) -> None:
    """A step of a linear-quadratic plan, with its gradients and defects."""
    steps, size, n = gap.shape[0], z.shape[1], gap.shape[1]
    for k in range(steps + 1):
        last = n if k == steps else size
        for i in range(last):
            a = alpha * d[k, i]
            z[k, i] += a
            for j in range(last):
                g[k, j] += a * hess[k, i, j]
        if k < steps:
            for i in range(n):
                gap[k, i] *= 1.0 - alpha


@njit(cache=True, nogil=True, error_model="numpy")
def inside(z: Any, lo: Any, hi: Any, n: int) -> float:
    """How far inside its limits a plan of ``n`` states is."""
    steps, room = z.shape[0] - 1, 1e300
    for k in range(steps + 1):
        for i in range(z.shape[1]):
            if (k > 0 or i >= n) and (k < steps or i < n):
                room = min(room, z[k, i] - lo[i], hi[i] - z[k, i])
    return room


@njit(cache=True, nogil=True, error_model="numpy")
def lowered(
    jac: Any, g: Any, gap: Any, lam: Any, z: Any, zl: Any, zu: Any, lo: Any, hi: Any, mu: float,
    mu_end: float,
) -> float:  # fmt: skip
    """The barrier as low as the iterate is near its plan (Fiacco and McCormick)."""
    while mu > mu_end:
        worst, _large = residual(jac, g, gap, lam, z, zl, zu, lo, hi, mu)
        if worst > 10.0 * mu:
            break
        mu = max(mu_end, min(0.2 * mu, mu**1.5))
    return mu


@njit(cache=True, nogil=True, error_model="numpy")
def carry(
    lam: Any, zl: Any, zu: Any, new_lam: Any, dl: Any, du: Any, primal: float, dual: float
) -> None:
    """All multipliers along their directions."""
    for k in range(zl.shape[0]):
        for i in range(lam.shape[1]):
            lam[k, i] += primal * (new_lam[k, i] - lam[k, i])
        for i in range(zl.shape[1]):
            if zl[k, i] > 0.0:
                zl[k, i] += dual * dl[k, i]
            if zu[k, i] > 0.0:
                zu[k, i] += dual * du[k, i]


def make_search(parts: Any) -> Any:
    """``search(z, zl, zu, lo, hi, q, out, d, mu, nu, primal, trial, ahead, cost) -> (moved, primal,
    nu)``: backtracks along ``d`` on cost - mu sum ln(slack) + nu sum |defect|, into ``trial``;
    ``out`` are the slopes of cost and barrier."""

    def search(
        z: Any, zl: Any, zu: Any, lo: Any, hi: Any, q: Any, out: Any, d: Any, mu: float, nu: float,
        primal: float, trial: Any, ahead: Any, cost: Any,
    ) -> tuple[bool, float, float]:  # fmt: skip
        before, defect = parts.worth(z, q, ahead, cost)
        before -= mu * slack_logs(z, zl, zu, lo, hi)
        slope = 0.0
        for k in range(z.shape[0]):
            for i in range(z.shape[1]):
                slope += out[k, i] * d[k, i]
        if defect > 1e-14:
            nu = max(nu, 2.0 * slope / defect)
        fall = slope - nu * defect
        slack = 1e-12 * (abs(before) + nu * defect) + 1e-14
        for _half in range(BACKTRACKS):
            for k in range(z.shape[0]):
                for i in range(z.shape[1]):
                    trial[k, i] = z[k, i] + primal * d[k, i]
            after, gone = parts.worth(trial, q, ahead, cost)
            after -= mu * slack_logs(trial, zl, zu, lo, hi)
            change = after - before + nu * (gone - defect)
            if change <= ARMIJO * primal * min(fall, 0.0) + slack:
                return True, primal, nu
            primal *= 0.5
        return False, primal, nu

    return njit(cache=True, nogil=True, error_model="numpy")(search)


def make_solve(program: Program) -> Any:
    """``solve(x0 (B, n), q (B, p), lo, hi (B, n+m), mu, tolerance, budget, cold, z (B, N+1, n+m),
    lam (B, N+1, n), zl, zu (B, N+1, n+m), status (B,), steps (B,), error (B,), costs (B,))``, all
    in place.

    ``z`` is the guess and becomes the plan; with ``cold`` a linear-quadratic program takes none,
    without it the multipliers count, too. ``lo`` and ``hi`` become what the plans keep. ``status``
    is SOLVED, SPENT or STALLED, and 8 more where a start beyond a limit moved it; ``error`` the
    residual as a share of what cancels in it.
    """
    n, m, linear = program.states, program.inputs, program.linear_quadratic
    size = n + m
    parts = equipped(program)
    search = make_search(parts)

    def solve(
        x0: Any, q: Any, lo: Any, hi: Any, mu_end: float, tolerance: float, budget: int, cold: bool,
        z: Any, lam: Any, zl: Any, zu: Any, status: Any, taken: Any, error: Any, costs: Any,
    ) -> None:  # fmt: skip
        steps = z.shape[1] - 1
        jac, hess = np.zeros((steps, n, size)), np.zeros((steps + 1, size, size))
        g, gap, diag = (
            np.zeros((steps + 1, size)),
            np.zeros((steps, n)),
            np.zeros((steps + 1, size)),
        )
        rows, pivots = np.zeros((steps, m, size)), np.zeros((steps, m))
        costs_to_go, pull = np.zeros((steps + 1, n, n)), np.zeros((steps + 1, n))
        feed, out = np.zeros((steps, m)), np.zeros((steps + 1, size))
        d, dl, du = (
            np.zeros((steps + 1, size)),
            np.zeros((steps + 1, size)),
            np.zeros((steps + 1, size)),
        )
        cl, cu = np.zeros((steps + 1, size)), np.zeros((steps + 1, size))
        new_lam, trial, ahead, cost = (
            np.zeros((steps + 1, n)),
            np.zeros((steps + 1, size)),
            np.zeros(n),
            np.zeros(1),
        )
        for b in range(x0.shape[0]):
            own_lo, own_hi = lo[b].copy(), hi[b].copy()
            relaxed = widened(x0[b], own_lo, own_hi, lo[b], hi[b])
            low, high, now = lo[b], hi[b], z[b]
            own, left, right = lam[b], zl[b], zu[b]
            mu = max(mu_end, FIRST_MU)
            if cold:
                own[:] = 0.0
                if linear:
                    # The plan without limits, and how far inside them it is.
                    now[:] = 0.0
                    now[0, :n] = x0[b]
                    parts.expand(now, own, q[b], jac, hess, g, gap)
                    diag[:] = 0.0
                    if parts.factor(jac, hess, diag, 0.0, rows, pivots, costs_to_go):
                        parts.backward(jac, rows, pivots, costs_to_go, g, gap, pull, feed)
                        parts.forward(jac, rows, pivots, costs_to_go, gap, pull, feed, d, own)
                        now += d
                        if inside(now, low, high, n) > INSIDE:
                            mu = mu_end
                enter(now, x0[b], low, high, left, right, mu, 0.1 if mu > mu_end else 0.0)
            if not linear or not cold:
                parts.expand(now, own, q[b], jac, hess, g, gap)
            else:
                parts.refresh(now, q[b], hess, g, gap)
            shift, nu = 0.0, 0.0
            found = SPENT
            done = 0
            while True:
                total, count = barrier(now, left, right, low, high, diag)
                worst, large = residual(jac, g, gap, own, now, left, right, low, high, mu_end)
                if linear and worst <= tolerance * large:  # exactly?
                    parts.refresh(now, q[b], hess, g, gap)
                    worst, large = residual(jac, g, gap, own, now, left, right, low, high, mu_end)
                if worst <= tolerance * large:
                    found = SOLVED
                    break
                if done >= budget or not math.isfinite(worst):
                    break
                done += 1
                if not linear:
                    last = mu
                    mu = lowered(jac, g, gap, own, now, left, right, low, high, mu, mu_end)
                    nu = nu if mu == last else 0.0
                good = parts.factor(jac, hess, diag, shift, rows, pivots, costs_to_go)
                while not good and shift < LARGEST_SHIFT:
                    shift = max(1e-4, 4.0 * shift)
                    good = parts.factor(jac, hess, diag, shift, rows, pivots, costs_to_go)
                if not good:
                    found = STALLED
                    break
                cl[:] = 0.0
                cu[:] = 0.0
                if linear and count > 0 and total > 1.5 * mu_end * count:
                    slopes(g, now, left, right, low, high, 0.0, cl, cu, out)
                    parts.backward(jac, rows, pivots, costs_to_go, out, gap, pull, feed)
                    parts.forward(jac, rows, pivots, costs_to_go, gap, pull, feed, d, new_lam)
                    primal, dual = multipliers(now, left, right, low, high, 0.0, cl, cu, d, dl, du)
                    alpha = min(1.0, min(primal, dual))
                    after = second_order(now, left, right, low, high, d, dl, du, alpha, cl, cu)
                    mu = max(mu_end, (after / total) ** 3 * total / count)
                elif linear:
                    mu = mu_end
                slopes(g, now, left, right, low, high, mu, cl, cu, out)
                parts.backward(jac, rows, pivots, costs_to_go, out, gap, pull, feed)
                parts.forward(jac, rows, pivots, costs_to_go, gap, pull, feed, d, new_lam)
                primal, dual = multipliers(now, left, right, low, high, mu, cl, cu, d, dl, du)
                primal = min(1.0, TO_BOUNDARY * primal)
                dual = min(1.0, TO_BOUNDARY * dual)
                if linear:
                    advance(now, primal, d, hess, g, gap)
                else:
                    moved, primal, nu = search(
                        now, left, right, low, high, q[b], out, d, mu, nu, primal, trial, ahead,
                        cost,
                    )  # fmt: skip
                    if not moved:
                        if shift >= LARGEST_SHIFT:
                            found = STALLED
                            break
                        shift = max(1e-4, 16.0 * shift)
                        continue
                    shift = 0.0 if shift < 1e-3 else 0.25 * shift
                    now[:] = trial
                carry(own, left, right, new_lam, dl, du, primal, dual)
                if not linear:
                    parts.expand(now, own, q[b], jac, hess, g, gap)
            status[b] = found + 8 * relaxed
            taken[b] = done
            error[b] = worst / large
            costs[b] = parts.worth(now, q[b], ahead, cost)[0]

    return njit(cache=True, nogil=True, error_model="numpy")(solve)
