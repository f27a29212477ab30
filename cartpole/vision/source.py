"""A camera as the capture loop sees it: one narrow interface and what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cartpole.vision.frame import Frame


@dataclass(slots=True)
class SourceCounters:
    """What a source did since it was made."""

    frames: int = 0  # handed out
    gaps: int = 0  # exposed by the camera and never seen here
    skipped: int = 0  # drained because a newer one was there
    stale: int = 0  # thrown away for their age


class CameraSource(Protocol):
    """A camera as the capture loop sees it; used from one thread.

    After ``DeviceLost`` the source is closed and may be opened again.
    """

    counters: SourceCounters

    def open(self) -> str:
        """Take the device, set it up and say in one line what it gives.

        Raises ``DeviceNotFound``, ``DeviceBusy`` or ``DeviceError``.
        """

    def read_latest(self, max_age_s: float, timeout_s: float) -> Frame | None:
        """The newest picture that was not read before and whose ``t_ns`` is at most ``max_age_s``
        old; None if none came within ``timeout_s``. Raises ``DeviceLost``."""

    def close(self) -> None:
        """Let the device go; does nothing on a closed source."""
