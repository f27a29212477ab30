"""The axis of the brightest strip in one picture, knowing nothing of the rig or the lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cartpole.messages import DetectionStatus
from cartpole.vision import acquire, pose, slices, strip
from cartpole.vision.slices import Pixels

SMALLEST_CONTRAST_DN = 20
MIN_LENGTH_PX = 24.0
FLOOR_PX = 0.02


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


def automatic_threshold(frame: Pixels, step: int = acquire.MAX_STEP_PX) -> int:
    """Halfway between the ground (median) and the brightest 0.3 % of a grid of the picture."""
    counts = np.zeros(256, np.int64)
    acquire.histogram_grid(frame, step, counts)
    below = np.cumsum(counts)
    ground = int(np.searchsorted(below, 0.5 * below[-1]))
    bright = int(np.searchsorted(below, 0.997 * below[-1]))
    return max(1, (ground + max(bright, ground + SMALLEST_CONTRAST_DN)) // 2)


def _measure(
    frame: Pixels, candidate: acquire.Candidate, threshold: int
) -> tuple[float, Axis] | None:
    """(badness, axis) of a candidate."""
    size = max(frame.shape)
    table = np.empty((size, slices.TABLE_COLUMNS))
    report, scratch = np.empty(slices.REPORT_SIZE), np.empty(size)
    c, blur = candidate, slices.BLIND_SMEAR_PX
    used = strip.measure_strip(
        frame,
        c.x0,
        c.y0,
        c.x1,
        c.y1,
        c.thickness_px,
        blur,
        blur,
        5.0,
        10.0,
        threshold,
        table,
        report,
        scratch,
    )
    if used < slices.MIN_SLICES:
        return None
    points, fit = np.empty((used, 4)), np.empty(6)
    kept = table[: int(report[slices.SLICES])]
    kept = kept[kept[:, slices.WEIGHT] > 0.0]
    steep = report[slices.STEEP] > 0.0
    points[:, 0] = kept[:, slices.CENTROID if steep else slices.PLACE]
    points[:, 1] = kept[:, slices.PLACE if steep else slices.CENTROID]
    points[:, 3] = 1.0
    inliers = pose.fit_line(points, points[:, :2], used, FLOOR_PX, 4, fit)
    if inliers < slices.MIN_SLICES:
        return None
    oblique = math.hypot(1.0, report[slices.LINE_B])
    length = float(report[slices.STOP] - report[slices.START]) * oblique
    sigma = max(float(fit[3]), FLOOR_PX) / math.sqrt(float(fit[5]))
    # Rows run down: an axis at `fit[2]` from +x towards +y stands at pi/2 - fit[2] from vertical.
    angle = math.remainder(0.5 * math.pi - float(fit[2]), math.pi)
    axis = Axis(DetectionStatus.OK, angle, float(fit[0]), float(fit[1]), sigma, length)
    # The longest, straightest, most even blob wins.
    return float(fit[3]) - 0.05 * length * inliers / len(points), axis


def detect_angle(frame: Pixels, threshold: int | None = None) -> Axis:
    """Find the strip in one picture and its axis to a hundredth of a pixel.

    Args:
        frame: (height, width) uint8, any strides. Not changed.
        threshold: grey level between ground and strip; None takes it from the picture.
    """
    level = automatic_threshold(frame) if threshold is None else threshold
    mask = acquire.grid_mask(frame.shape, acquire.MAX_STEP_PX)
    bright = acquire.threshold_grid(frame, acquire.MAX_STEP_PX, level, mask)
    if bright > acquire.SATURATED_SHARE * mask.size:
        return Axis(DetectionStatus.SATURATED)
    candidates = acquire.find_candidates(mask, acquire.MAX_STEP_PX, MIN_LENGTH_PX)
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
