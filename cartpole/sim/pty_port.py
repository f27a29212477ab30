"""Emulated boards behind pseudo-terminals, in real time, under names that stay.

A ``PtyPort`` is a serial port whose far end is a ``Board``; a link in a folder names it as udev's
``/dev/serial/by-id`` names a real one. ``PtyServer`` runs any number of them in one thread, so that
boards of one plant need no lock among themselves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import threading
import time
import tty
from collections.abc import Callable, Sequence
from pathlib import Path

from cartpole.messages import NANOSECONDS
from cartpole.sim.boards import NEVER, Board

READ_AT_MOST = 4096


class PtyPort:
    """One pseudo-terminal with a board at its far end.

    ``path`` is the stable name to open; it exists while the port is plugged in. Both ends stay open
    here, so that a host that comes and goes does not end the board.
    """

    def __init__(self, board: Board, path: Path) -> None:
        self.board = board
        self.path = path
        self._near = -1  # the board's end
        self._far = -1  # the host's end
        self._noise_bytes_s = 0.0
        self._noise = random.Random(0)
        self._noisy_ns = -1
        self.plug()

    @property
    def plugged(self) -> bool:
        """Whether the name exists and the board is at its end."""
        return self._near >= 0

    def fileno(self) -> int:
        """The board's end, for waiting on it; -1 while unplugged."""
        return self._near

    def plug(self) -> None:
        """Make a new pseudo-terminal and the link to it; nothing to do if plugged in."""
        if self.plugged:
            return
        near, far = os.openpty()
        tty.setraw(far)
        os.set_blocking(near, False)
        name = os.ttyname(far)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(name)
        os.replace(temporary, self.path)
        self._near, self._far = near, far

    def unplug(self) -> None:
        """Pull the cable: whoever holds the port gets a hang-up, the name is gone."""
        near, far, self._near, self._far = self._near, self._far, -1, -1
        self.path.unlink(missing_ok=True)
        for handle in (near, far):
            if handle >= 0:
                os.close(handle)

    def flood(self, bytes_s: float) -> None:
        """From now on garbage arrives, too, so many bytes a second; 0 ends it."""
        self._noise_bytes_s, self._noisy_ns = bytes_s, -1

    def serve(self, t_ns: int) -> None:
        """Carry bytes both ways, as of ``t_ns``; a board without its cable lives on unheard."""
        if self.plugged:
            self._write(self.board.exchange(t_ns, self._read()) + self._garbage(t_ns))
        else:
            self.board.exchange(t_ns, b"")

    def _garbage(self, t_ns: int) -> bytes:
        if not self._noise_bytes_s:
            return b""
        before, self._noisy_ns = self._noisy_ns, t_ns
        count = 0 if before < 0 else round((t_ns - before) * self._noise_bytes_s / NANOSECONDS)
        return self._noise.randbytes(min(count, READ_AT_MOST))

    def _read(self) -> bytes:
        try:
            return os.read(self._near, READ_AT_MOST)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno == errno.EIO:  # nobody at the other end
                return b""
            raise

    def _write(self, data: bytes) -> None:
        if not data:
            return
        # A host that does not read loses bytes, as on a real line.
        with contextlib.suppress(BlockingIOError):
            os.write(self._near, data)


class PtyServer:
    """Serves pseudo-terminals in a thread of its own, or call by call from somebody else's loop.

    ``lock`` is held whenever a board runs: whoever touches the plant from another thread takes it.
    """

    def __init__(
        self, ports: Sequence[PtyPort], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.ports = list(ports)
        self.lock = threading.Lock()
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="pty-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and unplug everything."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None
        for port in self.ports:
            port.unplug()

    def unplug(self, port: PtyPort) -> None:
        """Pull one cable while serving."""
        with self.lock:
            port.unplug()

    def plug(self, port: PtyPort) -> None:
        """Push one cable back in while serving."""
        with self.lock:
            port.plug()

    def serve_once(self, longest_s: float) -> None:
        """Wait for bytes, a board's own event, or ``longest_s``; then serve all ports."""
        handles, wait_s = self._waiting(longest_s)
        try:
            select.select(handles, [], [], wait_s)
        except (OSError, ValueError):  # unplugged while waiting
            return
        with self.lock:
            now_ns = self._clock()
            for port in self.ports:
                port.serve(now_ns)

    def _waiting(self, longest_s: float) -> tuple[list[int], float]:
        with self.lock:
            now_ns = self._clock()
            plugged = [port for port in self.ports if port.plugged]
            due = [port.board.next_ns() for port in self.ports]
            waits = [(t - now_ns) / NANOSECONDS for t in due if t != NEVER]
            return [port.fileno() for port in plugged], max(min([longest_s, *waits]), 0.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.serve_once(0.02)
