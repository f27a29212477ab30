"""Where the tape's ends should be seen; compiled."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.geometry import project
from cartpole.vision.layout import (
    EXPECT_P,
    EXPECT_THETA,
    HEIGHT,
    OMEGA,
    READOUT,
    SPEED,
    TAPE_START,
)


@njit(cache=True, nogil=True)
def expected_end(prior: FloatArray, g: FloatArray, end: int) -> tuple[float, float]:
    """Where the tape's near (0) or far (1) end should be seen, (column, row) [px]."""
    per_row = prior[READOUT] / max(1.0, prior[HEIGHT] - 1.0)
    distance = prior[TAPE_START + end]
    delay, column, row = 0.0, 0.0, 0.0
    for _ in range(2):  # the line it is on tells when it is seen, and so where
        theta = prior[EXPECT_THETA] + prior[OMEGA] * delay
        x = prior[EXPECT_P] + prior[SPEED] * delay + distance * math.sin(theta)
        column, row = project(x, -distance * math.cos(theta), g)
        delay = row * per_row - 0.5 * prior[READOUT]
    return column, row
