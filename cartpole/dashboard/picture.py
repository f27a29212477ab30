"""The camera's newest picture with what the tracker found in it, as a data address."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import cv2

from cartpole.messages import Detection, DetectionStatus
from cartpole.vision.overlay import draw_overlay

if TYPE_CHECKING:
    from cartpole.vision.ring import FrameRing

QUALITY = 80
WIDTH_PX = 640  # shown at least this wide


class Pictures:
    """Reads the ring; the camera never waits for it."""

    def __init__(self, ring: FrameRing) -> None:
        self._ring = ring

    def newest(self, shown: int, detection: dict[str, Any] | None) -> tuple[int, str] | None:
        """Sequence and JPEG, if there is a picture after sequence ``shown``.

        ``detection`` is the status's; the picture it was made from is preferred, so that rectangle
        and pole belong together.
        """
        found = Detection(0, 0, -1, DetectionStatus.NO_BLOB)
        frame = None
        if detection is not None:
            corners = tuple((float(x), float(y)) for x, y in detection["corners_px"])
            found = Detection(
                0,
                0,
                detection["sequence"],
                DetectionStatus[detection["status"]],
                corners_px=corners,
            )
            frame = next(iter(self._ring.since(found.sequence - 1)), None)
        if frame is None:
            latest = self._ring.newest()
            frame = latest[1] if latest is not None else None
        if frame is None or frame.sequence == shown:
            return None
        scale = max(1, round(WIDTH_PX / self._ring.width))
        drawn = draw_overlay(frame.data, found if frame.sequence == found.sequence else None, scale)
        good, coded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not good:
            return None
        text = base64.b64encode(coded.tobytes()).decode()
        return frame.sequence, f"data:image/jpeg;base64,{text}"
