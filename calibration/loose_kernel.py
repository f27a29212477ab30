"""A drive that ramps its commands and pulls its cart by a belt, as a filter, compiled.

The command follows the wish no faster than ``RAMP``; the drive (place q, speed w) follows the
command with its lag and limit; the cart (p, v) hangs on it by a spring with play::

    wdot = clip((ramped command - w) / tau, ±limit)
    vdot = omega^2 stretch + 2 damping omega (w - v)     where |q - p| > play / 2, else 0

with stretch = q - p less half the play. An extended Kalman filter in steps of ``STEP_S``; without a
belt cart and drive are one.
"""

from __future__ import annotations

import math

from numba import njit

from calibration.motor_kernel import (
    BELT_HZ,
    DAMPING,
    DELAY,
    LIMIT,
    PLAY,
    PUSHES,
    RAMP,
    TAU,
    wanted_speed,
)
from cartpole.messages import FloatArray

STEP_S = 0.001  # a belt of 50 Hz is followed to half a percent
SPREAD_S = 0.005  # over which a late command is felt: at once, innovations would jump with a delay
START_V2, START_STRETCH2 = 0.25, 1e-6  # variances of speed and stretch before the first sample


@njit(cache=True, nogil=True)
def loose_innovations(
    time: FloatArray,
    position: FloatArray,
    sent: FloatArray,
    units: FloatArray,
    pushes: FloatArray,
    pars: FloatArray,
    noise: float,
    measured: float,
    late: float,
    stamp: float,
    inner: float,
    gate: float,
    out: FloatArray,
    variance: FloatArray,
) -> None:
    """As ``calibration.motor_kernel.innovations``; ``pars`` hold ramp [m/s^2], belt [Hz], its
    damping ratio and play [m] too; a ramp or belt of 0 is none. late: standard deviation [s] of the
    time by which a command comes early or late; stamp: variance [s^2] of a sample's time;
    inner: as noise, of the drive on its side of a belt."""
    n, m = len(time), len(sent)
    tau, limit, ramp = pars[TAU], pars[LIMIT], pars[RAMP]
    swing = 2.0 * math.pi * pars[BELT_HZ]
    rigid = swing <= 0.0
    spring, rub, slack = swing * swing, 2.0 * pars[DAMPING] * swing, 0.5 * pars[PLAY]
    q = p = position[0]
    w = v = u = r = 0.0
    qq = qp = pp = measured
    qw = qv = wp = pv = 0.0
    ww = wv = vv = START_V2
    if not rigid:
        pp += START_STRETCH2
    edge = 0
    rate = left = 0.0
    now = time[0]
    while edge < m and sent[edge] + pars[DELAY] <= now:
        u = wanted_speed(units[edge], pars)
        edge += 1
    r = u
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
            span = until - now
            steps = math.ceil(span / STEP_S - 1e-9)
            for _ in range(steps):
                h = span / steps
                ramped = u if ramp <= 0.0 else r + min(max(u - r, -ramp * h), ramp * h)
                asked, r = 0.5 * (r + ramped) if ramp > 0.0 else u, ramped
                pull = (asked - w) / tau
                clipped = abs(pull) > limit
                decay = 1.0 if clipped else math.exp(-h / tau)
                reach = h if clipped else tau * (1.0 - decay)
                speed = (
                    w + math.copysign(limit, pull) * h if clipped else asked + (w - asked) * decay
                )
                speed += push * reach
                middle, mean = q + 0.25 * h * (w + speed), 0.5 * (w + speed)
                q, w = q + h * mean, speed
                # Covariances: each line of the motion is a sum of rows, then of columns.
                qq += reach * (2.0 * qw + reach * ww)
                qw = decay * (qw + reach * ww)
                qp, qv = qp + reach * wp, qv + reach * wv
                more = (noise if rigid else inner) * h + rate * min(h, left)
                left = max(0.0, left - h)
                ww, wp, wv = decay * decay * ww + more, decay * wp, decay * wv
                if rigid:
                    continue
                # Leapfrog: half a step of the place, one of the speed, half a step of the place.
                half = 0.5 * h
                p += half * v
                pp += half * (2.0 * pv + half * vv)
                qp, wp, pv = qp + half * qv, wp + half * wv, pv + half * vv
                stretch = middle - p
                if abs(stretch) > slack:
                    a, b = spring * h / (1.0 + 0.5 * rub * h), rub * h / (1.0 + 0.5 * rub * h)
                    v += a * (stretch - math.copysign(slack, stretch)) + b * (mean - v)
                    e = 1.0 - b
                    own = e * vv + a * (qv - pv) + b * wv
                    qv = e * qv + a * (qq - qp) + b * qw
                    wv = e * wv + a * (qw - wp) + b * ww
                    pv = e * pv + a * (qp - pp) + b * wp
                    vv = e * own + a * (qv - pv) + b * wv
                vv += noise * h
                p += half * v
                pp += half * (2.0 * pv + half * vv)
                qp, wp, pv = qp + half * qv, wp + half * wv, pv + half * vv
            now = until
            if edge < m and sent[edge] + pars[DELAY] <= now and until < end:
                before, u = u, wanted_speed(units[edge], pars)
                edge += 1
                # So much faster or slower would the drive be now, had it come at another time.
                off = late * min(abs(u - before) / tau, limit)
                rate, left = off * off / SPREAD_S, SPREAD_S
        if rigid:
            p, v, qp, qv, wp, wv, pp, pv, vv = q, w, qq, qw, qw, ww, qq, qw, ww
        e, s = position[k] - p, pp + measured + stamp * v * v
        out[k], variance[k] = e, s
        if e * e > gate * gate * s:
            e = math.copysign(gate * math.sqrt(s), e)
        gq, gw, gp, gv = qp / s, wp / s, pp / s, pv / s
        q, w, p, v = q + gq * e, w + gw * e, p + gp * e, v + gv * e
        qq, qw, ww = qq - gq * qp, qw - gq * wp, ww - gw * wp
        qv, wv, vv = qv - gq * pv, wv - gw * pv, vv - gv * pv
        qp, wp, pv, pp = qp - gq * pp, wp - gw * pp, pv - gv * pp, pp - gp * pp
