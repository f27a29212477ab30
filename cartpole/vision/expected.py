"""The strip measured where the pole is expected, in one call: it is made for every picture."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.geometry import project
from cartpole.vision.pose import (
    EXPECT_P,
    EXPECT_THETA,
    HEIGHT,
    OMEGA,
    PX_PER_M,
    READOUT,
    SPEED,
    TAPE_START,
    solve_pose,
)
from cartpole.vision.slices import MIN_SLICES, Pixels
from cartpole.vision.strip import measure_strip


@njit(cache=True, nogil=True)
def expected_end(end: int, prior: FloatArray, g: FloatArray) -> tuple[float, float]:
    """Where the tape's near (0) or far (1) end should be seen, (x, y) [px]."""
    per_row = prior[READOUT] / max(1.0, prior[HEIGHT] - 1.0)
    distance = prior[TAPE_START + end]
    delay = column = row = 0.0
    for _ in range(2):  # the line it is on tells when it is seen, and so where
        theta = prior[EXPECT_THETA] + prior[OMEGA] * delay
        x = prior[EXPECT_P] + prior[SPEED] * delay + distance * math.sin(theta)
        column, row = project(x, -distance * math.cos(theta), g)
        delay = row * per_row - 0.5 * prior[READOUT]
    return column, row


@njit(cache=True, nogil=True)
def smear(distance: float, exposure_s: float, prior: FloatArray) -> float:
    """How far the pole moves across its axis while exposed [px], so far from the pivot [m]."""
    speed = prior[OMEGA] * distance + prior[SPEED] * math.cos(prior[EXPECT_THETA])
    return float(abs(speed) * exposure_s * prior[PX_PER_M])


@njit(cache=True, nogil=True)
def measure_expected(
    frame: Pixels,
    prior: FloatArray,
    g: FloatArray,
    width: float,
    exposure_s: float,
    slack: float,
    extend: float,
    threshold: int,
    table: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
    points: FloatArray,
    moved: FloatArray,
    pose: FloatArray,
) -> bool:
    """Strip and pose, arguments as of ``measure_strip`` and ``solve_pose``; False: no strip."""
    x0, y0 = expected_end(0, prior, g)
    x1, y1 = expected_end(1, prior, g)
    smear0 = smear(prior[TAPE_START], exposure_s, prior)
    smear1 = smear(prior[TAPE_START + 1], exposure_s, prior)
    used = measure_strip(
        frame, x0, y0, x1, y1, width, smear0, smear1, slack, extend, threshold,
        table, report, scratch,
    )  # fmt: skip
    return bool(used >= MIN_SLICES and solve_pose(table, report, prior, g, points, moved, pose))
