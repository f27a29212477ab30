"""The axis of a bright strip to a hundredth of a pixel, compiled.

The strip is cut into slices one pixel thick: rows if it stands steeply, columns otherwise. A first
sweep, thresholded and wide, takes some slices' centroids and finds the axis robustly (median of
slopes, then a Tukey-weighted parabola). Then every slice's pixels are fitted with the light across
a blurred and smeared strip (``profile.py``): first some slices, which also tell the strip's width
and blur, then all. Slices that are dark, cut by an end, or do not look like the strip are dropped;
what is left may be in several parts.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.classify import classify
from cartpole.vision.frame import Pixels
from cartpole.vision.places import fit_places
from cartpole.vision.shape import MARGIN_PX, SHAPE_SIZE, SHAPE_SLICES, fit_shape
from cartpole.vision.slices import (
    AGE,
    BLUR,
    HALF_WIDTH,
    LOOKED,
    MIDDLE,
    MIN_SLICES,
    OPTICS_AGE,
    OPTICS_BLUR,
    OPTICS_HALF,
    OPTICS_TAPER,
    REPORT_SIZE,
    STEEP,
    TAPER,
    USED,
    find_points,
    parabola,
    robust_line,
)

BLUR_PX = 1.7  # half width of the blur to begin with: a sharp lens and the pixels themselves
OPTICS_EVERY = 8  # pictures from one look at it to the next
FAR_OFF_PX = 0.15  # a curve this far off is fitted once more
END_ROOM = 8  # slices beyond an end that tell it


@njit(cache=True, nogil=True)
def _measure_lines(
    lines: Pixels,
    start: tuple[float, float],
    stop: tuple[float, float],
    width: float,
    smear: tuple[float, float],
    blind: bool,
    slack: float,
    extend: float,
    threshold: int,
    optics: FloatArray,
    table: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
) -> int:
    """As :func:`measure_strip`, with (place, across) end points and slices along axis 0."""
    report[AGE] = optics[OPTICS_AGE]
    if not blind:  # what is not believed is followed by another look
        optics[OPTICS_AGE] = OPTICS_EVERY * math.ceil(report[AGE] / OPTICS_EVERY)
    outward = 1.0
    if start[0] > stop[0]:
        start, stop = stop, start
        smear = (smear[1], smear[0])
        outward = -1.0
    middle = 0.5 * (start[0] + stop[0])
    b = (stop[1] - start[1]) / max(1e-9, stop[0] - start[0])
    a = 0.5 * (start[1] + stop[1])
    oblique = math.sqrt(1.0 + b * b)
    along = extend / oblique + END_ROOM + (0.5 * width + BLUR_PX) * abs(b) / oblique
    rows = lines.shape[0]
    first = max(MARGIN_PX, int(start[0] - along))
    last = min(rows - 1 - MARGIN_PX, math.ceil(stop[0] + along))
    if last - first + 1 < MIN_SLICES:
        return 0
    wide = width + max(abs(smear[0]), abs(smear[1]))
    reach = (0.5 * wide + 2.0 + slack) * oblique
    widest = 1.5 * wide * oblique + 5.0
    step = 1 + (last - first) // (5 * MIN_SLICES)  # to find it, fewer slices do
    n = find_points(lines, a, b, middle, first, last, step, reach, widest, threshold, table)
    if n < MIN_SLICES:
        return 0
    a, b = robust_line(table, n, middle, scratch)
    a, b, c, inliers = parabola(table, n, middle, a, b, 2.0)
    if inliers < max(MIN_SLICES, n // 3):
        return 0
    line = np.empty(4)
    line[0], line[1], line[2], line[3] = a, b, c, middle
    per_slice = (smear[1] - smear[0]) / max(1.0, stop[0] - start[0])
    smear0 = smear[0] + (first - start[0]) * per_slice
    smear1 = smear[1] + (last - stop[0]) * per_slice
    shape = np.empty(SHAPE_SIZE)
    to_end = outward * 0.5 * (last - first)
    shape[0], shape[1] = optics[OPTICS_HALF], 0.0 if blind else optics[OPTICS_TAPER] * to_end
    shape[2], shape[3] = optics[OPTICS_BLUR], 0.0
    shape[4], shape[5], shape[6] = smear0, smear1, math.sqrt(1.0 + b * b)
    whole = blind or report[AGE] % OPTICS_EVERY == 0.0
    for look in range(2 if whole else 0):
        told_by = SHAPE_SLICES if look else SHAPE_SLICES // 2  # a first look is a rough one
        n = fit_shape(lines, line, first, last, shape, table, scratch, told_by)
        if n >= MIN_SLICES:
            a, b, c, inliers = parabola(table, n, middle, line[0], line[1], 1.0)
            if inliers >= MIN_SLICES:
                line[0], line[1], line[2] = a, b, c
    used = 0
    for _ in range(2):
        a, b = line[0], line[1]
        n = fit_places(lines, line, first, last, shape, table, report)
        used = classify(table, n, shape[0], shape[2], line, report, scratch)
        # Places are told by light near the curve: one far off is looked at again, around the new.
        if abs(line[0] - a) + 0.5 * (last - first) * abs(line[1] - b) < FAR_OFF_PX:
            break
    report[MIDDLE] = middle
    report[HALF_WIDTH], report[BLUR] = shape[0], shape[2]
    report[TAPER] = shape[1] / to_end
    report[USED] = used
    report[LOOKED] = -1.0 if blind else 1.0 * whole
    return used


@njit(cache=True, nogil=True)
def measure_strip(
    frame: Pixels,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    width: float,
    smear0: float,
    smear1: float,
    blind: bool,
    slack: float,
    extend: float,
    threshold: int,
    optics: FloatArray,
    table: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
) -> int:
    """Measure the strip near the segment (x0, y0)-(x1, y1).

    Args:
        frame: (height, width) uint8, any strides.
        x0, y0, x1, y1: where its axis is expected [px].
        width: of the strip [px].
        smear0, smear1: how far it moved sideways during the exposure at its ends, signed [px].
        blind: the smear is a guess.
        slack: how far across the axis the strip may be off [px].
        extend: how far it may reach beyond the segment at both ends [px].
        threshold: grey level between ground and strip.
        optics: (OPTICS_SIZE,) the strip's half width and its edges' blur as last seen [px], how
            many pictures they have been in use, how much wider the half width gets from the first
            end to the second [px a slice], and what is usual (slices.py);
            their age is changed.
        table: (>= max(height, width), TABLE_COLUMNS) receives the slices.
        report: (REPORT_SIZE,) receives the rest.
        scratch: (>= 3 max(height, width),) working memory.

    Returns:
        The number of slices with weight; 0 if there is no strip.
    """
    for i in range(REPORT_SIZE):
        report[i] = 0.0
    # Steps make it an array of any strides: rows and columns are one machine code.
    lines = frame[::1, ::1]
    if abs(y1 - y0) >= abs(x1 - x0):
        report[STEEP] = 1.0
        x0, y0, x1, y1 = y0, x0, y1, x1
    else:
        lines = lines.T
    return _measure_lines(
        lines,
        (x0, y0),
        (x1, y1),
        width,
        (smear0, smear1),
        blind,
        slack,
        extend,
        threshold,
        optics,
        table,
        report,
        scratch,
    )
