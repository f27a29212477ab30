"""A plan's evaluation over a user's step: defects, Jacobians, curvature, residuals, first motions.

Like ``compiled.stages`` and ``compiled.kkt``, over the same workspace, but the cart follows the
user's equations, too: its steps have defects and are driven by the pole. The factories compile over
the module of a user's functions (``model.user.UserModel.parts``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cartpole.optimizer.compiled.kkt import gap
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.rollout import begin, choose
from cartpole.optimizer.compiled.terminal import terminal_gradient
from cartpole.optimizer.compiled.view import stage

compiled = njit(cache=True, nogil=True, error_model="numpy")


def make_defects(parts: Any) -> Any:
    """``defects(ws, n, q, c (N, 5)) -> sum``: of the trial's steps, in y; sum of the cart's."""

    def defects(ws: Any, n: int, q: Any, c: Any) -> float:
        x = stage(ws, 0)
        ahead = stage(ws, 1)
        at, out = np.empty(4), np.empty(4)
        f, z, s, u = np.empty(2), np.empty(4), np.empty(4), np.empty(1)
        total = 0.0
        for k in range(n):
            for i in range(4):
                at[i] = x[TP + i, k]
            parts.step(at, x[TU, k], x[H, k], q, out, f, z, s, u)
            for i in range(4):
                c[k, i] = out[i] - ahead[TP + i, k]
            c[k, 4] = -c[k, 1]  # of e = u - v
            x[CTH, k] = c[k, 2]
            x[COM, k] = c[k, 3]
            total += abs(c[k, 0]) + abs(c[k, 1])
        return total

    return compiled(defects)


def make_expansion(parts: Any) -> Any:
    """``expansion(ws, n, q, a (N, 5, 5), hess (N, 6, 6))``: at the iterate and its multipliers."""

    def expansion(ws: Any, n: int, q: Any, a: Any, hess: Any) -> None:
        x = stage(ws, 0)
        ahead = stage(ws, 1)
        at, lam, out = np.empty(4), np.empty(4), np.empty(4)
        jac, bend = np.empty((4, 5)), np.empty((5, 5))
        for k in range(n):
            for i in range(4):
                at[i] = x[P + i, k]
                lam[i] = ahead[LP + i, k]
            lam[1] -= ahead[LE, k]  # e+ = u - v+
            parts.expand(at, x[U, k], x[H, k], q, lam, out, jac, bend)
            # By y: u = v + e.
            for i in range(4):
                for j in range(5):
                    a[k, i, j] = jac[i, j]
                a[k, i, 1] += jac[i, 4]
            for j in range(5):
                a[k, 4, j] = -a[k, 1, j]
            a[k, 4, 1] += 1.0
            a[k, 4, 4] += 1.0
            for i in range(5):
                bend[1, i] += bend[4, i]
            for i in range(5):
                bend[i, 1] += bend[i, 4]
            for i in range(5):
                for j in range(5):
                    hess[k, i, j] = bend[i, j]

    return compiled(expansion)


def make_motion(parts: Any) -> Any:
    """``motion(ws, sc, q, x0 (5,), n, kick, kick_s, strength)``: as ``compiled.rollout.guess``."""

    def motion(
        ws: Any, sc: Any, q: Any, x0: Any, n: int, kick: float, kick_s: float, strength: float
    ) -> None:
        begin(ws, n, x0)
        x = stage(ws, 0)
        ahead = stage(ws, 1)
        at, out = np.empty(4), np.empty(4)
        f, z, s, c = np.empty(2), np.empty(4), np.empty(4), np.empty(1)
        u = x0[4]
        time = 0.0
        for k in range(n):
            u = choose(ws, sc, VELOCITY, k, u, kick, time < kick_s, strength)
            for i in range(4):
                at[i] = x[P + i, k]
            parts.step(at, u, x[H, k], q, out, f, z, s, c)
            for i in range(4):
                ahead[P + i, k] = out[i]
            time += x[H, k]

    return compiled(motion)


@njit(cache=True, nogil=True, error_model="numpy")
def last_model(ws: Any, sc: Any, n: int, last: Any, gradient: Any) -> None:
    """Hessian (5, 5) and gradient (5,) of the terminal cost over y."""
    place = TERMINAL
    for i in range(5):
        for j in range(i, 5):
            last[i, j] = sc[place]
            last[j, i] = sc[place]
            place += 1
    g = terminal_gradient(ws, sc, n, VELOCITY)
    for i in range(5):
        gradient[i] = g[i]


@njit(cache=True, nogil=True, error_model="numpy")
def enter(ws: Any, sc: Any, n: int, x0: Any) -> None:
    """Start the plan at x0 (5,), everything strictly inside; states keep their defects.

    Commands follow one another from the measured one; where that runs out of a limit on the
    state, the state is put inside it: the next Newton steps close what that opens. A measured
    state beyond the limits widens them all to itself.
    """
    x = stage(ws, 0)
    inside = 1.0 - 1e-4
    for i in range(4):
        x[P + i, 0] = x0[i]
    u = x0[4]
    sc[RELAXED] = 0.0
    wide = 1.02
    place = max(sc[BASE_P], wide * abs(x0[0]) + 1e-3 if abs(x0[0]) > sc[BASE_P] else 0.0)
    lead = abs(sc[LEAD_P] * x0[0] + sc[LEAD_V] * x0[1])
    room = max(sc[BASE_G], wide * lead + 1e-3 if lead > sc[BASE_G] else 0.0)
    top = max(sc[BASE_U], wide * abs(u) + 1e-3 if abs(u) > sc[BASE_U] else 0.0)
    if place > sc[BASE_P] or room > sc[BASE_G] or top > sc[BASE_U]:
        sc[RELAXED] = 1.0
    for k in range(n):
        x[LIMU, k] = top
        rate = inside * x[LIMW, k]
        want = max(-inside * top, min(inside * top, x[U, k]))
        w = max(-rate, min(rate, (want - u) / x[H, k]))
        u += x[H, k] * w
        x[W, k] = w
        x[U, k] = u
    for k in range(1, n + 1):
        x[LIMP, k] = place
        x[LIMG, k] = room
        x[P, k] = max(-inside * place, min(inside * place, x[P, k]))
        if sc[LEAD_V] != 0.0:
            high = (inside * room - sc[LEAD_P] * x[P, k]) / sc[LEAD_V]
            low = (-inside * room - sc[LEAD_P] * x[P, k]) / sc[LEAD_V]
            x[V, k] = max(low, min(high, x[V, k]))
    mu = sc[MU]
    for k in range(n + 1):
        g = sc[LEAD_P] * x[P, k] + sc[LEAD_V] * x[V, k]
        _centre(ws, ZPL, k, x[LIMP, k], x[P, k], mu)
        _centre(ws, ZGL, k, x[LIMG, k], g, mu)
        _centre(ws, ZUL, k, x[LIMU, k], x[U, k], mu)
        _centre(ws, ZWL, k, x[LIMW, k], x[W, k], mu)
    sc[NU] = 0.0


@njit(inline="always", error_model="numpy")
def _centre(ws: Any, row: int, k: int, limit: float, g: float, mu: float) -> None:
    """Both multipliers of |g| <= limit within a factor of 100 of mu / slack."""
    x = stage(ws, 0)
    lower, upper = mu / (limit + g), mu / (limit - g)
    x[row, k] = max(0.01 * lower, min(100.0 * lower, x[row, k]))
    x[row + 1, k] = max(0.01 * upper, min(100.0 * upper, x[row + 1, k]))


@njit(cache=True, nogil=True, error_model="numpy")
def residuals(ws: Any, sc: Any, n: int, a: Any, c: Any, last: Any) -> tuple[float, float, float]:
    """(stationarity, defect, complementarity) at the iterate; see ``compiled.kkt.residuals``."""
    x = stage(ws, 0)
    ahead = stage(ws, 1)
    worst, defect, product = 0.0, 0.0, 0.0
    g = np.empty(5)
    for k in range(n + 1):
        lead = sc[LEAD_P] * x[P, k] + sc[LEAD_V] * x[V, k]
        product = max(product, gap(x[LIMP, k], x[P, k], x[ZPL, k], x[ZPU, k]))
        product = max(product, gap(x[LIMG, k], lead, x[ZGL, k], x[ZGU, k]))
        zg = x[ZGU, k] - x[ZGL, k]
        g[0] = x[ZPU, k] - x[ZPL, k] + sc[LEAD_P] * zg
        g[1] = sc[LEAD_V] * zg
        g[2] = g[3] = g[4] = 0.0
        if k == n:
            for i in range(5):
                worst = max(worst, abs(g[i] + last[i] - x[LP + i, k]))
            break
        product = max(product, gap(x[LIMU, k], x[U, k], x[ZUL, k], x[ZUU, k]))
        product = max(product, gap(x[LIMW, k], x[W, k], x[ZWL, k], x[ZWU, k]))
        h = 2.0 * x[H, k]
        gu = sc[WEIGHT_U] * h * x[U, k] + x[ZUU, k] - x[ZUL, k]
        g[0] += sc[WEIGHT_P] * h * (x[P, k] - x[REF, k])
        g[1] += sc[WEIGHT_V] * h * x[V, k] + gu
        g[2] += sc[WEIGHT_TH] * h * (x[TH, k] - sc[THETA_REF])
        g[3] += sc[WEIGHT_OM] * h * x[OM, k]
        g[4] += gu
        for i in range(5):
            for j in range(5):
                g[i] += a[k, j, i] * ahead[LP + j, k]
            defect = max(defect, abs(c[k, i]))
        pull = sc[WEIGHT_W] * h * x[W, k] + x[ZWU, k] - x[ZWL, k] + x[H, k] * g[4]
        worst = max(worst, abs(pull))
        if k > 0:
            for i in range(5):
                worst = max(worst, abs(g[i] - x[LP + i, k]))
    return worst, defect, product
