"""A picture with its time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the camera.

    ``data`` is (height, width), grey levels or a raw Bayer pattern, possibly a strided view of the
    driver's buffer (the luma of YUYV), and stays valid until the source's next read. ``t_ns`` is
    the mid-exposure time of the middle line and ``arrival_ns`` the moment the picture could be
    read, both on the host's monotonic clock. ``sequence`` counts what the camera exposed, so a step
    of more than one is a loss.
    """

    data: Pixels
    t_ns: int
    arrival_ns: int
    sequence: int
