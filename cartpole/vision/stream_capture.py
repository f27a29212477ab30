"""Capture from a stream or a video file.

Pictures carry no time of their own here: the time of arrival minus ``camera.latency_s`` stands for
mid-exposure, and losses on the way cannot be counted. Motion JPEG over HTTP is read by our own
reader, everything else (other URLs, files, pipes) by OpenCV's ``VideoCapture``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from cartpole.config.schema import Camera
from cartpole.errors import DeviceError, DeviceLost, DeviceNotFound
from cartpole.vision.frame import Frame, Pixels
from cartpole.vision.jpeg import decode_grey
from cartpole.vision.mjpeg import MjpegConnection
from cartpole.vision.source import SourceCounters

_SILENCE_S = 1.0  # a stream that gives nothing this long is lost
_BACKLOG_S = 0.0005  # a picture that needs no waiting was waiting itself
_OPEN_OPTIONS = (
    (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 3000),
    (cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(_SILENCE_S * 1000)),
    (cv2.CAP_PROP_N_THREADS, 1),  # threads of a decoder hold pictures back
)


class _Reader(Protocol):
    """One open stream."""

    def read(self, timeout_s: float) -> tuple[Pixels, int, int] | None:
        """Grey picture, its arrival [ns], and how many older ones were passed over."""

    def close(self) -> None:
        """Let go."""


class _MjpegReader:
    """Newest picture of a motion JPEG stream."""

    def __init__(self, url: str) -> None:
        self._connection = MjpegConnection(url)
        self._heard_ns = time.monotonic_ns()

    def read(self, timeout_s: float) -> tuple[Pixels, int, int] | None:
        pictures = self._connection.read(timeout_s)
        now_ns = time.monotonic_ns()
        if not pictures:
            if now_ns - self._heard_ns > _SILENCE_S * 1e9:
                raise DeviceLost("the stream is silent")
            return None
        grey = decode_grey(pictures[-1])
        if grey is None:
            if now_ns - self._heard_ns > _SILENCE_S * 1e9:
                raise DeviceLost("the stream's pictures cannot be read, or claim to be huge")
            return None
        self._heard_ns = now_ns
        return grey, now_ns, len(pictures) - 1

    def close(self) -> None:
        self._connection.close()


class _VideoReader:
    """Pictures of OpenCV's ``VideoCapture``; a file is played at its own rate."""

    def __init__(self, name: str, rate_hz: float) -> None:
        self._name = name
        path = Path(name)
        if "://" not in name and not path.exists():
            raise DeviceNotFound(f"video {name} does not exist")
        options = [value for option in _OPEN_OPTIONS for value in option]
        self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, options)
        if not self._capture.isOpened():
            self._capture.release()
            if path.exists():
                raise DeviceError(f"{name} is no video that OpenCV reads")
            raise DeviceNotFound(f"nothing answers at {name}")
        self._period_ns = 0
        if path.is_file():
            own_hz = self._capture.get(cv2.CAP_PROP_FPS)
            self._period_ns = round(1e9 / (own_hz if own_hz > 0 else rate_hz))
        self._due_ns = time.monotonic_ns()

    def read(self, timeout_s: float) -> tuple[Pixels, int, int] | None:
        passed = self._grab() if self._period_ns else self._grab_live()
        arrival_ns = time.monotonic_ns()
        done, picture = self._capture.retrieve()
        if not done:
            return None
        if picture.ndim == 3:
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        return _pixels(picture), arrival_ns, passed

    def _grab(self) -> int:
        """One picture of a file, when it is due."""
        left_ns = self._due_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns * 1e-9)
        self._due_ns += self._period_ns
        if not self._capture.grab():
            raise DeviceLost(f"{self._name} is at its end")
        return 0

    def _grab_live(self) -> int:
        """The newest picture of a live stream; how many were waiting before it."""
        passed = 0
        while passed < 64:
            before_ns = time.monotonic_ns()
            if not self._capture.grab():
                raise DeviceLost(f"{self._name} ended")
            if time.monotonic_ns() - before_ns > _BACKLOG_S * 1e9:
                break
            passed += 1
        return passed

    def close(self) -> None:
        self._capture.release()


def _pixels(picture: Any) -> Pixels:
    return np.asarray(picture, np.uint8)


class StreamSource:
    """The configured URL or file; see ``CameraSource`` for what the methods promise."""

    def __init__(self, camera: Camera) -> None:
        self.counters = SourceCounters()
        self._camera = camera
        self._latency_ns = round(camera.latency_s * 1e9)
        self._reader: _Reader | None = None
        self._sequence = 0

    def open(self) -> str:
        self.close()
        camera = self._camera
        self._reader = _open_reader(camera)
        try:
            picture = self._first_picture()
        except DeviceError:
            self.close()
            raise
        height, width = picture.shape
        if (width, height) != (camera.width_px, camera.height_px):
            self.close()
            raise DeviceError(
                f"{camera.device} gives {width}x{height}, the config asks for "
                f"{camera.width_px}x{camera.height_px}: set camera.width_px and camera.height_px"
            )
        return f"{camera.device}: {width}x{height}"

    def _first_picture(self) -> Pixels:
        assert self._reader is not None
        while True:  # until a picture or DeviceLost
            found = self._reader.read(_SILENCE_S)
            if found is not None:
                return found[0]

    def read_latest(self, max_age_s: float, timeout_s: float) -> Frame | None:
        if self._reader is None:
            raise DeviceLost(f"{self._camera.device} is closed")
        try:
            found = self._reader.read(timeout_s)
        except DeviceLost:
            self.close()
            raise
        if found is None:
            return None
        picture, arrival_ns, passed = found
        if picture.shape != (self._camera.height_px, self._camera.width_px):
            self.close()
            raise DeviceLost(f"{self._camera.device} changed its picture's size")
        self.counters.skipped += passed
        self._sequence += 1 + passed
        t_ns = arrival_ns - self._latency_ns
        if time.monotonic_ns() - t_ns > max_age_s * 1e9:
            self.counters.stale += 1
            return None
        self.counters.frames += 1
        return Frame(picture, t_ns, arrival_ns, self._sequence)

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def _open_reader(camera: Camera) -> _Reader:
    if camera.device.startswith("http://"):
        try:
            return _MjpegReader(camera.device)
        except DeviceNotFound:
            raise
        except DeviceError:  # some other kind of stream
            pass
    return _VideoReader(camera.device, camera.rate_hz)
