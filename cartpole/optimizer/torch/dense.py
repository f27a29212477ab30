"""The same Newton direction as the compiled recursion for costs whose Hessian has no known zeros.

Cost, dynamics and their derivatives come from outside; limits (rows Q*) and the cart's dynamics are
those of the workspace. Everything is in y = (p, v, theta, omega, e), e = u - v, and the rate w.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.riccati import PIVOT
from cartpole.optimizer.compiled.view import stage


@njit(cache=True, nogil=True, error_model="numpy")
def store(ws: FloatArray, k: int, hessian: FloatArray, gradient: FloatArray) -> None:
    """Keep the cost-to-go of a stage: upper triangle of (5, 5), and (5,)."""
    x = stage(ws, 0)
    row = P00
    for i in range(5):
        x[S0 + i, k] = gradient[i]
        for j in range(i, 5):
            x[row, k] = hessian[i, j]
            row += 1


@njit(cache=True, nogil=True, error_model="numpy")
def add_limits(ws: FloatArray, k: int, hessian: FloatArray) -> None:
    """Add the curvature of a stage's limits to (5, 5)."""
    x = stage(ws, 0)
    hessian[0, 0] += x[QPP, k]
    hessian[0, 1] += x[QPV, k]
    hessian[1, 0] += x[QPV, k]
    hessian[1, 1] += x[QVV, k]
    hessian[1, 4] += x[QVE, k]
    hessian[4, 1] += x[QVE, k]
    hessian[4, 4] += x[QEE, k]


@njit(cache=True, nogil=True, error_model="numpy")
def step_matrix(ws: FloatArray, k: int, a: FloatArray) -> None:
    """(5, 5) Jacobian of a step with respect to y after its input."""
    x = stage(ws, 0)
    a[0, 0] = a[1, 1] = 1.0
    a[0, 1] = x[H, k]
    a[0, 4] = x[C2, k]
    a[1, 4] = x[E1, k]
    a[2, 2] = x[F11, k]
    a[2, 3] = x[F12, k]
    a[2, 4] = x[G1, k]
    a[3, 2] = x[F21, k]
    a[3, 3] = x[F22, k]
    a[3, 4] = x[G2, k]
    a[4, 4] = x[D, k]


@njit(cache=True, nogil=True, error_model="numpy")
def dense_backward(
    ws: FloatArray, n: int, hessian: FloatArray, last: FloatArray, last_gradient: FloatArray
) -> bool:
    """Cost-to-go and gains of every stage; False if an input's curvature is not positive.

    ``hessian`` (n, 6, 6) over (y, w) of cost and dynamics; ``last`` (5, 5) and ``last_gradient``
    (5,) of the terminal cost. Gradients of the stages are in the rows QP ... QW, limits included.
    """
    x = stage(ws, 0)
    p = last.copy()
    add_limits(ws, n, p)
    s = last_gradient.copy()
    s[0] += x[QP, n]
    s[1] += x[QV, n]
    store(ws, n, p, s)
    a = np.zeros((5, 5))
    pa = np.zeros((5, 5))
    m = np.zeros((5, 5))
    q = np.zeros(5)
    t = np.zeros(5)
    for i in range(n):
        k = n - 1 - i
        h = x[H, k]
        step_matrix(ws, k, a)
        for r in range(5):
            t[r] = s[r] + p[r, 2] * x[CTH, k] + p[r, 3] * x[COM, k]
            for c in range(5):
                total = 0.0
                for j in range(5):
                    total += p[r, j] * a[j, c]
                pa[r, c] = total
        for r in range(5):
            q[r] = x[QP + r, k]
            for j in range(5):
                q[r] += a[j, r] * t[j]
            for c in range(5):
                total = hessian[k, r, c]
                for j in range(5):
                    total += a[j, r] * pa[j, c]
                m[r, c] = total
        add_limits(ws, k, m)
        # Eliminate w: y after the input is y before it, plus h w in e.
        own = hessian[k, 5, 5] + x[QWW, k]
        cross = hessian[k, 5]
        pivot = own + 2.0 * h * cross[4] + h * h * m[4, 4]
        if not pivot > PIVOT:
            return False
        feed = (x[QW, k] + h * q[4]) / pivot
        for r in range(5):
            t[r] = cross[r] + h * m[4, r]
            x[K0 + r, k] = -t[r] / pivot
            s[r] = q[r] - feed * t[r]
        s[4] = q[4] - feed * (cross[4] + h * m[4, 4])
        x[KF, k] = -feed
        for r in range(4):
            for c in range(4):
                p[r, c] = m[r, c] - t[r] * t[c] / pivot
        # The same for e, written without the difference of two large numbers.
        for r in range(5):
            p[r, 4] = (m[4, r] * (own + h * cross[4]) - cross[r] * t[4]) / pivot
            p[4, r] = p[r, 4]
        store(ws, k, p, s)
    return True
