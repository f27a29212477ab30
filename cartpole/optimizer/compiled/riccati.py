"""The Newton direction of the banded KKT system: one backward and one forward sweep.

Both sweeps work in y = (p, v, theta, omega, e). A stage first adds its input, y + B w, and then
steps, y+ = A (y + B w) + c, where

    p+ = p + h v + c2 e,  v+ = v + e1 e,  (theta, omega)+ = F (theta, omega) + g e,  e+ = d e

and c holds the pole's defects. B w is h w in e (velocity kind), or e is the input itself
(acceleration kind). With the cost-to-go y'P y / 2 + s'y of the next stage, in this order:

    t = s+ + P+ c
    m = q + A' t
    M = Q + A' P+ A
    R = r + B' M B,    K = -B' M / R,    k = -(q_w + B' m) / R
    P = M + M B K,     s = m + M B k

Because the columns of p and v are constants, a stage costs about a hundred multiplications. See
``docs/optimizer.md``.
"""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.terminal import terminal_gradient
from cartpole.optimizer.compiled.view import stage

FAST = {"contract", "nsz", "reassoc", "arcp"}
# Least curvature along the input that a factorisation accepts.
PIVOT = 1e-12


@njit(inline="always")
def terminal(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Cost-to-go at the last stage: terminal cost and limits of the last state."""
    x = stage(ws, 0)
    for i in range(15):
        x[P00 + i, n] = sc[TERMINAL + i]
    x[P00, n] += x[QPP, n]
    x[P01, n] += x[QPV, n]
    x[P11, n] += x[QVV, n]
    g0, g1, g2, g3, g4 = terminal_gradient(ws, sc, n, kind)
    x[S0, n] = x[QP, n] + g0
    x[S1, n] = x[QV, n] + g1
    x[S2, n] = g2
    x[S3, n] = g3
    x[S4, n] = g4


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def backward(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
    """Cost-to-go and gains of every stage; False if an input's curvature is not positive."""
    x = stage(ws, 0)
    terminal(ws, sc, n, kind)
    velocity = kind == VELOCITY
    p00 = x[P00, n]
    p01 = x[P01, n]
    p02 = x[P02, n]
    p03 = x[P03, n]
    p04 = x[P04, n]
    p11 = x[P11, n]
    p12 = x[P12, n]
    p13 = x[P13, n]
    p14 = x[P14, n]
    p22 = x[P22, n]
    p23 = x[P23, n]
    p24 = x[P24, n]
    p33 = x[P33, n]
    p34 = x[P34, n]
    p44 = x[P44, n]
    s0 = x[S0, n]
    s1 = x[S1, n]
    s2 = x[S2, n]
    s3 = x[S3, n]
    s4 = x[S4, n]
    for i in range(n):
        k = n - 1 - i
        h = x[H, k]
        c2 = x[C2, k]
        e1 = x[E1, k]
        d = x[D, k]
        f11 = x[F11, k]
        f12 = x[F12, k]
        g1 = x[G1, k]
        f21 = x[F21, k]
        f22 = x[F22, k]
        g2 = x[G2, k]
        ct = x[CTH, k]
        co = x[COM, k]
        # t = s+ + P+ c; only the pole has defects.
        t0 = s0 + p02 * ct + p03 * co
        t1 = s1 + p12 * ct + p13 * co
        t2 = s2 + p22 * ct + p23 * co
        t3 = s3 + p23 * ct + p33 * co
        t4 = s4 + p24 * ct + p34 * co
        # m = q + A' t
        m0 = t0 + x[QP, k]
        m1 = h * t0 + t1 + x[QV, k]
        m2 = f11 * t2 + f21 * t3 + x[QTH, k]
        m3 = f12 * t2 + f22 * t3 + x[QOM, k]
        m4 = c2 * t0 + e1 * t1 + g1 * t2 + g2 * t3 + d * t4 + x[QE, k]
        # M = Q + A' P+ A, column by column.
        m01 = h * p00 + p01
        m11 = h * m01 + (h * p01 + p11) + x[QVV, k]
        m02 = f11 * p02 + f21 * p03
        m12 = h * m02 + (f11 * p12 + f21 * p13)
        m03 = f12 * p02 + f22 * p03
        m13 = h * m03 + (f12 * p12 + f22 * p13)
        x2 = f11 * p22 + f21 * p23
        x3 = f11 * p23 + f21 * p33
        m22 = f11 * x2 + f21 * x3 + x[QTT, k]
        m23 = f12 * x2 + f22 * x3 + x[QTO, k]
        x2 = f12 * p22 + f22 * p23
        x3 = f12 * p23 + f22 * p33
        m33 = f12 * x2 + f22 * x3 + x[QOO, k]
        m04 = c2 * p00 + e1 * p01 + g1 * p02 + g2 * p03 + d * p04
        x1 = c2 * p01 + e1 * p11 + g1 * p12 + g2 * p13 + d * p14
        x2 = c2 * p02 + e1 * p12 + g1 * p22 + g2 * p23 + d * p24
        x3 = c2 * p03 + e1 * p13 + g1 * p23 + g2 * p33 + d * p34
        x4 = c2 * p04 + e1 * p14 + g1 * p24 + g2 * p34 + d * p44
        m14 = h * m04 + x1 + x[QVE, k]
        m24 = f11 * x2 + f21 * x3 + x[QTE, k]
        m34 = f12 * x2 + f22 * x3 + x[QOE, k]
        m44 = c2 * m04 + e1 * x1 + g1 * x2 + g2 * x3 + d * x4 + x[QEE, k]
        m00 = p00 + x[QPP, k]
        m01 += x[QPV, k]
        # R = r + B' M B,  K = -B' M / R,  k = -(q_w + B' m) / R
        if velocity:
            r = x[QWW, k]
            pivot = r + h * h * m44
            inverse = 1.0 / pivot
            gain = h * inverse
            feed = (x[QW, k] + h * m4) * inverse
            keep = h * gain
        else:
            r = 0.0
            pivot = m44
            inverse = 1.0 / pivot
            gain = inverse
            feed = m4 * inverse
            keep = gain
        if not pivot > PIVOT:
            return False
        x[K0, k] = -gain * m04
        x[K1, k] = -gain * m14
        x[K2, k] = -gain * m24
        x[K3, k] = -gain * m34
        x[K4, k] = -gain * m44
        x[KF, k] = -feed
        x[INVERSE, k] = inverse
        # P = M + M B K,  s = m + M B k
        y0 = keep * m04
        y1 = keep * m14
        y2 = keep * m24
        y3 = keep * m34
        p00 = m00 - y0 * m04
        p01 = m01 - y0 * m14
        p02 = m02 - y0 * m24
        p03 = m03 - y0 * m34
        p11 = m11 - y1 * m14
        p12 = m12 - y1 * m24
        p13 = m13 - y1 * m34
        p22 = m22 - y2 * m24
        p23 = m23 - y2 * m34
        p33 = m33 - y3 * m34
        if velocity:
            rest = r * inverse
            p04 = rest * m04
            p14 = rest * m14
            p24 = rest * m24
            p34 = rest * m34
            p44 = rest * m44
            feed *= h
            s4 = m4 - feed * m44
            x[P04, k] = p04
            x[P14, k] = p14
            x[P24, k] = p24
            x[P34, k] = p34
            x[P44, k] = p44
            x[S4, k] = s4
        s0 = m0 - feed * m04
        s1 = m1 - feed * m14
        s2 = m2 - feed * m24
        s3 = m3 - feed * m34
        x[P00, k] = p00
        x[P01, k] = p01
        x[P02, k] = p02
        x[P03, k] = p03
        x[P11, k] = p11
        x[P12, k] = p12
        x[P13, k] = p13
        x[P22, k] = p22
        x[P23, k] = p23
        x[P33, k] = p33
        x[S0, k] = s0
        x[S1, k] = s1
        x[S2, k] = s2
        x[S3, k] = s3
    return True


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def forward(ws: FloatArray, n: int, kind: int) -> bool:
    """The direction from the first stage on; False if it is not finite.

    Leaves the direction of e before the input in the row RATIO.
    """
    x = stage(ws, 0)
    dp = 0.0
    dv = 0.0
    dth = 0.0
    dom = 0.0
    de = 0.0
    for k in range(n):
        x[DP, k] = dp
        x[DV, k] = dv
        x[DTH, k] = dth
        x[DOM, k] = dom
        x[RATIO, k] = de
        step = x[KF, k] + x[K0, k] * dp + x[K1, k] * dv + x[K2, k] * dth + x[K3, k] * dom
        if kind == VELOCITY:
            step += x[K4, k] * de
            x[DW, k] = step
            de += x[H, k] * step
            x[DU, k] = dv + de
        else:
            de = step
            x[DU, k] = de
        dp += x[H, k] * dv + x[C2, k] * de
        dv += x[E1, k] * de
        th = x[F11, k] * dth + x[F12, k] * dom
        dom = x[F21, k] * dth + x[F22, k] * dom + x[G2, k] * de + x[COM, k]
        dth = th + x[G1, k] * de + x[CTH, k]
        de = x[D, k] * de
    x[DP, n] = dp
    x[DV, n] = dv
    x[DTH, n] = dth
    x[DOM, n] = dom
    x[RATIO, n] = de
    return math.isfinite(dp + dv + dth + dom)
