"""Whether a picture is put together from two, or ends half-way; compiled.

Optics soften every edge, so nothing that was seen begins or ends within a single line of the
picture. What was pasted does: a buffer read while it was written, a transfer that stopped. Two
neighbouring lines are held against each other, one shifted so that a straight strip looks the same
in both; a tear stands alone among small differences. A sharp shadow may look like one; behind it
the strip goes on where it should.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.cut_off import is_cut_off
from cartpole.vision.ends import expected_end
from cartpole.vision.frame import Pixels
from cartpole.vision.layout import (
    EXPECT_P,
    EXPECT_THETA,
    OMEGA,
    PIVOT,
    PRIOR_SIZE,
    RATE,
    RATE_ERROR,
    SIGMA_OMEGA,
    SPEED,
    THETA,
    TIME,
    WIDTH,
)
from cartpole.vision.slices import (
    DARK,
    FOREIGN,
    GROUND,
    GROUND_NOISE,
    KIND,
    LIGHT,
    LINE_A,
    LINE_B,
    LINE_C,
    MIDDLE,
    NOISE,
    PLACE,
    SLICES,
    STEEP,
    WEIGHT,
    smallest,
    thinned,
)

FLATTEST = 15.0  # columns a row: a flatter strip lies along the lines, no tear crosses it
FLATTEST_END = 25.0  # the same where an end is looked at
AWAY_PX = 3.0  # from the tape's own ends
CORE = 4.0  # a change within the strip counts so much, and at most what there is
LEAST_CHANGE = 0.18  # of the strip's light
NEIGHBOURS = 0.2  # of a tear's change: what the lines beside it may show
GOES_ON = 0.3  # of the strip's light behind a tear: it lies elsewhere
BESIDE_PX = 16.0  # how far a strip may move from one picture to the next, and more
LEAST_BESIDE, BESIDE_SHARE = 7, 0.04  # slices, and of the tape: fewer are chance
NEAR_SLICES, LEAST_GOOD = 10, 4  # so many good ones on both sides of a change: it is no tear
OTHER_SIDE = 0.1  # of the good slices: there the strip is where it should be


@njit(cache=True, nogil=True, fastmath=True)
def _differences(
    frame: Pixels,
    report: FloatArray,
    first: int,
    last: int,
    width: float,
    changes: FloatArray,
    lights: FloatArray,
) -> None:
    """How much each line of ``first`` to ``last`` differs from the one above, and its light, both
    in the strip's own light."""
    columns = frame.shape[1]
    steep = report[STEEP] > 0.0
    slope = report[LINE_B] if steep else 1.0 / report[LINE_B]
    wide = width * math.sqrt(1.0 + slope * slope)
    reach = 0.5 * wide + 2.0 + 2.0 * abs(slope)
    whole = report[LIGHT] * wide
    # The point that a straight strip moves here from the line above lies between two pixels.
    left = math.floor(-slope)
    share = -slope - left
    for row in range(first, last + 1):
        if steep:
            t = row - report[MIDDLE]
            centre = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C])
        else:
            centre = report[MIDDLE] + (row - report[LINE_A]) / report[LINE_B]
        low = max(1 + math.ceil(abs(slope)), math.ceil(centre - reach))
        high = min(columns - 2 - math.ceil(abs(slope)), math.floor(centre + reach))
        size = max(0, high - low + 1)
        above = frame[row - 1, low + left : low + left + size + 1]
        here, from_centre = frame[row, low : low + size], low - centre
        change, light, core = 0.0, 0.0, 0.0
        for j in range(size):
            step = abs(here[j] - (1.0 - share) * above[j] - share * above[j + 1])
            change += step
            core += step if abs(from_centre + j) < 0.5 * wide else 0.0
            light += here[j]
        light -= size * report[GROUND]
        # What begins beside the strip alone is a reflection.
        changes[row - first] = min(change, CORE * core) / whole
        lights[row - first] = light / whole


@njit(cache=True, nogil=True)
def _beside(
    lines: Pixels, table: FloatArray, report: FloatArray, first: float, last: float, width: float
) -> int:
    """Slices between places ``first`` and ``last`` that are not the tape's though a strip like it
    lies beside them: what is behind the tear was seen earlier or later."""
    end = lines.shape[1] - 1
    wide = width * math.sqrt(1.0 + report[LINE_B] ** 2)
    reach = wide + BESIDE_PX
    level = report[GROUND] + 0.5 * report[LIGHT]
    count = 0
    for i in range(int(report[SLICES])):
        place = table[i, PLACE]
        dark = table[i, KIND] == DARK or table[i, KIND] == FOREIGN
        if not (first <= place <= last and dark):
            continue
        t = place - report[MIDDLE]
        centre = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C])
        begin, stop, bright = -1, -1, 0
        pixels = lines[int(place)]
        for j in range(max(0, int(centre - reach)), min(end, int(centre + reach)) + 1):
            if pixels[j] > level:
                begin = j if begin < 0 else begin
                stop = j
                bright += 1
        like = 0.85 * wide - 1.0 < bright < 2.0 * wide and stop - begin < bright + 1
        # A reflection adds light; it takes none of the tape's away.
        whole = begin < centre - 0.5 * wide + 1.0 and stop > centre + 0.5 * wide - 1.0
        count += like and not whole
    return count


@njit(cache=True, nogil=True)
def _good(
    table: FloatArray, report: FloatArray, before: float, after: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Good slices before and after a cut: just beside it, and all."""
    left, right, near_left, near_right = 0, 0, 0, 0
    for i in range(int(report[SLICES])):
        if table[i, WEIGHT] > 0.0:
            place = table[i, PLACE]
            left += place < before
            near_left += before - NEAR_SLICES <= place < before
            right += place >= after
            near_right += after <= place < after + NEAR_SLICES
    return (near_left, near_right), (left, right)


@njit(cache=True, nogil=True)
def is_torn(
    frame: Pixels,
    table: FloatArray,
    report: FloatArray,
    prior: FloatArray,
    pose: FloatArray,
    g: FloatArray,
    scratch: FloatArray,
) -> bool:
    """Whether a line of the picture cuts the tape.

    Args:
        frame: (height, width) uint8.
        table, report, prior, pose, g: as of :func:`cartpole.vision.track.track`, after it.
        scratch: (>= 3 height,) working memory.
    """
    width = prior[WIDTH]
    steep = report[STEEP] > 0.0
    flat = not steep and abs(report[LINE_B]) * FLATTEST < 1.0
    told = np.empty(PRIOR_SIZE)
    for i in range(PRIOR_SIZE):  # a broadcast would compile all of numba's strings
        told[i] = prior[i]
    if pose[RATE_ERROR] < prior[SIGMA_OMEGA]:
        told[OMEGA] = pose[RATE]
    told[EXPECT_THETA] = pose[THETA] - told[OMEGA] * pose[TIME]
    told[EXPECT_P] = pose[PIVOT] - told[SPEED] * pose[TIME]
    near, far = expected_end(told, g, 0), expected_end(told, g, 1)
    along = 1 if steep else 0
    begin, stop = min(near[along], far[along]), max(near[along], far[along])
    lines = frame if steep else frame.T
    aside = _beside(lines, table, report, begin + 2.0, stop - 2.0, width)
    if aside >= max(LEAST_BESIDE, BESIDE_SHARE * (stop - begin)):
        return True
    if not steep and abs(report[LINE_B]) * FLATTEST_END < 1.0:
        return False
    if is_cut_off(frame, table, report, begin, stop, 0.5 * width + BESIDE_PX):
        return True
    if flat:
        return False
    top, bottom = min(near[1], far[1]), max(near[1], far[1])
    across = abs(far[0] - near[0]) / max(1.0, math.hypot(far[0] - near[0], far[1] - near[1]))
    away = AWAY_PX + 0.5 * width * across
    first = max(2, math.ceil(top + away))
    last = min(frame.shape[0] - 2, math.floor(bottom - away))
    n = last - first + 1
    if n < 5:
        return False
    changes, lights = scratch[:n], scratch[n : 2 * n]
    _differences(frame, report, first, last, width, changes, lights)
    ranked = scratch[2 * n : 3 * n]
    for i in range(n):
        ranked[i] = changes[i]
    some = thinned(ranked, n)
    usual = smallest(ranked, some, some // 2)
    # Slices that are good on both sides to within the noise are one strip's.
    quiet = report[NOISE] < 1.5 * report[GROUND_NOISE] + 0.01 * report[LIGHT]
    for i in range(n):
        change = changes[i] - usual
        if change < LEAST_CHANGE:
            continue
        before = changes[i - 1] - usual if i > 0 else 0.0
        after = changes[i + 1] - usual if i < n - 1 else 0.0
        if max(before, after) > NEIGHBOURS * change + 0.02:
            continue
        place, span = float(first + i), 0.0
        if not steep:
            place = report[MIDDLE] + (place - report[LINE_A]) / report[LINE_B]
            span = 0.5 * width / abs(report[LINE_B])
        beside, all_of = _good(table, report, place - span, place + span)
        if quiet and beside[0] >= LEAST_GOOD and beside[1] >= LEAST_GOOD:
            continue
        here = lights[min(n - 1, i + 1)]
        there = lights[max(0, i - 2)]
        if min(here, there) > GOES_ON or min(all_of) < OTHER_SIDE * sum(all_of):
            return True
    return False
