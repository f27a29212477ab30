"""JPEGs from a wire: their size is read from the header before anything is decoded."""

from __future__ import annotations

import cv2
import numpy as np

from cartpole.vision.frame import Pixels

LARGEST_SIDE = 4096  # a header may claim 65535 x 65535: four gigabytes of nothing


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) as the header states them; (0, 0) if it is no JPEG."""
    if data[:2] != b"\xff\xd8":
        return 0, 0
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height = int.from_bytes(data[at + 5 : at + 7], "big")
            return int.from_bytes(data[at + 7 : at + 9], "big"), height
        at += 2 + length
    return 0, 0


def decode_grey(data: bytes) -> Pixels | None:
    """The grey picture (height, width); ``None`` if it is damaged, or claims to be huge.

    A webcam leaves the standard Huffman tables out; the decoder knows them.
    """
    width, height = jpeg_size(data)
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        return None
    try:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        return None
    return None if grey is None else np.asarray(grey, np.uint8)
