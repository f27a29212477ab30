"""What a service manager is told: systemd's notification protocol, a datagram of KEY=value lines.

Without ``$NOTIFY_SOCKET`` everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

from cartpole.messages import (
    NANOSECONDS,
    Detection,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    TickRecord,
    TickTiming,
)

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.sim.shutter import State

STATUS_EVERY_NS = 2 * NANOSECONDS
FEEDS_A_TIMEOUT = 5  # how often within the watchdog's time
WAITED_FOR = {EncoderSample: "encoders", Detection: "camera", Link.MOTOR: "motor driver"}


class Notifier:
    """Sends lines to the service manager; never waits and never raises."""

    def __init__(self, address: str | None = None) -> None:
        """``address``: a socket's path, ``@`` for the abstract kind; default $NOTIFY_SOCKET."""
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
            with contextlib.suppress(OSError):
                self._socket.connect("\0" + address[1:] if address[0] == "@" else address)

    @property
    def enabled(self) -> bool:
        """Whether anybody is told."""
        return self._socket is not None

    def send(self, **lines: object) -> None:
        """``send(READY=1, STATUS="up")``."""
        if self._socket is None:
            return
        text = "\n".join(f"{key}={value}" for key, value in lines.items())
        with contextlib.suppress(OSError):
            self._socket.send(text.encode())

    def reloading(self) -> None:
        """A reload begins; it ends with ``send(READY=1)``."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def close(self) -> None:
        """Say that the service stops, and say no more."""
        self.send(STOPPING=1, STATUS="braked; closing the recording")
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def watchdog_period_ns() -> int:
    """How long this process may be silent; 0 without a watchdog."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    text = os.environ.get("WATCHDOG_USEC", "")
    return 1000 * int(text) if text.isdigit() else 0


class Herald:
    """Shown every tick, it reports ready, feeds the watchdog and describes the state.

    Ready: the motor's link is up and every configured device has measured something. The watchdog
    is fed by a completed tick, and while the drive is armed only if something was measured since
    the last feed; a cable pulled on a disarmed rig is a fault to show, not a reason to start again.
    """

    def __init__(self, notifier: Notifier, config: Config, watchdog_ns: int) -> None:
        self._notifier = notifier
        self._wanted: set[type | Link] = {Link.MOTOR}
        if config.encoder.protocol != "none":
            self._wanted.add(EncoderSample)
        if config.camera.source != "none":
            self._wanted.add(Detection)
        self._ready = False
        self._fresh = False
        self._feed_every_ns = watchdog_ns // FEEDS_A_TIMEOUT
        self._fed_ns = self._told_ns = 0
        self._told = ""

    def put_tick(
        self, record: TickRecord, truth: State | None = None, timing: TickTiming | None = None
    ) -> None:
        """See ``Listener``."""
        if not self._notifier.enabled:
            return
        now_ns = record.input.now_ns
        self._fresh |= bool(record.input.measurements)
        if not self._ready:
            self._see(record.input.measurements)
            self._ready = not self._wanted
            if self._ready:
                self._notifier.send(READY=1)
        due = self._feed_every_ns and now_ns - self._fed_ns >= self._feed_every_ns
        if due and (self._fresh or not record.armed):
            self._notifier.send(WATCHDOG=1)
            self._fed_ns, self._fresh = now_ns, False
        if now_ns - self._told_ns >= STATUS_EVERY_NS or record.mode.value != self._told:
            self._told_ns, self._told = now_ns, record.mode.value
            self._notifier.send(STATUS=self._status(record))

    def _see(self, measurements: tuple[Measurement, ...]) -> None:
        for item in measurements:
            self._wanted.discard(type(item))
            if isinstance(item, LinkEvent) and item.link is Link.MOTOR:
                if item.state is LinkState.UP:
                    self._wanted.discard(Link.MOTOR)
                else:
                    self._wanted.add(Link.MOTOR)

    def _status(self, record: TickRecord) -> str:
        if not self._ready:
            waiting = sorted(WAITED_FOR[kind] for kind in self._wanted)
            return f"waiting for {' and '.join(waiting)}"
        text = record.mode.value
        if record.estimate is not None:
            text += f", cart at {record.estimate.state[0]:+.3f} m"
        if record.faults:
            fault = record.faults[-1]
            text += f"; {fault.name}: {fault.next_step}"
        return " ".join(text.split())
