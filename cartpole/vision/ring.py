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
from multiprocessing import reduction
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.extending import intrinsic

from cartpole.vision.frame import Frame, Pixels

_HEADER = 8  # int64 words before the slots
_WRITTEN, _PLUGGED = range(2)
_META = 8  # int64 words a slot
_GENERATION, _T_NS, _ARRIVAL_NS, _SEQUENCE = range(4)
_WORD = 8
_TORN, _OK = 0, 1

Words = npt.NDArray[np.int64]


def _fence_code(typing_context: Any) -> Any:
    """Full memory barrier."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


_fence: Any = intrinsic(_fence_code)


@njit(cache=True, nogil=True)
def _publish(
    header: Words, meta: Words, store: Pixels, data: Pixels, t_ns: int, arrival: int, sequence: int
) -> None:
    """Write ``data`` (h, w; any strides) into the oldest slot of ``store`` (slots, h, w)."""
    written = header[_WRITTEN]
    slot = written % store.shape[0]
    meta[slot, _GENERATION] = 2 * written + 1
    _fence()
    meta[slot, _T_NS] = t_ns
    meta[slot, _ARRIVAL_NS] = arrival
    meta[slot, _SEQUENCE] = sequence
    for row in range(store.shape[1]):
        for column in range(store.shape[2]):
            store[slot, row, column] = data[row, column]
    _fence()
    meta[slot, _GENERATION] = 2 * written + 2
    header[_WRITTEN] = written + 1
    _fence()


@njit(cache=True, nogil=True)
def _copy_out(meta: Words, store: Pixels, position: int, out: Pixels, words: Words) -> int:
    """Copy the picture written as number ``position`` (from 0); ``_TORN`` if it is gone."""
    slot = position % store.shape[0]
    wanted = 2 * position + 2
    if meta[slot, _GENERATION] != wanted:
        return _TORN
    _fence()
    flat, source = out.reshape(-1), store[slot].reshape(-1)
    for index in range(flat.size):  # becomes one block copy
        flat[index] = source[index]
    for index in range(words.size):
        words[index] = meta[slot, index]
    _fence()
    return _OK if meta[slot, _GENERATION] == wanted else _TORN


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
        self._words = np.zeros(_META, np.int64)
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
        _publish(
            self._header,
            self._meta,
            self._store,
            frame.data,
            frame.t_ns,
            frame.arrival_ns,
            frame.sequence,
        )
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
        out = np.empty((self.height, self.width), np.uint8)
        if position < 0 or _copy_out(self._meta, self._store, position, out, self._words) == _TORN:
            return None
        _, t_ns, arrival, sequence = (int(word) for word in self._words[:4])
        return Frame(out, t_ns, arrival, sequence)

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
