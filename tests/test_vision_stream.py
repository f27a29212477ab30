"""Streams and files: motion JPEG over a loopback socket, a video file, and what can go wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.errors import DeviceError, DeviceLost, DeviceNotFound
from cartpole.vision.mjpeg import JpegSplitter, MjpegConnection
from cartpole.vision.stream_capture import StreamSource

W, H = 64, 48


def jpeg(level: int) -> bytes:
    picture = np.full((H, W), level, np.uint8)
    return bytes(cv2.imencode(".jpg", picture)[1].tobytes())


class Server:
    """Motion JPEG server: pictures go out when the test says so."""

    def __init__(self, status: str = "200 OK", kind: str = "multipart/x-mixed-replace") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._head = f"HTTP/1.0 {status}\r\nContent-Type: {kind}; boundary=b\r\n\r\n".encode()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/stream?x=1"
        self.request = b""
        self.client: socket.socket | None = None
        self._thread = threading.Thread(target=self._accept, args=(jpeg(1),))
        self._thread.start()

    def _accept(self, first: bytes) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self.request = client.recv(4096)
        client.sendall(self._head)
        self.client = client
        self.send(first)

    def send(self, *pictures: bytes) -> None:
        """No lengths: a picture must be handed out before the next one's border comes."""
        assert self.client is not None
        parts = [b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + picture for picture in pictures]
        self.client.sendall(b"\r\n".join(parts) + b"\r\n")

    def hang_up(self) -> None:
        self._listener.close()
        if self.client is not None:
            self.client.close()
        self._thread.join(5.0)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.hang_up()


def settings(device: str) -> Camera:
    return Camera(source="stream", device=device, width_px=W, height_px=H, latency_s=0.02)


def test_a_picture_is_there_before_the_next_one_starts(server: Server) -> None:
    source = StreamSource(settings(server.url))
    assert "64x48" in source.open()
    assert server.request.startswith(b"GET /stream?x=1 HTTP/1.0\r\n")
    server.send(jpeg(90))
    frame = source.read_latest(1.0, 5.0)
    assert frame is not None
    assert abs(float(frame.data.mean()) - 90) < 3
    assert frame.data.shape == (H, W)
    assert frame.arrival_ns - frame.t_ns == 20_000_000
    assert source.read_latest(1.0, 0.0) is None
    source.close()


def test_waiting_pictures_are_passed_over(server: Server) -> None:
    source = StreamSource(settings(server.url))
    source.open()
    server.send(jpeg(50), jpeg(100), jpeg(150))
    time.sleep(0.1)
    frame = source.read_latest(1.0, 5.0)
    assert frame is not None
    assert abs(float(frame.data.mean()) - 150) < 3
    assert source.counters.skipped == 2
    source.close()


def test_the_end_of_a_stream_is_a_lost_device(server: Server) -> None:
    source = StreamSource(settings(server.url))
    source.open()
    server.hang_up()
    with pytest.raises(DeviceLost):
        source.read_latest(1.0, 5.0)
    with pytest.raises(DeviceNotFound, match="nothing answers"):
        source.open()


def test_a_silent_stream_is_lost(server: Server) -> None:
    source = StreamSource(settings(server.url))
    source.open()
    with pytest.raises(DeviceLost, match="silent"):  # noqa: PT012 - the loop is the point
        for _ in range(10):
            source.read_latest(1.0, 0.3)
    source.close()


def test_another_size_is_refused(server: Server) -> None:
    source = StreamSource(settings(server.url).model_copy(update={"width_px": 80}))
    with pytest.raises(DeviceError, match=r"gives 64x48.*camera\.width_px"):
        source.open()


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 100])
def test_every_way_of_cutting_the_bytes_gives_the_same_pictures(cut: int) -> None:
    pictures = [jpeg(level) for level in (10, 200)]
    # A thumbnail in the header has an end of its own.
    tricky = pictures[0][:2] + b"\xff\xe1\x00\x08\xff\xd8\xff\xd9xx" + pictures[0][2:]
    stream = b"--b\r\n\r\n" + tricky + b"\r\n--b\r\n\r\n" + pictures[1] + b"\r\n"
    splitter = JpegSplitter()
    found: list[bytes] = []
    for start in range(0, len(stream), cut):
        found += splitter.feed(stream[start : start + cut])
    assert found == [tricky, pictures[1]]


def test_garbage_is_thrown_away() -> None:
    splitter = JpegSplitter()
    rng = np.random.default_rng(3)
    for _ in range(20):
        splitter.feed(rng.integers(0, 256, 5000, dtype=np.uint8).tobytes())
    found = [picture for _ in range(400) for picture in splitter.feed(jpeg(5))]
    assert found[-1] == jpeg(5)


def test_plays_a_file_at_its_own_rate_to_its_end(tmp_path: Path) -> None:
    name = str(tmp_path / "poles.avi")
    writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"MJPG"), 50.0, (W, H))
    for level in (20, 60, 100, 140):
        writer.write(np.full((H, W, 3), level, np.uint8))
    writer.release()
    source = StreamSource(settings(name))
    source.open()  # looks at the first
    frames = [source.read_latest(1.0, 1.0) for _ in range(3)]
    assert all(frame is not None for frame in frames)
    assert [round(float(frame.data.mean()), -1) for frame in frames if frame] == [60, 100, 140]
    arrivals = [frame.arrival_ns for frame in frames if frame]
    assert arrivals[2] - arrivals[0] >= 30_000_000
    with pytest.raises(DeviceLost, match="end"):
        source.read_latest(1.0, 1.0)


def test_a_missing_file_and_a_file_that_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFound, match="does not exist"):
        StreamSource(settings(str(tmp_path / "none.avi"))).open()
    text = tmp_path / "text.avi"
    text.write_text("no video")
    with pytest.raises(DeviceError, match="no video"):
        StreamSource(settings(str(text))).open()


def test_a_server_that_never_pauses_does_not_keep_the_reader() -> None:
    """It read on as long as there was something: for ever, and all of it in memory."""

    class Endless:
        reads = 0

        def recv(self, _most: int) -> bytes:
            self.reads += 1
            return jpeg(1)

        def fileno(self) -> int:
            return ready.fileno()

    ready, other = socket.socketpair()
    with ready, other:
        other.sendall(b"x")
        connection = MjpegConnection.__new__(MjpegConnection)
        connection._splitter, connection._waiting, connection._url = JpegSplitter(), b"", "x"
        endless = Endless()
        connection._socket = cast(socket.socket, endless)
        assert 0 < len(connection.read(1.0)) <= 64
        assert endless.reads <= 64
