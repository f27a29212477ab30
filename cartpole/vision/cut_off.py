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


@njit(cache=True, nogil=True)
def _steps(
    frame: Pixels, report: FloatArray, places: tuple[int, int], reach: float, counts: FloatArray
) -> None:
    """Into ``counts`` (2, height): pixels of slices from ``places[0]`` to ``places[1]`` that begin
    and that end within their line, ``reach`` px about the strip.

    A line is held against the one above, shifted so that a straight strip looks the same in both.
    """
    rows, columns = frame.shape
    steep = report[STEEP] > 0.0
    shift = report[LINE_B] if steep else 1.0 / report[LINE_B]
    room = 2.0 * abs(shift) + 1.0
    least = STEP * report[LIGHT]
    most = columns if steep else rows
    for k in range(places[0], places[1] + 1):
        t = k - report[MIDDLE]
        centre = report[LINE_A] + t * (report[LINE_B] + t * report[LINE_C])
        for j in range(max(0, math.ceil(centre - reach)), min(most, math.floor(centre + reach))):
            row, column = (k, j) if steep else (j, k)
            if row < 2 or row > rows - 2 or column < room or column > columns - 2 - room:
                continue
            here, above = float(frame[row, column]), _light(frame, row - 1, column - shift)
            step = here - above
            if abs(step) > least:
                small = BESIDE_STEP * abs(step)
                before = above - _light(frame, row - 2, column - 2.0 * shift)
                after = _light(frame, row + 1, column + shift) - here
                if abs(before) < small and abs(after) < small:
                    counts[0 if step > 0.0 else 1, row] += 1.0


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
    natural = math.inf if report[STEEP] > 0.0 else 1.0 / abs(report[LINE_B])
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
        counts = np.zeros((2, frame.shape[0]))
        _steps(frame, report, places, beside * oblique, counts)
        for row in range(frame.shape[0]):
            begun, ended = counts[0, row], counts[1, row]
            both = min(begun, ended) >= LEAST_BOTH and begun + ended >= LEAST_SUM
            if both or begun + ended > TOO_MANY[0] + TOO_MANY[1] * natural:
                return True
    return False
