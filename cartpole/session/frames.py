"""Pictures of a recording: compressed; the last minute kept in memory until a fault wants it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from cartpole.errors import SessionError
from cartpole.messages import NANOSECONDS

if TYPE_CHECKING:
    from cartpole.vision.frame import Pixels

FORMAT = "jpeg"
QUALITY = 90  # 320x240 with sensor noise: 12 kB in .25 ms; PNG would take 40 kB and 2.6 ms
KEPT_S = 60.0
KEPT_BYTES = 192 << 20
AFTER_FAULT_S = 5.0
_LARGEST_SIDE = 4096


def compress(pixels: Pixels) -> bytes:
    """A grey picture (height, width) as JPEG."""
    import cv2

    ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not ok:
        raise SessionError("a picture could not be compressed")
    return bytes(data.data)


def decompress(data: bytes) -> Pixels:
    """The grey picture (height, width) of a JPEG or PNG; raises SessionError on anything else.

    The size in the file's header is checked before anything is decoded, so that a hostile file
    cannot ask for a huge picture.
    """
    import cv2
    import numpy as np

    width, height = _size(data)
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise SessionError(f"a picture claims to be {width} x {height} pixels")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise SessionError("a picture cannot be decoded")
    return np.asarray(pixels, dtype=np.uint8)


def _size(data: bytes) -> tuple[int, int]:
    """(width, height) as a PNG's or JPEG's header states them; (0, 0) if it is neither."""
    from cartpole.vision.jpeg import jpeg_size

    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return jpeg_size(data)


Kept = tuple[int, int, bytes]  # t_ns, sequence, compressed


class FlightRecorder:
    """The last minute of pictures in bounded memory, handed out when a fault comes."""

    def __init__(self, seconds: float = KEPT_S, most_bytes: int = KEPT_BYTES) -> None:
        self._span_ns = round(seconds * NANOSECONDS)
        self._most_bytes = most_bytes
        self._kept: deque[Kept] = deque()
        self.bytes = 0
        self._writing_until_ns = -1

    def add(self, t_ns: int, sequence: int, data: bytes) -> None:
        """Keep a picture, forgetting the oldest."""
        self._kept.append((t_ns, sequence, data))
        self.bytes += len(data)
        while self._kept and (
            self.bytes > self._most_bytes or t_ns - self._kept[0][0] > self._span_ns
        ):
            self.bytes -= len(self._kept.popleft()[2])

    def fault(self, t_ns: int) -> None:
        """From now on ``take`` hands out what is kept and what comes in the next seconds."""
        self._writing_until_ns = t_ns + round(AFTER_FAULT_S * NANOSECONDS)

    def take(self, most: int) -> list[Kept]:
        """Up to ``most`` pictures that a fault asked for, oldest first."""
        taken: list[Kept] = []
        while self._kept and len(taken) < most and self._kept[0][0] <= self._writing_until_ns:
            taken.append(self._kept.popleft())
            self.bytes -= len(taken[-1][2])
        return taken
