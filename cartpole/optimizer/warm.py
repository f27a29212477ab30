"""From one tick to the next: shift the iterate, enter the measured state, stay strictly inside."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer import layout as _
from cartpole.optimizer.newton import NOT_FINITE, newton
from cartpole.optimizer.stages import padded

S = _.STRIDE
# Share of a limit that a clipped value keeps as slack.
INSIDE = 1e-5
# Share of the rate limit that the braking path of a relaxed limit uses.
BRAKE = 0.85
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


@njit(cache=True, nogil=True, error_model="numpy")
def braking_room(ws: FloatArray, sc: FloatArray, n: int, kind: int, x0: FloatArray) -> None:
    """Set the rows of limits: as stated, but never tighter than what braking now can keep."""
    p = x0[0]
    v = x0[1]
    u = x0[4] if kind == _.VELOCITY else v
    rate = BRAKE * (sc[_.BASE_W] if kind == _.VELOCITY else sc[_.BASE_U])
    tau = sc[_.TAU]
    reach = abs(p) + (v * v + u * u) / (2.0 * rate) + tau * (abs(v) + abs(u))
    inside = (
        reach < sc[_.BASE_P] * (1.0 - 4.0 * INSIDE)
        and abs(sc[_.LEAD_P] * p) + abs(sc[_.LEAD_V] * v) < sc[_.BASE_G] * (1.0 - 4.0 * INSIDE)
        and (kind != _.VELOCITY or abs(u) < sc[_.BASE_U] * (1.0 - 4.0 * INSIDE))
    )
    if inside and sc[_.RELAXED] == 0.0:
        return
    sc[_.RELAXED] = 0.0 if inside else 1.0
    # Command towards the middle once stopped, so that a cart beyond its limit comes back.
    home = -math.copysign(min(0.3 * sc[_.BASE_U], 2.0 * abs(p)), p)
    if abs(p) <= sc[_.BASE_P]:
        home = 0.0
    for k in range(n):
        h = ws[_.H * S + k]
        change = max(-rate * h, min(rate * h, (home - u)))
        if kind == _.VELOCITY:
            u += change
            e = u - v
            ws[_.LIMU * S + k] = max(sc[_.BASE_U], abs(u) * (1.0 + 8.0 * INSIDE) + 1e-6)
        else:
            u += change
            e = change / h
        p += h * v + ws[_.C2 * S + k] * e
        v += ws[_.E1 * S + k] * e
        g = abs(sc[_.LEAD_P] * p + sc[_.LEAD_V] * v)
        ws[_.LIMP * S + k + 1] = max(sc[_.BASE_P], abs(p) * (1.0 + 8.0 * INSIDE) + 1e-5)
        ws[_.LIMG * S + k + 1] = max(sc[_.BASE_G], g * (1.0 + 8.0 * INSIDE) + 1e-5)


@njit(inline="always")
def clip(value: float, limit: float) -> float:
    """``value`` brought strictly inside +-limit."""
    top = limit * (1.0 - INSIDE)
    return max(-top, min(top, value))


@njit(inline="always", error_model="numpy")
def centred(z: float, slack: float, mu: float) -> float:
    """A multiplier within SPREAD of mu / slack."""
    centre = mu / slack
    return max(centre / SPREAD, min(centre * SPREAD, z))


@njit(cache=True, nogil=True, error_model="numpy")
def enter(ws: FloatArray, sc: FloatArray, n: int, kind: int, x0: FloatArray) -> None:
    """Start the plan at x0 = (p, v, theta, omega, u), everything strictly inside the limits."""
    braking_room(ws, sc, n, kind, x0)
    for row in range(4):
        ws[row * S] = x0[row]
    mu = sc[_.MU]
    lp = sc[_.LEAD_P]
    lv = sc[_.LEAD_V]
    if kind == _.VELOCITY:
        u = x0[4]
        for k in range(n):
            h = ws[_.H * S + k]
            to = clip(ws[_.U * S + k], ws[_.LIMU * S + k])
            w = clip((to - u) / h, ws[_.LIMW * S + k])
            u += h * w
            ws[_.W * S + k] = w
            ws[_.U * S + k] = u
    else:
        for k in range(n):
            ws[_.U * S + k] = clip(ws[_.U * S + k], ws[_.LIMU * S + k])
    for k in range(padded(n)):
        limit = ws[_.LIMP * S + k]
        p = clip(ws[_.P * S + k], limit)
        ws[_.P * S + k] = p
        ws[_.ZPL * S + k] = centred(ws[_.ZPL * S + k], limit + p, mu)
        ws[_.ZPU * S + k] = centred(ws[_.ZPU * S + k], limit - p, mu)
        limit = ws[_.LIMG * S + k]
        g = lp * p + lv * ws[_.V * S + k]
        inner = clip(g, limit)
        if lv != 0.0:
            ws[_.V * S + k] += (inner - g) / lv
        ws[_.ZGL * S + k] = centred(ws[_.ZGL * S + k], limit + inner, mu)
        ws[_.ZGU * S + k] = centred(ws[_.ZGU * S + k], limit - inner, mu)
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
    """A tick of one plan: ``shifts`` steps ahead in time, measured state, Newton steps; a status."""
    if not math.isfinite(x0[0] + x0[1] + x0[2] + x0[3] + x0[4]):
        return NOT_FINITE
    for _i in range(shifts):
        shift(ws, n, kind)
    enter(ws, sc, n, kind, x0)
    return newton(ws, sc, n, kind, budget)
