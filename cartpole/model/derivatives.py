"""The pole's step with exact first and second derivatives, written so that loops over it vectorise.

The step is the classical Runge-Kutta step of ``dynamics.pole_step`` without dry friction. Its input
is one number ``e``: the cart's acceleration at the start, in the middle and at the end of the step
is ``e`` times (scale, scale * middle, scale * end). For a velocity servo e = u - v, scale = 1 / tau
and the profile is the exact decay of its lag; for a commanded acceleration all three are one.

Derivatives are with respect to (theta, omega, e). The only curvature of the equations of motion is
that of g sin theta + a cos theta, so the Hessian of lambda . step is a sum over the four stages of
(d theta_i)(d theta_i)' and (d theta_i)(d a_i)' terms, weighted by the adjoints of the stages.
"""

from __future__ import annotations

import numpy as np
from numba import njit

PI_HIGH = 3.141592653589793
PI_LOW = 1.2246467991473532e-16
INVERSE_PI = 0.3183098861837907


@njit(inline="always", error_model="numpy")
def sine_cosine(angle: float) -> tuple[float, float]:
    """(sin, cos) to 3e-16 for |angle| up to some thousand turns; branch-free, so it vectorises.

    Reduction to [-pi/2, pi/2] by half turns, then the Taylor polynomials.
    """
    turns = np.floor(angle * INVERSE_PI + 0.5)
    r = (angle - turns * PI_HIGH) - turns * PI_LOW
    sign = 1.0 - 2.0 * (turns - 2.0 * np.floor(0.5 * turns))
    t = r * r
    s = 1.0 / 355687428096000.0 - t * (1.0 / 121645100408832000.0)
    s = -1.0 / 1307674368000.0 + t * s
    s = 1.0 / 6227020800.0 + t * s
    s = -1.0 / 39916800.0 + t * s
    s = 1.0 / 362880.0 + t * s
    s = -1.0 / 5040.0 + t * s
    s = 1.0 / 120.0 + t * s
    s = -1.0 / 6.0 + t * s
    c = -1.0 / 6402373705728000.0 + t * (1.0 / 2432902008176640000.0)
    c = 1.0 / 20922789888000.0 + t * c
    c = -1.0 / 87178291200.0 + t * c
    c = 1.0 / 479001600.0 + t * c
    c = -1.0 / 3628800.0 + t * c
    c = 1.0 / 40320.0 + t * c
    c = -1.0 / 720.0 + t * c
    c = 1.0 / 24.0 + t * c
    c = -0.5 + t * c
    return sign * (r + r * t * s), sign * (1.0 + t * c)


@njit(inline="always", error_model="numpy")
def pole_step_derivatives(
    theta: float,
    omega: float,
    e: float,
    scale: float,
    middle: float,
    end: float,
    h: float,
    coupling: float,
    gravity: float,
    b: float,
    lambda_theta: float,
    lambda_omega: float,
) -> tuple[
    float, float, float, float, float, float, float,
    float, float, float, float, float, float, float,
]:  # fmt: skip
    """One step and its derivatives.

    Returns (theta+, omega+, then d theta+ / d (theta, omega, e), d omega+ / d (theta, omega, e),
    the upper triangle tt, to, te, oo, oe, ee of the Hessian of
    lambda_theta theta+ + lambda_omega omega+).
    """
    half = 0.5 * h
    sixth = h * (1.0 / 6.0)
    third = h * (1.0 / 3.0)
    a1 = scale * e
    a2 = a1 * middle
    a4 = a1 * end
    r1 = scale
    r2 = scale * middle
    r4 = scale * end
    # Stage 1: s, c are coupling times sine and cosine, gt = d k / d theta.
    s1, c1 = sine_cosine(theta)
    s1 *= coupling
    c1 *= coupling
    k1 = -(gravity * s1 + a1 * c1) - b * omega
    gt1 = -gravity * c1 + a1 * s1
    # d k1 / d (theta, omega, e)
    kt1 = gt1
    ko1 = -b
    ke1 = -c1 * r1
    # Stage 2
    t2 = theta + half * omega
    o2 = omega + half * k1
    to2 = half
    ot2 = half * kt1
    oo2 = 1.0 + half * ko1
    oe2 = half * ke1
    s2, c2 = sine_cosine(t2)
    s2 *= coupling
    c2 *= coupling
    k2 = -(gravity * s2 + a2 * c2) - b * o2
    gt2 = -gravity * c2 + a2 * s2
    kt2 = gt2 - b * ot2
    ko2 = gt2 * to2 - b * oo2
    ke2 = -c2 * r2 - b * oe2
    # Stage 3
    t3 = theta + half * o2
    o3 = omega + half * k2
    tt3 = 1.0 + half * ot2
    to3 = half * oo2
    te3 = half * oe2
    ot3 = half * kt2
    oo3 = 1.0 + half * ko2
    oe3 = half * ke2
    s3, c3 = sine_cosine(t3)
    s3 *= coupling
    c3 *= coupling
    k3 = -(gravity * s3 + a2 * c3) - b * o3
    gt3 = -gravity * c3 + a2 * s3
    kt3 = gt3 * tt3 - b * ot3
    ko3 = gt3 * to3 - b * oo3
    ke3 = gt3 * te3 - c3 * r2 - b * oe3
    # Stage 4
    t4 = theta + h * o3
    o4 = omega + h * k3
    tt4 = 1.0 + h * ot3
    to4 = h * oo3
    te4 = h * oe3
    ot4 = h * kt3
    oo4 = 1.0 + h * ko3
    oe4 = h * ke3
    s4, c4 = sine_cosine(t4)
    s4 *= coupling
    c4 *= coupling
    k4 = -(gravity * s4 + a4 * c4) - b * o4
    gt4 = -gravity * c4 + a4 * s4
    kt4 = gt4 * tt4 - b * ot4
    ko4 = gt4 * to4 - b * oo4
    ke4 = gt4 * te4 - c4 * r4 - b * oe4
    # Adjoints of k1 ... k4.
    m4 = lambda_omega * sixth
    q4 = lambda_theta * sixth - b * m4
    m3 = lambda_omega * third + h * q4
    q3 = lambda_theta * third + h * (m4 * gt4) - b * m3
    m2 = lambda_omega * third + half * q3
    q2 = lambda_theta * third + half * (m3 * gt3) - b * m2
    m1 = lambda_omega * sixth + half * q2
    # Curvature of a stage: m * k_thetatheta and m * k_thetaa.
    w1 = m1 * (gravity * s1 + a1 * c1)
    w2 = m2 * (gravity * s2 + a2 * c2)
    w3 = m3 * (gravity * s3 + a2 * c3)
    w4 = m4 * (gravity * s4 + a4 * c4)
    x1 = m1 * s1 * r1
    x2 = m2 * s2 * r2
    x3 = m3 * s3 * r2
    x4 = m4 * s4 * r4
    return (
        theta + sixth * (omega + 2.0 * o2 + 2.0 * o3 + o4),
        omega + sixth * (k1 + 2.0 * k2 + 2.0 * k3 + k4),
        1.0 + sixth * (2.0 * ot2 + 2.0 * ot3 + ot4),
        sixth * (1.0 + 2.0 * oo2 + 2.0 * oo3 + oo4),
        sixth * (2.0 * oe2 + 2.0 * oe3 + oe4),
        sixth * (kt1 + 2.0 * kt2 + 2.0 * kt3 + kt4),
        1.0 + sixth * (ko1 + 2.0 * ko2 + 2.0 * ko3 + ko4),
        sixth * (ke1 + 2.0 * ke2 + 2.0 * ke3 + ke4),
        w1 + w2 + w3 * tt3 * tt3 + w4 * tt4 * tt4,
        w2 * to2 + w3 * tt3 * to3 + w4 * tt4 * to4,
        w3 * tt3 * te3 + w4 * tt4 * te4 + x1 + x2 + x3 * tt3 + x4 * tt4,
        w2 * to2 * to2 + w3 * to3 * to3 + w4 * to4 * to4,
        w3 * to3 * te3 + w4 * to4 * te4 + x2 * to2 + x3 * to3 + x4 * to4,
        w3 * te3 * te3 + w4 * te4 * te4 + 2.0 * (x3 * te3 + x4 * te4),
    )
