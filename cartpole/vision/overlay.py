"""Draw what was found into a picture, for pages and files."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from cartpole.messages import Detection, DetectionStatus
from cartpole.vision.frame import Pixels

Colour = tuple[int, int, int]  # blue, green, red
FOUND: Colour = (80, 220, 80)
AXIS: Colour = (60, 170, 255)
LOST: Colour = (60, 60, 255)
FRACTION_BITS = 4  # OpenCV draws to a sixteenth of a pixel


def _points(corners: list[tuple[float, float]], scale: int) -> npt.NDArray[np.int32]:
    """Fixed-point coordinates of pixel-centred places in the enlarged picture."""
    places = (np.array(corners) + 0.5) * scale - 0.5
    return np.rint(places * (1 << FRACTION_BITS)).astype(np.int32)


def draw_overlay(frame: Pixels, detection: Detection | None, scale: int = 1) -> Pixels:
    """The picture in colour with the found rectangle and its axis, or the reason why there is none.

    Args:
        frame: (height, width) uint8, any strides; not changed.
        detection: what the tracker made of it; None draws the picture alone.
        scale: whole enlargement.

    Returns:
        (height * scale, width * scale, 3) uint8 in OpenCV's order blue, green, red.
    """
    size = (frame.shape[1] * scale, frame.shape[0] * scale)
    grey = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_NEAREST)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    if detection is None:
        return np.asarray(picture, dtype=np.uint8)
    if detection.status is DetectionStatus.OK and len(detection.corners_px) == 4:
        corners = list(detection.corners_px)
        ends = [
            (0.5 * (corners[i][0] + corners[j][0]), 0.5 * (corners[i][1] + corners[j][1]))
            for i, j in ((0, 3), (1, 2))
        ]
        outline = [_points(corners, scale)]
        cv2.polylines(picture, outline, True, FOUND, 1, cv2.LINE_AA, FRACTION_BITS)
        cv2.polylines(picture, [_points(ends, scale)], False, AXIS, 1, cv2.LINE_AA, FRACTION_BITS)
    else:
        text = detection.status.name.replace("_", " ").lower()
        cv2.putText(picture, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, LOST, 1, cv2.LINE_AA)
    return np.asarray(picture, dtype=np.uint8)
