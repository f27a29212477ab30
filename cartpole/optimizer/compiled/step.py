"""A compiled Newton step, beside the other parts of a compiled solve."""

from __future__ import annotations

from numba import njit

from cartpole.optimizer.compiled import kkt
from cartpole.optimizer.compiled.kkt import measure, start
from cartpole.optimizer.iteration import make_step

__all__ = ["measure", "start", "step"]

step = njit(cache=True, nogil=True, error_model="numpy")(make_step(kkt))
