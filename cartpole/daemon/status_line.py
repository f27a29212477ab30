"""The live line in the terminal, from a thread that only reads."""

from __future__ import annotations

import math
import queue
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.daemon.daemon import Daemon

EVERY_S = 0.2


class StatusLine:
    """Prints events as they come and, on a terminal, the state five times a second."""

    def __init__(self, daemon: Daemon, *, events_only: bool = False) -> None:
        self._daemon = daemon
        self._live = not events_only and sys.stderr.isatty()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> StatusLine:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(2.0)
        self._events()
        if self._live:
            print(file=sys.stderr)

    def _run(self) -> None:
        while not self._done.wait(EVERY_S):
            self._events()
            if self._live:
                print(f"\r\x1b[K{self._line()}", end="", file=sys.stderr, flush=True)

    def _events(self) -> None:
        while True:
            try:
                event = self._daemon.events.get_nowait()
            except queue.Empty:
                return
            clear = "\r\x1b[K" if self._live else ""
            print(f"{clear}{event}", file=sys.stderr)

    def _line(self) -> str:
        record, timing = self._daemon.latest, self._daemon.latest_timing
        if record is None or timing is None:
            return "starting"
        parts = [f"{record.mode.value:12s}"]
        if record.estimate is not None:
            p, v, theta, omega = record.estimate.state
            angle = math.degrees(math.remainder(theta - math.pi, 2.0 * math.pi))
            parts.append(f"p {p:+.3f} m  v {v:+.2f} m/s  {angle:+7.1f} deg  {omega:+6.2f} rad/s")
        parts.append(f"u {record.command.velocity_m_s:+.2f} m/s")
        if record.plan is not None:
            parts.append(f"{record.plan.newton_steps} steps {record.plan.candidate}")
        parts.append(f"{timing.compute_ns / 1000:.0f} us")
        return "  ".join(parts)
