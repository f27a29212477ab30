"""One iterate of a plan: its quadratic model factorised, its trial points, its KKT residual."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.directions import largest
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.riccati import backward, forward
from cartpole.optimizer.compiled.stages import (
    EXACT,
    assemble,
    cost_and_defect,
    evaluate,
    padded,
)
from cartpole.optimizer.compiled.terminal import terminal_gradient
from cartpole.optimizer.compiled.view import stage

__all__ = ["factorise", "forward", "measure", "start", "trial"]  # what an iteration is made of


@njit(inline="always", error_model="numpy")
def gap(limit: float, g: float, zl: float, zu: float) -> float:
    """Largest product of slack and multiplier of |g| <= limit."""
    return max((limit + g) * zl, (limit - g) * zu)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def residuals(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> tuple[float, float, float]:
    """(stationarity, defect, complementarity): largest absolute values at the iterate."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    wp = 2.0 * sc[WEIGHT_P]
    wv = 2.0 * sc[WEIGHT_V]
    wth = 2.0 * sc[WEIGHT_TH]
    wom = 2.0 * sc[WEIGHT_OM]
    wu = 2.0 * sc[WEIGHT_U]
    ww = 2.0 * sc[WEIGHT_W]
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    target = sc[THETA_REF]
    velocity = kind == VELOCITY
    carry = 1.0 if velocity else 0.0
    for k in range(n):
        h = x[H, k]
        p = x[P, k]
        v = x[V, k]
        u = x[U, k]
        w = x[W, k]
        zg = x[ZGU, k] - x[ZGL, k]
        lp1 = ahead[LP, k]
        lv1 = ahead[LV, k]
        lth1 = ahead[LTH, k]
        lom1 = ahead[LOM, k]
        gu = wu * h * u + x[ZUU, k] - x[ZUL, k]
        gp = wp * h * (p - x[REF, k]) + x[ZPU, k] - x[ZPL, k] + lp * zg
        gp += lp1 - x[LP, k]
        gv = wv * h * v + lv * zg + carry * gu + h * lp1 + lv1 - x[LV, k]
        gth = wth * h * (x[TH, k] - target)
        gth += x[F11, k] * lth1 + x[F21, k] * lom1 - x[LTH, k]
        gom = wom * h * x[OM, k] - x[LOM, k]
        gom += x[F12, k] * lth1 + x[F22, k] * lom1
        ge = gu + x[C2, k] * lp1 + x[E1, k] * lv1
        ge += x[G1, k] * lth1 + x[G2, k] * lom1 + x[D, k] * ahead[LE, k]
        gw = ww * h * w + x[ZWU, k] - x[ZWL, k] + h * ge if velocity else 0.0
        ge -= carry * x[LE, k]
        free = 1.0 if k > 0 else 0.0
        held = free if velocity else 1.0
        x[RATIO, k] = max(
            free * max(max(abs(gp), abs(gv)), max(abs(gth), abs(gom))),
            max(held * abs(ge), abs(gw)),
        )
        x[RATIO2, k] = max(abs(x[CTH, k]), abs(x[COM, k]))
    for k in range(n, padded(n)):
        x[RATIO, k] = 0.0
        x[RATIO2, k] = 0.0
    stationarity = largest(ws, RATIO, n)
    defect = largest(ws, RATIO2, n)
    for k in range(padded(n)):
        p = x[P, k]
        g = lp * p + lv * x[V, k]
        a = gap(x[LIMP, k], p, x[ZPL, k], x[ZPU, k])
        b = gap(x[LIMG, k], g, x[ZGL, k], x[ZGU, k])
        c = gap(x[LIMU, k], x[U, k], x[ZUL, k], x[ZUU, k])
        d = 0.0
        if velocity:
            d = gap(x[LIMW, k], x[W, k], x[ZWL, k], x[ZWU, k])
        x[RATIO, k] = max(max(a, b), max(c, d))
    product = largest(ws, RATIO, n)
    return max(stationarity, last_stationarity(ws, sc, n, kind)), defect, product


@njit(cache=True, nogil=True, error_model="numpy")
def last_stationarity(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> float:
    """Largest entry of the terminal gradient minus the last multipliers."""
    x = stage(ws, 0)
    gp, gv, gth, gom, ge = terminal_gradient(ws, sc, n, kind)
    zg = x[ZGU, n] - x[ZGL, n]
    gp = x[ZPU, n] - x[ZPL, n] + sc[LEAD_P] * zg - x[LP, n] + gp
    gv = sc[LEAD_V] * zg - x[LV, n] + gv
    gth -= x[LTH, n]
    gom -= x[LOM, n]
    worst = max(max(abs(gp), abs(gv)), max(abs(gth), abs(gom)))
    if kind == VELOCITY:
        worst = max(worst, abs(ge - x[LE, n]))
    return float(worst)


@njit(cache=True, nogil=True, error_model="numpy")
def measure(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Note the KKT residual, and that of the barrier's problem."""
    stationarity, defect, product = residuals(ws, sc, n, kind)
    sc[DEFECT] = defect
    sc[RESIDUAL] = max(stationarity, max(defect, product))
    sc[BARRIER_RESIDUAL] = max(stationarity, max(defect, product - sc[MU]))


@njit(cache=True, nogil=True, error_model="numpy")
def factorise(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
    """Gains with exact curvature if that works, else with the cost's own."""
    sc[CURVATURE] = 1.0
    assemble(ws, sc, n, kind)
    if backward(ws, sc, n, kind):
        return True
    sc[CURVATURE] = 0.0
    assemble(ws, sc, n, kind)
    return backward(ws, sc, n, kind)


@njit(cache=True, nogil=True, error_model="numpy")
def trial(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> tuple[float, float]:
    """Evaluate dynamics and derivatives at the trial point; its cost and sum of |defects|."""
    evaluate(ws, sc, n, kind)
    return cost_and_defect(ws, sc, n, kind)


@njit(cache=True, nogil=True, error_model="numpy")
def start(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
    """Evaluate the iterate as it stands; False if it is not finite."""
    x = stage(ws, 0)
    for k in range(padded(n) + 1):
        for row in range(6):
            x[TP + row, k] = x[P + row, k]
        x[TLTH, k] = x[LTH, k]
        x[TLOM, k] = x[LOM, k]
    cost, defect = trial(ws, sc, n, kind)
    sc[COST] = cost
    sc[SUM_DEFECT] = defect
    return math.isfinite(cost + defect)
