"""First guesses: motions of cart and pole on the dynamics and, where they can, in the limits."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.derivatives import pole_step_derivatives
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.view import stage

# Guesses keep this share of every limit, so that they start strictly inside.
SHARE = 0.95
# The regulator takes over when the energy lacks less than this share and the pole is this near.
CATCH_RAD = 0.6
CATCH_RATE = 1.5  # in units of sqrt(c g)


@njit(cache=True, nogil=True, error_model="numpy")
def pole_rollout(ws: FloatArray, sc: FloatArray, kind: int, k: int) -> None:
    """(theta, omega)_{k+1} from stage k."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    carry = 1.0 if kind == VELOCITY else 0.0
    out = pole_step_derivatives(
        x[TH, k],
        x[OM, k],
        x[U, k] - carry * x[V, k],
        sc[SCALE],
        x[RM, k],
        x[R1, k],
        x[H, k],
        sc[COUPLING],
        sc[GRAVITY],
        sc[DAMPING],
        0.0,
        0.0,
    )
    ahead[TH, k] = out[0]
    ahead[OM, k] = out[1]


@njit(cache=True, nogil=True, error_model="numpy")
def cart_rollout(ws: FloatArray, kind: int, k: int) -> None:
    """(p, v)_{k+1} from stage k under its command."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    v = x[V, k]
    e = x[U, k] - v if kind == VELOCITY else x[U, k]
    ahead[P, k] = x[P, k] + x[H, k] * v + x[C2, k] * e
    ahead[V, k] = v + x[E1, k] * e


@njit(cache=True, nogil=True, error_model="numpy")
def wish(
    ws: FloatArray, sc: FloatArray, kind: int, k: int, u: float, strength: float, top: float
) -> float:
    """Speed a guess would like after stage k: the regulator near its target, else pumping.

    Pumping runs the cart against sin theta: it then accelerates as the pole passes below, where the
    work done on the pole is greatest.
    """
    x = stage(ws, 0)
    c = sc[COUPLING]
    g = sc[GRAVITY]
    p = x[P, k] - x[REF, k]
    v = x[V, k]
    th = x[TH, k]
    om = x[OM, k]
    off = th - sc[THETA_REF]
    fall = math.sqrt(c * g)
    if kind == VELOCITY and abs(off) < CATCH_RAD and abs(om + fall * off) < CATCH_RATE * fall:
        i = GAIN
        rate = sc[i] * p + sc[i + 1] * v + sc[i + 2] * off + sc[i + 3] * om + sc[i + 4] * u
        return float(u - x[H, k] * rate)
    lack = 0.5 * (1.0 + math.cos(th)) - 0.25 * om * om / (c * g)
    return float(-top * strength * max(-1.0, min(1.0, 3.0 * lack)) * math.sin(th) - p)


@njit(cache=True, nogil=True, error_model="numpy")
def begin(ws: FloatArray, n: int, x0: FloatArray) -> None:
    """The first state; no multipliers."""
    x = stage(ws, 0)
    for row in range(4):
        x[row, 0] = x0[row]
    for row in range(LP, LE + 1):
        for k in range(n + 1):
            x[row, k] = 0.0
    for row in range(ZPL, ZWU + 1):
        for k in range(n + 1):
            x[row, k] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def choose(
    ws: FloatArray,
    sc: FloatArray,
    kind: int,
    k: int,
    u: float,
    kick: float,
    kicking: bool,
    strength: float,
) -> float:
    """The guess's command for stage k, from the state there and the command u before it.

    The cart keeps inside the track unless it cannot stop in time.
    """
    x = stage(ws, 0)
    velocity = kind == VELOCITY
    rate = SHARE * (sc[BASE_W] if velocity else sc[BASE_U])
    top = SHARE * (sc[BASE_U] if velocity else min(sc[BASE_G], 0.5 * rate))
    end = SHARE * sc[BASE_P]
    tau = sc[TAU]
    h = x[H, k]
    p = x[P, k]
    v = x[V, k]
    want = kick * top if kicking else wish(ws, sc, kind, k, u, strength, top)
    # Speeds from which the cart still stops before the end of the track.
    high = math.sqrt(1.2 * rate * max(end - p - tau * max(v, 0.0), 0.0))
    low = -math.sqrt(1.2 * rate * max(end + p + tau * min(v, 0.0), 0.0))
    want = max(-top, min(top, max(low, min(high, want))))
    now = u if velocity else v
    slew = max(-rate, min(rate, (want - now) / h))
    if velocity:
        u = now + h * slew
        x[W, k] = slew
        x[U, k] = u
    else:
        x[U, k] = slew
    return u


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
    seconds, ``strength`` scales the pumping.
    """
    begin(ws, n, x0)
    x = stage(ws, 0)
    u = x0[4]
    time = 0.0
    for k in range(n):
        u = choose(ws, sc, kind, k, u, kick, time < kick_s, strength)
        cart_rollout(ws, kind, k)
        pole_rollout(ws, sc, kind, k)
        time += x[H, k]


@njit(cache=True, nogil=True, error_model="numpy")
def copy_plan(ws: FloatArray, n: int, kind: int, states: FloatArray, inputs: FloatArray) -> None:
    """Write the plan's states (n + 1, 5) and inputs (n,) as ``messages.Plan`` orders them."""
    x = stage(ws, 0)
    for k in range(n + 1):
        states[k, 0], states[k, 1] = x[P, k], x[V, k]
        states[k, 2], states[k, 3] = x[TH, k], x[OM, k]
    states[0, 4] = 0.0
    for k in range(n):
        states[k + 1, 4] = x[U, k] if kind == VELOCITY else 0.0
        inputs[k] = x[W, k] if kind == VELOCITY else x[U, k]
    if kind == VELOCITY:
        states[0, 4] = x[U, 0] - x[H, 0] * x[W, 0]
