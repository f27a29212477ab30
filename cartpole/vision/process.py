"""The parent's handle on the camera process: nothing here waits except ``start`` and ``stop``."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import time
from collections.abc import Callable

from cartpole.config.schema import Camera
from cartpole.errors import DeviceError
from cartpole.messages import (
    Detection,
    DetectionHint,
    DetectionStatus,
    Link,
    LinkEvent,
    LinkState,
)
from cartpole.vision import wire
from cartpole.vision.frame import Frame
from cartpole.vision.ring import FrameRing
from cartpole.vision.wire import Word
from cartpole.vision.worker import (
    CaptureStatistics,
    TrackerFactory,
    WorkerSetup,
    default_tracker,
    link_event,
    run,
)

_STATUS = {int(status): status for status in DetectionStatus}


class CameraProcess:
    """Captures and detects in a process of its own.

    ``rig`` is the ring a simulated rig writes to (``camera.source`` "sim"). ``priority`` above 0
    asks for SCHED_FIFO; ``avoid_cpu`` is the processor of the control thread. The last ``pictures``
    frames stay readable from any process the handle's ``pictures`` ring is passed to.
    """

    def __init__(
        self,
        camera: Camera,
        rig: FrameRing | None = None,
        *,
        tracker: TrackerFactory = default_tracker,
        priority: int = 0,
        avoid_cpu: int = -1,
        lock_memory: bool = False,
        pictures: int = 64,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.pictures = FrameRing(camera.height_px, camera.width_px, pictures)
        self.statistics = CaptureStatistics()
        self._clock_ns = clock_ns
        self._setup = WorkerSetup(
            camera, os.getpid(), self.pictures, rig, tracker, priority, avoid_cpu, lock_memory
        )
        self._process: multiprocessing.process.BaseProcess | None = None
        self._ready = False

    def start(self) -> None:
        """Start the process; it reports ready when its kernels are warm."""
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = wire.make_pair()
        self._ready, self._ended = False, False
        with theirs:
            self._process = context.Process(
                target=run, args=(self._setup, theirs), name="cartpole-camera", daemon=True
            )
            self._process.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait for the warm process; the camera itself may still be missing.

        Raises ``DeviceError`` when the process fails to start in time.
        """
        end_ns = self._clock_ns() + int(timeout_s * 1e9)
        while not self._ready:
            left_s = (end_ns - self._clock_ns()) * 1e-9
            if left_s <= 0 or not select.select([self._channel], [], [], left_s)[0]:
                raise DeviceError(f"the camera process was not ready within {timeout_s:g} s")
            try:
                record = wire.receive(self._channel)
            except wire.Closed:
                raise DeviceError(f"the camera process ended: {self._exit_code()}") from None
            if record is not None and record[0] == Word.FAILED:
                raise DeviceError(f"the camera process failed: {record[1]}")
            self._ready = record is not None and record[0] == Word.READY

    def poll(self) -> list[Detection | LinkEvent]:
        """Everything that happened since the last call, oldest first; never waits."""
        news: list[Detection | LinkEvent] = []
        if self._ended:
            return news
        try:
            while (record := wire.receive(self._channel)) is not None:
                word, *fields = record
                if word == Word.DETECTION:
                    fields[3] = _STATUS[fields[3]]
                    news.append(Detection(*fields))
                elif word == Word.LINK:
                    news.append(link_event(fields))
                elif word == Word.STATISTICS:
                    self.statistics = fields[0]
        except wire.Closed:
            self._ended = True
            detail = f"the camera process ended: {self._exit_code()}"
            news.append(LinkEvent(self._clock_ns(), Link.CAMERA, LinkState.DOWN, detail))
        return news

    def publish_hint(self, hint: DetectionHint) -> None:
        """Tell the tracker where the pole is expected."""
        self._order(
            Word.HINT,
            hint.t_ns,
            hint.p_m,
            hint.v_m_s,
            hint.theta_rad,
            hint.omega_rad_s,
            hint.sigma_p_m,
            hint.sigma_theta_rad,
        )

    def set_threshold(self, threshold: int) -> None:
        """Change ``camera.threshold`` from the next picture on."""
        self._order(Word.THRESHOLD, threshold)

    def _order(self, word: Word, *fields: float) -> None:
        with contextlib.suppress(wire.Closed):  # poll reports it
            wire.send(self._channel, word, *fields)

    def frames_since(self, sequence: int) -> list[Frame]:
        """Copies of the pictures still held that came after ``sequence``, oldest first."""
        return self.pictures.since(sequence)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.is_alive()

    def _exit_code(self) -> str:
        if self._process is None:
            return "not started"
        self._process.join(0.1)
        return f"exit code {self._process.exitcode}"

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the process; ``start`` may be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        self._order(Word.STOP)
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
        self._channel.close()

    def close(self) -> None:
        """Stop and give the pictures' memory back."""
        self.stop()
        self.pictures.close()

    def __enter__(self) -> CameraProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
