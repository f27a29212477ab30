"""Whether a line of the picture ends light more sharply than any optics would; compiled.

Optics and pixels spread an edge: between two neighbouring lines the light of one never changes by
more than the blur that the strip's own edges show allows, however it lies. Where several pixels of
one line do, with nothing of it in the lines beside, two pictures were put together. That needs no
strip that goes on beside its place, and holds for one that lies along the lines, too, and for the
corner of another picture beside a pole that is whole.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels
from cartpole.vision.slices import (
    BLUR,
    GROUND,
    GROUND_NOISE,
    LIGHT,
    LINE_A,
    LINE_B,
    LINE_C,
    MIDDLE,
    STEEP,
)

SHARPER = 0.42  # of what an edge leaves of the strip's light, beyond the lines beside it
NOISES = 4.0  # of the difference: less may be chance
LEAST_PIXELS = 4  # of one line
CLIPPED_DN = 250  # light cut off there has edges as sharp as can be
BEYOND_PX = 10.0  # the ends of the strip
SHARP_OPTICS = 0.8  # of a strip's light: where edges are as sharp by themselves, a tear is as well


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _edge(x: float, blur: float) -> float:
    """The light at ``x`` px from an edge of that blur: the biweight kernel's integral."""
    t = min(1.0, max(-1.0, x / blur))
    q = t * t
    return 0.5 + t * (0.9375 - q * (0.625 - q * 0.1875))


@njit(cache=True, nogil=True, error_model="numpy")
def sharpest(blur: float) -> float:
    """How much more of a strip's light an edge of that blur takes from one pixel to the next than
    from those to their other neighbours: most where it lies between the two."""
    step = 2.0 * _edge(0.5, blur) - 1.0
    return max(0.0, step - 2.0 * (_edge(1.5, blur) - _edge(0.5, blur)))


@njit(cache=True, nogil=True)
def _largest(frame: Pixels, row: int, low: int, high: int) -> int:
    """Sharpness of the sharpest pixel of a line: most lines show none, so this one number is all
    that is asked of them."""
    two, one = frame[row - 2, low : high + 1], frame[row - 1, low : high + 1]
    here, after = frame[row, low : high + 1], frame[row + 1, low : high + 1]
    largest = np.int16(0)
    for j in range(here.shape[0]):
        step = np.int16(here[j]) - np.int16(one[j])
        rest = np.int16(two[j]) - np.int16(after[j])
        rest = rest if step > 0 else -rest
        largest = max(largest, np.int16(2) * abs(step) + rest)
    return int(largest)


@njit(cache=True, nogil=True)
def _sharp_pixels(
    frame: Pixels, report: FloatArray, row: int, columns: tuple[int, int], least: float
) -> int:
    """How many pixels of a line begin or end in it alone; what is brighter than the strip must do
    so by as much more."""
    count, light, ground = 0, report[LIGHT], report[GROUND]
    for column in range(columns[0], columns[1] + 1):
        two, one = np.int64(frame[row - 2, column]), np.int64(frame[row - 1, column])
        here, after = np.int64(frame[row, column]), np.int64(frame[row + 1, column])
        rest = two - after if here > one else after - two
        sharp = 2 * abs(here - one) + rest
        brightest = max(max(two, one), max(here, after))
        clipped = max(one, here) >= CLIPPED_DN
        count += not clipped and sharp * light > least * max(light, brightest - ground)
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def has_seam(frame: Pixels, report: FloatArray, first: float, last: float, beside: float) -> bool:
    """Whether a line cuts what is seen about the strip.

    Args:
        frame: (height, width) uint8.
        report: from :func:`cartpole.vision.strip.measure_strip`.
        first, last: places where the strip begins and ends.
        beside: how far off its axis what belongs to it may lie [px].
    """
    rows, columns = frame.shape
    steep = report[STEEP] > 0.0
    a, b, c, middle = report[LINE_A], report[LINE_B], report[LINE_C], report[MIDDLE]
    oblique = math.sqrt(1.0 + b * b)
    reach, room = beside * oblique, BEYOND_PX / oblique
    first, last = first - room, last + room
    natural, noise = sharpest(report[BLUR]), report[GROUND_NOISE]
    if natural > SHARP_OPTICS:
        return False
    # The difference holds ten times the noise's variance, on top of the sharpest edge.
    more = max(SHARPER * (1.0 - natural) * report[LIGHT], NOISES * math.sqrt(10.0) * noise)
    least = natural * report[LIGHT] + more
    top, bottom = first, last
    if not steep:
        begin, stop = a + b * (first - middle), a + b * (last - middle)
        top, bottom = min(begin, stop) - reach, max(begin, stop) + reach
    for row in range(max(2, math.ceil(top)), min(rows - 2, math.floor(bottom)) + 1):
        low, high = first, last
        if steep:
            t = row - middle
            centre = a + t * (b + t * c)
            low, high = centre - reach, centre + reach
        elif abs(b) * (last - first) > reach:
            centre = middle + (row - a) / b
            low, high = max(low, centre - reach / abs(b)), min(high, centre + reach / abs(b))
        left, right = max(0, math.ceil(low)), min(columns - 1, math.floor(high))
        if left > right or _largest(frame, row, left, right) <= least:
            continue
        if _sharp_pixels(frame, report, row, (left, right), least) >= LEAST_PIXELS:
            return True
    return False
