"""The same Newton direction as ``riccati`` for costs whose Hessian has no known zeros.

Cost, dynamics and their derivatives come from outside; limits (rows Q*) and the cart's dynamics are
those of the workspace. Everything is in y = (p, v, theta, omega, e), e = u - v, and the rate w.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.optimizer import layout as _
from cartpole.optimizer.riccati import PIVOT

S = _.STRIDE


@njit(cache=True, nogil=True, error_model="numpy")
def store(ws: FloatArray, k: int, hessian: FloatArray, gradient: FloatArray) -> None:
    """Keep the cost-to-go of a stage: upper triangle of (5, 5), and (5,)."""
    row = _.P00
    for i in range(5):
        ws[(_.S0 + i) * S + k] = gradient[i]
        for j in range(i, 5):
            ws[row * S + k] = hessian[i, j]
            row += 1


@njit(cache=True, nogil=True, error_model="numpy")
def add_limits(ws: FloatArray, k: int, hessian: FloatArray) -> None:
    """Add the curvature of a stage's limits to (5, 5)."""
    hessian[0, 0] += ws[_.QPP * S + k]
    hessian[0, 1] += ws[_.QPV * S + k]
    hessian[1, 0] += ws[_.QPV * S + k]
    hessian[1, 1] += ws[_.QVV * S + k]
    hessian[1, 4] += ws[_.QVE * S + k]
    hessian[4, 1] += ws[_.QVE * S + k]
    hessian[4, 4] += ws[_.QEE * S + k]


@njit(cache=True, nogil=True, error_model="numpy")
def step_matrix(ws: FloatArray, k: int, a: FloatArray) -> None:
    """(5, 5) Jacobian of a step with respect to y after its input."""
    a[0, 0] = a[1, 1] = 1.0
    a[0, 1] = ws[_.H * S + k]
    a[0, 4] = ws[_.C2 * S + k]
    a[1, 4] = ws[_.E1 * S + k]
    a[2, 2] = ws[_.F11 * S + k]
    a[2, 3] = ws[_.F12 * S + k]
    a[2, 4] = ws[_.G1 * S + k]
    a[3, 2] = ws[_.F21 * S + k]
    a[3, 3] = ws[_.F22 * S + k]
    a[3, 4] = ws[_.G2 * S + k]
    a[4, 4] = ws[_.D * S + k]


@njit(cache=True, nogil=True, error_model="numpy")
def dense_backward(
    ws: FloatArray, n: int, hessian: FloatArray, last: FloatArray, last_gradient: FloatArray
) -> bool:
    """Cost-to-go and gains of every stage; False if an input's curvature is not positive.

    ``hessian`` (n, 6, 6) over (y, w) of cost and dynamics; ``last`` (5, 5) and ``last_gradient``
    (5,) of the terminal cost. Gradients of the stages are in the rows QP ... QW, limits included.
    """
    p = last.copy()
    add_limits(ws, n, p)
    s = last_gradient.copy()
    s[0] += ws[_.QP * S + n]
    s[1] += ws[_.QV * S + n]
    store(ws, n, p, s)
    a = np.zeros((5, 5))
    pa = np.zeros((5, 5))
    m = np.zeros((5, 5))
    q = np.zeros(5)
    x = np.zeros(5)
    for i in range(n):
        k = n - 1 - i
        h = ws[_.H * S + k]
        step_matrix(ws, k, a)
        for r in range(5):
            x[r] = s[r] + p[r, 2] * ws[_.CTH * S + k] + p[r, 3] * ws[_.COM * S + k]
            for c in range(5):
                total = 0.0
                for j in range(5):
                    total += p[r, j] * a[j, c]
                pa[r, c] = total
        for r in range(5):
            q[r] = ws[(_.QP + r) * S + k]
            for j in range(5):
                q[r] += a[j, r] * x[j]
            for c in range(5):
                total = hessian[k, r, c]
                for j in range(5):
                    total += a[j, r] * pa[j, c]
                m[r, c] = total
        add_limits(ws, k, m)
        # Eliminate w: y after the input is y before it, plus h w in e.
        own = hessian[k, 5, 5] + ws[_.QWW * S + k]
        cross = hessian[k, 5]
        pivot = own + 2.0 * h * cross[4] + h * h * m[4, 4]
        if not pivot > PIVOT:
            return False
        feed = (ws[_.QW * S + k] + h * q[4]) / pivot
        for r in range(5):
            x[r] = cross[r] + h * m[4, r]
            ws[(_.K0 + r) * S + k] = -x[r] / pivot
            s[r] = q[r] - feed * x[r]
        s[4] = q[4] - feed * (cross[4] + h * m[4, 4])
        ws[_.KF * S + k] = -feed
        for r in range(4):
            for c in range(4):
                p[r, c] = m[r, c] - x[r] * x[c] / pivot
        # The same for e, written without the difference of two large numbers.
        for r in range(5):
            p[r, 4] = (m[4, r] * (own + h * cross[4]) - cross[r] * x[4]) / pivot
            p[4, r] = p[r, 4]
        store(ws, k, p, s)
    return True
