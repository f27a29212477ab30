"""Motion JPEG over HTTP, read as it arrives.

General video libraries wait for the next part's border before they hand a picture out, a whole
frame late, unless the server announces every length. A JPEG says itself where it ends; this reader
looks there.
"""

from __future__ import annotations

import base64
import select
import socket
from urllib.parse import unquote, urlsplit

from cartpole.errors import DeviceError, DeviceLost, DeviceNotFound

_LARGEST = 8 << 20
_MOST_READS = 16  # of a quarter of a megabyte
_START, _END, _SCAN = b"\xff\xd8\xff", b"\xff\xd9", 0xDA


class JpegSplitter:
    """Bytes in, whole JPEGs out; whatever stands between them is thrown away."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._searched = 0  # entropy-coded bytes before this hold no end

    def feed(self, received: bytes) -> list[bytes]:
        """Append what was received; the pictures that are complete now, oldest first."""
        pending = self._pending
        pending += received
        pictures = []
        while (picture := self._take()) is not None:
            pictures.append(picture)
        if len(pending) > _LARGEST:
            pending.clear()
            self._searched = 0
        return pictures

    def _take(self) -> bytes | None:
        pending = self._pending
        start = pending.find(_START)
        if start < 0:
            del pending[: max(0, len(pending) - 2)]
            return None
        if start:
            del pending[:start]
        if not self._searched:
            self._searched = self._scan_start()
            if not self._searched:
                return None
        end = pending.find(_END, self._searched)
        if end < 0:
            self._searched = max(self._searched, len(pending) - 1)
            return None
        picture = bytes(pending[: end + 2])
        del pending[: end + 2]
        self._searched = 0
        return picture

    def _scan_start(self) -> int:
        """Where the compressed picture begins; 0 if not received yet.

        The segments before it may hold a thumbnail with an end of its own, so they are stepped
        over by their lengths. A stream without segments is searched from its start.
        """
        pending, at = self._pending, 2
        while at + 4 <= len(pending):
            if pending[at] != 0xFF:
                return at
            length = int.from_bytes(pending[at + 2 : at + 4], "big")
            if pending[at + 1] == _SCAN:
                return at + 2 + length
            at += 2 + length
        return 0


class MjpegConnection:
    """One request for a ``multipart/x-mixed-replace`` stream.

    The request is HTTP/1.0, which has no chunks. Raises ``DeviceNotFound`` if nobody answers, and
    ``DeviceError`` if the answer is no such stream.
    """

    def __init__(self, url: str, timeout_s: float = 3.0) -> None:
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.0", f"Host: {parts.netloc.rpartition('@')[2]}"]
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines.append(f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}")
        self._url = url
        self._splitter = JpegSplitter()
        try:
            self._socket = socket.create_connection(address, timeout_s)
        except OSError as error:
            raise DeviceNotFound(f"nothing answers at {url}: {error.strerror or error}") from None
        try:
            self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
            self._waiting = self._read_header()
        except OSError as error:
            self.close()
            raise DeviceNotFound(f"{url} does not answer: {error.strerror or error}") from None
        except DeviceError:
            self.close()
            raise
        self._socket.setblocking(False)

    def _read_header(self) -> bytes:
        """Check the header; the bytes already received behind it."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = self._socket.recv(4096)
            if not more or len(received) > 65536:
                raise DeviceError(f"{self._url} gives no proper HTTP answer")
            received += more
        header, _, rest = received.partition(b"\r\n\r\n")
        status, *fields = header.decode("latin-1").splitlines()
        if status.split(" ")[1:2] != ["200"]:
            raise DeviceError(f"{self._url} answers: {status}")
        text = "\n".join(fields).lower()
        if "multipart/" not in text or "chunked" in text:
            raise DeviceError(f"{self._url} is no stream of JPEG pictures")
        return rest

    def read(self, timeout_s: float) -> list[bytes]:
        """The JPEGs that are complete, oldest first; empty if none is within ``timeout_s``.

        Raises ``DeviceLost``.
        """
        pictures = self._splitter.feed(self._waiting)
        self._waiting = b""
        if not pictures and not select.select([self._socket], [], [], max(0.0, timeout_s))[0]:
            return []
        for _ in range(_MOST_READS):  # a server that never pauses must not keep us here
            try:
                received = self._socket.recv(1 << 18)
            except BlockingIOError:
                return pictures
            except OSError:
                received = b""
            if not received:
                raise DeviceLost(f"{self._url} ended")
            pictures += self._splitter.feed(received)
        return pictures

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
