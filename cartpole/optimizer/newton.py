"""Newton's method on the KKT system of a plan: a primal-dual interior point with a line search.

One step: quadratic model (``stages.assemble``), direction (``riccati``), the longest step inside
all limits, then backtracking on the merit

    cost - mu sum ln(slack) + nu sum |defect|

until it falls by Armijo's rule, at most BACKTRACKS times. Limits hold strictly at every iterate,
and the cart keeps its dynamics, which are linear: only the pole has defects. The curvature of the
dynamics is used exactly as long as the input's curvature stays positive, else the step falls back
on the curvature of the cost alone, which always is. mu falls as Fiacco and McCormick prescribe:
when the barrier's own problem is solved to within a multiple of mu.
"""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer import layout as _
from cartpole.optimizer.riccati import backward, forward
from cartpole.optimizer.stages import (
    EXACT,
    accept,
    assemble,
    cost_and_defect,
    directions,
    evaluate,
    largest,
    log_slack_change,
    move,
    new_multipliers,
    padded,
)

S = _.STRIDE
BACKTRACKS = 12
ARMIJO = 1e-4
SPREAD = 1e6
TO_BOUNDARY = 0.99
# What a call of ``newton`` says (values of messages.PlanStatus where they have one).
CONVERGED = 0
BUDGET = 2
STALLED = 3
FACTORISATION = 4
NOT_FINITE = 5


@njit(inline="always", error_model="numpy")
def gap(limit: float, g: float, zl: float, zu: float) -> float:
    """Largest product of slack and multiplier of |g| <= limit."""
    return max((limit + g) * zl, (limit - g) * zu)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def residuals(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> tuple[float, float, float]:
    """(stationarity, defect, complementarity): largest absolute values at the iterate."""
    wp = 2.0 * sc[_.WEIGHT_P]
    wv = 2.0 * sc[_.WEIGHT_V]
    wth = 2.0 * sc[_.WEIGHT_TH]
    wom = 2.0 * sc[_.WEIGHT_OM]
    wu = 2.0 * sc[_.WEIGHT_U]
    ww = 2.0 * sc[_.WEIGHT_W]
    lp = sc[_.LEAD_P]
    lv = sc[_.LEAD_V]
    target = sc[_.THETA_REF]
    periodic = sc[_.PERIODIC]
    multiple = 1.0 - periodic
    velocity = kind == _.VELOCITY
    carry = 1.0 if velocity else 0.0
    for k in range(n):
        h = ws[_.H * S + k]
        p = ws[_.P * S + k]
        v = ws[_.V * S + k]
        u = ws[_.U * S + k]
        w = ws[_.W * S + k]
        zg = ws[_.ZGU * S + k] - ws[_.ZGL * S + k]
        lp1 = ws[_.LP * S + k + 1]
        lv1 = ws[_.LV * S + k + 1]
        lth1 = ws[_.LTH * S + k + 1]
        lom1 = ws[_.LOM * S + k + 1]
        gu = wu * h * u + ws[_.ZUU * S + k] - ws[_.ZUL * S + k]
        gp = wp * h * (p - ws[_.REF * S + k]) + ws[_.ZPU * S + k] - ws[_.ZPL * S + k] + lp * zg
        gp += lp1 - ws[_.LP * S + k]
        gv = wv * h * v + lv * zg + carry * gu + h * lp1 + lv1 - ws[_.LV * S + k]
        gth = wth * h * (multiple * (ws[_.TH * S + k] - target) - periodic * ws[_.SIN * S + k])
        gth += ws[_.F11 * S + k] * lth1 + ws[_.F21 * S + k] * lom1 - ws[_.LTH * S + k]
        gom = wom * h * ws[_.OM * S + k] - ws[_.LOM * S + k]
        gom += ws[_.F12 * S + k] * lth1 + ws[_.F22 * S + k] * lom1
        ge = gu + ws[_.C2 * S + k] * lp1 + ws[_.E1 * S + k] * lv1
        ge += (
            ws[_.G1 * S + k] * lth1
            + ws[_.G2 * S + k] * lom1
            + ws[_.D * S + k] * ws[_.LE * S + k + 1]
        )
        gw = ww * h * w + ws[_.ZWU * S + k] - ws[_.ZWL * S + k] + h * ge if velocity else 0.0
        ge -= carry * ws[_.LE * S + k]
        free = 1.0 if k > 0 else 0.0
        held = free if velocity else 1.0
        ws[_.RATIO * S + k] = max(
            free * max(max(abs(gp), abs(gv)), max(abs(gth), abs(gom))),
            max(held * abs(ge), abs(gw)),
        )
        ws[_.RATIO2 * S + k] = max(abs(ws[_.CTH * S + k]), abs(ws[_.COM * S + k]))
    for k in range(n, padded(n)):
        ws[_.RATIO * S + k] = 0.0
        ws[_.RATIO2 * S + k] = 0.0
    stationarity = largest(ws, _.RATIO, n)
    defect = largest(ws, _.RATIO2, n)
    for k in range(padded(n)):
        p = ws[_.P * S + k]
        g = lp * p + lv * ws[_.V * S + k]
        a = gap(ws[_.LIMP * S + k], p, ws[_.ZPL * S + k], ws[_.ZPU * S + k])
        b = gap(ws[_.LIMG * S + k], g, ws[_.ZGL * S + k], ws[_.ZGU * S + k])
        c = gap(ws[_.LIMU * S + k], ws[_.U * S + k], ws[_.ZUL * S + k], ws[_.ZUU * S + k])
        d = 0.0
        if velocity:
            d = gap(ws[_.LIMW * S + k], ws[_.W * S + k], ws[_.ZWL * S + k], ws[_.ZWU * S + k])
        ws[_.RATIO * S + k] = max(max(a, b), max(c, d))
    product = largest(ws, _.RATIO, n)
    return max(stationarity, last_stationarity(ws, sc, n, kind)), defect, product


@njit(cache=True, nogil=True, error_model="numpy")
def last_stationarity(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> float:
    """Largest entry of the terminal gradient minus the last multipliers."""
    t = _.TERMINAL
    p = ws[_.P * S + n] - ws[_.REF * S + n]
    v = ws[_.V * S + n]
    th = ws[_.TH * S + n] - sc[_.THETA_REF]
    om = ws[_.OM * S + n]
    e = ws[_.U * S + n - 1] - v if kind == _.VELOCITY else 0.0
    zg = ws[_.ZGU * S + n] - ws[_.ZGL * S + n]
    gp = ws[_.ZPU * S + n] - ws[_.ZPL * S + n] + sc[_.LEAD_P] * zg - ws[_.LP * S + n]
    gp += sc[t] * p + sc[t + 1] * v + sc[t + 2] * th + sc[t + 3] * om + sc[t + 4] * e
    gv = sc[_.LEAD_V] * zg - ws[_.LV * S + n]
    gv += sc[t + 1] * p + sc[t + 5] * v + sc[t + 6] * th + sc[t + 7] * om + sc[t + 8] * e
    gth = sc[t + 2] * p + sc[t + 6] * v + sc[t + 9] * th + sc[t + 10] * om + sc[t + 11] * e
    gth -= ws[_.LTH * S + n]
    gom = sc[t + 3] * p + sc[t + 7] * v + sc[t + 10] * th + sc[t + 12] * om + sc[t + 13] * e
    gom -= ws[_.LOM * S + n]
    worst = max(max(abs(gp), abs(gv)), max(abs(gth), abs(gom)))
    if kind == _.VELOCITY:
        ge = sc[t + 4] * p + sc[t + 8] * v + sc[t + 11] * th + sc[t + 13] * om + sc[t + 14] * e
        worst = max(worst, abs(ge - ws[_.LE * S + n]))
    return float(worst)


@njit(cache=True, nogil=True, error_model="numpy")
def measure(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Note the KKT residual, and that of the barrier's problem."""
    stationarity, defect, product = residuals(ws, sc, n, kind)
    sc[_.DEFECT] = defect
    sc[_.RESIDUAL] = max(stationarity, max(defect, product))
    sc[_.BARRIER_RESIDUAL] = max(stationarity, max(defect, product - sc[_.MU]))


@njit(cache=True, nogil=True, error_model="numpy")
def factorise(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
    """Gains with exact curvature if that works, else with the cost's own."""
    sc[_.CURVATURE] = 1.0
    assemble(ws, sc, n, kind)
    if backward(ws, sc, n, kind):
        return True
    sc[_.CURVATURE] = 0.0
    assemble(ws, sc, n, kind)
    return backward(ws, sc, n, kind)


@njit(cache=True, nogil=True, error_model="numpy")
def step(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> int:
    """One Newton step from an evaluated iterate; CONVERGED here means only: done, carry on."""
    if not factorise(ws, sc, n, kind):
        return FACTORISATION
    if not forward(ws, n, kind):
        return NOT_FINITE
    new_multipliers(ws, n, kind)
    primal, dual, slope = directions(ws, sc, n, kind)
    slope += (
        (ws[_.S0 * S + n] - ws[_.QP * S + n]) * ws[_.DP * S + n]
        + (ws[_.S1 * S + n] - ws[_.QV * S + n]) * ws[_.DV * S + n]
        + ws[_.S2 * S + n] * ws[_.DTH * S + n]
        + ws[_.S3 * S + n] * ws[_.DOM * S + n]
        + ws[_.S4 * S + n] * ws[_.RATIO * S + n]
    )
    mu = sc[_.MU]
    cost = sc[_.COST]
    defect = sc[_.SUM_DEFECT]
    nu = sc[_.NU]
    if defect > 1e-14:
        nu = max(nu, 2.0 * slope / defect)
    sc[_.NU] = nu
    fall = slope - nu * defect
    alpha = min(1.0, TO_BOUNDARY / primal) if primal > 0.0 else 1.0
    dual = min(1.0, TO_BOUNDARY / dual) if dual > 0.0 else 1.0
    slack = 1e-12 * (abs(cost) + nu * defect) + 1e-14
    for _trial in range(BACKTRACKS):
        move(ws, n, kind, alpha)
        evaluate(ws, sc, n, kind)
        new_cost, new_defect = cost_and_defect(ws, sc, n, kind)
        change = new_cost - cost + nu * (new_defect - defect)
        change -= mu * log_slack_change(ws, sc, n, kind)
        if change <= ARMIJO * alpha * min(fall, 0.0) + slack:
            sc[_.COST] = new_cost
            sc[_.SUM_DEFECT] = new_defect
            sc[_.LAST_ALPHA] = alpha
            accept(ws, sc, n, kind, alpha, dual, SPREAD)
            return CONVERGED
        alpha *= 0.5
    sc[_.LAST_ALPHA] = 0.0
    return STALLED


@njit(cache=True, nogil=True, error_model="numpy")
def start(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
    """Evaluate the iterate as it stands; False if it is not finite."""
    for k in range(padded(n) + 1):
        for row in range(6):
            ws[(_.TP + row) * S + k] = ws[(_.P + row) * S + k]
        ws[_.TLTH * S + k] = ws[_.LTH * S + k]
        ws[_.TLOM * S + k] = ws[_.LOM * S + k]
    evaluate(ws, sc, n, kind)
    cost, defect = cost_and_defect(ws, sc, n, kind)
    sc[_.COST] = cost
    sc[_.SUM_DEFECT] = defect
    return math.isfinite(cost + defect)


@njit(cache=True, nogil=True, error_model="numpy")
def newton(ws: FloatArray, sc: FloatArray, n: int, kind: int, budget: int) -> int:
    """Up to ``budget`` Newton steps from the iterate in ``ws``; counts them in sc[STEPS].

    Returns CONVERGED (residual <= tolerance at the smallest mu), BUDGET, STALLED, FACTORISATION or
    NOT_FINITE. The iterate is strictly inside the limits in every case but the last.
    """
    sc[_.STEPS] = 0.0
    if not start(ws, sc, n, kind):
        return NOT_FINITE
    floor = sc[_.MU_MIN]
    tolerance = sc[_.TOLERANCE]
    for i in range(budget):
        status = step(ws, sc, n, kind)
        sc[_.STEPS] = i + 1.0
        if status != CONVERGED:
            start(ws, sc, n, kind)
            measure(ws, sc, n, kind)
            return status
        measure(ws, sc, n, kind)
        if sc[_.MU] <= floor and sc[_.BARRIER_RESIDUAL] <= tolerance:
            return CONVERGED
        while sc[_.MU] > floor and sc[_.BARRIER_RESIDUAL] < 10.0 * sc[_.MU]:
            sc[_.MU] = max(floor, min(0.2 * sc[_.MU], sc[_.MU] ** 1.5))
            sc[_.NU] = 0.0
            measure(ws, sc, n, kind)
    return BUDGET
