"""Server side of the V4L2 camera without a kernel: see shim.c.

Behaves like a streaming driver: a picture goes only into a queued buffer, otherwise it is lost, and
its number is missing from the sequence.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

_QUEUE, _STREAM, _FORMAT, _RATE, _CONTROL = range(1, 6)
_WORDS = struct.Struct("<III")
_HEADER = struct.Struct("<IIIIQ")
_BITS = 16


def build(folder: Path) -> Path:
    """Compile the preload library; skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the V4L2 preload library")
    library = folder / "v4l2_shim.so"
    source = Path(__file__).with_name("shim.c")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source), "-ldl"], check=True)
    return library


def preload(library: Path, folder: Path, **more: str) -> dict[str, str]:
    """Environment in which sockets inside ``folder`` are cameras."""
    return dict(os.environ, LD_PRELOAD=str(library), V4L2_SHIM_DIR=str(folder), **more)


def picture(number: int, height: int, line_bytes: int) -> np.ndarray:
    """Raw bytes (height, line_bytes) that carry a number: 16 bits of 8 pixels' width."""
    raw = np.full((height, line_bytes), 40, np.uint8)
    width = line_bytes // 2 // _BITS
    for bit in range(_BITS):
        raw[:16, bit * 2 * width : (bit + 1) * 2 * width] = 235 if number >> bit & 1 else 16
    return raw


def jpeg(number: int, height: int) -> bytes:
    """The same of (height, 4/3 height) pixels, compressed, without Huffman tables."""
    import cv2

    coded = cv2.imencode(".jpg", picture(number, height, height * 4 // 3))[1].tobytes()
    return without_tables(coded)


def without_tables(data: bytes) -> bytes:
    """A JPEG without its Huffman segments: webcams leave the standard ones out."""
    kept, at = bytearray(data[:2]), 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xC4:
            kept += data[at : at + length]
        at += length
    return bytes(kept + data[at:])


def number_in(grey: np.ndarray) -> int:
    """What ``picture`` wrote, from the grey levels (height, width)."""
    step = grey.shape[1] // _BITS
    bits = grey[8, step // 2 :: step][:_BITS] > 128
    return int(sum(1 << bit for bit in range(_BITS) if bits[bit]))


class ShimCamera:
    """A camera that can be plugged into a node and pulled out.

    ``tears``: every fifth compressed picture is cut in two.
    ``true_rate_hz`` is what it delivers, whatever it promised; ``stamps`` are the times of its
    pictures by sequence; ``controls`` what was set.
    """

    def __init__(self, true_rate_hz: float | None = None) -> None:
        self.true_rate_hz = true_rate_hz
        self.controls: list[tuple[int, int]] = []
        self.controls_while_streaming = 0
        self.stamps: dict[int, int] = {}
        self.lost = 0
        self.tears = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def plug(self, node: Path) -> None:
        self._node = node
        self._stop.clear()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(node))
        listener.listen(4)
        self._thread = threading.Thread(target=self._serve, args=(listener,))
        self._thread.start()

    def unplug(self) -> None:
        self._node.unlink(missing_ok=True)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> ShimCamera:
        return self

    def __exit__(self, *exception: object) -> None:
        self.unplug()

    def _serve(self, listener: socket.socket) -> None:
        with listener:
            while not self._stop.is_set():
                if select.select([listener], [], [], 0.02)[0]:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        _Stream(self, client).run()

    def true_rate(self, promised: float) -> float:
        return promised if self.true_rate_hz is None else self.true_rate_hz


class _Stream:
    """One program's hold on the camera."""

    def __init__(self, camera: ShimCamera, client: socket.socket) -> None:
        self._camera, self._client = camera, client
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        self._height, self._line_bytes, self._rate = 480, 1280, 30.0
        self._streaming, self._epoch, self._queued = False, 0, 0
        self._start_s, self._sequence = 0.0, 0

    def run(self) -> None:
        pending = b""
        while not self._camera._stop.is_set():
            if select.select([self._client], [], [], self._wait_s())[0]:
                more = self._client.recv(4096)
                if not more:
                    return
                pending += more
                while len(pending) >= _WORDS.size:
                    self._obey(*_WORDS.unpack(pending[: _WORDS.size]))
                    pending = pending[_WORDS.size :]
            if self._streaming and time.monotonic() >= self._due_s():
                self._expose()

    def _due_s(self) -> float:
        return self._start_s + (self._sequence + 1) / self._camera.true_rate(self._rate)

    def _wait_s(self) -> float:
        return min(max(0.0, self._due_s() - time.monotonic()), 0.02) if self._streaming else 0.02

    def _obey(self, kind: int, a: int, b: int) -> None:
        if kind == _QUEUE:
            self._queued += 1
        elif kind == _STREAM:
            self._streaming, self._epoch = bool(a), b
            self._start_s, self._sequence = time.monotonic(), 0
            if not a:
                self._queued = 0
        elif kind == _FORMAT:
            self._height, self._line_bytes = a * 3 // 4, b
        elif kind == _RATE:
            self._rate = float(a)
        elif kind == _CONTROL:
            self._camera.controls.append((a, b))
            self._camera.controls_while_streaming += self._streaming

    def _raw(self, number: int) -> bytes:
        """Lines, or where a line has no length a JPEG as a webcam's; now and then a broken one."""
        if self._line_bytes:
            return picture(number, self._height, self._line_bytes).tobytes()
        data = jpeg(number, self._height)
        return data[: len(data) // 2] if self._camera.tears and number % 5 == 4 else data

    def _expose(self) -> None:
        sequence, self._sequence = self._sequence, self._sequence + 1
        if not self._queued:
            self._camera.lost += 1
            return
        self._queued -= 1
        t_ns = time.monotonic_ns()
        self._camera.stamps[sequence] = t_ns
        raw = self._raw(sequence & 0xFFFF)
        self._client.sendall(_HEADER.pack(self._epoch, sequence, len(raw), 0, t_ns) + raw)
