"""Newton's method on the KKT system of a plan: a primal-dual interior point with a line search.

One step: quadratic model, direction (block recursion), the longest step inside all limits, then
backtracking on the merit

    cost - mu sum ln(slack) + nu sum |defect|

until it falls by Armijo's rule, at most BACKTRACKS times. Limits hold strictly at every iterate,
and the cart keeps its dynamics, which are linear: only the pole has defects. The curvature of the
dynamics is used exactly as long as the input's curvature stays positive, else the step falls back
on the curvature of the cost alone. mu falls as Fiacco and McCormick prescribe: when the barrier's
own problem is solved to within a multiple of mu.

The method is written once, over the parts that differ. What the factories return is plain Python:
``compiled`` compiles it over modules of kernels, ``torch`` runs it as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.directions import (
    accept,
    directions,
    end_slope,
    log_slack_change,
    move,
    new_multipliers,
)
from cartpole.optimizer.compiled.layout import *

BACKTRACKS = 12
ARMIJO = 1e-4
SPREAD = 1e6
TO_BOUNDARY = 0.99
# What a step and a solve say (values of messages.PlanStatus where they have one).
CONVERGED = 0  # of a step: done, carry on
BUDGET = 2
STALLED = 3
FACTORISATION = 4
NOT_FINITE = 5

Step = Callable[[FloatArray, FloatArray, int, int], int]
Solve = Callable[[FloatArray, FloatArray, int, int, int], int]


def make_step(parts: Any) -> Step:
    """One Newton step from an evaluated iterate, over three functions of ``parts``.

    ``factorise(ws, sc, n, kind) -> bool`` leaves gains and cost-to-go of the iterate's quadratic
    model, ``forward(ws, n, kind) -> bool`` the direction, ``trial(ws, sc, n, kind) -> (cost,
    sum |defect|)`` evaluates the trial point. ``parts`` is a module or an object: a compiled step
    keeps its place in the cache only over a module.
    """

    def step(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> int:
        if not parts.factorise(ws, sc, n, kind):
            return FACTORISATION
        if not parts.forward(ws, n, kind):
            return NOT_FINITE
        new_multipliers(ws, n, kind)
        primal, dual, slope = directions(ws, sc, n, kind)
        slope += end_slope(ws, n)
        mu, cost, defect, nu = sc[MU], sc[COST], sc[SUM_DEFECT], sc[NU]
        if defect > 1e-14:
            nu = max(nu, 2.0 * slope / defect)
        sc[NU] = nu
        fall = slope - nu * defect
        alpha = min(1.0, TO_BOUNDARY / primal) if primal > 0.0 else 1.0
        dual = min(1.0, TO_BOUNDARY / dual) if dual > 0.0 else 1.0
        slack = 1e-12 * (abs(cost) + nu * defect) + 1e-14
        for _trial in range(BACKTRACKS):
            move(ws, n, kind, alpha)
            new_cost, new_defect = parts.trial(ws, sc, n, kind)
            change = new_cost - cost + nu * (new_defect - defect)
            change -= mu * log_slack_change(ws, sc, n, kind)
            if change <= ARMIJO * alpha * min(fall, 0.0) + slack:
                sc[COST] = new_cost
                sc[SUM_DEFECT] = new_defect
                sc[LAST_ALPHA] = alpha
                accept(ws, sc, n, kind, alpha, dual, SPREAD)
                return CONVERGED
            alpha *= 0.5
        sc[LAST_ALPHA] = 0.0
        return STALLED

    return step


def make_newton(parts: Any) -> Solve:
    """Up to ``budget`` steps over ``start``, ``step`` and ``measure`` of ``parts``.

    ``start(ws, sc, n, kind) -> bool`` evaluates the iterate as it stands (False: not finite),
    ``measure(ws, sc, n, kind)`` notes its residuals. The solve counts its steps in sc[STEPS] and
    returns CONVERGED (residual <= tolerance at the smallest mu), BUDGET, STALLED, FACTORISATION or
    NOT_FINITE. The iterate is strictly inside the limits in every case but the last.
    """

    def newton(ws: FloatArray, sc: FloatArray, n: int, kind: int, budget: int) -> int:
        sc[STEPS] = 0.0
        if not parts.start(ws, sc, n, kind):
            return NOT_FINITE
        floor = sc[MU_MIN]
        tolerance = sc[TOLERANCE]
        for i in range(budget):
            status = parts.step(ws, sc, n, kind)
            sc[STEPS] = i + 1.0
            if status != CONVERGED:
                parts.start(ws, sc, n, kind)
                parts.measure(ws, sc, n, kind)
                return int(status)
            parts.measure(ws, sc, n, kind)
            if sc[MU] <= floor and sc[BARRIER_RESIDUAL] <= tolerance:
                return CONVERGED
            while sc[MU] > floor and sc[BARRIER_RESIDUAL] < 10.0 * sc[MU]:
                sc[MU] = max(floor, min(0.2 * sc[MU], sc[MU] ** 1.5))
                sc[NU] = 0.0
                parts.measure(ws, sc, n, kind)
        return BUDGET

    return newton
