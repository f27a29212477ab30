"""Measure the pole near a segment, or where it is expected, in one compiled call."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.ends import expected_end
from cartpole.vision.frame import Pixels
from cartpole.vision.layout import (
    EXPECT_THETA,
    EXPOSURE,
    OMEGA,
    PX_PER_M,
    READOUT,
    SIGMA_P,
    SIGMA_SWING,
    SIGMA_THETA,
    SPEED,
    SWING,
    TAPE_END,
    TAPE_START,
    WIDTH,
)
from cartpole.vision.pose import solve_pose
from cartpole.vision.slices import MIN_SLICES
from cartpole.vision.smear import use_smear
from cartpole.vision.strip import measure_strip
from cartpole.vision.swing import swing
from cartpole.vision.verdict import AMBIGUOUS, NO_BLOB, OK, check, judge

MAX_SLACK_PX = 14.0  # beyond this the whole picture is searched
MAX_EXTEND_PX = 30.0


@njit(cache=True, nogil=True, inline="always")
def _smear(prior: FloatArray, distance_m: float) -> float:
    """How far the pole moves across its axis while exposed [px], so far from the pivot; signed."""
    speed = prior[OMEGA] * distance_m + prior[SPEED] * math.cos(prior[EXPECT_THETA])
    smear: float = speed * prior[EXPOSURE] * prior[PX_PER_M]
    return smear


@njit(cache=True, nogil=True)
def measure(
    frame: Pixels,
    ends: FloatArray,
    smear0: float,
    smear1: float,
    blind: bool,
    slack: float,
    extend: float,
    prior: FloatArray,
    g: FloatArray,
    threshold: int,
    optics: FloatArray,
    table: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
    points: FloatArray,
    pose: FloatArray,
) -> int:
    """Measure the strip near a segment, whose ``ends`` are (x0, y0, x1, y1) [px], solve for the
    pole's pose and judge it: a status. Where that leaves both ends and the motion is not known
    (``blind``), the picture tells by which end is softer. Other arguments as of ``measure_strip``
    and ``solve_pose``.
    """
    prior[SIGMA_SWING] = math.inf
    used = measure_strip(
        frame,
        ends[0],
        ends[1],
        ends[2],
        ends[3],
        prior[WIDTH],
        smear0,
        smear1,
        blind,
        slack,
        extend,
        threshold,
        optics,
        table,
        report,
        scratch,
    )
    if used < MIN_SLICES or not solve_pose(table, report, prior, g, points, pose):
        return NO_BLOB
    status = judge(report, prior, pose)
    if status != AMBIGUOUS or not blind:
        return status
    prior[SWING], prior[SIGMA_SWING] = swing(frame, report, prior, scratch)
    solve_pose(table, report, prior, g, points, pose)
    return judge(report, prior, pose)


@njit(cache=True, nogil=True)
def track(
    frame: Pixels,
    prior: FloatArray,
    g: FloatArray,
    threshold: int,
    optics: FloatArray,
    table: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
    points: FloatArray,
    pose: FloatArray,
) -> int:
    """Measure the pole where it is expected; arguments as of ``measure_strip``, ``solve_pose`` and
    ``check``.

    Returns:
        A status; NO_BLOB also if the expectation is too vague.
    """
    sine, cosine = math.sin(prior[EXPECT_THETA]), math.cos(prior[EXPECT_THETA])
    swing = prior[TAPE_END] * prior[SIGMA_THETA]
    slack = 3.0 * prior[PX_PER_M] * (swing + abs(cosine) * prior[SIGMA_P]) + 2.0
    extend = 3.0 * prior[PX_PER_M] * abs(sine) * prior[SIGMA_P] + 5.0
    if not (slack <= MAX_SLACK_PX and extend <= MAX_EXTEND_PX):
        return NO_BLOB
    blind = slack > MAX_SLACK_PX  # never here: as a literal all kernels were compiled once more
    ends = np.empty(4)
    ends[0], ends[1] = expected_end(prior, g, 0)
    ends[2], ends[3] = expected_end(prior, g, 1)
    status = measure(
        frame,
        ends,
        _smear(prior, prior[TAPE_START]),
        _smear(prior, prior[TAPE_END]),
        blind,
        slack,
        extend,
        prior,
        g,
        threshold,
        optics,
        table,
        report,
        scratch,
        points,
        pose,
    )
    if status != OK:
        return status
    status = check(frame, table, report, prior, pose, g, optics, scratch)
    if status == OK and prior[READOUT] > 0.0:
        use_smear(frame, table, report, prior, pose, g)
    return status
