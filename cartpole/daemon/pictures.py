"""Carries pictures from the camera's ring to the recorder, in a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.daemon.recorder import Recorder
    from cartpole.vision.ring import FrameRing

EVERY_S = 0.1  # the ring holds several times as many pictures


class PictureTap:
    """While entered, every picture of the ring is offered to a recording, if there is one."""

    def __init__(self, ring: FrameRing, recorder: Recorder) -> None:
        self._ring, self._recorder = ring, recorder
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)

    def __enter__(self) -> PictureTap:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        sequence = -1
        while not self._done.wait(EVERY_S):
            if not self._recorder.recording:
                continue
            for frame in self._ring.since(sequence):
                sequence = frame.sequence
                self._recorder.put_frame(frame)
