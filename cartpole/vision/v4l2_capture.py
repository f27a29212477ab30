"""Capture from a V4L2 camera: forced and verified, newest buffer first, kernel time stamps.

Before streaming the mode, the rate and every control are set one after another and read back (set
in one call, the PS Eye's driver leaves exposure at its default). After streaming began the rate is
measured from the time stamps. Reading drains the queue to its newest buffer; its age is judged by
the kernel's stamp, so a pause never hands out an old picture.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import select
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import v4l2

from cartpole.config.schema import Camera
from cartpole.errors import DeviceError, DeviceLost
from cartpole.vision import v4l2_device as device
from cartpole.vision.frame import Frame, Pixels
from cartpole.vision.jpeg import decode_grey
from cartpole.vision.source import SourceCounters

_BUFFERS = 6
_STALL_NS = 1_000_000_000  # a streaming camera that is silent this long is lost
_FIRST_PICTURE_S = 3.0
_SETTLE = 3  # pictures after the start whose intervals say nothing
_MEASURE_S = 0.25
_RATE_TOLERANCE = 0.1
_ODD_LATENCY_NS = 5_000_000  # more than a USB transfer explains
_MANUAL = 1  # V4L2_EXPOSURE_MANUAL
_LIVE_WITH_IT = ": if it cannot, camera.auto_exposure: true lives with it"
_FOURCC = {
    "YUYV": v4l2.V4L2_PIX_FMT_YUYV,
    "GREY": v4l2.V4L2_PIX_FMT_GREY,
    "GRBG": v4l2.V4L2_PIX_FMT_SGRBG8,
    "MJPG": v4l2.V4L2_PIX_FMT_MJPEG,
}


@dataclass(frozen=True, slots=True)
class _Setting:
    """A control to set: the first of ``numbers`` that the driver has."""

    key: str
    numbers: tuple[int, ...]
    value: int
    required: bool = False
    hint: str = ""


def _settings(camera: Camera) -> tuple[_Setting, ...]:
    """Everything automatic off, then what the config asks for.

    ``camera.auto_exposure`` leaves the light to the camera: some webcams cannot do otherwise.
    """
    light = (
        _Setting("auto exposure", (v4l2.V4L2_CID_EXPOSURE_AUTO,), _MANUAL, hint=_LIVE_WITH_IT),
        _Setting("automatic gain", (v4l2.V4L2_CID_AUTOGAIN,), 0, hint=_LIVE_WITH_IT),
    )
    by_hand = (
        _Setting(
            "camera.exposure",
            (v4l2.V4L2_CID_EXPOSURE, device.EXPOSURE_ABSOLUTE),
            camera.exposure,
            required=True,
            hint=_LIVE_WITH_IT,
        ),
        _Setting(
            "camera.gain", (v4l2.V4L2_CID_GAIN,), camera.gain, required=True, hint=_LIVE_WITH_IT
        ),
    )
    always = (
        _Setting("automatic white balance", (v4l2.V4L2_CID_AUTO_WHITE_BALANCE,), 0),
        _Setting("power line frequency", (v4l2.V4L2_CID_POWER_LINE_FREQUENCY,), 0),
        _Setting("horizontal flip", (v4l2.V4L2_CID_HFLIP,), 0),
        _Setting("vertical flip", (v4l2.V4L2_CID_VFLIP,), 0),
    )
    return always if camera.auto_exposure else (*light, *always, *by_hand)


class V4l2Source:
    """The configured camera; see ``CameraSource`` for what the methods promise."""

    def __init__(self, camera: Camera) -> None:
        self.counters = SourceCounters()
        self._camera = camera
        self._path = camera.device
        self._identity: device.Identity | None = None
        self._fd = -1
        self._maps: list[mmap.mmap] = []
        self._held: int | None = None  # the buffer behind the last frame
        self._sequence = -1
        self._newest_ns = 0
        self._poll = select.poll()
        self._line_bytes = 0
        self._compressed = False
        # The driver stamps the end of readout; the middle line was half-way through its exposure
        # half a readout and half an exposure before that. A calibrated latency holds the transfer
        # too, so it is that which is subtracted.
        self._half_ns = round((camera.readout_s + camera.exposure_s) / 2 * 1e9)
        self._latency_ns = round(camera.latency_s * 1e9)

    def open(self) -> str:
        self.close()
        self._path = device.find(self._camera.device, self._identity)
        self._fd = device.open_node(self._path)
        try:
            self._identity = device.identify(self._fd, self._path)
            self._set_mode()
            for setting in _settings(self._camera):
                self._set_control(setting)
            self._start()
            rate_hz = self._measure_rate()
        except OSError as error:
            self.close()
            raise device.lost(error, self._path) from error
        except DeviceError:
            self.close()
            raise
        camera = self._camera
        mode = f"{camera.width_px}x{camera.height_px} {camera.pixel_format}"
        text = f"{self._identity.card} at {self._path}: {mode}, {rate_hz:.1f} frames/s"
        if camera.auto_exposure:
            text += (
                "; exposure and gain change with the light: so do blur, latency and, in the dark, "
                "the rate"
            )
        if abs(self._latency_ns - self._half_ns) > _ODD_LATENCY_NS:
            text += (
                f"; camera.latency_s {camera.latency_s:g} is far from half of readout and exposure "
                f"({self._half_ns * 1e-9:g} s): run calibrate latency"
            )
        return text

    def _set_mode(self) -> None:
        camera, fourcc = self._camera, _FOURCC[self._camera.pixel_format]
        given = device.set_format(self._fd, camera.width_px, camera.height_px, fourcc)
        if (given.width, given.height, given.pixelformat) != (
            camera.width_px,
            camera.height_px,
            fourcc,
        ):
            raise DeviceError(
                f"{self._path} does not give {camera.width_px}x{camera.height_px} "
                f"{camera.pixel_format}; it offers {self._offers()}"
            )
        width_bytes = camera.width_px * (2 if camera.pixel_format == "YUYV" else 1)
        self._line_bytes = max(given.bytesperline, width_bytes)
        self._compressed = camera.pixel_format == "MJPG"
        self._set_rate(fourcc)

    def _set_rate(self, fourcc: int) -> None:
        """The PS Eye's driver repeats whatever it is asked for, so its list is looked at too."""
        camera = self._camera
        offered = device.rates_hz(self._fd, fourcc, camera.width_px, camera.height_px)
        given = device.set_rate(self._fd, camera.rate_hz)
        for choice in (offered or (given,), (given,)):
            if min(abs(rate_hz - camera.rate_hz) for rate_hz in choice) > 0.02 * camera.rate_hz:
                raise DeviceError(
                    f"{self._path} does not give camera.rate_hz {camera.rate_hz:g}; at this size "
                    f"it offers {', '.join(f'{rate_hz:g}' for rate_hz in choice)}"
                )

    def _offers(self) -> str:
        modes = device.list_modes(self._fd)
        return ", ".join(f"{mode.width_px}x{mode.height_px} {mode.pixel_format}" for mode in modes)

    def _set_control(self, setting: _Setting) -> None:
        for number in setting.numbers:
            control = device.query_control(self._fd, number)
            if control is not None:
                break
        else:
            if setting.required:
                raise DeviceError(f"{self._path} has no control for {setting.key}{setting.hint}")
            return
        if not control.minimum <= setting.value <= control.maximum:
            raise DeviceError(
                f"{self._path}: {setting.key} {setting.value} is outside "
                f"{control.minimum} to {control.maximum}"
            )
        device.set_control(self._fd, control.number, setting.value)
        found = device.get_control(self._fd, control.number)
        if found != setting.value:
            raise DeviceError(
                f"{self._path}: {setting.key} reads back {found} after it was set to "
                f"{setting.value}{setting.hint}"
            )

    def _start(self) -> None:
        request = v4l2.v4l2_requestbuffers()
        request.count, request.type, request.memory = _BUFFERS, device.CAPTURE, device.MMAP
        device.call(self._fd, v4l2.VIDIOC_REQBUFS, request)
        if request.count < 2:
            raise DeviceError(f"{self._path} gives only {request.count} buffers")
        for index in range(request.count):
            buffer = self._buffer(index)
            device.call(self._fd, v4l2.VIDIOC_QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.m.offset))
            device.call(self._fd, v4l2.VIDIOC_QBUF, buffer)
        device.call(self._fd, v4l2.VIDIOC_STREAMON, _integer(device.CAPTURE))
        self._poll.register(self._fd, select.POLLIN)
        self._newest_ns = time.monotonic_ns()

    def _measure_rate(self) -> float:
        """Frames a second from the time stamps; raises ``DeviceError`` if it is not what was asked.

        The median of the intervals, each by the numbers it spans: neither a lost picture nor a
        late one matters.
        """
        wanted = self._camera.rate_hz
        count = _SETTLE + max(8, round(wanted * _MEASURE_S))
        stamps: list[tuple[int, int]] = []
        end_ns = time.monotonic_ns() + int((_FIRST_PICTURE_S + 2 * count / wanted) * 1e9)
        while len(stamps) < count and time.monotonic_ns() < end_ns:
            frame = self.read_latest(10.0, 0.1)
            if frame is not None:
                stamps.append((frame.sequence, frame.t_ns))
        if len(stamps) <= _SETTLE + 1:
            raise DeviceError(f"{self._path} delivers no pictures")
        steps = itertools.pairwise(stamps[_SETTLE:])
        intervals_ns = [(t2 - t1) / max(1, n2 - n1) for (n1, t1), (n2, t2) in steps]
        rate_hz = 1e9 / max(1.0, float(np.median(intervals_ns)))
        if abs(rate_hz - wanted) > _RATE_TOLERANCE * wanted:
            raise DeviceError(
                f"{self._path} delivers {rate_hz:.1f} frames/s where camera.rate_hz asks for "
                f"{wanted:g}"
            )
        return rate_hz

    def read_latest(self, max_age_s: float, timeout_s: float) -> Frame | None:
        end_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while True:
            frame = self._drain()
            now_ns = time.monotonic_ns()
            if frame is not None:
                self._newest_ns = now_ns
                if now_ns - frame.t_ns <= max_age_s * 1e9:
                    return frame
                self.counters.stale += 1
                continue
            if now_ns - self._newest_ns > _STALL_NS:
                raise self._gone(f"{self._path} is silent")
            if now_ns >= end_ns:
                return None
            self._sleep(end_ns - now_ns)

    def _sleep(self, left_ns: int) -> None:
        ready = self._poll.poll(left_ns * 1e-6)
        if ready and not ready[0][1] & select.POLLIN:  # POLLERR or POLLHUP and no picture
            raise self._gone(f"{self._path} was unplugged")

    def _drain(self) -> Frame | None:
        """The newest whole picture in the queue; everything older goes back to the driver."""
        newest: Any = None
        while (buffer := self._take()) is not None:
            if self._held is not None:
                self._give_back(self._held)
            self._held = buffer.index
            if newest is not None:
                self.counters.skipped += 1
            newest = buffer if self._whole(buffer) else None
        if newest is None:
            return None
        return self._frame(newest)

    def _take(self) -> Any:
        """A filled buffer, or None. Raises ``DeviceLost``."""
        buffer = self._buffer(0)
        try:
            device.call(self._fd, v4l2.VIDIOC_DQBUF, buffer)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise self._gone(f"{self._path} was unplugged") from error
        if self._sequence >= 0:
            self.counters.gaps += max(0, buffer.sequence - self._sequence - 1)
        self._sequence = buffer.sequence
        return buffer

    def _whole(self, buffer: Any) -> bool:
        wanted = 1 if self._compressed else self._line_bytes * self._camera.height_px
        if buffer.flags & device.FLAG_ERROR or buffer.bytesused < wanted:
            self.counters.gaps += 1
            return False
        return True

    def _give_back(self, index: int) -> None:
        self._held = None
        try:
            device.call(self._fd, v4l2.VIDIOC_QBUF, self._buffer(index))
        except OSError as error:
            raise self._gone(f"{self._path} was unplugged") from error

    def _frame(self, buffer: Any) -> Frame | None:
        arrival_ns = time.monotonic_ns()
        pixels = self._decoded(buffer) if self._compressed else self._pixels(buffer.index)
        if pixels is None:
            self.counters.gaps += 1
            return None
        self.counters.frames += 1
        return Frame(pixels, self._time(buffer, arrival_ns), arrival_ns, buffer.sequence)

    def _decoded(self, buffer: Any) -> Pixels | None:
        """The picture of a JPEG; ``None`` for one that is damaged or of another size."""
        memory = self._maps[buffer.index]
        pixels = decode_grey(memory[: min(buffer.bytesused, len(memory))])
        wanted = (self._camera.height_px, self._camera.width_px)
        return pixels if pixels is not None and pixels.shape == wanted else None

    def _pixels(self, index: int) -> Pixels:
        camera = self._camera
        size = camera.height_px * self._line_bytes
        lines = np.frombuffer(self._maps[index], np.uint8, size).reshape(camera.height_px, -1)
        step = 2 if camera.pixel_format == "YUYV" else 1  # the luma of Y U Y V
        return lines[:, : camera.width_px * step : step]

    def _time(self, buffer: Any, arrival_ns: int) -> int:
        """Mid-exposure of the middle line."""
        stamp_ns = buffer.timestamp.secs * 1_000_000_000 + buffer.timestamp.usecs * 1000
        if buffer.flags & device.TIMESTAMP_MASK != device.TIMESTAMP_MONOTONIC:
            return arrival_ns - self._latency_ns  # a driver that stamps by another clock
        if buffer.flags & device.SOURCE_MASK == device.SOURCE_START_OF_EXPOSURE:
            return int(stamp_ns + self._half_ns)
        return int(stamp_ns - self._latency_ns)

    def _buffer(self, index: int) -> Any:
        buffer = v4l2.v4l2_buffer()
        buffer.index, buffer.type, buffer.memory = index, device.CAPTURE, device.MMAP
        return buffer

    def _gone(self, why: str) -> DeviceLost:
        self.close()
        return DeviceLost(why)

    def close(self) -> None:
        if self._fd < 0:
            return
        with contextlib.suppress(KeyError):
            self._poll.unregister(self._fd)
        with contextlib.suppress(OSError):
            device.call(self._fd, v4l2.VIDIOC_STREAMOFF, _integer(device.CAPTURE))
        for memory in self._maps:
            with contextlib.suppress(BufferError):  # a frame still looks at it: freed with that
                memory.close()
        self._maps.clear()
        os.close(self._fd)
        self._fd, self._held, self._sequence = -1, None, -1


def _integer(value: int) -> bytes:
    return int(value).to_bytes(4, "little")
