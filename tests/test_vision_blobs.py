"""Blobs of a thresholded picture, held against OpenCV's connected components and rectangles."""

import math

import cv2
import numpy as np
import pytest

from cartpole.messages import FloatArray
from cartpole.vision import acquire, blobs
from cartpole.vision.frame import Pixels

THRESHOLD = 96


def blotchy(seed: int, shape: tuple[int, int]) -> Pixels:
    """Blots of all shapes: arms that meet further down, holes, single pixels, to the very edge."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(shape) + cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), 2) * 9
    return np.where(noise > 2.0, 200, 20).astype(np.uint8)


def blobs_of(frame: Pixels, step: int, least_px: float) -> FloatArray:
    """Candidates, of which there are some."""
    found = acquire.bright_blobs(frame, step, THRESHOLD, least_px)
    assert found is not None
    return found


def by_opencv(frame: Pixels, step: int) -> list[tuple[int, float, float]]:
    """Cells of each blob, and its middle [px], most cells first."""
    cells = (frame[::step, ::step] > THRESHOLD).astype(np.uint8)
    _, _, stats, middles = cv2.connectedComponentsWithStats(cells, connectivity=8)
    found = [
        (int(stats[i, cv2.CC_STAT_AREA]), *(step * middles[i]).tolist())
        for i in range(1, len(stats))
    ]
    return sorted(found, reverse=True)


@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize("shape", [(61, 83), (48, 64), (31, 33)])
@pytest.mark.parametrize("seed", range(4))
def test_blobs_are_the_connected_components(seed: int, shape: tuple[int, int], step: int) -> None:
    frame = blotchy(seed, shape)
    rows, columns = (shape[0] - 1) // step + 1, (shape[1] - 1) // step + 1
    runs = np.empty((rows * ((columns + 1) // 2), blobs.RUN_COLUMNS), np.int64)
    count = blobs._find_runs(frame, step, THRESHOLD, runs)
    table = np.zeros((count, blobs.BLOB_COLUMNS))
    found = table[: blobs._sum_up(runs, count, table)]
    ours = [(int(b[blobs.CELLS]), step * b[blobs.MID_X], step * b[blobs.MID_Y]) for b in found]
    assert np.allclose(sorted(ours, reverse=True), by_opencv(frame, step))


@pytest.mark.parametrize("angle", np.arange(0.03, math.pi, 0.31).tolist())
def test_a_strip_has_the_rectangle_of_least_area(angle: float) -> None:
    frame = np.full((240, 320), 14, np.uint8)
    reach = 58.0 * np.array((math.cos(angle), math.sin(angle)))
    start, stop = np.rint((160, 120) - reach), np.rint((160, 120) + reach)
    cv2.line(frame, start.astype(int).tolist(), stop.astype(int).tolist(), 200, 8, cv2.LINE_AA)
    rectangles = acquire.rectangles(frame, THRESHOLD, 30.0)
    assert rectangles is not None
    (rectangle,) = rectangles
    (blob,) = blobs_of(frame, 4, 30.0)
    ends = rectangle[:4].reshape(2, 2)
    found = blob[:4].reshape(2, 2)
    if np.dot(found[1] - found[0], ends[1] - ends[0]) < 0.0:
        found = found[::-1]
    assert np.max(np.abs(found - ends)) < 3.0  # the grid's
    assert acquire.looks_like_strip(blob, 8.0, 4)


def test_the_longest_come_first_and_short_ones_do_not_come() -> None:
    frame = np.zeros((240, 320), np.uint8)
    for i in range(1, 29):  # more than there is room for, in no order
        length = 10 * (i * 11 % 29 + 1)
        frame[8 * i : 8 * i + 4, 10 : 10 + length] = 200
    found = blobs_of(frame, 1, 100.0)
    expected = [10 * i for i in range(29, 29 - blobs.MOST_BLOBS, -1)]
    assert found[:, blobs.LENGTH_PX].tolist() == pytest.approx(expected)
    assert len(blobs_of(frame, 1, 265.0)) == 3
