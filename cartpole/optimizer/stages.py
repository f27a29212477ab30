"""What happens stage by stage, all of it SIMD loops: dynamics, quadratic model, limits, merit."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.derivatives import pole_step_derivatives
from cartpole.optimizer import layout as _

S = _.STRIDE
EXACT = {"contract", "nsz"}
SUMS = {"contract", "nsz", "reassoc"}
EXTREMA = {"contract", "nsz", "reassoc", "nnan"}


@njit(cache=True, nogil=True, error_model="numpy")
def padded(n: int) -> int:
    """Number of stages N + 1 rounded up to whole SIMD registers."""
    return (n + _.LANES) // _.LANES * _.LANES


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def evaluate(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Defects, Jacobians and curvature of the dynamics at the trial point and its multipliers."""
    scale = sc[_.SCALE]
    coupling = sc[_.COUPLING]
    gravity = sc[_.GRAVITY]
    damping = sc[_.DAMPING]
    carry = 1.0 if kind == _.VELOCITY else 0.0
    for k in range(padded(n)):
        v = ws[_.TV * S + k]
        e = ws[_.TU * S + k] - carry * v
        h = ws[_.H * S + k]
        (th, om, f11, f12, g1, f21, f22, g2, htt, hto, hte, hoo, hoe, hee, sin, cos) = (
            pole_step_derivatives(
                ws[_.TTH * S + k],
                ws[_.TOM * S + k],
                e,
                scale,
                ws[_.RM * S + k],
                ws[_.R1 * S + k],
                h,
                coupling,
                gravity,
                damping,
                ws[_.TLTH * S + k + 1],
                ws[_.TLOM * S + k + 1],
            )
        )
        ws[_.CTH * S + k] = th - ws[_.TTH * S + k + 1]
        ws[_.COM * S + k] = om - ws[_.TOM * S + k + 1]
        ws[_.F11 * S + k] = f11
        ws[_.F12 * S + k] = f12
        ws[_.G1 * S + k] = g1
        ws[_.F21 * S + k] = f21
        ws[_.F22 * S + k] = f22
        ws[_.G2 * S + k] = g2
        ws[_.HTT * S + k] = htt
        ws[_.HTO * S + k] = hto
        ws[_.HTE * S + k] = hte
        ws[_.HOO * S + k] = hoo
        ws[_.HOE * S + k] = hoe
        ws[_.HEE * S + k] = hee
        ws[_.SIN * S + k] = sin
        ws[_.COS * S + k] = cos


@njit(inline="always", error_model="numpy")
def barrier(g: float, limit: float, zl: float, zu: float, mu: float) -> tuple[float, float]:
    """Gradient of -mu (ln(limit + g) + ln(limit - g)) and the primal-dual curvature."""
    lower = 1.0 / (limit + g)
    upper = 1.0 / (limit - g)
    return mu * (upper - lower), zl * lower + zu * upper


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def assemble(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Gradient and Hessian of cost and limits in y, at the current iterate."""
    mu = sc[_.MU]
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
    exact = sc[_.CURVATURE]
    carry = 1.0 if kind == _.VELOCITY else 0.0
    for k in range(padded(n)):
        h = ws[_.H * S + k]
        p = ws[_.P * S + k]
        v = ws[_.V * S + k]
        th = ws[_.TH * S + k]
        om = ws[_.OM * S + k]
        u = ws[_.U * S + k]
        gp, sp = barrier(p, ws[_.LIMP * S + k], ws[_.ZPL * S + k], ws[_.ZPU * S + k], mu)
        gg, sg = barrier(
            lp * p + lv * v, ws[_.LIMG * S + k], ws[_.ZGL * S + k], ws[_.ZGU * S + k], mu
        )
        gu, su = barrier(u, ws[_.LIMU * S + k], ws[_.ZUL * S + k], ws[_.ZUU * S + k], mu)
        gu += wu * h * u
        su += wu * h
        ws[_.QP * S + k] = wp * h * (p - ws[_.REF * S + k]) + gp + lp * gg
        ws[_.QV * S + k] = wv * h * v + lv * gg + carry * gu
        ws[_.QTH * S + k] = wth * h * (multiple * (th - target) - periodic * ws[_.SIN * S + k])
        ws[_.QOM * S + k] = wom * h * om
        ws[_.QE * S + k] = gu
        ws[_.QPP * S + k] = wp * h + sp + lp * lp * sg
        ws[_.QPV * S + k] = lp * lv * sg
        ws[_.QVV * S + k] = wv * h + lv * lv * sg + carry * su
        ws[_.QVE * S + k] = carry * su
        ws[_.QEE * S + k] = su + exact * ws[_.HEE * S + k]
        ws[_.QTT * S + k] = (
            wth * h * (multiple + periodic * 0.5 * (1.0 - ws[_.COS * S + k]))
            + exact * ws[_.HTT * S + k]
        )
        ws[_.QTO * S + k] = exact * ws[_.HTO * S + k]
        ws[_.QOO * S + k] = wom * h + exact * ws[_.HOO * S + k]
        ws[_.QTE * S + k] = exact * ws[_.HTE * S + k]
        ws[_.QOE * S + k] = exact * ws[_.HOE * S + k]
    if kind == _.VELOCITY:
        for k in range(padded(n)):
            h = ws[_.H * S + k]
            w = ws[_.W * S + k]
            gw, sw = barrier(w, ws[_.LIMW * S + k], ws[_.ZWL * S + k], ws[_.ZWU * S + k], mu)
            ws[_.QW * S + k] = ww * h * w + gw
            ws[_.QWW * S + k] = ww * h + sw


@njit(cache=True, nogil=True, error_model="numpy")
def largest(ws: FloatArray, row: int, n: int) -> float:
    """Largest entry of a row over the padded stages (none below zero); four chains at once."""
    a = b = c = d = 0.0
    for k in range(0, padded(n), 4):
        i = row * S + k
        a = max(a, ws[i])
        b = max(b, ws[i + 1])
        c = max(c, ws[i + 2])
        d = max(d, ws[i + 3])
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
    mu = sc[_.MU]
    lp = sc[_.LEAD_P]
    lv = sc[_.LEAD_V]
    carry = 1.0 if kind == _.VELOCITY else 0.0
    slope = 0.0
    for k in range(padded(n)):
        dp = ws[_.DP * S + k]
        dv = ws[_.DV * S + k]
        du = ws[_.DU * S + k]
        a, b, c, d = limit_direction(
            ws[_.P * S + k], dp, ws[_.LIMP * S + k], ws[_.ZPL * S + k], ws[_.ZPU * S + k], mu
        )
        ws[_.DZPL * S + k] = a
        ws[_.DZPU * S + k] = b
        primal = c
        dual = d
        a, b, c, d = limit_direction(
            lp * ws[_.P * S + k] + lv * ws[_.V * S + k],
            lp * dp + lv * dv,
            ws[_.LIMG * S + k],
            ws[_.ZGL * S + k],
            ws[_.ZGU * S + k],
            mu,
        )
        ws[_.DZGL * S + k] = a
        ws[_.DZGU * S + k] = b
        primal = max(primal, c)
        dual = max(dual, d)
        a, b, c, d = limit_direction(
            ws[_.U * S + k], du, ws[_.LIMU * S + k], ws[_.ZUL * S + k], ws[_.ZUU * S + k], mu
        )
        ws[_.DZUL * S + k] = a
        ws[_.DZUU * S + k] = b
        ws[_.RATIO2 * S + k] = max(primal, c)
        ws[_.RATIO3 * S + k] = max(dual, d)
        slope += (
            ws[_.QP * S + k] * dp
            + ws[_.QV * S + k] * dv
            + ws[_.QTH * S + k] * ws[_.DTH * S + k]
            + ws[_.QOM * S + k] * ws[_.DOM * S + k]
            + ws[_.QE * S + k] * (du - carry * dv)
        )
    if kind == _.VELOCITY:
        for k in range(padded(n)):
            dw = ws[_.DW * S + k]
            a, b, c, d = limit_direction(
                ws[_.W * S + k], dw, ws[_.LIMW * S + k], ws[_.ZWL * S + k], ws[_.ZWU * S + k], mu
            )
            ws[_.DZWL * S + k] = a
            ws[_.DZWU * S + k] = b
            ws[_.RATIO2 * S + k] = max(ws[_.RATIO2 * S + k], c)
            ws[_.RATIO3 * S + k] = max(ws[_.RATIO3 * S + k], d)
            slope += ws[_.QW * S + k] * dw
    return largest(ws, _.RATIO2, n), largest(ws, _.RATIO3, n), slope


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def new_multipliers(ws: FloatArray, n: int, kind: int) -> None:
    """Multipliers of the dynamics of the full step: gradient of the cost-to-go at the new state."""
    for k in range(padded(n)):
        p = ws[_.DP * S + k]
        v = ws[_.DV * S + k]
        th = ws[_.DTH * S + k]
        om = ws[_.DOM * S + k]
        e = ws[_.RATIO * S + k]  # direction of e before the input, left by the forward pass
        ws[_.NLP * S + k] = (
            ws[_.S0 * S + k]
            + ws[_.P00 * S + k] * p
            + ws[_.P01 * S + k] * v
            + ws[_.P02 * S + k] * th
            + ws[_.P03 * S + k] * om
            + ws[_.P04 * S + k] * e
        )
        ws[_.NLV * S + k] = (
            ws[_.S1 * S + k]
            + ws[_.P01 * S + k] * p
            + ws[_.P11 * S + k] * v
            + ws[_.P12 * S + k] * th
            + ws[_.P13 * S + k] * om
            + ws[_.P14 * S + k] * e
        )
        ws[_.NLTH * S + k] = (
            ws[_.S2 * S + k]
            + ws[_.P02 * S + k] * p
            + ws[_.P12 * S + k] * v
            + ws[_.P22 * S + k] * th
            + ws[_.P23 * S + k] * om
            + ws[_.P24 * S + k] * e
        )
        ws[_.NLOM * S + k] = (
            ws[_.S3 * S + k]
            + ws[_.P03 * S + k] * p
            + ws[_.P13 * S + k] * v
            + ws[_.P23 * S + k] * th
            + ws[_.P33 * S + k] * om
            + ws[_.P34 * S + k] * e
        )
    if kind == _.VELOCITY:
        for k in range(padded(n)):
            ws[_.NLE * S + k] = (
                ws[_.S4 * S + k]
                + ws[_.P04 * S + k] * ws[_.DP * S + k]
                + ws[_.P14 * S + k] * ws[_.DV * S + k]
                + ws[_.P24 * S + k] * ws[_.DTH * S + k]
                + ws[_.P34 * S + k] * ws[_.DOM * S + k]
                + ws[_.P44 * S + k] * ws[_.RATIO * S + k]
            )


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def move(ws: FloatArray, n: int, kind: int, alpha: float) -> None:
    """Trial point: alpha along the direction, multipliers of the pole included."""
    for k in range(padded(n)):
        ws[_.TP * S + k] = ws[_.P * S + k] + alpha * ws[_.DP * S + k]
        ws[_.TV * S + k] = ws[_.V * S + k] + alpha * ws[_.DV * S + k]
        ws[_.TTH * S + k] = ws[_.TH * S + k] + alpha * ws[_.DTH * S + k]
        ws[_.TOM * S + k] = ws[_.OM * S + k] + alpha * ws[_.DOM * S + k]
        ws[_.TU * S + k] = ws[_.U * S + k] + alpha * ws[_.DU * S + k]
        ws[_.TLTH * S + k] = ws[_.LTH * S + k] + alpha * (ws[_.NLTH * S + k] - ws[_.LTH * S + k])
        ws[_.TLOM * S + k] = ws[_.LOM * S + k] + alpha * (ws[_.NLOM * S + k] - ws[_.LOM * S + k])
    if kind == _.VELOCITY:
        for k in range(padded(n)):
            ws[_.TW * S + k] = ws[_.W * S + k] + alpha * ws[_.DW * S + k]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def cost_and_defect(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> tuple[float, float]:
    """Cost and sum of the absolute defects at the trial point."""
    wp = sc[_.WEIGHT_P]
    wv = sc[_.WEIGHT_V]
    wth = sc[_.WEIGHT_TH]
    wom = sc[_.WEIGHT_OM]
    wu = sc[_.WEIGHT_U]
    ww = sc[_.WEIGHT_W] if kind == _.VELOCITY else 0.0
    target = sc[_.THETA_REF]
    periodic = sc[_.PERIODIC]
    multiple = 1.0 - periodic
    cost = 0.0
    defect = 0.0
    for k in range(n):
        p = ws[_.TP * S + k] - ws[_.REF * S + k]
        v = ws[_.TV * S + k]
        th = ws[_.TTH * S + k] - target
        om = ws[_.TOM * S + k]
        u = ws[_.TU * S + k]
        w = ws[_.TW * S + k]
        angle = multiple * th * th + 2.0 * periodic * (1.0 + ws[_.COS * S + k])
        cost += ws[_.H * S + k] * (
            wp * p * p + wv * v * v + wth * angle + wom * om * om + wu * u * u + ww * w * w
        )
        defect += abs(ws[_.CTH * S + k]) + abs(ws[_.COM * S + k])
    p = ws[_.TP * S + n] - ws[_.REF * S + n]
    v = ws[_.TV * S + n]
    th = ws[_.TTH * S + n] - target
    om = ws[_.TOM * S + n]
    e = ws[_.TU * S + n - 1] - v if kind == _.VELOCITY else 0.0
    t = _.TERMINAL
    cost += 0.5 * (
        sc[t] * p * p
        + sc[t + 5] * v * v
        + sc[t + 9] * th * th
        + sc[t + 12] * om * om
        + sc[t + 14] * e * e
    ) + (
        p * (sc[t + 1] * v + sc[t + 2] * th + sc[t + 3] * om + sc[t + 4] * e)
        + v * (sc[t + 6] * th + sc[t + 7] * om + sc[t + 8] * e)
        + th * (sc[t + 10] * om + sc[t + 11] * e)
        + om * sc[t + 13] * e
    )
    return cost, defect


@njit(inline="always", error_model="numpy")
def slack_product(g: float, limit: float) -> float:
    """Product of the slacks of |g| <= limit."""
    return (limit + g) * (limit - g)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def log_slack_change(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> float:
    """Sum of ln(slack at the trial / slack now); products first, few logarithms."""
    lp = sc[_.LEAD_P]
    lv = sc[_.LEAD_V]
    for k in range(padded(n)):
        limp = ws[_.LIMP * S + k]
        limg = ws[_.LIMG * S + k]
        limu = ws[_.LIMU * S + k]
        new = (
            slack_product(ws[_.TP * S + k], limp)
            * slack_product(lp * ws[_.TP * S + k] + lv * ws[_.TV * S + k], limg)
            * slack_product(ws[_.TU * S + k], limu)
        )
        old = (
            slack_product(ws[_.P * S + k], limp)
            * slack_product(lp * ws[_.P * S + k] + lv * ws[_.V * S + k], limg)
            * slack_product(ws[_.U * S + k], limu)
        )
        ws[_.RATIO * S + k] = new / old
    if kind == _.VELOCITY:
        for k in range(padded(n)):
            limw = ws[_.LIMW * S + k]
            ws[_.RATIO * S + k] *= slack_product(ws[_.TW * S + k], limw) / slack_product(
                ws[_.W * S + k], limw
            )
    product = 1.0
    total = 0.0
    for k in range(n + 1):
        product *= ws[_.RATIO * S + k]
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
    mu = sc[_.MU]
    lp = sc[_.LEAD_P]
    lv = sc[_.LEAD_V]
    narrow = 1.0 / spread
    for k in range(padded(n)):
        p = ws[_.TP * S + k]
        v = ws[_.TV * S + k]
        u = ws[_.TU * S + k]
        ws[_.P * S + k] = p
        ws[_.V * S + k] = v
        ws[_.TH * S + k] = ws[_.TTH * S + k]
        ws[_.OM * S + k] = ws[_.TOM * S + k]
        ws[_.U * S + k] = u
        ws[_.LTH * S + k] = ws[_.TLTH * S + k]
        ws[_.LOM * S + k] = ws[_.TLOM * S + k]
        ws[_.LP * S + k] += alpha * (ws[_.NLP * S + k] - ws[_.LP * S + k])
        ws[_.LV * S + k] += alpha * (ws[_.NLV * S + k] - ws[_.LV * S + k])
        limit = ws[_.LIMP * S + k]
        ws[_.ZPL * S + k] = step_multiplier(
            ws[_.ZPL * S + k], ws[_.DZPL * S + k], dual, limit + p, mu, spread, narrow
        )
        ws[_.ZPU * S + k] = step_multiplier(
            ws[_.ZPU * S + k], ws[_.DZPU * S + k], dual, limit - p, mu, spread, narrow
        )
        limit = ws[_.LIMG * S + k]
        g = lp * p + lv * v
        ws[_.ZGL * S + k] = step_multiplier(
            ws[_.ZGL * S + k], ws[_.DZGL * S + k], dual, limit + g, mu, spread, narrow
        )
        ws[_.ZGU * S + k] = step_multiplier(
            ws[_.ZGU * S + k], ws[_.DZGU * S + k], dual, limit - g, mu, spread, narrow
        )
        limit = ws[_.LIMU * S + k]
        ws[_.ZUL * S + k] = step_multiplier(
            ws[_.ZUL * S + k], ws[_.DZUL * S + k], dual, limit + u, mu, spread, narrow
        )
        ws[_.ZUU * S + k] = step_multiplier(
            ws[_.ZUU * S + k], ws[_.DZUU * S + k], dual, limit - u, mu, spread, narrow
        )
    if kind == _.VELOCITY:
        for k in range(padded(n)):
            w = ws[_.TW * S + k]
            limit = ws[_.LIMW * S + k]
            ws[_.W * S + k] = w
            ws[_.LE * S + k] += alpha * (ws[_.NLE * S + k] - ws[_.LE * S + k])
            ws[_.ZWL * S + k] = step_multiplier(
                ws[_.ZWL * S + k], ws[_.DZWL * S + k], dual, limit + w, mu, spread, narrow
            )
            ws[_.ZWU * S + k] = step_multiplier(
                ws[_.ZWU * S + k], ws[_.DZWU * S + k], dual, limit - w, mu, spread, narrow
            )
