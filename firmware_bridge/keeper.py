"""One port kept open by one thread: what every link stands on.

The thread reads; the tick writes. A port that fails is dropped at once (with a DOWN event), closed
and reopened by the thread with back-off. Closing a port can block for long in the system, so the
tick never does it.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cartpole.errors import DeviceError
from cartpole.messages import (
    NANOSECONDS,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
)
from firmware_bridge.ports import Backoff, Port

# What goes over the wire, for the recorder: (t_ns, link, "in" or "out", bytes). Called from the
# tick and from reader threads; must not block.
Tap = Callable[[int, str, str, bytes], None]
HELD_UP_NS = 30_000_000  # a thread that was not run for so long tells so
REFUSED_AFTER = 2  # commands in a row that the port did not take

Clock = Callable[[], int]
OpenPort = Callable[[], Port]


def no_tap(t_ns: int, link: str, direction: str, data: bytes) -> None:
    """The tap of those who do not record."""


class Outbox:
    """What the links have to say, from their threads to the tick; bounded.

    When the tick does not come to fetch, new samples are dropped and counted; events are kept
    longer, because a missed DOWN would be worse than a missed sample.
    """

    MOST_SAMPLES = 256
    MOST = 1024

    def __init__(self) -> None:
        self._queue: deque[Measurement] = deque(maxlen=self.MOST)
        self.dropped = 0

    def put(self, message: Measurement) -> None:
        """Append; any thread."""
        if isinstance(message, EncoderSample) and len(self._queue) >= self.MOST_SAMPLES:
            self.dropped += 1
            return
        self._queue.append(message)

    def take(self) -> list[Measurement]:
        """Everything put so far, in order; the tick's thread only."""
        return [self._queue.popleft() for _ in range(len(self._queue))]


@dataclass(slots=True)
class KeeperStatistics:
    """Bytes both ways, openings after the first, writes that did not fit."""

    bytes_in: int = 0
    bytes_out: int = 0
    reopened: int = 0
    full: int = 0


class Keeper(ABC):
    """Base of the links: keeps the port, leaves the talking to ``_step``.

    ``start`` opens the port in the caller's thread, so that a wrong name is an error at once;
    later losses are events.
    """

    def __init__(
        self, name: str, open_port: OpenPort, outbox: Outbox, tap: Tap, clock: Clock
    ) -> None:
        self.name = name
        self.statistics = KeeperStatistics()
        self._open_port = open_port
        self._outbox = outbox
        self._tap = tap
        self._clock = clock
        self._port: Port | None = None
        self._retired: deque[Port] = deque()
        self._lock = threading.Lock()  # held for a write or a swap, never while something waits
        self._stop = threading.Event()
        self._backoff = Backoff()
        self._waits_ns = 0  # what this turn may take by its own will
        self._thread = threading.Thread(target=self._run, name=f"link-{name}", daemon=True)

    @abstractmethod
    def _step(self, port: Port) -> None:
        """Talk for a few milliseconds; DeviceError if the port is gone."""

    @abstractmethod
    def _opened(self, port: Port, first: bool) -> None:
        """The port has just been opened; say hello. DeviceError if it is gone again."""

    @abstractmethod
    def _gone(self, why: str) -> None:
        """The port is gone: put the DOWN event. Any thread."""

    def start(self) -> None:
        """Open the port (DeviceError if that fails) and begin to talk."""
        port = self._open_port()
        try:
            self._opened(port, True)
        except DeviceError:
            port.close()
            raise
        self._port = port
        self._thread.start()

    def stop(self) -> Port | None:
        """End the thread; returns the port if it is still there, for last words."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)
        with self._lock:
            port, self._port = self._port, None
        self._close_retired()
        return port

    @property
    def open(self) -> bool:
        """Whether the port is there."""
        return self._port is not None

    def _write(self, data: bytes) -> int:
        """Bytes handed over at once; 0 without a port, or when it is full or was lost just now."""
        now_ns = self._clock()
        try:
            with self._lock:
                port = self._port
                if port is None:
                    return 0
                written = port.write(data)
        except DeviceError as error:
            self._drop(port, str(error))
            return 0
        self._sent(now_ns, data, written)
        return written

    def _sent(self, t_ns: int, data: bytes, written: int) -> None:
        if written < len(data):
            self.statistics.full += 1
        if written:
            self.statistics.bytes_out += written
            self._tap(t_ns, self.name, "out", data[:written])

    def _read(self, port: Port, timeout_s: float) -> tuple[bytes, int]:
        """What came within the time, and when."""
        self._waits_ns += round(timeout_s * NANOSECONDS)
        data = port.read(timeout_s)
        arrival_ns = self._clock()
        if data:
            self.statistics.bytes_in += len(data)
            self._tap(arrival_ns, self.name, "in", data)
        return data, arrival_ns

    def _drop(self, port: Port | None, why: str) -> None:
        with self._lock:
            if port is None or self._port is not port:
                return
            self._port = None
            self._retired.append(port)
        self._gone(why)

    def _close_retired(self) -> None:
        while self._retired:
            self._retired.popleft().close()

    def _run(self) -> None:
        while not self._stop.is_set():
            port = self._port
            if port is None:
                self._close_retired()
                self._reopen()
                continue
            begun_ns, self._waits_ns = self._clock(), 0
            try:
                self._step(port)
            except DeviceError as error:
                self._drop(port, str(error))
            self._tell_held_up(self._clock() - begun_ns - self._waits_ns)

    def _tell_held_up(self, late_ns: int) -> None:
        """A turn is a few milliseconds and its waits: what is beyond, the machine did not run."""
        if late_ns > HELD_UP_NS:
            detail = f"its reader was not run for {late_ns / 1e6:.0f} ms"
            # A board that does both measures first of all.
            link = Link.MOTOR if self.name == Link.MOTOR.value else Link.ENCODER
            self._outbox.put(LinkEvent(self._clock(), link, LinkState.STARVED, detail))

    def _reopen(self) -> None:
        if self._stop.wait(self._backoff.next_s()):
            return
        try:
            port = self._open_port()
        except DeviceError:
            return
        try:
            self._opened(port, False)
        except DeviceError:
            port.close()
            return
        self.statistics.reopened += 1
        self._backoff.reset()
        with self._lock:
            self._port = port

    def _wait_ns(self, duration_ns: int) -> None:
        self._waits_ns += max(duration_ns, 0)
        self._stop.wait(max(duration_ns, 0) / NANOSECONDS)


class DriveKeeper(Keeper):
    """A keeper through which commands go: whole or not at all, and never late.

    ``resync`` is sent first where the far end may have read half a command before: it ends that.
    """

    def __init__(
        self,
        name: str,
        resync: bytes,
        open_port: OpenPort,
        outbox: Outbox,
        tap: Tap,
        clock: Clock,
    ) -> None:
        super().__init__(name, open_port, outbox, tap, clock)
        self._resync = resync
        self._tail = b""  # the end of a command of which the port took only the beginning
        self._refused = 0

    def _send(self, data: bytes) -> bool:
        """Hand over one command at once; False if the port did not take all of it."""
        whole = self._tail + data
        written = self._write(whole)
        if written == len(whole):
            self._tail = b""
            self._refused = 0
            return True
        if written > len(self._tail):
            self._tail = whole[written:]  # begun: must be ended before anything else
        else:
            self._tail = self._tail[written:]
        if self.open:
            self._full()
        return False

    def _full(self) -> None:
        """The far end does not take its commands: old ones must not be obeyed later."""
        self._refused += 1
        port = self._port
        if self._refused < REFUSED_AFTER or port is None:
            return
        try:
            port.discard_output()
        except DeviceError as error:
            self._drop(port, str(error))
            return
        self._tail = self._resync
        detail = "the motor's port takes no commands: is the driver powered?"
        self._outbox.put(LinkEvent(self._clock(), Link.MOTOR, LinkState.REFUSED, detail))

    def _say(self, port: Port, data: bytes) -> None:
        """First or last words on a port that is not (or no longer) the open one."""
        self._tail = b""
        data = self._resync + data
        self._sent(self._clock(), data, port.write(data))

    def _close_with(self, last_words: bytes) -> None:
        """End the thread, say the last words in place of anything pending, let the port go."""
        port = self.stop()
        if port is None:
            return
        try:
            port.discard_output()
            self._say(port, last_words)
        except DeviceError:
            pass  # gone: nobody is left to hear it
        finally:
            port.close()
