"""Find the strip in a whole picture: threshold, blobs, rectangles.

The picture is thresholded on a grid just fine enough that the strip cannot slip through; its bright
blobs are candidates. Where a reflection touches the strip, the picture is cleaned of everything
thicker than a strip first.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from cartpole.messages import FloatArray
from cartpole.vision.blobs import (
    CANDIDATE_COLUMNS,
    FILL,
    LENGTH_PX,
    MOST_BLOBS,
    SATURATED_SHARE,
    USUAL_STEP_PX,
    WIDTH_PX,
    find_blobs,
)
from cartpole.vision.frame import Pixels

MIN_ELONGATION = 2.2  # of a rectangle that may be a strip (its width on a coarse grid is uncertain)


def grid_step(width_px: float) -> int:
    """Coarsest grid that a strip of this width cannot slip through."""
    return max(1, min(USUAL_STEP_PX, int(0.7 * width_px)))


def bright_blobs(frame: Pixels, step: int, threshold: int, least_px: float) -> FloatArray | None:
    """Rows (n, CANDIDATE_COLUMNS) of what is bright and reaches at least that far, longest first;
    None if too much is bright."""
    found = np.empty((MOST_BLOBS, CANDIDATE_COLUMNS))
    count = find_blobs(frame, step, threshold, least_px, found)
    return None if count < 0 else found[:count]


def rectangles(frame: Pixels, threshold: int, least_px: float) -> FloatArray | None:
    """The same with the rotated rectangles of least area about them."""
    mask = cv2.threshold(frame, threshold, 255, cv2.THRESH_BINARY)[1]
    if cv2.countNonZero(mask) > SATURATED_SHARE * mask.size:
        return None
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Around a blob as long as that there are at least this many pixels.
    found = [_rectangle(one) for one in contours if 2 * len(one) >= least_px]
    found = sorted(
        (one for one in found if one[LENGTH_PX] >= least_px), key=lambda c: -c[LENGTH_PX]
    )
    return np.array(found).reshape(-1, CANDIDATE_COLUMNS)


def _rectangle(contour: cv2.typing.MatLike) -> tuple[float, ...]:
    (x, y), (w, h), angle = cv2.minAreaRect(contour)
    # A contour runs through pixels' middles; Pick's theorem counts the pixels in and on it.
    pixels = cv2.contourArea(contour) + 0.5 * len(contour) + 1.0
    fill = pixels / ((w + 1.0) * (h + 1.0))
    if h > w:
        w, h, angle = h, w, angle + 90.0
    radians = math.radians(angle)
    dx, dy = 0.5 * w * math.cos(radians), 0.5 * w * math.sin(radians)
    return x - dx, y - dy, x + dx, y + dy, w + 1.0, h + 1.0, fill


def looks_like_strip(candidate: FloatArray, width_px: float, step: int) -> bool:
    """Long, thin and full, within what the grid can tell."""
    long, wide = float(candidate[LENGTH_PX]), float(candidate[WIDTH_PX])
    thin = long > MIN_ELONGATION * wide and wide < 2.0 * width_px + 2.0 * step
    return thin and float(candidate[FILL]) > 0.5


def strips_only(frame: Pixels, threshold: int, width_px: float) -> Pixels:
    """Full-size mask of what is bright and not much thicker than the strip."""
    mask = np.where(frame > threshold, np.uint8(255), np.uint8(0))
    size = int(1.6 * width_px) + 2
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    thick = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    thick = cv2.dilate(thick, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    return np.asarray(cv2.subtract(mask, thick), dtype=np.uint8)
