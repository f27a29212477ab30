"""Adjoint of a converged plan, compiled.

At fixed mu a plan solves F(z, q) = 0: the gradient of L = cost - mu sum ln(slack) + lambda . c by
all stages, and the defects c. For a loss l(z) with gradient g the adjoint (d, nu) solves

    [ H  A' ] [ d  ]     [ g ]
    [ A  0  ] [ nu ] = - [ 0 ]

which is the system of a Newton step with other right hand sides: no limits, no defects, g in place
of the cost's gradient. With the factor of *this* iterate (not of the one before the last step) it
takes one vector sweep backward and one forward. Then dl/dq = (d, nu) . dF/dq for every parameter q.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.derivatives import sine_cosine
from cartpole.optimizer.compiled.directions import new_multipliers
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.riccati import backward, forward
from cartpole.optimizer.compiled.stages import EXACT, SUMS, assemble, padded
from cartpole.optimizer.compiled.view import stage

# Places of the gradients in the result of ``contract``.
(D_COUPLING, D_GRAVITY, D_DAMPING, D_TAU) = range(4)
(D_WEIGHT_P, D_WEIGHT_V, D_WEIGHT_TH, D_WEIGHT_OM, D_WEIGHT_U, D_WEIGHT_W) = range(4, 10)
(D_LIMIT_P, D_LIMIT_G, D_LIMIT_U, D_LIMIT_W, D_MU) = range(10, 15)
SCALAR_GRADIENTS = 15
# Places in the result of ``gathered``: what stands before the reference's N + 1 entries; after them
# (5,) by the measured state, then mu.
G_WEIGHTS, G_TERMINAL, G_LIMITS, G_REFERENCE = 4, 10, 35, 39
GATHERED = 45  # entries beside the reference's


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def centre(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Multipliers of the limits at mu / slack: the factor is then that of the barrier itself."""
    x = stage(ws, 0)
    mu = sc[MU]
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    for k in range(padded(n)):
        g = lp * x[P, k] + lv * x[V, k]
        x[ZPL, k] = mu / (x[LIMP, k] + x[P, k])
        x[ZPU, k] = mu / (x[LIMP, k] - x[P, k])
        x[ZGL, k] = mu / (x[LIMG, k] + g)
        x[ZGU, k] = mu / (x[LIMG, k] - g)
        x[ZUL, k] = mu / (x[LIMU, k] + x[U, k])
        x[ZUU, k] = mu / (x[LIMU, k] - x[U, k])
        x[ZWL, k] = mu / (x[LIMW, k] + x[W, k])
        x[ZWU, k] = mu / (x[LIMW, k] - x[W, k])


@njit(cache=True, nogil=True, error_model="numpy")
def factorise_exactly(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
    """Gains and cost-to-go at the (evaluated, centred) iterate; False: it is no minimum."""
    sc[CURVATURE] = 1.0
    assemble(ws, sc, n, kind)
    return bool(backward(ws, sc, n, kind))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=EXACT)
def sweep(ws: FloatArray, states: FloatArray, inputs: FloatArray, n: int, kind: int) -> None:
    """Right hand sides of the adjoint, backward; ``states`` (N + 1, 5), ``inputs`` (N,): dl.

    Leaves s in the rows S and k in the row KF; the defects' rows become zero. State 0 of the loss
    is given, so its entries only add to the gradient by the initial state.
    """
    x = stage(ws, 0)
    velocity = kind == VELOCITY
    s0 = states[n, 0]
    s1 = states[n, 1]
    s2 = states[n, 2]
    s3 = states[n, 3]
    s4 = 0.0
    x[S0, n] = s0
    x[S1, n] = s1
    x[S2, n] = s2
    x[S3, n] = s3
    x[S4, n] = s4
    for i in range(n):
        k = n - 1 - i
        h = x[H, k]
        x[CTH, k] = 0.0
        x[COM, k] = 0.0
        # u_k is v + e after the input: its entry is that of state k + 1 (velocity), or the input's.
        gu = states[k + 1, 4] if velocity else inputs[k]
        m4 = x[C2, k] * s0 + x[E1, k] * s1 + x[G1, k] * s2 + x[G2, k] * s3 + x[D, k] * s4 + gu
        m0 = s0 + states[k, 0]
        m1 = h * s0 + s1 + states[k, 1]
        m2 = x[F11, k] * s2 + x[F21, k] * s3 + states[k, 2]
        m3 = x[F12, k] * s2 + x[F22, k] * s3 + states[k, 3]
        if velocity:
            m1 += gu
            pull = inputs[k] + h * m4
            s4 = m4 + x[K4, k] * pull
        else:
            pull = m4
            s4 = 0.0
        s0 = m0 + x[K0, k] * pull
        s1 = m1 + x[K1, k] * pull
        s2 = m2 + x[K2, k] * pull
        s3 = m3 + x[K3, k] * pull
        x[KF, k] = -pull * x[INVERSE, k]
        x[S0, k] = s0
        x[S1, k] = s1
        x[S2, k] = s2
        x[S3, k] = s3
        x[S4, k] = s4


@njit(cache=True, nogil=True, error_model="numpy")
def adjoint(ws: FloatArray, states: FloatArray, inputs: FloatArray, n: int, kind: int) -> bool:
    """(d, nu) into the rows D* and NL*; needs the factor of the iterate. False: not finite."""
    sweep(ws, states, inputs, n, kind)
    if not forward(ws, n, kind):
        return False
    new_multipliers(ws, n, kind)
    return True


@njit(inline="always", error_model="numpy")
def barrier_by(g: float, dg: float, limit: float, mu: float) -> tuple[float, float]:
    """d/dlimit and d/dmu of dg times the gradient of -mu (ln(limit + g) + ln(limit - g))."""
    lower = 1.0 / (limit + g)
    upper = 1.0 / (limit - g)
    return dg * mu * (lower * lower - upper * upper), dg * (upper - lower)


@njit(inline="always", error_model="numpy")
def pole_by(
    theta: float, omega: float, a: float, dtheta: float, domega: float, da: float,
    m: float, n: float, c: float, g: float,
) -> tuple[float, float, float, float, float]:  # fmt: skip
    """n k + m dk of one Runge-Kutta stage, by (c, g, b, a, da); k = -c (g sin + a cos) - b omega.

    ``d...`` are the stage's tangents along d; m and n are the adjoints of dk and of k.
    """
    s, co = sine_cosine(theta)
    pull = g * s + a * co
    turn = g * co - a * s
    return (
        -n * pull - m * (turn * dtheta + da * co),
        -c * (n * s + m * co * dtheta),
        -n * omega - m * domega,
        c * (m * s * dtheta - n * co),
        -c * m * co,
    )


@njit(inline="always", error_model="numpy")
def step_by(
    theta: float, omega: float, e: float, dtheta: float, domega: float, de: float,
    lth: float, lom: float, nth: float, nom: float,
    r1: float, r2: float, r4: float, h: float, c: float, g: float, b: float,
) -> tuple[float, float, float, float, float, float]:  # fmt: skip
    """lambda . df + nu . f of one pole step by (c, g, b, r1, r2, r4); a_i = r_i e.

    df is the step's derivative along (dtheta, domega, de). Reverse sweep over the Runge-Kutta step
    and its tangent.
    """
    half = 0.5 * h
    sixth = h / 6.0
    third = h / 3.0
    a1 = r1 * e
    a2 = r2 * e
    a4 = r4 * e
    b1 = r1 * de
    b2 = r2 * de
    b4 = r4 * de
    s, co = sine_cosine(theta)
    k = -c * (g * s + a1 * co) - b * omega
    dk = -c * ((g * co - a1 * s) * dtheta + b1 * co) - b * domega
    t2 = theta + half * omega
    o2 = omega + half * k
    dt2 = dtheta + half * domega
    do2 = domega + half * dk
    s, co = sine_cosine(t2)
    f2 = -c * (g * co - a2 * s)
    k = -c * (g * s + a2 * co) - b * o2
    dk = f2 * dt2 - c * b2 * co - b * do2
    t3 = theta + half * o2
    o3 = omega + half * k
    dt3 = dtheta + half * do2
    do3 = domega + half * dk
    s, co = sine_cosine(t3)
    f3 = -c * (g * co - a2 * s)
    w3 = c * ((g * s + a2 * co) * dt3 + b2 * s)
    k = -c * (g * s + a2 * co) - b * o3
    dk = f3 * dt3 - c * b2 * co - b * do3
    t4 = theta + h * o3
    o4 = omega + h * k
    dt4 = dtheta + h * do3
    do4 = domega + h * dk
    s, co = sine_cosine(t4)
    f4 = -c * (g * co - a4 * s)
    w4 = c * ((g * s + a4 * co) * dt4 + b4 * s)
    # Adjoints of the tangents' rates (m) and of the rates (n).
    m4 = lom * sixth
    q4 = lth * sixth - b * m4
    m3 = lom * third + h * q4
    q3 = lth * third + h * (m4 * f4) - b * m3
    m2 = lom * third + half * q3
    q2 = lth * third + half * (m3 * f3) - b * m2
    m1 = lom * sixth + half * q2
    n4 = nom * sixth
    q4 = nth * sixth - b * n4
    n3 = nom * third + h * q4
    q3 = nth * third + h * (n4 * f4 + m4 * w4) - b * n3
    n2 = nom * third + half * q3
    q2 = nth * third + half * (n3 * f3 + m3 * w3) - b * n2
    n1 = nom * sixth + half * q2
    c1, g1, d1, x1, y1 = pole_by(theta, omega, a1, dtheta, domega, b1, m1, n1, c, g)
    c2, g2, d2, x2, y2 = pole_by(t2, o2, a2, dt2, do2, b2, m2, n2, c, g)
    c3, g3, d3, x3, y3 = pole_by(t3, o3, a2, dt3, do3, b2, m3, n3, c, g)
    c4, g4, d4, x4, y4 = pole_by(t4, o4, a4, dt4, do4, b4, m4, n4, c, g)
    return (
        c1 + c2 + c3 + c4,
        g1 + g2 + g3 + g4,
        d1 + d2 + d3 + d4,
        e * x1 + de * y1,
        e * (x2 + x3) + de * (y2 + y3),
        e * x4 + de * y4,
    )


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def contract(ws: FloatArray, sc: FloatArray, n: int, kind: int, out: FloatArray) -> None:
    """(d, nu) . dF/dq for all scalar parameters into ``out`` (SCALAR_GRADIENTS,); see D_*."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    velocity = kind == VELOCITY
    carry = 1.0 if velocity else 0.0
    c = sc[COUPLING]
    gravity = sc[GRAVITY]
    b = sc[DAMPING]
    scale = sc[SCALE]
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    mu = sc[MU]
    target = sc[THETA_REF]
    by_c = by_g = by_b = by_tau = 0.0
    wp = wv = wth = wom = wu = ww = 0.0
    lim_p = lim_g = lim_u = lim_w = by_mu = 0.0
    for k in range(n):
        h = x[H, k]
        v = x[V, k]
        e = x[U, k] - carry * v
        dv = x[DV, k]
        de = x[DU, k] - carry * dv
        r2 = scale * x[RM, k]
        r4 = scale * x[R1, k]
        q0, q1, q2, q3, q4, q5 = step_by(
            x[TH, k], x[OM, k], e, x[DTH, k], x[DOM, k], de,
            ahead[LTH, k], ahead[LOM, k], ahead[NLTH, k], ahead[NLOM, k],
            scale, r2, r4, h, c, gravity, b,
        )  # fmt: skip
        by_c += q0
        by_g += q1
        by_b += q2
        # r(t) = exp(-t / tau) / tau; d/dtau = r (t / tau - 1) / tau.
        end = h * scale
        change = q3 * -scale + q4 * r2 * (0.5 * end - 1.0) + q5 * r4 * (end - 1.0)
        decay = x[D, k]
        cart = (ahead[LP, k] * de + ahead[NLP, k] * e) * (decay * (1.0 + end) - 1.0)
        cart += (
            (ahead[LE, k] - ahead[LV, k]) * de + (ahead[NLE, k] - ahead[NLV, k]) * e
        ) * (decay * end * scale)  # fmt: skip
        by_tau += change * scale + cart
        wp += 2.0 * h * (x[P, k] - x[REF, k]) * x[DP, k]
        wv += 2.0 * h * v * dv
        wth += 2.0 * h * (x[TH, k] - target) * x[DTH, k]
        wom += 2.0 * h * x[OM, k] * x[DOM, k]
        wu += 2.0 * h * x[U, k] * x[DU, k]
        first, second = barrier_by(x[U, k], x[DU, k], x[LIMU, k], mu)
        lim_u += first
        by_mu += second
    for k in range(1, n + 1):
        first, second = barrier_by(x[P, k], x[DP, k], x[LIMP, k], mu)
        lim_p += first
        by_mu += second
        first, second = barrier_by(
            lp * x[P, k] + lv * x[V, k], lp * x[DP, k] + lv * x[DV, k], x[LIMG, k], mu
        )
        lim_g += first
        by_mu += second
    if velocity:
        for k in range(n):
            ww += 2.0 * x[H, k] * x[W, k] * x[DW, k]
            first, second = barrier_by(x[W, k], x[DW, k], x[LIMW, k], mu)
            lim_w += first
            by_mu += second
    out[D_COUPLING] = by_c
    out[D_GRAVITY] = by_g
    out[D_DAMPING] = by_b
    out[D_TAU] = by_tau if velocity else 0.0
    out[D_WEIGHT_P] = wp
    out[D_WEIGHT_V] = wv
    out[D_WEIGHT_TH] = wth
    out[D_WEIGHT_OM] = wom
    out[D_WEIGHT_U] = wu
    out[D_WEIGHT_W] = ww
    out[D_LIMIT_P] = lim_p
    out[D_LIMIT_G] = lim_g
    out[D_LIMIT_U] = lim_u
    out[D_LIMIT_W] = lim_w
    out[D_MU] = by_mu


@njit(cache=True, nogil=True, error_model="numpy")
def differentiate(
    ws: FloatArray,
    sc: FloatArray,
    states: FloatArray,
    inputs: FloatArray,
    n: int,
    kind: int,
    out: FloatArray,
) -> bool:
    """Factor, adjoint and contraction at a polished iterate in one call."""
    centre(ws, sc, n, kind)
    if not factorise_exactly(ws, sc, n, kind):
        return False
    if not adjoint(ws, states, inputs, n, kind):
        return False
    contract(ws, sc, n, kind, out)
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def gathered(
    ws: FloatArray, sc: FloatArray, states: FloatArray, inputs: FloatArray, terminal: FloatArray,
    length_m: float, n: int, kind: int, out: FloatArray,
) -> bool:  # fmt: skip
    """All gradients into ``out`` (GATHERED + N + 1,), by the factor of the iterate; see G_*.

    ``terminal`` (5, 5) is the problem's. False: not finite.
    """
    if not adjoint(ws, states, inputs, n, kind):
        return False
    x = stage(ws, 0)
    scalar = np.empty(SCALAR_GRADIENTS)
    contract(ws, sc, n, kind, scalar)
    out[0] = -1.5 / length_m**2 * scalar[D_COUPLING]
    out[1] = scalar[D_DAMPING]
    out[2] = scalar[D_GRAVITY]
    out[3] = scalar[D_TAU]
    for i in range(6):
        out[G_WEIGHTS + i] = scalar[D_WEIGHT_P + i]
    for i in range(4):
        out[G_LIMITS + i] = scalar[D_LIMIT_P + i]
    velocity = kind == VELOCITY
    last, place = np.empty(5), np.empty(5)
    for i in range(4):
        last[i], place[i] = x[DP + i, n], x[P + i, n]
    place[0] -= x[REF, n]
    place[2] -= sc[THETA_REF]
    # The last command is the speed the cart is left with: what the sweep keeps is their difference.
    last[4] = x[RATIO, n] + last[1] if velocity else x[RATIO, n]
    place[4] = x[U, n - 1] if velocity else 0.0
    pull = 0.0
    for i in range(5):
        pull -= terminal[0, i] * last[i]
        for j in range(5):
            out[G_TERMINAL + 5 * i + j] = 0.5 * (last[i] * place[j] + last[j] * place[i])
    for k in range(n):
        out[G_REFERENCE + k] = -2.0 * sc[WEIGHT_P] * x[H, k] * x[DP, k]
    out[G_REFERENCE + n] = pull
    first = G_REFERENCE + n + 1
    for i in range(5):
        out[first + i] = x[S0 + i, 0]
    if velocity:
        out[first + 1] -= x[S4, 0]
    out[first + 4] += states[0, 4]
    out[first + 5] = scalar[D_MU]
    total = 0.0
    for i in range(out.shape[0]):
        total += out[i]
    return math.isfinite(total)
