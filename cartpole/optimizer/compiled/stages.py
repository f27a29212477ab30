"""A plan stage by stage, in SIMD loops: dynamics, quadratic model, cost."""

from __future__ import annotations

from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.derivatives import pole_step_derivatives
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.terminal import terminal_cost
from cartpole.optimizer.compiled.view import stage

EXACT = {"contract", "nsz"}
SUMS = {"contract", "nsz", "reassoc"}


@njit(cache=True, nogil=True, error_model="numpy")
def padded(n: int) -> int:
    """Number of stages N + 1 rounded up to whole SIMD registers."""
    return (n + LANES) // LANES * LANES


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def evaluate(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Defects, Jacobians and curvature of the dynamics at the trial point and its multipliers."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    scale = sc[SCALE]
    coupling = sc[COUPLING]
    gravity = sc[GRAVITY]
    damping = sc[DAMPING]
    carry = 1.0 if kind == VELOCITY else 0.0
    for k in range(padded(n)):
        v = x[TV, k]
        e = x[TU, k] - carry * v
        h = x[H, k]
        (th, om, f11, f12, g1, f21, f22, g2, htt, hto, hte, hoo, hoe, hee) = pole_step_derivatives(
            x[TTH, k],
            x[TOM, k],
            e,
            scale,
            x[RM, k],
            x[R1, k],
            h,
            coupling,
            gravity,
            damping,
            ahead[TLTH, k],
            ahead[TLOM, k],
        )
        x[CTH, k] = th - ahead[TTH, k]
        x[COM, k] = om - ahead[TOM, k]
        x[F11, k] = f11
        x[F12, k] = f12
        x[G1, k] = g1
        x[F21, k] = f21
        x[F22, k] = f22
        x[G2, k] = g2
        x[HTT, k] = htt
        x[HTO, k] = hto
        x[HTE, k] = hte
        x[HOO, k] = hoo
        x[HOE, k] = hoe
        x[HEE, k] = hee


@njit(inline="always", error_model="numpy")
def barrier(g: float, limit: float, zl: float, zu: float, mu: float) -> tuple[float, float]:
    """Gradient of -mu (ln(limit + g) + ln(limit - g)) and the primal-dual curvature."""
    lower = 1.0 / (limit + g)
    upper = 1.0 / (limit - g)
    return mu * (upper - lower), zl * lower + zu * upper


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def assemble(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Gradient and Hessian of cost and limits in y, at the current iterate."""
    x = stage(ws, 0)
    mu = sc[MU]
    wp = 2.0 * sc[WEIGHT_P]
    wv = 2.0 * sc[WEIGHT_V]
    wth = 2.0 * sc[WEIGHT_TH]
    wom = 2.0 * sc[WEIGHT_OM]
    wu = 2.0 * sc[WEIGHT_U]
    ww = 2.0 * sc[WEIGHT_W]
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    target = sc[THETA_REF]
    exact = sc[CURVATURE]
    carry = 1.0 if kind == VELOCITY else 0.0
    for k in range(padded(n)):
        h = x[H, k]
        p = x[P, k]
        v = x[V, k]
        th = x[TH, k]
        om = x[OM, k]
        u = x[U, k]
        gp, sp = barrier(p, x[LIMP, k], x[ZPL, k], x[ZPU, k], mu)
        gg, sg = barrier(lp * p + lv * v, x[LIMG, k], x[ZGL, k], x[ZGU, k], mu)
        gu, su = barrier(u, x[LIMU, k], x[ZUL, k], x[ZUU, k], mu)
        gu += wu * h * u
        su += wu * h
        x[QP, k] = wp * h * (p - x[REF, k]) + gp + lp * gg
        x[QV, k] = wv * h * v + lv * gg + carry * gu
        x[QTH, k] = wth * h * (th - target)
        x[QOM, k] = wom * h * om
        x[QE, k] = gu
        x[QPP, k] = wp * h + sp + lp * lp * sg
        x[QPV, k] = lp * lv * sg
        x[QVV, k] = wv * h + lv * lv * sg + carry * su
        x[QVE, k] = carry * su
        x[QEE, k] = su + exact * x[HEE, k]
        x[QTT, k] = wth * h + exact * x[HTT, k]
        x[QTO, k] = exact * x[HTO, k]
        x[QOO, k] = wom * h + exact * x[HOO, k]
        x[QTE, k] = exact * x[HTE, k]
        x[QOE, k] = exact * x[HOE, k]
    if kind == VELOCITY:
        for k in range(padded(n)):
            h = x[H, k]
            w = x[W, k]
            gw, sw = barrier(w, x[LIMW, k], x[ZWL, k], x[ZWU, k], mu)
            x[QW, k] = ww * h * w + gw
            x[QWW, k] = ww * h + sw


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def cost_and_defect(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> tuple[float, float]:
    """Cost and sum of the absolute defects at the trial point."""
    x = stage(ws, 0)
    wp = sc[WEIGHT_P]
    wv = sc[WEIGHT_V]
    wth = sc[WEIGHT_TH]
    wom = sc[WEIGHT_OM]
    wu = sc[WEIGHT_U]
    ww = sc[WEIGHT_W] if kind == VELOCITY else 0.0
    target = sc[THETA_REF]
    cost = 0.0
    defect = 0.0
    for k in range(n):
        p = x[TP, k] - x[REF, k]
        v = x[TV, k]
        th = x[TTH, k] - target
        om = x[TOM, k]
        u = x[TU, k]
        w = x[TW, k]
        cost += x[H, k] * (
            wth * th * th + wp * p * p + wv * v * v + wom * om * om + wu * u * u + ww * w * w
        )
        defect += abs(x[CTH, k]) + abs(x[COM, k])
    p = x[TP, n] - x[REF, n]
    v = x[TV, n]
    th = x[TTH, n] - target
    om = x[TOM, n]
    e = x[TU, n - 1] - v if kind == VELOCITY else 0.0
    cost += terminal_cost(sc, p, v, th, om, e)
    return cost, defect
