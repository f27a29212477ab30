"""Where pictures come from: the choice by config, and a shipped fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cartpole.config.schema import Camera
from cartpole.errors import DeviceLost, UsageError
from cartpole.vision.frame import Frame
from cartpole.vision.ring_source import RingSource
from cartpole.vision.source import CameraSource, SourceCounters

if TYPE_CHECKING:
    from cartpole.vision.ring import FrameRing


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
        return RingSource(ring)
    if camera.source == "v4l2":
        from cartpole.vision.v4l2_capture import V4l2Source

        return V4l2Source(camera)
    if camera.source == "stream":
        from cartpole.vision.stream_capture import StreamSource

        return StreamSource(camera)
    raise UsageError("camera.source is none: there is nothing to capture")
