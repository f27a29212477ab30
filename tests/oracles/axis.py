"""The axis of the brightest strip in one picture, knowing nothing of the rig or the lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from cartpole.messages import DetectionStatus, FloatArray
from cartpole.vision import acquire, pose, slices, strip
from cartpole.vision.slices import Pixels

SMALLEST_CONTRAST_DN = 20
MIN_LENGTH_PX = 24.0
FLOOR_PX = 0.02
SLACK_PX = 5.0
EXTEND_PX = 10.0


@dataclass(frozen=True, slots=True)
class Axis:
    """A strip's axis in the picture.

    ``angle_rad`` in [-pi/2, pi/2] is that of the axis against the vertical, counter-clockwise as
    one sees the picture: the pole's theta modulo pi in a level camera. ``x_px``, ``y_px`` (column,
    row; pixel centres on whole numbers) is a point of the axis, the middle of the slices used;
    ``sigma_rad`` the angle's standard error; ``length_px`` what is seen of the strip.
    """

    status: DetectionStatus
    angle_rad: float = 0.0
    x_px: float = 0.0
    y_px: float = 0.0
    sigma_rad: float = math.inf
    length_px: float = 0.0


@njit(cache=True, nogil=True)
def _fit(table: FloatArray, report: FloatArray, points: FloatArray, fit: FloatArray) -> int:
    """Line through the weighted slices, in pixels; the number of slices that agree."""
    steep = report[slices.STEEP] > 0.0
    count = 0
    for i in range(int(report[slices.SLICES])):
        if table[i, slices.WEIGHT] > 0.0:
            place, across = table[i, slices.PLACE], table[i, slices.CENTROID]
            points[count, 0] = across if steep else place
            points[count, 1] = place if steep else across
            points[count, 3] = 1.0
            count += 1
    return pose.fit_line(points, points, count, FLOOR_PX, 4, fit)


def _measure(
    frame: Pixels, candidate: acquire.Candidate, threshold: int
) -> tuple[float, Axis] | None:
    """(badness, axis) of a candidate."""
    size = max(frame.shape)
    table, report = np.empty((size, slices.TABLE_COLUMNS)), np.empty(slices.REPORT_SIZE)
    c, blur, width = candidate, slices.BLIND_SMEAR_PX, candidate.thickness_px
    ends = (c.x0, c.y0, c.x1, c.y1)
    used = strip.measure_strip(
        frame, *ends, width, blur, blur, SLACK_PX, EXTEND_PX, threshold, table, report,
        np.empty(size),
    )  # fmt: skip
    fit = np.empty(6)
    inliers = 0 if used < slices.MIN_SLICES else _fit(table, report, np.empty((used, 4)), fit)
    if inliers < slices.MIN_SLICES:
        return None
    x, y, direction, rms, _, squares = fit.tolist()
    extent = float(report[slices.STOP] - report[slices.START])
    length = extent * math.hypot(1.0, report[slices.LINE_B])
    sigma = max(rms, FLOOR_PX) / math.sqrt(squares)
    # Rows run down: an axis at `direction` from +x towards +y stands at pi/2 less from vertical.
    angle = math.remainder(0.5 * math.pi - direction, math.pi)
    # The longest, straightest, most even blob wins.
    badness = rms - 0.05 * length * inliers / used
    return badness, Axis(DetectionStatus.OK, angle, x, y, sigma, length)


def detect_angle(frame: Pixels, threshold: int | None = None) -> Axis:
    """Find the strip in one picture and its axis to a hundredth of a pixel.

    Args:
        frame: (height, width) uint8, any strides. Not changed.
        threshold: grey level between ground and strip; None takes it from the picture.
    """
    step = acquire.MAX_STEP_PX
    level = threshold
    if level is None:
        level = acquire.automatic_threshold(frame, 2 * step, SMALLEST_CONTRAST_DN)
    mask = acquire.grid_mask(frame.shape, step)
    bright = acquire.threshold_grid(frame, step, level, mask)
    if bright > acquire.SATURATED_SHARE * mask.size:
        return Axis(DetectionStatus.SATURATED)
    candidates = acquire.find_candidates(mask, step, MIN_LENGTH_PX)
    if not candidates:
        return Axis(DetectionStatus.NO_BLOB)
    found = []
    for candidate in candidates[:4]:
        if candidate.length_px < acquire.MIN_ELONGATION * candidate.thickness_px:
            continue
        measured = _measure(frame, candidate, level)
        if measured is not None:
            found.append(measured)
    if not found:
        return Axis(DetectionStatus.LOW_CONFIDENCE)
    return min(found, key=lambda item: item[0])[1]
