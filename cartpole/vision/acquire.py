"""Find the strip in a whole picture: threshold, contours, rotated rectangles.

The picture is thresholded on a grid just fine enough that the strip cannot slip through; contours
and rotated rectangles of the mask give candidates. Where a reflection touches the strip, the mask
is cleaned of everything thicker than a strip first.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numba import njit

from cartpole.vision.frame import Pixels

MAX_STEP_PX = 4
SATURATED_SHARE = 0.25  # of the picture above the threshold: a flash, or an exposure far too long
MIN_ELONGATION = 2.2  # of a rectangle that may be a strip (its width on a coarse grid is uncertain)


class Candidate(NamedTuple):
    """A rotated rectangle: end points of its axis, length and width, the blob's area over that
    length, all in pixels; and how much of the rectangle is filled (0 to 1)."""

    x0: float
    y0: float
    x1: float
    y1: float
    length_px: float
    width_px: float
    thickness_px: float
    fill: float


@njit(cache=True, nogil=True)
def threshold_grid(frame: Pixels, step: int, threshold: int, mask: Pixels) -> int:
    """Every ``step``-th pixel of every ``step``-th row against the threshold, into ``mask``
    (rows, columns) of 0 and 255; returns how many are above."""
    bright = 0
    for i in range(mask.shape[0]):
        line, out = frame[i * step], mask[i]
        for j in range(mask.shape[1]):
            above = line[j * step] > threshold
            out[j] = 255 * above
            bright += above
    return bright


def grid_step(width_px: float) -> int:
    """Coarsest grid that a strip of this width cannot slip through."""
    return max(1, min(MAX_STEP_PX, int(0.7 * width_px)))


def grid_mask(shape: tuple[int, ...], step: int) -> Pixels:
    """A mask for :func:`threshold_grid`."""
    return np.empty(((shape[0] - 1) // step + 1, (shape[1] - 1) // step + 1), np.uint8)


def _rectangle(contour: Any, step: int) -> Candidate:
    (x, y), (w, h), angle = cv2.minAreaRect(contour)
    # A contour runs through cell centres; Pick's theorem counts the cells in and on it.
    cells = cv2.contourArea(contour) + 0.5 * len(contour) + 1.0
    fill = cells / ((w + 1.0) * (h + 1.0))
    if h > w:
        w, h, angle = h, w, angle + 90.0
    radians = math.radians(angle)
    half = 0.5 * w * step
    dx, dy = half * math.cos(radians), half * math.sin(radians)
    return Candidate(
        x * step - dx,
        y * step - dy,
        x * step + dx,
        y * step + dy,
        (w + 1.0) * step,
        (h + 1.0) * step,
        cells * step / (w + 1.0),
        fill,
    )


def find_candidates(mask: Pixels, step: int, least_length_px: float) -> list[Candidate]:
    """Rotated rectangles of the blobs that reach at least that far, longest first."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = []
    for contour in contours:
        # Around a blob as long as that there are at least this many cells.
        if 2 * step * len(contour) >= least_length_px:
            rectangle = _rectangle(contour, step)
            if rectangle.length_px >= least_length_px:
                found.append(rectangle)
    found.sort(key=lambda c: -c.length_px)
    return found


def strips_only(frame: Pixels, threshold: int, width_px: float) -> Pixels:
    """Full-size mask of what is bright and not much thicker than the strip."""
    mask = np.where(frame > threshold, np.uint8(255), np.uint8(0))
    size = int(1.6 * width_px) + 2
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    thick = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    thick = cv2.dilate(thick, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    return np.asarray(cv2.subtract(mask, thick), dtype=np.uint8)


def looks_like_strip(candidate: Candidate, width_px: float, step: int) -> bool:
    """Long, thin and full, within what the grid can tell."""
    return (
        candidate.length_px > MIN_ELONGATION * candidate.width_px
        and candidate.width_px < 2.0 * width_px + 2.0 * step
        and candidate.fill > 0.5
    )
