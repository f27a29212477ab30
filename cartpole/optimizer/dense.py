"""The same Newton direction as the compiled recursion for costs whose Hessian has no known zeros.

Cost, dynamics and their derivatives come from outside; limits (rows Q*) are those of the workspace.
Everything is in y = (p, v, theta, omega, e), e = u - v, and the rate w.
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
def cart_steps(ws: FloatArray, n: int, a: FloatArray, c: FloatArray) -> None:
    """Jacobians (n, 5, 5) and defects (n, 5) of steps whose cart is the servo's."""
    x = stage(ws, 0)
    for k in range(n):
        a[k, 0, 0] = a[k, 1, 1] = 1.0
        a[k, 0, 1] = x[H, k]
        a[k, 0, 4] = x[C2, k]
        a[k, 1, 4] = x[E1, k]
        a[k, 2, 2] = x[F11, k]
        a[k, 2, 3] = x[F12, k]
        a[k, 2, 4] = x[G1, k]
        a[k, 3, 2] = x[F21, k]
        a[k, 3, 3] = x[F22, k]
        a[k, 3, 4] = x[G2, k]
        a[k, 4, 4] = x[D, k]
        c[k, 2] = x[CTH, k]
        c[k, 3] = x[COM, k]


@njit(cache=True, nogil=True, error_model="numpy")
def dense_backward(
    ws: FloatArray,
    n: int,
    steps: FloatArray,
    defects: FloatArray,
    hessian: FloatArray,
    last: FloatArray,
    last_gradient: FloatArray,
) -> bool:
    """Cost-to-go and gains of every stage; False if an input's curvature is not positive.

    ``steps`` (n, 5, 5) by y after its input, ``defects`` (n, 5); ``hessian`` (n, 6, 6) over (y, w)
    of cost and dynamics; ``last`` (5, 5) and ``last_gradient`` (5,) of the terminal cost. Gradients
    of the stages are in the rows QP ... QW, limits included.
    """
    x = stage(ws, 0)
    p = last.copy()
    add_limits(ws, n, p)
    s = last_gradient.copy()
    s[0] += x[QP, n]
    s[1] += x[QV, n]
    store(ws, n, p, s)
    pa = np.zeros((5, 5))
    m = np.zeros((5, 5))
    q = np.zeros(5)
    t = np.zeros(5)
    for i in range(n):
        k = n - 1 - i
        h = x[H, k]
        a = steps[k]
        for r in range(5):
            t[r] = s[r]
            for c in range(5):
                t[r] += p[r, c] * defects[k, c]
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


@njit(cache=True, nogil=True, error_model="numpy")
def dense_forward(ws: FloatArray, n: int, steps: FloatArray, defects: FloatArray) -> bool:
    """As ``riccati.forward`` over any steps: the direction; False if it is not finite."""
    x = stage(ws, 0)
    y = np.zeros(5)
    ahead = np.zeros(5)
    for k in range(n + 1):
        for r in range(4):
            x[DP + r, k] = y[r]
        x[RATIO, k] = y[4]
        if k == n:
            break
        step = x[KF, k]
        for r in range(5):
            step += x[K0 + r, k] * y[r]
        x[DW, k] = step
        y[4] += x[H, k] * step
        x[DU, k] = y[1] + y[4]
        for r in range(5):
            ahead[r] = defects[k, r]
            for j in range(5):
                ahead[r] += steps[k, r, j] * y[j]
        y[:] = ahead
    return bool(np.isfinite(y).all())
