"""The Newton direction of the banded KKT system: one backward and one forward sweep.

Both sweeps work in y = (p, v, theta, omega, e), where a step is

    p+ = p + h v + c2 e,  v+ = v + e1 e,  (theta, omega)+ = F (theta, omega) + g e,  e- = d e

plus the pole's defects; e is then the next stage's input (acceleration kind) or what the next
stage's rate w adds h w to (velocity kind). Because the columns of p and v are constants, a stage
costs about a hundred multiplications. See ``docs/optimizer.md``.
"""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer import layout as _

S = _.STRIDE
FAST = {"contract", "nsz", "reassoc", "arcp"}
# Least curvature along the input that a factorisation accepts.
PIVOT = 1e-12


@njit(inline="always")
def terminal(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
    """Cost-to-go at the last stage: terminal cost and limits of the last state."""
    t = _.TERMINAL
    p = ws[_.P * S + n] - ws[_.REF * S + n]
    v = ws[_.V * S + n]
    th = ws[_.TH * S + n] - sc[_.THETA_REF]
    om = ws[_.OM * S + n]
    e = ws[_.U * S + n - 1] - v if kind == _.VELOCITY else 0.0
    for i in range(15):
        ws[(_.P00 + i) * S + n] = sc[t + i]
    ws[_.P00 * S + n] += ws[_.QPP * S + n]
    ws[_.P01 * S + n] += ws[_.QPV * S + n]
    ws[_.P11 * S + n] += ws[_.QVV * S + n]
    ws[_.S0 * S + n] = (
        ws[_.QP * S + n]
        + sc[t] * p + sc[t + 1] * v + sc[t + 2] * th + sc[t + 3] * om + sc[t + 4] * e
    )  # fmt: skip
    ws[_.S1 * S + n] = (
        ws[_.QV * S + n]
        + sc[t + 1] * p + sc[t + 5] * v + sc[t + 6] * th + sc[t + 7] * om + sc[t + 8] * e
    )  # fmt: skip
    ws[_.S2 * S + n] = (
        sc[t + 2] * p + sc[t + 6] * v + sc[t + 9] * th + sc[t + 10] * om + sc[t + 11] * e
    )
    ws[_.S3 * S + n] = (
        sc[t + 3] * p + sc[t + 7] * v + sc[t + 10] * th + sc[t + 12] * om + sc[t + 13] * e
    )
    ws[_.S4 * S + n] = (
        sc[t + 4] * p + sc[t + 8] * v + sc[t + 11] * th + sc[t + 13] * om + sc[t + 14] * e
    )


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def backward(ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
    """Cost-to-go and gains of every stage; False if an input's curvature is not positive."""
    terminal(ws, sc, n, kind)
    velocity = kind == _.VELOCITY
    p00 = ws[_.P00 * S + n]
    p01 = ws[_.P01 * S + n]
    p02 = ws[_.P02 * S + n]
    p03 = ws[_.P03 * S + n]
    p04 = ws[_.P04 * S + n]
    p11 = ws[_.P11 * S + n]
    p12 = ws[_.P12 * S + n]
    p13 = ws[_.P13 * S + n]
    p14 = ws[_.P14 * S + n]
    p22 = ws[_.P22 * S + n]
    p23 = ws[_.P23 * S + n]
    p24 = ws[_.P24 * S + n]
    p33 = ws[_.P33 * S + n]
    p34 = ws[_.P34 * S + n]
    p44 = ws[_.P44 * S + n]
    s0 = ws[_.S0 * S + n]
    s1 = ws[_.S1 * S + n]
    s2 = ws[_.S2 * S + n]
    s3 = ws[_.S3 * S + n]
    s4 = ws[_.S4 * S + n]
    for i in range(n):
        k = n - 1 - i
        h = ws[_.H * S + k]
        c2 = ws[_.C2 * S + k]
        e1 = ws[_.E1 * S + k]
        d = ws[_.D * S + k]
        f11 = ws[_.F11 * S + k]
        f12 = ws[_.F12 * S + k]
        g1 = ws[_.G1 * S + k]
        f21 = ws[_.F21 * S + k]
        f22 = ws[_.F22 * S + k]
        g2 = ws[_.G2 * S + k]
        ct = ws[_.CTH * S + k]
        co = ws[_.COM * S + k]
        # Gradient of the cost-to-go at the end of the step; only the pole has defects.
        t0 = s0 + p02 * ct + p03 * co
        t1 = s1 + p12 * ct + p13 * co
        t2 = s2 + p22 * ct + p23 * co
        t3 = s3 + p23 * ct + p33 * co
        t4 = s4 + p24 * ct + p34 * co
        m0 = t0 + ws[_.QP * S + k]
        m1 = h * t0 + t1 + ws[_.QV * S + k]
        m2 = f11 * t2 + f21 * t3 + ws[_.QTH * S + k]
        m3 = f12 * t2 + f22 * t3 + ws[_.QOM * S + k]
        m4 = c2 * t0 + e1 * t1 + g1 * t2 + g2 * t3 + d * t4 + ws[_.QE * S + k]
        # Hessian, column by column.
        m01 = h * p00 + p01
        m11 = h * m01 + (h * p01 + p11) + ws[_.QVV * S + k]
        m02 = f11 * p02 + f21 * p03
        m12 = h * m02 + (f11 * p12 + f21 * p13)
        m03 = f12 * p02 + f22 * p03
        m13 = h * m03 + (f12 * p12 + f22 * p13)
        x2 = f11 * p22 + f21 * p23
        x3 = f11 * p23 + f21 * p33
        m22 = f11 * x2 + f21 * x3 + ws[_.QTT * S + k]
        m23 = f12 * x2 + f22 * x3 + ws[_.QTO * S + k]
        x2 = f12 * p22 + f22 * p23
        x3 = f12 * p23 + f22 * p33
        m33 = f12 * x2 + f22 * x3 + ws[_.QOO * S + k]
        m04 = c2 * p00 + e1 * p01 + g1 * p02 + g2 * p03 + d * p04
        x1 = c2 * p01 + e1 * p11 + g1 * p12 + g2 * p13 + d * p14
        x2 = c2 * p02 + e1 * p12 + g1 * p22 + g2 * p23 + d * p24
        x3 = c2 * p03 + e1 * p13 + g1 * p23 + g2 * p33 + d * p34
        x4 = c2 * p04 + e1 * p14 + g1 * p24 + g2 * p34 + d * p44
        m14 = h * m04 + x1 + ws[_.QVE * S + k]
        m24 = f11 * x2 + f21 * x3 + ws[_.QTE * S + k]
        m34 = f12 * x2 + f22 * x3 + ws[_.QOE * S + k]
        m44 = c2 * m04 + e1 * x1 + g1 * x2 + g2 * x3 + d * x4 + ws[_.QEE * S + k]
        m00 = p00 + ws[_.QPP * S + k]
        m01 += ws[_.QPV * S + k]
        # Eliminate the input.
        if velocity:
            r = ws[_.QWW * S + k]
            pivot = r + h * h * m44
            inverse = 1.0 / pivot
            gain = h * inverse
            feed = (ws[_.QW * S + k] + h * m4) * inverse
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
        ws[_.K0 * S + k] = -gain * m04
        ws[_.K1 * S + k] = -gain * m14
        ws[_.K2 * S + k] = -gain * m24
        ws[_.K3 * S + k] = -gain * m34
        ws[_.K4 * S + k] = -gain * m44
        ws[_.KF * S + k] = -feed
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
            ws[_.P04 * S + k] = p04
            ws[_.P14 * S + k] = p14
            ws[_.P24 * S + k] = p24
            ws[_.P34 * S + k] = p34
            ws[_.P44 * S + k] = p44
            ws[_.S4 * S + k] = s4
        s0 = m0 - feed * m04
        s1 = m1 - feed * m14
        s2 = m2 - feed * m24
        s3 = m3 - feed * m34
        ws[_.P00 * S + k] = p00
        ws[_.P01 * S + k] = p01
        ws[_.P02 * S + k] = p02
        ws[_.P03 * S + k] = p03
        ws[_.P11 * S + k] = p11
        ws[_.P12 * S + k] = p12
        ws[_.P13 * S + k] = p13
        ws[_.P22 * S + k] = p22
        ws[_.P23 * S + k] = p23
        ws[_.P33 * S + k] = p33
        ws[_.S0 * S + k] = s0
        ws[_.S1 * S + k] = s1
        ws[_.S2 * S + k] = s2
        ws[_.S3 * S + k] = s3
    return True


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def forward(ws: FloatArray, n: int, kind: int) -> bool:
    """The direction from the first stage on; False if it is not finite.

    Leaves the direction of e before the input in the row RATIO.
    """
    dp = 0.0
    dv = 0.0
    dth = 0.0
    dom = 0.0
    de = 0.0
    for k in range(n):
        ws[_.DP * S + k] = dp
        ws[_.DV * S + k] = dv
        ws[_.DTH * S + k] = dth
        ws[_.DOM * S + k] = dom
        ws[_.RATIO * S + k] = de
        step = (
            ws[_.KF * S + k]
            + ws[_.K0 * S + k] * dp
            + ws[_.K1 * S + k] * dv
            + ws[_.K2 * S + k] * dth
            + ws[_.K3 * S + k] * dom
        )
        if kind == _.VELOCITY:
            step += ws[_.K4 * S + k] * de
            ws[_.DW * S + k] = step
            de += ws[_.H * S + k] * step
            ws[_.DU * S + k] = dv + de
        else:
            de = step
            ws[_.DU * S + k] = de
        dp += ws[_.H * S + k] * dv + ws[_.C2 * S + k] * de
        dv += ws[_.E1 * S + k] * de
        th = ws[_.F11 * S + k] * dth + ws[_.F12 * S + k] * dom
        dom = (
            ws[_.F21 * S + k] * dth
            + ws[_.F22 * S + k] * dom
            + ws[_.G2 * S + k] * de
            + ws[_.COM * S + k]
        )
        dth = th + ws[_.G1 * S + k] * de + ws[_.CTH * S + k]
        de = ws[_.D * S + k] * de
    ws[_.DP * S + n] = dp
    ws[_.DV * S + n] = dv
    ws[_.DTH * S + n] = dth
    ws[_.DOM * S + n] = dom
    ws[_.RATIO * S + n] = de
    return math.isfinite(dp + dv + dth + dom)
