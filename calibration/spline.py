"""Natural cubic spline; small, so that a fit starts without loading an interpolation library."""

from __future__ import annotations

import numpy as np
from numba import njit

from cartpole.messages import FloatArray


@njit(cache=True, nogil=True)
def _curvatures(x: FloatArray, y: FloatArray) -> FloatArray:
    """Second derivatives at the knots by Thomas's algorithm."""
    n = len(x)
    upper, right = np.zeros(n), np.zeros(n)
    for k in range(1, n - 1):
        before, after = x[k] - x[k - 1], x[k + 1] - x[k]
        bend = 6.0 * ((y[k + 1] - y[k]) / after - (y[k] - y[k - 1]) / before)
        pivot = 2.0 * (before + after) - before * upper[k - 1]
        upper[k] = after / pivot
        right[k] = (bend - before * right[k - 1]) / pivot
    for k in range(n - 2, 0, -1):
        right[k] -= upper[k] * right[k + 1]
    return right


@njit(cache=True, nogil=True)
def _evaluate(x: FloatArray, y: FloatArray, m: FloatArray, at: FloatArray) -> FloatArray:
    """(len(at), 2): value and slope; ``at`` ascending is fastest, any order works."""
    out = np.empty((len(at), 2))
    k, last = 0, len(x) - 2
    for i in range(len(at)):
        t = min(max(at[i], x[0]), x[-1])
        if t < x[k]:
            k = 0
        while k < last and t > x[k + 1]:
            k += 1
        h = x[k + 1] - x[k]
        a, b = (x[k + 1] - t) / h, (t - x[k]) / h
        bend = (a * a * a - a) * m[k] + (b * b * b - b) * m[k + 1]
        out[i, 0] = a * y[k] + b * y[k + 1] + bend * h * h / 6.0
        tilt = (3.0 * b * b - 1.0) * m[k + 1] - (3.0 * a * a - 1.0) * m[k]
        out[i, 1] = (y[k + 1] - y[k]) / h + tilt * h / 6.0
    return out


class CubicSpline:
    """Through (x, y), both (n,), x ascending; constant beyond its ends."""

    def __init__(self, x: FloatArray, y: FloatArray) -> None:
        self._x, self._y = np.ascontiguousarray(x), np.ascontiguousarray(y)
        self._m = _curvatures(self._x, self._y)

    def value(self, at: FloatArray) -> FloatArray:
        """y at these x."""
        return np.asarray(_evaluate(self._x, self._y, self._m, at)[:, 0])

    def slope(self, at: FloatArray) -> FloatArray:
        """dy/dx at these x."""
        return np.asarray(_evaluate(self._x, self._y, self._m, at)[:, 1])
