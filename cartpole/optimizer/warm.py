"""From one tick to the next: shift the iterate, enter the measured state, stay strictly inside."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer import layout as _
from cartpole.optimizer.newton import NOT_FINITE, newton
from cartpole.optimizer.stages import padded

S = _.STRIDE
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
    for k in range(n):
        for row in range(_.P, _.OM + 1):
            ws[row * S + k] = ws[row * S + k + 1]
        for row in range(_.LP, _.LE + 1):
            ws[row * S + k] = ws[row * S + k + 1]
        for row in range(_.ZPL, _.ZGU + 1):
            ws[row * S + k] = ws[row * S + k + 1]
    for k in range(n - 1):
        ws[_.U * S + k] = ws[_.U * S + k + 1]
        ws[_.W * S + k] = ws[_.W * S + k + 1]
        for row in range(_.ZUL, _.ZWU + 1):
            ws[row * S + k] = ws[row * S + k + 1]
    if kind == _.VELOCITY:
        ws[_.W * S + n - 1] = 0.0
    else:
        ws[_.U * S + n - 1] = 0.0


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
    if kind == _.VELOCITY:
        h = ws[_.H * S + k]
        w = clip((clip(to, ws[_.LIMU * S + k]) - u) / h, ws[_.LIMW * S + k])
        ws[_.W * S + k] = w
        return float(u + h * w)
    return clip(to, ws[_.LIMU * S + k])


@njit(cache=True, nogil=True, error_model="numpy")
def roll(ws: FloatArray, sc: FloatArray, n: int, kind: int, u: float) -> int:
    """The cart's motion under the plan's commands, ``u`` before them; first stage beyond a limit.

    Returns 0 if all stages keep the limits.
    """
    lp = sc[_.LEAD_P]
    lv = sc[_.LEAD_V]
    p = ws[_.P * S]
    v = ws[_.V * S]
    beyond = 0
    for k in range(n):
        u = held(ws, kind, k, u, ws[_.U * S + k])
        ws[_.U * S + k] = u
        e = u - v if kind == _.VELOCITY else u
        p += ws[_.H * S + k] * v + ws[_.C2 * S + k] * e
        v += ws[_.E1 * S + k] * e
        ws[_.P * S + k + 1] = p
        ws[_.V * S + k + 1] = v
        room = ws[_.LIMP * S + k + 1] * (1.0 - KEEP) - abs(p)
        lead = ws[_.LIMG * S + k + 1] * (1.0 - KEEP) - abs(lp * p + lv * v)
        if beyond == 0 and (room < 0.0 or lead < 0.0):
            beyond = k + 1
    return beyond


@njit(cache=True, nogil=True, error_model="numpy")
def brake(ws: FloatArray, sc: FloatArray, n: int, kind: int, first: int, u: float) -> None:
    """A motion in the trial's rows that stops the cart from stage ``first`` on.

    ``u`` is the command before that stage; a cart beyond its limit is brought back slowly.
    """
    p = ws[_.P * S + first]
    v = ws[_.V * S + first]
    rate = BRAKE * (sc[_.BASE_W] if kind == _.VELOCITY else sc[_.BASE_U])
    for k in range(first, n):
        h = ws[_.H * S + k]
        excess = abs(p) - sc[_.BASE_P] * (1.0 - 2.0 * INSIDE)
        to = -math.copysign(min(0.3, 2.0 * excess), p) if excess > 0.0 else 0.0
        now = u if kind == _.VELOCITY else v
        change = max(-rate * h, min(rate * h, to - now))
        u = now + change if kind == _.VELOCITY else change / h
        ws[_.TW * S + k] = change / h if kind == _.VELOCITY else 0.0
        ws[_.TU * S + k] = u
        e = u - v if kind == _.VELOCITY else u
        p += h * v + ws[_.C2 * S + k] * e
        v += ws[_.E1 * S + k] * e
        ws[_.TP * S + k + 1] = p
        ws[_.TV * S + k + 1] = v


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
    lp = sc[_.LEAD_P]
    lv = sc[_.LEAD_V]
    part = 0.0
    for k in range(first + 1, n + 1):
        p = ws[_.P * S + k]
        q = ws[_.TP * S + k]
        part = max(part, share(p, q, ws[_.LIMP * S + k]))
        g = lp * p + lv * ws[_.V * S + k]
        part = max(part, share(g, lp * q + lv * ws[_.TV * S + k], ws[_.LIMG * S + k]))
    if part > 1.0:
        return False
    for k in range(first, n):
        ws[_.U * S + k] += part * (ws[_.TU * S + k] - ws[_.U * S + k])
        ws[_.W * S + k] += part * (ws[_.TW * S + k] - ws[_.W * S + k])
        ws[_.P * S + k + 1] += part * (ws[_.TP * S + k + 1] - ws[_.P * S + k + 1])
        ws[_.V * S + k + 1] += part * (ws[_.TV * S + k + 1] - ws[_.V * S + k + 1])
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def relax(ws: FloatArray, sc: FloatArray, n: int, kind: int, u: float) -> None:
    """Widen the rows of limits to what braking at once needs; mix it into the plan as needed."""
    brake(ws, sc, n, kind, 0, u)
    wide = 1.0 + 4.0 * INSIDE
    for k in range(n):
        p = ws[_.TP * S + k + 1]
        v = ws[_.TV * S + k + 1]
        g = abs(sc[_.LEAD_P] * p + sc[_.LEAD_V] * v)
        ws[_.LIMU * S + k] = max(sc[_.BASE_U], abs(ws[_.TU * S + k]) * wide + 1e-6)
        ws[_.LIMP * S + k + 1] = max(sc[_.BASE_P], abs(p) * wide + 1e-6)
        ws[_.LIMG * S + k + 1] = max(sc[_.BASE_G], g * wide + 1e-6)
    sc[_.RELAXED] = 1.0
    if roll(ws, sc, n, kind, u) > 0:
        mix(ws, sc, n, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def cart(ws: FloatArray, sc: FloatArray, n: int, kind: int, x0: FloatArray) -> None:
    """The cart's motion from x0, on its dynamics and strictly inside all limits.

    Where the commands of the plan run into a limit, they are mixed with just enough braking, begun
    as late as will do. If even braking at once is too late, the limits give way to that braking
    and to nothing else.
    """
    if sc[_.RELAXED] != 0.0:
        for k in range(n):
            ws[_.LIMU * S + k] = sc[_.BASE_U]
            ws[_.LIMP * S + k + 1] = sc[_.BASE_P]
            ws[_.LIMG * S + k + 1] = sc[_.BASE_G]
        sc[_.RELAXED] = 0.0
    for row in range(4):
        ws[row * S] = x0[row]
    if kind == _.VELOCITY and abs(x0[4]) > sc[_.BASE_U] * (1.0 - KEEP):
        relax(ws, sc, n, kind, x0[4])
        return
    beyond = roll(ws, sc, n, kind, x0[4])
    if beyond == 0:
        return
    back = 2
    first = beyond
    while first > 0:
        first = max(0, beyond - back)
        brake(ws, sc, n, kind, first, x0[4] if first == 0 else ws[_.U * S + first - 1])
        if mix(ws, sc, n, first):
            return
        back *= 2
    relax(ws, sc, n, kind, x0[4])


@njit(cache=True, nogil=True, error_model="numpy")
def enter(ws: FloatArray, sc: FloatArray, n: int, kind: int, x0: FloatArray) -> None:
    """Start the plan at x0 = (p, v, theta, omega, u), everything strictly inside the limits."""
    cart(ws, sc, n, kind, x0)
    mu = sc[_.MU]
    lp = sc[_.LEAD_P]
    lv = sc[_.LEAD_V]
    for k in range(padded(n)):
        limit = ws[_.LIMP * S + k]
        p = ws[_.P * S + k]
        ws[_.ZPL * S + k] = centred(ws[_.ZPL * S + k], limit + p, mu)
        ws[_.ZPU * S + k] = centred(ws[_.ZPU * S + k], limit - p, mu)
        limit = ws[_.LIMG * S + k]
        g = lp * p + lv * ws[_.V * S + k]
        ws[_.ZGL * S + k] = centred(ws[_.ZGL * S + k], limit + g, mu)
        ws[_.ZGU * S + k] = centred(ws[_.ZGU * S + k], limit - g, mu)
        limit = ws[_.LIMU * S + k]
        u = ws[_.U * S + k]
        ws[_.ZUL * S + k] = centred(ws[_.ZUL * S + k], limit + u, mu)
        ws[_.ZUU * S + k] = centred(ws[_.ZUU * S + k], limit - u, mu)
        limit = ws[_.LIMW * S + k]
        w = ws[_.W * S + k]
        ws[_.ZWL * S + k] = centred(ws[_.ZWL * S + k], limit + w, mu)
        ws[_.ZWU * S + k] = centred(ws[_.ZWU * S + k], limit - w, mu)
    sc[_.NU] = 0.0


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
