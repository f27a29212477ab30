"""A compiled solve: up to a budget of Newton steps in one call."""

from __future__ import annotations

from numba import njit

from cartpole.optimizer.compiled import step
from cartpole.optimizer.iteration import make_newton

newton = njit(cache=True, nogil=True, error_model="numpy")(make_newton(step))
