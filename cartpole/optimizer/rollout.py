"""First guesses: motions of cart and pole on the dynamics and, where they can, in the limits."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.derivatives import pole_step_derivatives
from cartpole.optimizer import layout as _

S = _.STRIDE
# Guesses keep this share of every limit, so that they start strictly inside.
SHARE = 0.95
# The regulator takes over when the energy lacks less than this share and the pole is this near.
CATCH_RAD = 0.6
CATCH_RATE = 1.5  # in units of sqrt(c g)


@njit(cache=True, nogil=True, error_model="numpy")
def pole_rollout(ws: FloatArray, sc: FloatArray, kind: int, k: int) -> None:
    """(theta, omega)_{k+1} from stage k."""
    carry = 1.0 if kind == _.VELOCITY else 0.0
    out = pole_step_derivatives(
        ws[_.TH * S + k],
        ws[_.OM * S + k],
        ws[_.U * S + k] - carry * ws[_.V * S + k],
        sc[_.SCALE],
        ws[_.RM * S + k],
        ws[_.R1 * S + k],
        ws[_.H * S + k],
        sc[_.COUPLING],
        sc[_.GRAVITY],
        sc[_.DAMPING],
        0.0,
        0.0,
    )
    ws[_.TH * S + k + 1] = out[0]
    ws[_.OM * S + k + 1] = out[1]


@njit(cache=True, nogil=True, error_model="numpy")
def cart_rollout(ws: FloatArray, kind: int, k: int) -> None:
    """(p, v)_{k+1} from stage k under its command."""
    v = ws[_.V * S + k]
    e = ws[_.U * S + k] - v if kind == _.VELOCITY else ws[_.U * S + k]
    ws[_.P * S + k + 1] = ws[_.P * S + k] + ws[_.H * S + k] * v + ws[_.C2 * S + k] * e
    ws[_.V * S + k + 1] = v + ws[_.E1 * S + k] * e


@njit(cache=True, nogil=True, error_model="numpy")
def wish(
    ws: FloatArray, sc: FloatArray, kind: int, k: int, u: float, strength: float, top: float
) -> float:
    """Speed a guess would like after stage k: the regulator near its target, else pumping.

    Pumping runs the cart against sin theta: it then accelerates as the pole passes below, where the
    work done on the pole is greatest.
    """
    c = sc[_.COUPLING]
    g = sc[_.GRAVITY]
    p = ws[_.P * S + k] - ws[_.REF * S + k]
    v = ws[_.V * S + k]
    th = ws[_.TH * S + k]
    om = ws[_.OM * S + k]
    off = th - sc[_.THETA_REF]
    fall = math.sqrt(c * g)
    if kind == _.VELOCITY and abs(off) < CATCH_RAD and abs(om + fall * off) < CATCH_RATE * fall:
        i = _.GAIN
        rate = sc[i] * p + sc[i + 1] * v + sc[i + 2] * off + sc[i + 3] * om + sc[i + 4] * u
        return float(u - ws[_.H * S + k] * rate)
    lack = 0.5 * (1.0 + math.cos(th)) - 0.25 * om * om / (c * g)
    return float(-top * strength * max(-1.0, min(1.0, 3.0 * lack)) * math.sin(th) - p)


@njit(cache=True, nogil=True, error_model="numpy")
def guess(
    ws: FloatArray,
    sc: FloatArray,
    x0: FloatArray,
    n: int,
    kind: int,
    kick: float,
    kick_s: float,
    strength: float,
) -> None:
    """A motion from x0 (p, v, theta, omega, u): kick, pump, catch; on the dynamics.

    ``kick`` (sign and share of the speed limit) is the speed wanted for the first ``kick_s``
    seconds, ``strength`` scales the pumping. The cart keeps inside the track unless it cannot stop
    in time.
    """
    for row in range(4):
        ws[row * S] = x0[row]
    for row in range(_.LP, _.LE + 1):
        for k in range(n + 1):
            ws[row * S + k] = 0.0
    for row in range(_.ZPL, _.ZWU + 1):
        for k in range(n + 1):
            ws[row * S + k] = 0.0
    velocity = kind == _.VELOCITY
    rate = SHARE * (sc[_.BASE_W] if velocity else sc[_.BASE_U])
    top = SHARE * (sc[_.BASE_U] if velocity else min(sc[_.BASE_G], 0.5 * rate))
    end = SHARE * sc[_.BASE_P]
    tau = sc[_.TAU]
    u = x0[4]
    time = 0.0
    for k in range(n):
        h = ws[_.H * S + k]
        p = ws[_.P * S + k]
        v = ws[_.V * S + k]
        want = kick * top if time < kick_s else wish(ws, sc, kind, k, u, strength, top)
        # Speeds from which the cart still stops before the end of the track.
        high = math.sqrt(1.2 * rate * max(end - p - tau * max(v, 0.0), 0.0))
        low = -math.sqrt(1.2 * rate * max(end + p + tau * min(v, 0.0), 0.0))
        want = max(-top, min(top, max(low, min(high, want))))
        now = u if velocity else v
        slew = max(-rate, min(rate, (want - now) / h))
        if velocity:
            u = now + h * slew
            ws[_.W * S + k] = slew
            ws[_.U * S + k] = u
        else:
            ws[_.U * S + k] = slew
        cart_rollout(ws, kind, k)
        pole_rollout(ws, sc, kind, k)
        time += h
