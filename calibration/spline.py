"""A cart's way between its samples: natural cubic splines, one for each run."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline, PPoly

from cartpole.messages import FloatArray


class RunSpline:
    """Through (x, y), both (n,), x ascending; constant beyond the ends of each run.

    ``begins`` are the indices at which runs begin.
    """

    def __init__(self, x: FloatArray, y: FloatArray, begins: tuple[int, ...] = (0,)) -> None:
        starts = np.array(begins)
        ends = np.append(starts[1:], len(x))
        self._first, self._last = x[starts], x[ends - 1]
        # One polynomial a piece for all runs; the pieces between them hold what a run ends with.
        pieces = np.zeros((4, len(x) - 1))
        for a, b in zip(starts, ends, strict=True):
            run = CubicSpline(x[a:b], y[a:b], bc_type="natural")
            pieces[:, a : b - 1] = run.c
            if b < len(x):
                pieces[2:, b - 1] = run(x[b - 1], 1), y[b - 1]
        self._pieces = PPoly(pieces, x)

    def value(self, at: FloatArray) -> FloatArray:
        """y at these x."""
        return self._evaluate(at, 0)

    def slope(self, at: FloatArray) -> FloatArray:
        """dy/dx at these x."""
        return self._evaluate(at, 1)

    def _evaluate(self, at: FloatArray, derivative: int) -> FloatArray:
        run = np.maximum(np.searchsorted(self._first, at, side="right") - 1, 0)
        inside = np.clip(at, self._first[run], self._last[run])
        return np.asarray(self._pieces(inside, derivative), dtype=np.float64)
