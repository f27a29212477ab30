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
import numpy.typing as npt
from numba import njit

from cartpole.messages import FloatArray

Pixels = npt.NDArray[np.uint8]

# Columns of the table of slices: place along the slicing axis, centroid across it, light above
# ground, weight (0: dropped), sum over the window, its first pixel and pixel count, edge-weighted
# sum over the window, sums of the edge weights and of the edge weights times place.
PLACE, CENTROID, FLUX, WEIGHT, SUM, FIRST, COUNT, EDGES, EDGE_SUM, EDGE_MOMENT = range(10)
TABLE_COLUMNS = 10

# What `measure_strip` reports beside the table.
(
    SLICES,  # rows of the table in use
    USED,  # slices with weight
    STEEP,  # 1: slices are rows
    START,  # place where the strip begins (smaller end), sub-pixel
    STOP,  # place where it ends
    START_SEEN,  # 1: that end lies in the picture, undisturbed
    STOP_SEEN,
    GROUND,  # grey levels
    LIGHT,  # median light of a slice, grey levels x px
    LINE_A,  # centroid = A + B (place - MIDDLE) + C (place - MIDDLE)^2
    LINE_B,
    LINE_C,
    MIDDLE,
    GROUND_NOISE,  # standard deviation of the ground, grey levels
) = range(14)
REPORT_SIZE = 14

MIN_SLICES = 8
BAND_PX = 2  # pixels on each side of the window that tell the ground
EDGE_FALL_PX = 2.5  # edge weights are 1 within half the motion blur of an edge, 0 beyond this
BLIND_SMEAR_PX = 1.2  # motion blur to allow for where the motion is not known
WINDOW_PX = 2.0  # the window reaches this far beyond the edges


@njit(cache=True, nogil=True)
def _find_points(
    lines: Pixels,
    a: float,
    b: float,
    middle: float,
    first: int,
    last: int,
    step: int,
    half: float,
    widest: float,
    threshold: int,
    table: FloatArray,
) -> int:
    """Thresholded centroids of every ``step``-th slice within ``half`` of the line
    a + b (k - middle); returns how many.

    What is wider than ``widest``, in two parts, or reaches the window's end is not the strip.
    """
    count = 0
    end = lines.shape[1] - 1
    for k in range(first, last + 1, step):
        centre = a + b * (k - middle)
        low = max(0, math.ceil(centre - half))
        high = min(end, math.floor(centre + half))
        line = lines[k]
        total, moment, bright, begin, stop = np.int64(0), np.int64(0), 0, -1, -1
        for j in range(low, high + 1):
            excess = np.int64(line[j]) - threshold
            if excess > 0:
                total += excess
                moment += excess * (j - low)
                bright += 1
                begin = j if begin < 0 else begin
                stop = j
        whole = begin > low and stop < high and stop - begin <= bright
        if 2 <= bright <= widest and whole:
            table[count, PLACE] = k
            table[count, CENTROID] = low + moment / total
            count += 1
    return count


@njit(cache=True, nogil=True)
def _smallest(values: FloatArray, n: int, rank: int) -> float:
    """The ``rank``-th smallest (from 0) of the first n values; reorders them (Hoare's find)."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[rank]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < rank:
            low = i
        if rank < i:
            high = j
    return float(values[rank])


@njit(cache=True, nogil=True)
def _robust_line(
    table: FloatArray, n: int, middle: float, scratch: FloatArray
) -> tuple[float, float]:
    """(a, b) of centroid = a + b (place - middle): median slope of pairs half a strip apart."""
    gap = n // 2
    pairs = n - gap
    for i in range(pairs):
        rise = table[i + gap, CENTROID] - table[i, CENTROID]
        scratch[i] = rise / (table[i + gap, PLACE] - table[i, PLACE])
    b = _smallest(scratch, pairs, pairs // 2)
    for i in range(n):
        scratch[i] = table[i, CENTROID] - b * (table[i, PLACE] - middle)
    return _smallest(scratch, n, n // 2), b


@njit(cache=True, nogil=True)
def _parabola(
    table: FloatArray, n: int, middle: float, a: float, b: float, cut: float
) -> tuple[float, float, float, int]:
    """(a, b, c, inliers) of a Tukey-weighted parabola about the line (a, b).

    Beyond ``cut`` pixels a point counts nothing. Two rounds. A parabola, because the lens and the
    rolling shutter bend a straight pole.
    """
    c = 0.0
    inliers = 0
    reach = max(1.0, 0.5 * (table[n - 1, PLACE] - table[0, PLACE]))
    m = np.zeros((3, 4))
    for _ in range(2):
        m[:] = 0.0
        inliers = 0
        for i in range(n):
            t = (table[i, PLACE] - middle) / reach
            r = table[i, CENTROID] - (a + reach * t * (b + c * reach * t))
            u = r / cut
            if abs(u) >= 1.0:
                continue
            inliers += 1
            w = (1.0 - u * u) ** 2
            t2 = t * t
            m[0, 0] += w
            m[0, 1] += w * t
            m[0, 2] += w * t2
            m[1, 2] += w * t2 * t
            m[2, 2] += w * t2 * t2
            m[0, 3] += w * r
            m[1, 3] += w * r * t
            m[2, 3] += w * r * t2
        if inliers < MIN_SLICES:
            return a, b, c, inliers
        m[1, 1], m[1, 0], m[2, 0], m[2, 1] = m[0, 2], m[0, 1], m[0, 2], m[1, 2]
        for i in range(3):
            for j in range(i + 1, 3):
                factor = m[j, i] / m[i, i]
                for k in range(i, 4):
                    m[j, k] -= factor * m[i, k]
        dc = m[2, 3] / m[2, 2]
        db = (m[1, 3] - m[1, 2] * dc) / m[1, 1]
        a += (m[0, 3] - m[0, 1] * db - m[0, 2] * dc) / m[0, 0]
        b += db / reach
        c += dc / (reach * reach)
    return a, b, c, inliers


@njit(cache=True, nogil=True)
def _sweep(
    lines: Pixels,
    line: FloatArray,
    first: int,
    last: int,
    profile: tuple[float, float, float, float],
    threshold: int,
    table: FloatArray,
    ground: FloatArray,
) -> int:
    """Sums in a narrow window; the ground of both sides into ``ground``: (left mean, right mean,
    variance, distance between the sides).

    ``line`` is (a, b, c, middle); ``profile`` the half width, the motion blur at ``first`` and at
    ``last``, and the factor by which a slice is longer than the strip is wide. Returns the number
    of slices.
    """
    count = 0
    end = lines.shape[1] - 1
    left, right, squares = np.int64(0), np.int64(0), np.int64(0)
    n_left, n_right = 0, 0
    half_width, oblique = profile[0] * profile[3], profile[3]
    windows = 0.0
    for k in range(first, last + 1):
        t = k - line[3]
        centre = line[0] + t * (line[1] + t * line[2])
        share = (k - first) / max(1, last - first)
        smear = 0.5 * (profile[1] + share * (profile[2] - profile[1])) * oblique
        half = half_width + smear + WINDOW_PX * oblique
        low, high = math.ceil(centre - half), math.floor(centre + half)
        table[count, PLACE] = k
        table[count, FIRST] = low
        table[count, COUNT] = high - low + 1
        if low < 0 or high > end:
            table[count, WEIGHT] = 0.0
            table[count, SUM] = -1.0
            count += 1
            continue
        pixels = lines[k]
        fall = EDGE_FALL_PX * oblique
        reach = (smear + fall) / fall
        total = np.int64(0)
        edges, edge_sum, edge_moment = 0.0, 0.0, 0.0
        for j in range(low, high + 1):
            value = np.int64(pixels[j])
            total += value
            off = j - centre
            weight = min(1.0, max(0.0, reach - abs(abs(off) - half_width) / fall))
            weight *= weight * (3.0 - 2.0 * weight)  # smooth: it is sampled once a pixel
            # Within half a pixel of the axis both edges' weights pass into each other.
            weight *= min(1.0, max(-1.0, 2.0 * off))
            edges += weight * value
            edge_sum += weight
            edge_moment += weight * off
        for j in range(max(0, low - BAND_PX), low):
            value = np.int64(pixels[j])
            if value < threshold:
                left += value
                squares += value * value
                n_left += 1
        for j in range(high + 1, min(end, high + BAND_PX) + 1):
            value = np.int64(pixels[j])
            if value < threshold:
                right += value
                squares += value * value
                n_right += 1
        windows += 2.0 * half + BAND_PX
        # Light beside the strip is not the strip's.
        beside = pixels[low] >= threshold or pixels[high] >= threshold
        table[count, WEIGHT] = 0.0 if beside else 1.0
        table[count, SUM] = total
        table[count, EDGES] = edges
        table[count, EDGE_SUM] = edge_sum
        table[count, EDGE_MOMENT] = edge_moment
        count += 1
    mean = (left + right) / max(1, n_left + n_right)
    ground[0] = left / n_left if n_left > 0 else mean
    ground[1] = right / n_right if n_right > 0 else mean
    ground[2] = max(0.0, squares / max(1, n_left + n_right) - mean * mean)
    ground[3] = max(1.0, windows / max(1, count))
    return count


@njit(cache=True, nogil=True)
def _centroids(
    table: FloatArray, n: int, line: FloatArray, width: float, ground: FloatArray
) -> None:
    """Light above the ground, a level with a slope across the strip, and where it lies.

    ``width`` is the strip's along a slice. Moving an edge by d brings its brightness times d into
    the edge-weighted sum, and both edges move together.
    """
    level = 0.5 * (ground[0] + ground[1])
    slope = (ground[1] - ground[0]) / ground[3]
    for i in range(n):
        if table[i, SUM] < 0.0:
            table[i, FLUX] = 0.0
            continue
        flux = table[i, SUM] - level * table[i, COUNT]
        edges = table[i, EDGES] - level * table[i, EDGE_SUM] - slope * table[i, EDGE_MOMENT]
        t = table[i, PLACE] - line[3]
        table[i, FLUX] = flux
        table[i, CENTROID] = line[0] + t * (line[1] + t * line[2])
        if flux > 0.0:
            table[i, CENTROID] += 0.5 * edges * width / flux


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
    half_peak = 0.5 * _smallest(scratch, lit, min(lit - 1, int(0.85 * lit)))
    bright = 0
    for i in range(lit):
        if scratch[i] > half_peak:
            scratch[bright] = scratch[i]
            bright += 1
    light = _smallest(scratch, bright, bright // 2)
    first, last = _longest_run(table, n, 0.5 * light, 3)
    if last - first + 1 < MIN_SLICES or light <= 0.0:
        return 0
    report[LIGHT] = light
    kept = last - first + 1
    for i in range(kept):
        scratch[i] = abs(table[first + i, FLUX] - light)
    tolerance = 5.0 * 1.4826 * _smallest(scratch, kept, kept // 2) + 0.05 * light
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
    n = _find_points(lines, a, b, middle, first, last, step, reach, widest, threshold, table)
    if n < MIN_SLICES:
        return 0
    a, b = _robust_line(table, n, middle, scratch)
    a, b, c, inliers = _parabola(table, n, middle, a, b, 2.0)
    if inliers < max(MIN_SLICES, n // 3):
        return 0
    line = np.array([a, b, c, middle])
    ground = np.empty(4)
    oblique = math.sqrt(1.0 + b * b)
    profile = (0.5 * width, smear[0], smear[1], oblique)
    n = _sweep(lines, line, first, last, profile, threshold, table, ground)
    _centroids(table, n, line, width * oblique, ground)
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
