"""Where pictures come from: one narrow interface, a shipped fake, and the choice by config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cartpole.config.schema import Camera
from cartpole.errors import DeviceLost, UsageError
from cartpole.vision.frame import Frame

if TYPE_CHECKING:
    from cartpole.vision.ring import FrameRing


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


class FakeSource:
    """Hands out given pictures one by one; ``None`` among them is an unplugged cable."""

    def __init__(self, frames: Sequence[Frame | None]) -> None:
        self.counters = SourceCounters()
        self._frames = list(frames)
        self._open = False

    def open(self) -> str:
        self._open = True
        return "fake camera"

    def read_latest(self, max_age_s: float, timeout_s: float) -> Frame | None:
        if not self._frames:
            return None
        frame = self._frames.pop(0)
        if frame is None:
            self.close()
            raise DeviceLost("the fake camera was pulled out")
        self.counters.frames += 1
        return frame

    def close(self) -> None:
        self._open = False


def make_source(camera: Camera, ring: FrameRing | None = None) -> CameraSource:
    """The source that ``camera.source`` names; "sim" needs the ``ring`` its rig writes to."""
    if camera.source == "sim":
        if ring is None:
            raise UsageError("camera.source sim needs the simulated rig's ring")
        from cartpole.vision.ring_source import RingSource

        return RingSource(ring)
    if camera.source == "v4l2":
        from cartpole.vision.v4l2_capture import V4l2Source

        return V4l2Source(camera)
    if camera.source == "stream":
        from cartpole.vision.stream_capture import StreamSource

        return StreamSource(camera)
    raise UsageError("camera.source is none: there is nothing to capture")
