"""Bright blobs of a picture and their axes, compiled.

The picture is thresholded on a grid, line by line. A run of bright cells belongs to the blob of the
runs that it touches in the line above (union by the earlier run: Rosenfeld and Pfaltz, J. ACM 13,
1966); sums over a blob's runs give its principal axis, the runs' ends how far it reaches.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels

IntArray = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

USUAL_STEP_PX = 4
SATURATED_SHARE = 0.25  # of the picture above the threshold: a flash, or an exposure far too long

# Columns of a candidate: end points of its axis, length and width of the rectangle about it [px],
# and how much of that is filled (0 to 1).
X0, Y0, X1, Y1, LENGTH_PX, WIDTH_PX, FILL = range(7)
CANDIDATE_COLUMNS = 7
MOST_BLOBS = 16

# A run of bright cells: its row, first and last column, and an earlier run of its blob (itself: it
# is the first).
RUN_ROW, RUN_FIRST, RUN_LAST, RUN_BLOB = range(4)
RUN_COLUMNS = 4
# Of a blob: cells, their middle and its second moments, its axis, how far it reaches both ways.
CELLS, MID_X, MID_Y, XX, XY, YY, COSINE, SINE, LOW, HIGH, LEFT, RIGHT = range(12)
BLOB_COLUMNS = 12
IN_WORD = 8  # cells that are looked at together


@njit(cache=True, nogil=True)
def _threshold_line(line: Pixels, step: int, threshold: int, cells: Pixels, count: int) -> None:
    """Every ``step``-th pixel against the threshold, into ``cells`` of 0 and 1."""
    least = np.uint8(threshold)
    # The usual step as a number, and counters without a sign: many cells become one instruction.
    if step == USUAL_STEP_PX:
        for j in range(np.uint64(count)):
            cells[j] = line[np.uint64(USUAL_STEP_PX) * j] > least
    else:
        for j in range(np.uint64(count)):
            cells[j] = line[np.uint64(step) * j] > least


@njit(cache=True, nogil=True)
def _root(runs: IntArray, i: int) -> int:
    while runs[i, RUN_BLOB] != i:
        runs[i, RUN_BLOB] = runs[runs[i, RUN_BLOB], RUN_BLOB]
        i = runs[i, RUN_BLOB]
    return i


@njit(cache=True, nogil=True)
def _join(runs: IntArray, above: tuple[int, int], first: int, count: int) -> None:
    """The runs ``first`` to ``count`` of a row with those of the row above that they touch."""
    i = above[0]
    for k in range(first, count):
        while i < above[1] and runs[i, RUN_LAST] + 1 < runs[k, RUN_FIRST]:
            i += 1
        j = i
        while j < above[1] and runs[j, RUN_FIRST] <= runs[k, RUN_LAST] + 1:
            one, other = _root(runs, j), _root(runs, k)
            runs[max(one, other), RUN_BLOB] = min(one, other)
            j += 1


@njit(cache=True, nogil=True)
def _runs_of_line(words: Words, cells: Pixels, row: int, count: int, runs: IntArray) -> int:
    """The runs of a line's cells, eight in a word, from ``count`` on; how many there are then."""
    column, last = 0, cells.shape[0] - 1  # which is dark
    while column < last:
        if words[np.uint64(column) // np.uint64(IN_WORD)] == 0:
            column = (column | (IN_WORD - 1)) + 1
            continue
        while column < last and cells[column] == 0:
            column += 1
        begin = column
        while cells[column] != 0:
            column += 1
        if column > begin:
            runs[count, RUN_ROW], runs[count, RUN_BLOB] = row, count
            runs[count, RUN_FIRST], runs[count, RUN_LAST] = begin, column - 1
            count += 1
    return count


@njit(cache=True, nogil=True)
def _find_runs(frame: Pixels, step: int, threshold: int, runs: IntArray) -> int:
    """All runs of bright cells, those of a blob joined; how many."""
    rows, columns = (frame.shape[0] - 1) // step + 1, (frame.shape[1] - 1) // step + 1
    words = np.zeros(columns // IN_WORD + 1, np.uint64)
    cells = words.view(np.uint8)
    count, above = 0, (0, 0)
    for row in range(rows):
        _threshold_line(frame[row * step], step, threshold, cells, columns)
        first = count
        any_lit = np.uint64(0)
        for word in words:
            any_lit |= word
        if any_lit != 0:
            count = _runs_of_line(words, cells, row, count, runs)
            _join(runs, above, first, count)
        above = (first, count)
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _sum_up(runs: IntArray, count: int, sums: FloatArray) -> int:
    """Every run's blob becomes its number, every blob's sums a row; how many blobs there are."""
    blobs = 0
    for i in range(count):
        if runs[i, RUN_BLOB] == i:
            blob = blobs
            sums[blob, LOW] = sums[blob, LEFT] = math.inf
            sums[blob, HIGH] = sums[blob, RIGHT] = -math.inf
            blobs += 1
        else:  # an earlier run: that one's blob has its number already
            blob = runs[runs[i, RUN_BLOB], RUN_BLOB]
        runs[i, RUN_BLOB] = blob
        low, high = float(runs[i, RUN_FIRST]), float(runs[i, RUN_LAST])
        y, n = float(runs[i, RUN_ROW]), high - low + 1.0
        x = 0.5 * (low + high)
        total = sums[blob]
        total[CELLS] += n
        total[MID_X] += n * x
        total[MID_Y] += n * y
        total[XX] += n * (x * x + (n * n - 1.0) / 12.0)
        total[XY] += n * x * y
        total[YY] += n * y * y
    for blob in range(blobs):
        total = sums[blob]
        n = total[CELLS]
        total[MID_X] /= n
        total[MID_Y] /= n
        x, y = total[MID_X], total[MID_Y]
        xx, xy, yy = total[XX] / n - x * x, total[XY] / n - x * y, total[YY] / n - y * y
        axis = 0.5 * math.atan2(2.0 * xy, xx - yy)
        total[COSINE], total[SINE] = math.cos(axis), math.sin(axis)
    return blobs


@njit(cache=True, nogil=True)
def _reach(runs: IntArray, count: int, sums: FloatArray) -> None:
    """How far every blob reaches along its axis and across."""
    for i in range(count):
        total = sums[runs[i, RUN_BLOB]]
        y = runs[i, RUN_ROW] - total[MID_Y]
        for end in range(RUN_FIRST, RUN_LAST + 1):
            x = runs[i, end] - total[MID_X]
            along = x * total[COSINE] + y * total[SINE]
            across = y * total[COSINE] - x * total[SINE]
            total[LOW], total[HIGH] = min(total[LOW], along), max(total[HIGH], along)
            total[LEFT], total[RIGHT] = min(total[LEFT], across), max(total[RIGHT], across)


@njit(cache=True, nogil=True, error_model="numpy")
def find_blobs(frame: Pixels, step: int, threshold: int, least_px: float, out: FloatArray) -> int:
    """Bright blobs that reach at least ``least_px`` far, longest first.

    Args:
        frame: (height, width) uint8.
        step: every so many pixels and rows are looked at.
        threshold: brighter pixels count.
        least_px: a strip's least length.
        out: (MOST_BLOBS, CANDIDATE_COLUMNS) receives the longest.

    Returns:
        How many; -1 if too much of the picture is bright.
    """
    rows, columns = (frame.shape[0] - 1) // step + 1, (frame.shape[1] - 1) // step + 1
    runs = np.empty((rows * ((columns + 1) // 2), RUN_COLUMNS), np.int64)
    count = _find_runs(frame, step, threshold, runs)
    bright = count
    for i in range(count):
        bright += runs[i, RUN_LAST] - runs[i, RUN_FIRST]
    if bright > SATURATED_SHARE * rows * columns:
        return -1
    sums = np.zeros((count, BLOB_COLUMNS))
    blobs = _sum_up(runs, count, sums)
    _reach(runs, count, sums)
    found = 0
    for blob in range(blobs):
        total = sums[blob]
        length, width = total[HIGH] - total[LOW] + 1.0, total[RIGHT] - total[LEFT] + 1.0
        if length * step < least_px:
            continue
        at = min(found, MOST_BLOBS - 1)
        if found == MOST_BLOBS and out[at, LENGTH_PX] >= length * step:
            continue
        found = at + 1
        while at > 0 and out[at - 1, LENGTH_PX] < length * step:
            for k in range(CANDIDATE_COLUMNS):
                out[at, k] = out[at - 1, k]
            at -= 1
        row = out[at]
        row[X0] = (total[MID_X] + total[LOW] * total[COSINE]) * step
        row[Y0] = (total[MID_Y] + total[LOW] * total[SINE]) * step
        row[X1] = (total[MID_X] + total[HIGH] * total[COSINE]) * step
        row[Y1] = (total[MID_Y] + total[HIGH] * total[SINE]) * step
        row[LENGTH_PX], row[WIDTH_PX] = length * step, width * step
        row[FILL] = total[CELLS] / (length * width)
    return found
