"""Pictures between processes: a ring of frames in shared memory that never blocks its writer.

One writer, any number of readers. The memory is an anonymous file that travels to a child process
with the pickled ring, so nothing is left behind when a process is killed. Each slot carries a
generation that is odd while the slot is written; a reader copies the slot out and keeps the copy
only if the generation was even and unchanged. Memory fences order the two, so the protocol also
holds on processors that reorder stores (ARM). One reader, the camera process, can sleep on an event
that the writer raises.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import threading
from multiprocessing import reduction
from typing import Any

import numpy as np

from cartpole.vision.frame import Frame

_HEADER = 8  # int64 words before the slots
_WRITTEN, _PLUGGED = range(2)
_META = 8  # int64 words a slot
_GENERATION, _T_NS, _ARRIVAL_NS, _SEQUENCE = range(4)
_WORD = 8


def _fence() -> None:
    """Full memory barrier.

    A lock is given up with release and taken with acquire semantics, and a processor never moves
    the second before the first: what was read or written before is done before what comes after.
    (A compiled fence would cost every process that only looks at pictures 45 MB of compiler.)
    """
    lock = threading.Lock()
    lock.acquire()
    lock.release()
    lock.acquire()


class FrameRing:
    """``slots`` pictures of (height, width); see the module for who may do what.

    Positions count the pictures ever written. Pickle it only as an argument of a process that is
    being started.
    """

    def __init__(self, height: int, width: int, slots: int = 8) -> None:
        memory = os.memfd_create("cartpole-frames", os.MFD_CLOEXEC)
        os.ftruncate(memory, _WORD * (_HEADER + _META * slots) + slots * height * width)
        self._attach(height, width, slots, memory, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    def _attach(self, height: int, width: int, slots: int, memory: int, event: int) -> None:
        self.height, self.width, self.slots = height, width, slots
        self._memory, self._event = memory, event
        self._map = mmap.mmap(memory, 0)
        words = np.frombuffer(self._map, np.int64, _HEADER + _META * slots)
        self._header = words[:_HEADER]
        self._meta = words[_HEADER:].reshape(slots, _META)
        pixels = np.frombuffer(self._map, np.uint8, offset=words.nbytes)
        self._store = pixels.reshape(slots, height, width)
        self._poll = select.poll()
        self._poll.register(event, select.POLLIN)

    def __getstate__(self) -> tuple[int, int, int, Any, Any]:
        duplicate = reduction.DupFd
        memory, event = duplicate(self._memory), duplicate(self._event)
        return self.height, self.width, self.slots, memory, event

    def __setstate__(self, state: tuple[int, int, int, Any, Any]) -> None:
        height, width, slots, memory, event = state
        self._attach(height, width, slots, memory.detach(), event.detach())

    def write(self, frame: Frame) -> None:
        """Publish ``frame`` over the oldest picture and wake the sleeper; never blocks."""
        if frame.data.shape != (self.height, self.width):
            raise ValueError(f"picture of {frame.data.shape} in a ring of {self._store.shape}")
        written = self.written
        meta = self._meta[written % self.slots]
        meta[_GENERATION] = 2 * written + 1
        _fence()
        meta[_T_NS], meta[_ARRIVAL_NS] = frame.t_ns, frame.arrival_ns
        meta[_SEQUENCE] = frame.sequence
        self._store[written % self.slots] = frame.data
        _fence()
        meta[_GENERATION] = 2 * written + 2
        self._header[_WRITTEN] = written + 1
        _fence()
        os.eventfd_write(self._event, 1)

    @property
    def plugged(self) -> bool:
        """Whether the writer calls its camera present (it is, unless it says otherwise)."""
        return bool(self._header[_PLUGGED] == 0)

    def set_plugged(self, plugged: bool) -> None:
        """For a simulated camera that is pulled out or put back."""
        self._header[_PLUGGED] = 0 if plugged else 1
        os.eventfd_write(self._event, 1)

    @property
    def written(self) -> int:
        """How many pictures were ever written: the position after the newest."""
        return int(self._header[_WRITTEN])

    def read(self, position: int) -> Frame | None:
        """A copy of picture number ``position``, or None if it is overwritten or not there yet."""
        meta = self._meta[position % self.slots]
        whole = 2 * position + 2
        if position < 0 or meta[_GENERATION] != whole:
            return None
        _fence()
        out = self._store[position % self.slots].copy()
        t_ns, arrival, sequence = meta[_T_NS : _SEQUENCE + 1].tolist()
        _fence()
        return Frame(out, t_ns, arrival, sequence) if meta[_GENERATION] == whole else None

    def newest(self, after: int = 0) -> tuple[int, Frame] | None:
        """Position after the newest picture and a copy of it, if ``after`` is before that."""
        for _ in range(8):  # a writer that laps a reader eight times in a row is no writer of ours
            end = self.written
            if end <= after:
                return None
            frame = self.read(end - 1)
            if frame is not None:
                return end, frame
        return None

    def since(self, sequence: int) -> list[Frame]:
        """Copies of the pictures still held whose sequence is above ``sequence``, oldest first."""
        end = self.written
        frames = []
        for position in range(max(0, end - self.slots + 1), end):
            if self._meta[position % self.slots, _SEQUENCE] > sequence:
                frame = self.read(position)
                if frame is not None and frame.sequence > sequence:
                    frames.append(frame)
        return frames

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something is written; for one reader only. False after ``timeout_s``."""
        if not self._poll.poll(max(0.0, timeout_s) * 1e3):
            return False
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give the memory back; the ring is unusable afterwards."""
        del self._header, self._meta, self._store
        with contextlib.suppress(BufferError):  # somebody still looks at a picture: freed with it
            self._map.close()
        os.close(self._memory)
        os.close(self._event)
