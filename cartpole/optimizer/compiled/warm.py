"""From one tick to the next: shift the iterate, enter the measured state, stay strictly inside."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.newton import newton
from cartpole.optimizer.compiled.stages import padded
from cartpole.optimizer.compiled.view import stage
from cartpole.optimizer.iteration import NOT_FINITE

# A value closer to its limit than KEEP (a share of it) is brought to INSIDE of it.
KEEP = 1e-8
INSIDE = 1e-4
# Share of the rate limit that the braking path of a relaxed limit uses.
BRAKE = 0.99
# Multipliers are kept within this factor of mu / slack when a plan is warm-started.
SPREAD = 100.0


@njit(cache=True, nogil=True, error_model="numpy")
def shift(ws: FloatArray, n: int, kind: int) -> None:
    """Move everything one step ahead in time; the last stage is repeated."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    for k in range(n):
        for row in range(P, OM + 1):
            x[row, k] = ahead[row, k]
        for row in range(LP, LE + 1):
            x[row, k] = ahead[row, k]
        for row in range(ZPL, ZGU + 1):
            x[row, k] = ahead[row, k]
    for k in range(n - 1):
        x[U, k] = ahead[U, k]
        x[W, k] = ahead[W, k]
        for row in range(ZUL, ZWU + 1):
            x[row, k] = ahead[row, k]
    if kind == VELOCITY:
        x[W, n - 1] = 0.0
    else:
        x[U, n - 1] = 0.0


@njit(inline="always", error_model="numpy")
def clip(value: float, limit: float) -> float:
    """``value`` brought strictly inside +-limit."""
    if abs(value) <= limit * (1.0 - KEEP):
        return value
    return math.copysign(limit * (1.0 - INSIDE), value)


@njit(inline="always", error_model="numpy")
def centred(z: float, slack: float, mu: float) -> float:
    """A multiplier within SPREAD of mu / slack."""
    centre = mu / slack
    return max(centre / SPREAD, min(centre * SPREAD, z))


@njit(inline="always", error_model="numpy")
def held(ws: FloatArray, kind: int, k: int, u: float, to: float) -> float:
    """Command of stage k nearest to ``to``, from the command (or speed) u before it."""
    x = stage(ws, 0)
    if kind == VELOCITY:
        h = x[H, k]
        w = clip((clip(to, x[LIMU, k]) - u) / h, x[LIMW, k])
        x[W, k] = w
        return float(u + h * w)
    return clip(to, x[LIMU, k])


@njit(cache=True, nogil=True, error_model="numpy")
def roll(ws: FloatArray, sc: FloatArray, n: int, kind: int, u: float) -> int:
    """The cart's motion under the plan's commands, ``u`` before them; first stage beyond a limit.

    Returns 0 if all stages keep the limits.
    """
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    p = x[P, 0]
    v = x[V, 0]
    beyond = 0
    for k in range(n):
        u = held(ws, kind, k, u, x[U, k])
        x[U, k] = u
        e = u - v if kind == VELOCITY else u
        p += x[H, k] * v + x[C2, k] * e
        v += x[E1, k] * e
        ahead[P, k] = p
        ahead[V, k] = v
        room = ahead[LIMP, k] * (1.0 - KEEP) - abs(p)
        lead = ahead[LIMG, k] * (1.0 - KEEP) - abs(lp * p + lv * v)
        if beyond == 0 and (room < 0.0 or lead < 0.0):
            beyond = k + 1
    return beyond


@njit(cache=True, nogil=True, error_model="numpy")
def brake(ws: FloatArray, sc: FloatArray, n: int, kind: int, first: int, u: float) -> None:
    """A motion in the trial's rows that stops the cart from stage ``first`` on.

    ``u`` is the command before that stage; a cart beyond its limit is brought back slowly.
    """
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    p = x[P, first]
    v = x[V, first]
    rate = BRAKE * (sc[BASE_W] if kind == VELOCITY else sc[BASE_U])
    for k in range(first, n):
        h = x[H, k]
        excess = abs(p) - sc[BASE_P] * (1.0 - 2.0 * INSIDE)
        to = -math.copysign(min(0.3, 2.0 * excess), p) if excess > 0.0 else 0.0
        now = u if kind == VELOCITY else v
        change = max(-rate * h, min(rate * h, to - now))
        u = now + change if kind == VELOCITY else change / h
        x[TW, k] = change / h if kind == VELOCITY else 0.0
        x[TU, k] = u
        e = u - v if kind == VELOCITY else u
        p += h * v + x[C2, k] * e
        v += x[E1, k] * e
        ahead[TP, k] = p
        ahead[TV, k] = v


@njit(inline="always", error_model="numpy")
def share(now: float, other: float, limit: float) -> float:
    """Least share of ``other`` in a mixture with ``now`` inside +-limit; above 1: none."""
    side = math.copysign(1.0, now)
    if abs(now) <= limit * (1.0 - KEEP):
        return 0.0
    inner = limit * (1.0 - INSIDE)
    if side * other >= inner:
        return 2.0
    return (abs(now) - inner) / (abs(now) - side * other)


@njit(cache=True, nogil=True, error_model="numpy")
def mix(ws: FloatArray, sc: FloatArray, n: int, first: int) -> bool:
    """Mix just enough of the trial's motion into the plan's from stage ``first`` on."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    part = 0.0
    for k in range(first + 1, n + 1):
        p = x[P, k]
        q = x[TP, k]
        part = max(part, share(p, q, x[LIMP, k]))
        g = lp * p + lv * x[V, k]
        part = max(part, share(g, lp * q + lv * x[TV, k], x[LIMG, k]))
    if part > 1.0:
        return False
    for k in range(first, n):
        x[U, k] += part * (x[TU, k] - x[U, k])
        x[W, k] += part * (x[TW, k] - x[W, k])
        ahead[P, k] += part * (ahead[TP, k] - ahead[P, k])
        ahead[V, k] += part * (ahead[TV, k] - ahead[V, k])
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def relax(ws: FloatArray, sc: FloatArray, n: int, kind: int, u: float) -> None:
    """Widen the rows of limits to what braking at once needs; mix it into the plan as needed."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    brake(ws, sc, n, kind, 0, u)
    wide = 1.0 + 4.0 * INSIDE
    for k in range(n):
        p = ahead[TP, k]
        v = ahead[TV, k]
        g = abs(sc[LEAD_P] * p + sc[LEAD_V] * v)
        x[LIMU, k] = max(sc[BASE_U], abs(x[TU, k]) * wide + 1e-6)
        ahead[LIMP, k] = max(sc[BASE_P], abs(p) * wide + 1e-6)
        ahead[LIMG, k] = max(sc[BASE_G], g * wide + 1e-6)
    sc[RELAXED] = 1.0
    if roll(ws, sc, n, kind, u) > 0:
        mix(ws, sc, n, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def cart(ws: FloatArray, sc: FloatArray, n: int, kind: int, x0: FloatArray) -> None:
    """The cart's motion from x0, on its dynamics and strictly inside all limits.

    Where the commands of the plan run into a limit, they are mixed with just enough braking, begun
    as late as will do. If even braking at once is too late, the limits give way to that braking
    and to nothing else.
    """
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    if sc[RELAXED] != 0.0:
        for k in range(n):
            x[LIMU, k] = sc[BASE_U]
            ahead[LIMP, k] = sc[BASE_P]
            ahead[LIMG, k] = sc[BASE_G]
        sc[RELAXED] = 0.0
    for row in range(4):
        x[row, 0] = x0[row]
    if kind == VELOCITY and abs(x0[4]) > sc[BASE_U] * (1.0 - KEEP):
        relax(ws, sc, n, kind, x0[4])
        return
    beyond = roll(ws, sc, n, kind, x0[4])
    if beyond == 0:
        return
    back = 2
    first = beyond
    while first > 0:
        first = max(0, beyond - back)
        brake(ws, sc, n, kind, first, x0[4] if first == 0 else x[U, first - 1])
        if mix(ws, sc, n, first):
            return
        back *= 2
    relax(ws, sc, n, kind, x0[4])


@njit(cache=True, nogil=True, error_model="numpy")
def enter(ws: FloatArray, sc: FloatArray, n: int, kind: int, x0: FloatArray) -> None:
    """Start the plan at x0 = (p, v, theta, omega, u), everything strictly inside the limits."""
    x = stage(ws, 0)
    cart(ws, sc, n, kind, x0)
    mu = sc[MU]
    lp = sc[LEAD_P]
    lv = sc[LEAD_V]
    for k in range(padded(n)):
        limit = x[LIMP, k]
        p = x[P, k]
        x[ZPL, k] = centred(x[ZPL, k], limit + p, mu)
        x[ZPU, k] = centred(x[ZPU, k], limit - p, mu)
        limit = x[LIMG, k]
        g = lp * p + lv * x[V, k]
        x[ZGL, k] = centred(x[ZGL, k], limit + g, mu)
        x[ZGU, k] = centred(x[ZGU, k], limit - g, mu)
        limit = x[LIMU, k]
        u = x[U, k]
        x[ZUL, k] = centred(x[ZUL, k], limit + u, mu)
        x[ZUU, k] = centred(x[ZUU, k], limit - u, mu)
        limit = x[LIMW, k]
        w = x[W, k]
        x[ZWL, k] = centred(x[ZWL, k], limit + w, mu)
        x[ZWU, k] = centred(x[ZWU, k], limit - w, mu)
    sc[NU] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def advance(
    ws: FloatArray, sc: FloatArray, x0: FloatArray, n: int, kind: int, shifts: int, budget: int
) -> int:
    """A tick of one plan: ``shifts`` steps ahead, measured state, Newton steps; a status."""
    if not math.isfinite(x0[0] + x0[1] + x0[2] + x0[3] + x0[4]):
        return NOT_FINITE
    for _i in range(shifts):
        shift(ws, n, kind)
    enter(ws, sc, n, kind, x0)
    return newton(ws, sc, n, kind, budget)
