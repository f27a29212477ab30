"""The axis of a bright strip to a hundredth of a pixel, compiled.

The strip is cut into slices one pixel thick: rows if it stands steeply, columns otherwise. A first
sweep, thresholded and wide, takes each slice's centroid and finds the axis robustly (median of
slopes, then a Tukey-weighted parabola). The second, narrow around it, measures each slice: light
about the right edge minus light about the left edge, over twice the strip's brightness, is how far
the strip lies off the parabola. Pixels away from the edges know nothing of the place and would only
add noise: a plain centroid is half as exact. The ground seen on both sides is subtracted; slices
cut by the picture's edge, near the strip's ends or with a foreign amount of light are dropped.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.slices import (
    CENTROID,
    COUNT,
    FIRST,
    FLUX,
    GROUND,
    GROUND_NOISE,
    LIGHT,
    LINE_A,
    LINE_B,
    LINE_C,
    MIDDLE,
    MIN_SLICES,
    PLACE,
    SLICES,
    START,
    START_SEEN,
    STEEP,
    STOP,
    STOP_SEEN,
    SUM,
    USED,
    WEIGHT,
    WINDOW_PX,
    Pixels,
    centroids,
    find_points,
    parabola,
    robust_line,
    smallest,
    sweep,
)


@njit(cache=True, nogil=True)
def _longest_run(table: FloatArray, n: int, level: float, gap: int) -> tuple[int, int]:
    """First and last row of the longest run with light above ``level``; gaps up to ``gap`` slices
    are bridged, slices cut by the picture's edge end it."""
    best_first, best_last = 0, -1
    first, last = -1, -1
    for i in range(n):
        if table[i, FLUX] > level:
            if first < 0 or i - last > gap + 1:
                first = i
            last = i
            if last - first > best_last - best_first:
                best_first, best_last = first, last
    return best_first, best_last


@njit(cache=True, nogil=True)
def _find_end(
    table: FloatArray, n: int, at: int, outward: int, light: float, tolerance: float, cut: float
) -> tuple[float, bool]:
    """Where the light crosses half beyond row ``at`` and whether that end can be trusted.

    It cannot if it lies at the picture's edge or if foreign light is near. Over ``cut`` slices the
    light of an undisturbed end falls.
    """
    place = table[at, PLACE] + 0.5 * outward
    beyond = at + outward
    if beyond < 0 or beyond >= n or table[beyond, SUM] < 0.0:
        return place, False
    inner, outer = table[at, FLUX], table[beyond, FLUX]
    if inner > outer:
        place = table[at, PLACE] + outward * min(1.0, (inner - 0.5 * light) / (inner - outer))
    fall = int(cut) + 1
    for i in range(fall + 4):
        inside = at - outward * i
        outside = at + outward * (i + 1)
        if 0 <= inside < n:
            excess = table[inside, FLUX] - light
            if excess > tolerance or (i > fall and -excess > tolerance):
                return place, False
        if i > fall and 0 <= outside < n and table[outside, FLUX] > max(tolerance, 0.15 * light):
            return place, False
    return place, True


@njit(cache=True, nogil=True)
def _select(
    table: FloatArray,
    n: int,
    half: float,
    line: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
) -> int:
    """Drop slices off the strip, near its ends, or with foreign light; returns how many stay."""
    lit = 0
    for i in range(n):
        if table[i, WEIGHT] > 0.0:
            scratch[lit] = table[i, FLUX]
            lit += 1
    if lit < MIN_SLICES:
        return 0
    # The strip fills most of the sweep or less than half of it: take the upper part's median.
    half_peak = 0.5 * smallest(scratch, lit, min(lit - 1, int(0.85 * lit)))
    bright = 0
    for i in range(lit):
        if scratch[i] > half_peak:
            scratch[bright] = scratch[i]
            bright += 1
    light = smallest(scratch, bright, bright // 2)
    first, last = _longest_run(table, n, 0.5 * light, 3)
    if last - first + 1 < MIN_SLICES or light <= 0.0:
        return 0
    report[LIGHT] = light
    kept = last - first + 1
    for i in range(kept):
        scratch[i] = abs(table[first + i, FLUX] - light)
    tolerance = 5.0 * 1.4826 * smallest(scratch, kept, kept // 2) + 0.05 * light
    # An end cuts slices over this length: the strip is square, the slices are oblique.
    slope = abs(line[1])
    cut = half * slope / math.sqrt(1.0 + slope * slope) + 2.0
    begin, begin_seen = _find_end(table, n, first, -1, light, tolerance, cut)
    stop, stop_seen = _find_end(table, n, last, 1, light, tolerance, cut)
    report[START], report[STOP] = begin, stop
    report[START_SEEN], report[STOP_SEEN] = 1.0 * begin_seen, 1.0 * stop_seen
    used = 0
    for i in range(n):
        place = table[i, PLACE]
        inside = begin + cut <= place <= stop - cut
        if not inside or abs(table[i, FLUX] - light) > tolerance:
            table[i, WEIGHT] = 0.0
        elif table[i, WEIGHT] > 0.0:
            used += 1
    return used


@njit(cache=True, nogil=True)
def _measure_lines(
    lines: Pixels,
    start: tuple[float, float],
    stop: tuple[float, float],
    width: float,
    smear: tuple[float, float],
    slack: float,
    extend: float,
    threshold: int,
    table: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
) -> int:
    """As :func:`measure_strip`, with (place, across) end points and slices along axis 0."""
    if start[0] > stop[0]:
        start, stop = stop, start
        smear = (smear[1], smear[0])
    middle = 0.5 * (start[0] + stop[0])
    b = (stop[1] - start[1]) / max(1e-9, stop[0] - start[0])
    a = 0.5 * (start[1] + stop[1])
    oblique = math.sqrt(1.0 + b * b)
    along = extend / oblique
    rows = lines.shape[0]
    first = max(0, int(start[0] - along))
    last = min(rows - 1, math.ceil(stop[0] + along))
    if last - first + 1 < MIN_SLICES:
        return 0
    half = 0.5 * (width + max(smear[0], smear[1])) + WINDOW_PX
    reach = (half + slack) * oblique
    widest = 1.3 * (width + max(smear[0], smear[1])) * oblique + 3.0
    step = 1 + (last - first) // (8 * MIN_SLICES)  # to find it, fewer slices do
    n = find_points(lines, a, b, middle, first, last, step, reach, widest, threshold, table)
    if n < MIN_SLICES:
        return 0
    a, b = robust_line(table, n, middle, scratch)
    a, b, c, inliers = parabola(table, n, middle, a, b, 2.0)
    if inliers < max(MIN_SLICES, n // 3):
        return 0
    line = np.array([a, b, c, middle])
    ground = np.empty(4)
    oblique = math.sqrt(1.0 + b * b)
    profile = (0.5 * width, smear[0], smear[1], oblique)
    n = sweep(lines, line, first, last, profile, threshold, table, ground)
    centroids(table, n, line, width * oblique, ground)
    report[SLICES] = n
    report[GROUND] = 0.5 * (ground[0] + ground[1])
    report[GROUND_NOISE] = math.sqrt(ground[2])
    report[LINE_A], report[LINE_B], report[LINE_C], report[MIDDLE] = a, b, c, middle
    used = _select(table, n, half, line, report, scratch)
    report[USED] = used
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
    slack: float,
    extend: float,
    threshold: int,
    table: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
) -> int:
    """Measure the strip near the segment (x0, y0)-(x1, y1).

    Args:
        frame: (height, width) uint8, any strides.
        x0, y0, x1, y1: where its axis is expected [px].
        width: of the strip [px].
        smear0, smear1: how far it moved sideways during the exposure at the two ends [px].
        slack: how far across the axis the strip may be off [px].
        extend: how far it may reach beyond the segment at both ends [px].
        threshold: grey level between ground and strip.
        table: (>= max(height, width), TABLE_COLUMNS) receives the slices.
        report: (REPORT_SIZE,) receives the rest.
        scratch: (>= max(height, width),) working memory.

    Returns:
        The number of slices with weight; 0 if there is no strip.
    """
    report[:] = 0.0
    smear = (smear0, smear1)
    if abs(y1 - y0) >= abs(x1 - x0):
        report[STEEP] = 1.0
        return _measure_lines(
            frame,
            (y0, x0),
            (y1, x1),
            width,
            smear,
            slack,
            extend,
            threshold,
            table,
            report,
            scratch,
        )
    return _measure_lines(
        frame.T, (x0, y0), (x1, y1), width, smear, slack, extend, threshold, table, report, scratch
    )


@njit(cache=True, nogil=True)
def same_slices(lines: Pixels, table: FloatArray, slices: int) -> bool:
    """Whether a picture repeats every measured slice of the table exactly; ``lines`` as sliced."""
    compared = 0
    for i in range(slices):
        if table[i, SUM] < 0.0:
            continue
        pixels = lines[int(table[i, PLACE])]
        low, size = int(table[i, FIRST]), int(table[i, COUNT])
        total = np.int64(0)
        for j in range(low, low + size):
            total += np.int64(pixels[j])
        if total != table[i, SUM]:
            return False
        compared += 1
    return compared > 0


@njit(cache=True, nogil=True)
def slices_of_segment(
    frame: Pixels,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    width: float,
    table: FloatArray,
    report: FloatArray,
) -> None:
    """Fill table and report as if a strip had been measured exactly on a segment.

    This is how a rotated rectangle's axis enters the same solution as a line fit. Ends nearer to
    the picture's edge than the strip's width count as cut.
    """
    report[:] = 0.0
    rows, columns = frame.shape
    steep = abs(y1 - y0) >= abs(x1 - x0)
    if not steep:
        x0, y0, x1, y1 = y0, x0, y1, x1
        rows, columns = columns, rows
    if y0 > y1:
        x0, y0, x1, y1 = x1, y1, x0, y0
    b = (x1 - x0) / max(1e-9, y1 - y0)
    report[STEEP] = 1.0 * steep
    report[START], report[STOP] = y0, y1
    margin = 0.5 * width + 2.0
    for end in range(2):
        place, across = (y0, x0) if end == 0 else (y1, x1)
        inside = margin < place < rows - 1 - margin and margin < across < columns - 1 - margin
        report[START_SEEN + end] = 1.0 * inside
    report[MIDDLE] = 0.5 * (y0 + y1)
    report[LINE_A], report[LINE_B] = 0.5 * (x0 + x1), b
    count = 0
    for k in range(max(0, math.ceil(y0)), min(rows - 1, math.floor(y1)) + 1):
        across = report[LINE_A] + b * (k - report[MIDDLE])
        centre = round(across)
        table[count, PLACE], table[count, CENTROID] = k, across
        table[count, WEIGHT] = 1.0
        pixels = frame[k] if steep else frame[:, k]
        # One pixel stands for the slice, so that a repeated picture can be told.
        inside = 0 <= centre < columns
        table[count, FIRST], table[count, COUNT] = centre, 1.0
        table[count, SUM] = np.int64(pixels[centre]) if inside else -1.0
        count += 1
    report[SLICES], report[USED] = count, count
