"""Slices that were not measured: of the last picture, and of a rotated rectangle; compiled."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels
from cartpole.vision.slices import (
    CENTROID,
    COUNT,
    FIRST,
    LINE_A,
    LINE_B,
    MIDDLE,
    NOISE,
    PLACE,
    SLICES,
    START,
    START_SEEN,
    STEEP,
    STOP,
    SUM,
    USED,
    WEIGHT,
)

RECTANGLE_SIGMA_PX = 0.5  # error of a rotated rectangle's axis, as a slice's


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
    report[SLICES], report[USED], report[NOISE] = count, count, RECTANGLE_SIGMA_PX
