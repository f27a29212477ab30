"""One held step of a user's accelerations, with its exact first and second derivatives.

The classical Runge-Kutta step of x = (p, v, theta, omega) under a held command u. Its stages X_i
and their tangents D_i = dX_i / d(x, u) run forward; the multipliers of the stages' rates run
backward; the curvature of lambda . step is then the sum over the stages of D_i' H_i D_i, H_i that
of the accelerations weighted by their multipliers. So the symbols of one evaluation are
differentiated, never those of a whole step.

The factories compile over a module of functions (``programs.compile_flow``): a compiled kernel
keeps its place in the cache only over a module.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True, error_model="numpy")


def make_step(parts: Any) -> Any:
    """``step(x (4,), u, h, q (p,), out (4,), f (2,), z (4,), s (4,), c (1,))``: x one step on.

    The last four are scratch: a step allocates nothing.
    """

    def step(x: Any, u: float, h: float, q: Any, out: Any, f: Any, z: Any, s: Any, c: Any) -> None:
        c[0] = u
        for i in range(4):
            z[i] = x[i]
            s[i] = 0.0
        for stage in range(4):
            parts.rates(z, c, q, f)
            weight = 1.0 if stage == 0 or stage == 3 else 2.0
            v, omega = z[1], z[3]
            s[0] += weight * v
            s[1] += weight * f[0]
            s[2] += weight * omega
            s[3] += weight * f[1]
            reach = h if stage == 2 else 0.5 * h
            z[0] = x[0] + reach * v
            z[1] = x[1] + reach * f[0]
            z[2] = x[2] + reach * omega
            z[3] = x[3] + reach * f[1]
        for i in range(4):
            out[i] = x[i] + h / 6.0 * s[i]

    return compiled(step)


def make_expand(parts: Any) -> Any:
    """``expand(x (4,), u, h, q, lam (4,), out (4,), jac (4, 5), hess (5, 5))`` of one step.

    ``jac`` is by (x, u), ``hess`` the second derivatives of lam . step by the same.
    """

    def expand(x: Any, u: float, h: float, q: Any, lam: Any, out: Any, jac: Any, hess: Any) -> None:
        c = np.empty(1)
        c[0] = u
        at = np.empty((4, 4))
        tangent = np.zeros((4, 4, 5))
        slope = np.empty((4, 2, 5))
        rate, turn = np.empty((4, 4)), np.empty((4, 5))
        total = np.zeros((4, 5))
        f = np.empty(2)
        for i in range(4):
            out[i] = x[i]
        for stage in range(4):
            reach = 0.0 if stage == 0 else (h if stage == 3 else 0.5 * h)
            for i in range(4):
                at[stage, i] = x[i] + (reach * rate[stage - 1, i] if stage > 0 else 0.0)
                for j in range(5):
                    tangent[stage, i, j] = reach * turn[i, j] if stage > 0 else 0.0
                tangent[stage, i, i] += 1.0
            parts.slopes(at[stage], c, q, f, slope[stage])
            rate[stage, 0] = at[stage, 1]
            rate[stage, 1] = f[0]
            rate[stage, 2] = at[stage, 3]
            rate[stage, 3] = f[1]
            weight = h / 6.0 if stage == 0 or stage == 3 else h / 3.0
            for j in range(5):
                turn[0, j] = tangent[stage, 1, j]
                turn[2, j] = tangent[stage, 3, j]
                for half in range(2):
                    value = slope[stage, half, 4] if j == 4 else 0.0
                    for r in range(4):
                        value += slope[stage, half, r] * tangent[stage, r, j]
                    turn[1 + 2 * half, j] = value
            for i in range(4):
                out[i] += weight * rate[stage, i]
                for j in range(5):
                    total[i, j] += weight * turn[i, j]
        for i in range(4):
            for j in range(5):
                jac[i, j] = total[i, j]
            jac[i, i] += 1.0
        hess[:] = 0.0
        back, pull = np.zeros(4), np.empty(4)
        bend, half_bend = np.empty((5, 5)), np.empty((4, 5))
        two = np.empty(2)
        for stage in (3, 2, 1, 0):
            weight = h / 6.0 if stage == 0 or stage == 3 else h / 3.0
            reach = h if stage == 2 else 0.5 * h  # from this stage's rate to the next stage
            for i in range(4):
                pull[i] = weight * lam[i] + (reach * back[i] if stage < 3 else 0.0)
            two[0], two[1] = pull[1], pull[3]
            parts.bends(at[stage], c, q, two, bend)
            for i in range(4):
                for j in range(5):
                    value = bend[i, 4] if j == 4 else 0.0
                    for r in range(4):
                        value += bend[i, r] * tangent[stage, r, j]
                    half_bend[i, j] = value
            for i in range(5):
                for j in range(5):
                    value = 0.0
                    for r in range(4):
                        value += tangent[stage, r, i] * half_bend[r, j]
                    if i == 4:
                        value += bend[4, 4] if j == 4 else 0.0
                        for r in range(4):
                            value += bend[4, r] * tangent[stage, r, j]
                    hess[i, j] += value
            for i in range(4):
                back[i] = two[0] * slope[stage, 0, i] + two[1] * slope[stage, 1, i]
            back[1] += pull[0]
            back[3] += pull[2]

    return compiled(expand)
