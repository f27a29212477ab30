"""The drive as a filter, compiled: one-step-ahead predictions of the cart's position."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.dynamics import cart_step

# Order of the vector of parameters that the kernel takes.
# The plain kernel leaves ramp, belt, damping and play out; from PUSHES on: one for each push.
GAIN, DEAD, TAU, DELAY, LIMIT, SKEW, RAMP, BELT_HZ, DAMPING, PLAY, PUSHES = range(11)


@njit(cache=True, nogil=True)
def wanted_speed(units: float, pars: FloatArray) -> float:
    """The velocity [m/s] that driver units ask for; ``SKEW`` is the gain's asymmetry (+ right)."""
    size = abs(units) - pars[DEAD]
    if size <= 0.0:
        return 0.0
    side = 1.0 + pars[SKEW] if units > 0.0 else 1.0 - pars[SKEW]
    return math.copysign(size / pars[GAIN] * side, units)


@njit(cache=True, nogil=True)
def innovations(
    time: FloatArray,
    position: FloatArray,
    sent: FloatArray,
    units: FloatArray,
    pushes: FloatArray,
    pars: FloatArray,
    noise: float,
    measured: float,
    gate: float,
    out: FloatArray,
    variance: FloatArray,
) -> None:
    """Innovations of measured positions [m] and their variances, both (n,).

    time (n,), position (n,): of the cart; sent (m,), units (m,): commands in driver units; pushes
    (n, k): what else may accelerate the drive before each sample, each by ``pars[PUSHES + k]``
    times; noise: variance of the cart's random acceleration [(m/s)^2/s]; measured: variance of a
    position.
    """
    n, m = len(time), len(sent)
    p, v = position[0], 0.0
    c00, c01, c11 = measured, 0.0, 0.25
    u, edge = 0.0, 0
    now = time[0]
    while edge < m and sent[edge] + pars[DELAY] <= now:
        u = wanted_speed(units[edge], pars)
        edge += 1
    out[0], variance[0] = 0.0, 1.0
    for k in range(1, n):
        end = time[k]
        push = 0.0
        for j in range(pushes.shape[1]):
            push += pars[PUSHES + j] * pushes[k, j]
        while now < end:
            until = end
            if edge < m and sent[edge] + pars[DELAY] < end:
                until = max(now, sent[edge] + pars[DELAY])
            step = until - now
            if step > 0.0:
                clipped = abs(u - v) > pars[LIMIT] * pars[TAU]
                decay = 1.0 if clipped else math.exp(-step / pars[TAU])
                reach = step if clipped else pars[TAU] * (1.0 - decay)
                p, v = cart_step(p, v, u, step, pars[TAU], pars[LIMIT])
                p, v = p + 0.5 * push * step * step, v + push * reach
                s0, s1 = c00 + reach * c01, c01 + reach * c11
                c00 = s0 + s1 * reach + noise * step**3 / 3.0
                c01 = s1 * decay + noise * step * step / 2.0
                c11 = c11 * decay * decay + noise * step
                now = until
            if edge < m and sent[edge] + pars[DELAY] <= now and until < end:
                u = wanted_speed(units[edge], pars)
                edge += 1
        e, s = position[k] - p, c00 + measured
        out[k], variance[k] = e, s
        if e * e > gate * gate * s:
            e = math.copysign(gate * math.sqrt(s), e)
        g0, g1 = c00 / s, c01 / s
        p, v = p + g0 * e, v + g1 * e
        c11 -= g1 * c01
        c01 -= g0 * c01
        c00 -= g0 * c00
