"""Whether a line of the picture cuts an end off the strip, which goes on beside it; compiled.

A picture torn near an end of the tape shows nearly the whole pole, as it was a picture ago. What
was cut off is gone, what came in its place lies beside it: along one line of the picture light ends
and begins, each within that line, as nothing that came through the optics does.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels
from cartpole.vision.slices import (
    LIGHT,
    LINE_A,
    LINE_B,
    LINE_C,
    MIDDLE,
    PLACE,
    SLICES,
    STEEP,
    WEIGHT,
)

END_SHARE = 0.1  # of the good slices: what is farther in is no end
BEYOND_PX = 10.0  # an end may be so much farther out than it should
STEP = 0.5  # of the strip's light, from one line to the next
BESIDE_STEP = 0.3  # of a step: what the lines beside it may show
LEAST_BOTH, LEAST_SUM = 3, 8  # pixels of a line that end or begin: each, and together
TOO_MANY = (6.0, 2.0)  # that end or begin alone, and as many times what an end of the tape shows


@njit(cache=True, nogil=True, inline="always")
def _light(frame: Pixels, row: int, column: float) -> float:
    """Between two pixels of a line."""
    left = math.floor(column)
    share = column - left
    light: float = (1.0 - share) * frame[row, left] + share * frame[row, left + 1]
    return light


@njit(cache=True, nogil=True, fastmath=True)
def _largest_step(frame: Pixels, row: int, low: int, high: int, shift: float) -> float:
    """Between pixels ``low`` to ``high`` of a line and the line above: most lines show none, so
    this one number is all that is asked of them."""
    left = math.floor(-shift)
    share = np.float32(-shift - left)
    here, above = frame[row, low : high + 1], frame[row - 1, low + left : high + left + 2]
    largest = np.float32(0.0)
    for j in range(here.shape[0]):
        one, two = np.float32(above[j]), np.float32(above[j + 1])
        largest = max(largest, abs(np.float32(here[j]) - one - share * (two - one)))
    return float(largest)


@njit(cache=True, nogil=True)
def _is_cut(
    frame: Pixels, report: FloatArray, row: int, columns: tuple[int, int], reach: float
) -> bool:
    """Whether a line cuts the strip there: too many pixels begin or end within it.

    The line is held against the one above, shifted so that a straight strip looks the same in both.
    """
    rows = frame.shape[0]
    steep = report[STEEP] > 0.0
    shift = report[LINE_B] if steep else 1.0 / report[LINE_B]
    room = 2.0 * abs(shift) + 1.0
    low = max(columns[0], math.ceil(room))
    high = min(columns[1], math.floor(frame.shape[1] - 2 - room))
    least = STEP * report[LIGHT]
    if row < 2 or row > rows - 2 or low > high:
        return False
    if _largest_step(frame, row, low, high, shift) <= least:
        return False
    begun, ended = 0, 0
    for column in range(low, high + 1):
        if not steep:
            t = column - report[MIDDLE]
            centre = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C])
            if not math.ceil(centre - reach) <= row < math.floor(centre + reach):
                continue
        here, above = float(frame[row, column]), _light(frame, row - 1, column - shift)
        step = here - above
        if abs(step) > least:
            small = BESIDE_STEP * abs(step)
            before = above - _light(frame, row - 2, column - 2.0 * shift)
            after = _light(frame, row + 1, column + shift) - here
            if abs(before) < small and abs(after) < small:
                begun += step > 0.0
                ended += step < 0.0
    natural = math.inf if steep else 1.0 / abs(report[LINE_B])
    both = min(begun, ended) >= LEAST_BOTH and begun + ended >= LEAST_SUM
    return both or begun + ended > TOO_MANY[0] + TOO_MANY[1] * natural


@njit(cache=True, nogil=True)
def _is_cut_within(
    frame: Pixels, report: FloatArray, places: tuple[int, int], reach: float
) -> bool:
    """Whether a line cuts the strip between two places, ``reach`` px about it."""
    steep = report[STEEP] > 0.0
    centre = np.empty(2)
    for i in range(2):
        t = places[i] - report[MIDDLE]
        centre[i] = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C])
    first, last = places
    if not steep:
        first = max(0, math.ceil(min(centre[0], centre[1]) - reach) - 1)
        last = min(frame.shape[0] - 1, math.floor(max(centre[0], centre[1]) + reach) + 1)
    for row in range(first, last + 1):
        columns = places
        if steep:
            t = row - report[MIDDLE]
            middle = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C])
            columns = (math.ceil(middle - reach), math.floor(middle + reach) - 1)
        if _is_cut(frame, report, row, columns, reach):
            return True
    return False


@njit(cache=True, nogil=True)
def is_cut_off(
    frame: Pixels,
    table: FloatArray,
    report: FloatArray,
    first: float,
    last: float,
    beside: float,
) -> bool:
    """Whether an end of the strip was cut off.

    Args:
        frame: (height, width) uint8.
        table, report: from :func:`cartpole.vision.strip.measure_strip`.
        first, last: places where the tape should begin and end.
        beside: how far off its axis what was cut off may lie [px].
    """
    n = int(report[SLICES])
    good = 0
    for i in range(n):
        good += table[i, WEIGHT] > 0.0
    oblique = math.sqrt(1.0 + report[LINE_B] ** 2)
    lines = frame.shape[0] if report[STEEP] > 0.0 else frame.shape[1]
    for side in range(2):
        held, at = 0, 0 if side == 0 else n - 1
        while held <= END_SHARE * good and 0 <= at < n:
            held += table[at, WEIGHT] > 0.0
            at += 1 - 2 * side
        inner = table[min(n - 1, max(0, at)), PLACE]
        begin, stop = first - BEYOND_PX / oblique, inner
        if side == 1:
            begin, stop = inner, last + BEYOND_PX / oblique
        places = (max(0, int(begin)), min(lines - 1, int(stop)))
        if _is_cut_within(frame, report, places, beside * oblique):
            return True
    return False
