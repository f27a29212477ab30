"""Along a direction, stage by stage in SIMD loops: multipliers, limits, trial, next iterate."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.stages import EXACT, padded
from cartpole.optimizer.compiled.view import stage

EXTREMA = {"contract", "nsz", "reassoc", "nnan"}


@njit(cache=True, nogil=True, error_model="numpy")
def largest(ws: FloatArray, row: int, n: int) -> float:
    """Largest entry of a row over the padded stages (none below zero); four chains at once."""
    x = stage(ws, 0)
    a = b = c = d = 0.0
    for k in range(0, padded(n), 4):
        a = max(a, x[row, k])
        b = max(b, x[row, k + 1])
        c = max(c, x[row, k + 2])
        d = max(d, x[row, k + 3])
    return max(max(a, b), max(c, d))


@njit(inline="always", error_model="numpy")
def limit_direction(
    g: float, dg: float, limit: float, zl: float, zu: float, mu: float
) -> tuple[float, float, float, float]:
    """Directions of both multipliers of |g| <= limit; the largest primal and dual shrink rates."""
    lower = 1.0 / (limit + g)
    upper = 1.0 / (limit - g)
    dzl = mu * lower - zl - zl * lower * dg
    dzu = mu * upper - zu + zu * upper * dg
    return dzl, dzu, max(-dg * lower, dg * upper), max(-dzl / zl, -dzu / zu)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXTREMA)
def directions(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> tuple[float, float, float]:
    """Directions of the limits' multipliers, and how far one may go.

    Returns (primal rate, dual rate, slope of the barrier function); a step of 1 / rate reaches the
    first limit.
    """
    x = stage(ws, 0)
    mu = sc[MU]
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    carry = 1.0 if kind == VELOCITY else 0.0
    slope = 0.0
    for k in range(padded(n)):
        dp = x[DP, k]
        dv = x[DV, k]
        du = x[DU, k]
        a, b, c, d = limit_direction(x[P, k], dp, x[LIMP, k], x[ZPL, k], x[ZPU, k], mu)
        x[DZPL, k] = a
        x[DZPU, k] = b
        primal = c
        dual = d
        a, b, c, d = limit_direction(
            lp * x[P, k] + lv * x[V, k],
            lp * dp + lv * dv,
            x[LIMG, k],
            x[ZGL, k],
            x[ZGU, k],
            mu,
        )
        x[DZGL, k] = a
        x[DZGU, k] = b
        primal = max(primal, c)
        dual = max(dual, d)
        a, b, c, d = limit_direction(x[U, k], du, x[LIMU, k], x[ZUL, k], x[ZUU, k], mu)
        x[DZUL, k] = a
        x[DZUU, k] = b
        x[RATIO2, k] = max(primal, c)
        x[RATIO3, k] = max(dual, d)
        slope += (
            x[QP, k] * dp
            + x[QV, k] * dv
            + x[QTH, k] * x[DTH, k]
            + x[QOM, k] * x[DOM, k]
            + x[QE, k] * (du - carry * dv)
        )
    if kind == VELOCITY:
        for k in range(padded(n)):
            dw = x[DW, k]
            a, b, c, d = limit_direction(x[W, k], dw, x[LIMW, k], x[ZWL, k], x[ZWU, k], mu)
            x[DZWL, k] = a
            x[DZWU, k] = b
            x[RATIO2, k] = max(x[RATIO2, k], c)
            x[RATIO3, k] = max(x[RATIO3, k], d)
            slope += x[QW, k] * dw
    return largest(ws, RATIO2, n), largest(ws, RATIO3, n), slope


@njit(cache=True, nogil=True, error_model="numpy")
def end_slope(ws: FloatArray, n: int) -> float:
    """Slope of the terminal cost along the direction (``directions`` has seen the limits')."""
    x = stage(ws, 0)
    return float(
        (x[S0, n] - x[QP, n]) * x[DP, n]
        + (x[S1, n] - x[QV, n]) * x[DV, n]
        + x[S2, n] * x[DTH, n]
        + x[S3, n] * x[DOM, n]
        + x[S4, n] * x[RATIO, n]
    )


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def new_multipliers(ws: FloatArray, n: int, kind: int) -> None:
    """Multipliers of the dynamics of the full step: gradient of the cost-to-go at the new state."""
    x = stage(ws, 0)
    for k in range(padded(n)):
        p = x[DP, k]
        v = x[DV, k]
        th = x[DTH, k]
        om = x[DOM, k]
        e = x[RATIO, k]  # direction of e before the input, left by the forward pass
        x[NLP, k] = (
            x[S0, k]
            + x[P00, k] * p
            + x[P01, k] * v
            + x[P02, k] * th
            + x[P03, k] * om
            + x[P04, k] * e
        )
        x[NLV, k] = (
            x[S1, k]
            + x[P01, k] * p
            + x[P11, k] * v
            + x[P12, k] * th
            + x[P13, k] * om
            + x[P14, k] * e
        )
        x[NLTH, k] = (
            x[S2, k]
            + x[P02, k] * p
            + x[P12, k] * v
            + x[P22, k] * th
            + x[P23, k] * om
            + x[P24, k] * e
        )
        x[NLOM, k] = (
            x[S3, k]
            + x[P03, k] * p
            + x[P13, k] * v
            + x[P23, k] * th
            + x[P33, k] * om
            + x[P34, k] * e
        )
    if kind == VELOCITY:
        for k in range(padded(n)):
            x[NLE, k] = (
                x[S4, k]
                + x[P04, k] * x[DP, k]
                + x[P14, k] * x[DV, k]
                + x[P24, k] * x[DTH, k]
                + x[P34, k] * x[DOM, k]
                + x[P44, k] * x[RATIO, k]
            )


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def move(ws: FloatArray, n: int, kind: int, alpha: float) -> None:
    """Trial point: alpha along the direction, multipliers of the pole included."""
    x = stage(ws, 0)
    for k in range(padded(n)):
        x[TP, k] = x[P, k] + alpha * x[DP, k]
        x[TV, k] = x[V, k] + alpha * x[DV, k]
        x[TTH, k] = x[TH, k] + alpha * x[DTH, k]
        x[TOM, k] = x[OM, k] + alpha * x[DOM, k]
        x[TU, k] = x[U, k] + alpha * x[DU, k]
        x[TLTH, k] = x[LTH, k] + alpha * (x[NLTH, k] - x[LTH, k])
        x[TLOM, k] = x[LOM, k] + alpha * (x[NLOM, k] - x[LOM, k])
    if kind == VELOCITY:
        for k in range(padded(n)):
            x[TW, k] = x[W, k] + alpha * x[DW, k]


@njit(inline="always", error_model="numpy")
def slack_product(g: float, limit: float) -> float:
    """Product of the slacks of |g| <= limit."""
    return (limit + g) * (limit - g)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def log_slack_change(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> float:
    """Sum of ln(slack at the trial / slack now); products first, few logarithms."""
    x = stage(ws, 0)
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    for k in range(padded(n)):
        limp = x[LIMP, k]
        limg = x[LIMG, k]
        limu = x[LIMU, k]
        new = (
            slack_product(x[TP, k], limp)
            * slack_product(lp * x[TP, k] + lv * x[TV, k], limg)
            * slack_product(x[TU, k], limu)
        )
        old = (
            slack_product(x[P, k], limp)
            * slack_product(lp * x[P, k] + lv * x[V, k], limg)
            * slack_product(x[U, k], limu)
        )
        x[RATIO, k] = new / old
    if kind == VELOCITY:
        for k in range(padded(n)):
            limw = x[LIMW, k]
            x[RATIO, k] *= slack_product(x[TW, k], limw) / slack_product(x[W, k], limw)
    product = 1.0
    total = 0.0
    for k in range(n + 1):
        product *= x[RATIO, k]
        if product < 1e-150 or product > 1e150:
            total += math.log(product)
            product = 1.0
    return total + math.log(product)


@njit(inline="always", error_model="numpy")
def step_multiplier(
    z: float, dz: float, alpha: float, slack: float, mu: float, spread: float, narrow: float
) -> float:
    """Multiplier after a step, kept within a factor ``spread`` of mu / slack."""
    centre = mu / slack
    return max(centre * narrow, min(centre * spread, z + alpha * dz))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def accept(
    ws: FloatArray, sc: FloatArray, n: int, kind: int, alpha: float, dual: float, spread: float
) -> None:
    """Make the trial the iterate; ``alpha`` and ``dual`` are the steps of the multipliers."""
    x = stage(ws, 0)
    mu = sc[MU]
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    narrow = 1.0 / spread
    for k in range(padded(n)):
        p = x[TP, k]
        v = x[TV, k]
        u = x[TU, k]
        x[P, k] = p
        x[V, k] = v
        x[TH, k] = x[TTH, k]
        x[OM, k] = x[TOM, k]
        x[U, k] = u
        x[LTH, k] = x[TLTH, k]
        x[LOM, k] = x[TLOM, k]
        x[LP, k] += alpha * (x[NLP, k] - x[LP, k])
        x[LV, k] += alpha * (x[NLV, k] - x[LV, k])
        limit = x[LIMP, k]
        x[ZPL, k] = step_multiplier(x[ZPL, k], x[DZPL, k], dual, limit + p, mu, spread, narrow)
        x[ZPU, k] = step_multiplier(x[ZPU, k], x[DZPU, k], dual, limit - p, mu, spread, narrow)
        limit = x[LIMG, k]
        g = lp * p + lv * v
        x[ZGL, k] = step_multiplier(x[ZGL, k], x[DZGL, k], dual, limit + g, mu, spread, narrow)
        x[ZGU, k] = step_multiplier(x[ZGU, k], x[DZGU, k], dual, limit - g, mu, spread, narrow)
        limit = x[LIMU, k]
        x[ZUL, k] = step_multiplier(x[ZUL, k], x[DZUL, k], dual, limit + u, mu, spread, narrow)
        x[ZUU, k] = step_multiplier(x[ZUU, k], x[DZUU, k], dual, limit - u, mu, spread, narrow)
    if kind == VELOCITY:
        for k in range(padded(n)):
            w = x[TW, k]
            limit = x[LIMW, k]
            x[W, k] = w
            x[LE, k] += alpha * (x[NLE, k] - x[LE, k])
            x[ZWL, k] = step_multiplier(x[ZWL, k], x[DZWL, k], dual, limit + w, mu, spread, narrow)
            x[ZWU, k] = step_multiplier(x[ZWU, k], x[DZWU, k], dual, limit - w, mu, spread, narrow)
