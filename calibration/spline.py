"""A cart's way between its samples: natural cubic splines, one for each run."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from cartpole.messages import FloatArray


class RunSpline:
    """Through (x, y), both (n,), x ascending; constant beyond the ends of each run.

    ``begins`` are the indices at which runs begin.
    """

    def __init__(self, x: FloatArray, y: FloatArray, begins: tuple[int, ...] = (0,)) -> None:
        ends = (*begins[1:], len(x))
        self._first = x[list(begins)]
        self._spans = [(float(x[a]), float(x[b - 1])) for a, b in zip(begins, ends, strict=True)]
        self._runs = [
            CubicSpline(x[a:b], y[a:b], bc_type="natural")
            for a, b in zip(begins, ends, strict=True)
        ]

    def value(self, at: FloatArray) -> FloatArray:
        """y at these x."""
        return self._evaluate(at, 0)

    def slope(self, at: FloatArray) -> FloatArray:
        """dy/dx at these x."""
        return self._evaluate(at, 1)

    def _evaluate(self, at: FloatArray, derivative: int) -> FloatArray:
        out = np.empty(len(at))
        run = np.clip(np.searchsorted(self._first, at, side="right") - 1, 0, len(self._runs) - 1)
        for k, (spline, span) in enumerate(zip(self._runs, self._spans, strict=True)):
            mine = run == k if len(self._runs) > 1 else slice(None)
            out[mine] = spline(np.clip(at[mine], *span), derivative)
        return out
