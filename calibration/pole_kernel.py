"""The pole as a filter, compiled: one-step-ahead predictions for the prediction-error method.

With q = omega + c v cos theta the cart's acceleration drops out of the pole's equation::

    thetadot = omega = q - c v cos theta
    qdot = -c g sin theta - c v omega sin theta - b omega - coulomb sign(omega)

so only the cart's speed is needed, and a jerk of the cart is no noise. The parameters maximise the
likelihood of the innovations of an extended Kalman filter for (theta, q).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray

# Order of the vector of parameters that kernels take.
COUPLING, DAMPING, COULOMB, OFFSET, SCALE, ANCHOR, CART_SCALE, JITTER = range(8)
NEW_RUN = -1  # in place of a number of steps: nothing is known from before
# A sensor's branch may change only where that is a large step: one as small as the noise would
# absorb the noise, and make every scale near 1 look certain.
LARGE_STEP_RAD = 0.06
RESTART_S = 0.5  # so long without an acceptable angle, and the filter starts anew
COULOMB_BLEND_RAD_S = 0.02


@njit(cache=True, nogil=True)
def _slope(
    theta: float, q: float, v: float, pars: FloatArray, gravity: float
) -> tuple[float, float]:
    c = pars[COUPLING]
    omega = q - c * v * math.cos(theta)
    dry = pars[COULOMB] * max(-1.0, min(1.0, omega / COULOMB_BLEND_RAD_S))
    sine = math.sin(theta)
    return omega, -c * gravity * sine - c * v * omega * sine - pars[DAMPING] * omega - dry


@njit(cache=True, nogil=True)
def _advance(
    theta: float,
    q: float,
    cov: FloatArray,
    step: float,
    count: int,
    speed: FloatArray,
    at: int,
    pars: FloatArray,
    gravity: float,
    noise: float,
) -> tuple[float, float]:
    """``count`` Runge-Kutta steps; ``speed[at:]`` holds v at every half step; cov in place."""
    c, half = pars[COUPLING], 0.5 * step
    for k in range(count):
        v0 = pars[CART_SCALE] * speed[at + 2 * k]
        v1 = pars[CART_SCALE] * speed[at + 2 * k + 1]
        v2 = pars[CART_SCALE] * speed[at + 2 * k + 2]
        a1, b1 = _slope(theta, q, v0, pars, gravity)
        a2, b2 = _slope(theta + half * a1, q + half * b1, v1, pars, gravity)
        a3, b3 = _slope(theta + half * a2, q + half * b2, v1, pars, gravity)
        a4, b4 = _slope(theta + step * a3, q + step * b3, v2, pars, gravity)
        middle = theta + half * a2
        sine, cosine = math.sin(middle), math.cos(middle)
        omega = a2
        lean = c * v1 * sine
        drag = lean + pars[DAMPING]
        if abs(omega) < COULOMB_BLEND_RAD_S:
            drag += pars[COULOMB] / COULOMB_BLEND_RAD_S
        pull = -c * gravity * cosine - c * v1 * omega * cosine - drag * lean
        # exp(A step) to second order with A = [[lean, 1], [pull, -drag]].
        h2 = 0.5 * step * step
        f00 = 1.0 + lean * step + (lean * lean + pull) * h2
        f01 = step + (lean - drag) * h2
        f10 = pull * step + pull * (lean - drag) * h2
        f11 = 1.0 - drag * step + (pull + drag * drag) * h2
        p00, p01, p11 = cov[0], cov[1], cov[2]
        s0, s1 = f00 * p00 + f01 * p01, f00 * p01 + f01 * p11
        cov[0] = s0 * f00 + s1 * f01 + noise * step**3 / 3.0
        cov[1] = s0 * f10 + s1 * f11 + noise * step * step / 2.0
        cov[2] = (f10 * p00 + f11 * p01) * f10 + (f10 * p01 + f11 * p11) * f11 + noise * step
        theta += step / 6.0 * (a1 + 2.0 * a2 + 2.0 * a3 + a4)
        q += step / 6.0 * (b1 + 2.0 * b2 + 2.0 * b3 + b4)
    return theta, q


@njit(cache=True, nogil=True)
def innovations(
    theta: FloatArray,
    steps: FloatArray,
    counts: FloatArray,
    speed: FloatArray,
    pars: FloatArray,
    gravity: float,
    noise: float,
    measured: float,
    gate: float,
    used: FloatArray,
    out: FloatArray,
    variance: FloatArray,
    states: FloatArray,
) -> None:
    """Innovations of the measured angle.

    theta (n,): measured; steps (n,), counts (n,): how far and in how many steps from the sample
    before (0 steps: a gap, start anew; NEW_RUN: another run, on any branch); speed: the cart's v at
    every half step, intervals one after another; noise: variance of the pole's random acceleration
    [(rad/s)^2/s]; measured: variance of an angle, to which ``JITTER`` (variance of a time stamp
    [s^2]) times the rate squared is added. The sensor reads ``SCALE`` times the angle from the
    anchor. With ``gate`` > 0 angles beyond that many standard deviations are left out and ``used``
    (n,) says which (0); with 0 it is read. ``out`` and ``variance`` (n,) receive innovation and its
    variance, ``states`` (n, 5) theta, q and covariance after each update.
    """
    cov = np.zeros(3)
    x, q, lost = 0.0, 0.0, 0.0
    turn = 2.0 * math.pi
    gain = 1.0 / pars[SCALE]
    anchor = pars[ANCHOR]
    branch = turn * abs(1.0 - gain)
    at = 0
    for k in range(len(theta)):
        raw = theta[k] - pars[OFFSET]
        count = int(counts[k])
        if count == NEW_RUN:
            turns = math.floor((raw - pars[ANCHOR]) / turn + 0.5)
            anchor, count = pars[ANCHOR] + turn * turns, 0
        z = anchor + (raw - anchor) * gain
        if count > 0:
            x, q = _advance(x, q, cov, steps[k], count, speed, at, pars, gravity, noise)
            at += 2 * count
            lost += count * steps[k]
        if count == 0 or lost > RESTART_S:
            rate = _start_rate(theta, steps, counts, k)
            x, q = z, rate + pars[COUPLING] * pars[CART_SCALE] * speed[at] * math.cos(z)
            cov[0], cov[1], cov[2] = measured, 0.0, 4.0
            out[k], variance[k], lost = 0.0, 1.0, 0.0
            if gate > 0.0:
                used[k] = 0.0
        else:
            e, s = z - x, cov[0] + measured + pars[JITTER] * q * q
            if branch > LARGE_STEP_RAD and abs(e) > 0.5 * branch:
                # A sensor that is right once a turn may have come to the next turn's branch.
                for side in (-1.0, 1.0):
                    other = anchor + side * turn
                    there = other + (raw - other) * gain - x
                    if abs(there) < abs(e):
                        e, anchor = there, other
            out[k], variance[k] = e, s
            if gate > 0.0:
                used[k] = 1.0 if e * e <= gate * gate * s else 0.0
            if used[k] > 0.0:
                g0, g1 = cov[0] / s, cov[1] / s
                x += g0 * e
                q += g1 * e
                cov[2] -= g1 * cov[1]
                cov[1] -= g0 * cov[1]
                cov[0] -= g0 * cov[0]
                lost = 0.0
        states[k, 0], states[k, 1] = x, q
        states[k, 2], states[k, 3], states[k, 4] = cov[0], cov[1], cov[2]


@njit(cache=True, nogil=True)
def _start_rate(theta: FloatArray, steps: FloatArray, counts: FloatArray, k: int) -> float:
    if k + 1 >= len(theta) or counts[k + 1] <= 0:
        return 0.0
    return float((theta[k + 1] - theta[k]) / (steps[k + 1] * counts[k + 1]))


@njit(cache=True, nogil=True)
def smooth(
    steps: FloatArray,
    counts: FloatArray,
    speed: FloatArray,
    pars: FloatArray,
    gravity: float,
    noise: float,
    states: FloatArray,
    out: FloatArray,
) -> None:
    """Rauch, Tung and Striebel's smoother over filtered ``states`` (n, 5).

    ``out`` (n, 2) receives theta and omega.
    """
    n = len(steps)
    ends = np.zeros(n, dtype=np.int64)  # where each sample's own speed stands
    at = 0
    for k in range(n):
        at += 2 * max(0, int(counts[k]))
        ends[k] = at
    x, q = states[n - 1, 0], states[n - 1, 1]
    cov = np.empty(3)
    beside = np.empty(3)
    step = np.empty((2, 2))
    for back in range(n):
        k = n - 1 - back
        if back > 0:
            count = int(counts[k + 1])
            x0, q0 = states[k, 0], states[k, 1]
            if count <= 0:
                x, q = x0, q0
            else:
                h, begin = steps[k + 1], ends[k]
                cov[0], cov[1], cov[2] = states[k, 2], states[k, 3], states[k, 4]
                ahead = _advance(x0, q0, cov, h, count, speed, begin, pars, gravity, noise)
                for column in range(2):
                    # The transition by differences: one column for each of theta and q.
                    small = 1e-5
                    dx, dq = (small, 0.0) if column == 0 else (0.0, small)
                    beside[0], beside[1], beside[2] = 0.0, 0.0, 0.0
                    there = _advance(
                        x0 + dx, q0 + dq, beside, h, count, speed, begin, pars, gravity, noise
                    )
                    step[0, column] = (there[0] - ahead[0]) / small
                    step[1, column] = (there[1] - ahead[1]) / small
                p00, p01, p11 = states[k, 2], states[k, 3], states[k, 4]
                c00 = p00 * step[0, 0] + p01 * step[0, 1]
                c01 = p00 * step[1, 0] + p01 * step[1, 1]
                c10 = p01 * step[0, 0] + p11 * step[0, 1]
                c11 = p01 * step[1, 0] + p11 * step[1, 1]
                det = cov[0] * cov[2] - cov[1] * cov[1]
                e0, e1 = x - ahead[0], q - ahead[1]
                w0 = (cov[2] * e0 - cov[1] * e1) / det
                w1 = (cov[0] * e1 - cov[1] * e0) / det
                x, q = x0 + c00 * w0 + c01 * w1, q0 + c10 * w0 + c11 * w1
        v = pars[CART_SCALE] * speed[min(ends[k], len(speed) - 1)]
        out[k, 0], out[k, 1] = x, q - pars[COUPLING] * v * math.cos(x)
