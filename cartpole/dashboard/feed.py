"""What the page knows of the daemon: the latest status and a fixed window of the past."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cartpole.errors import CartpoleError

POLL_S = 0.05
RETRY_S = 0.3
SILENT_S = 0.8  # an answer later than this: the daemon is gone
WINDOW_S = 10.0
PLANS = 6  # the fan: so many plans of the past, one every PLAN_EVERY_S
PLAN_EVERY_S = 0.1
SAMPLES = round(WINDOW_S / POLL_S)

Status = dict[str, Any]


@dataclass(slots=True)
class History:
    """The last ``WINDOW_S`` seconds of status; bounded, whatever comes."""

    samples: deque[Status] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    plans: deque[tuple[float, Status]] = field(default_factory=lambda: deque(maxlen=PLANS))

    def add(self, status: Status) -> None:
        """Keep what the plots show of one status."""
        t_s = status.get("t_ns", 0) * 1e-9
        if self.samples and t_s <= self.samples[-1]["t_s"]:
            if t_s == self.samples[-1]["t_s"]:
                return
            self.samples.clear()  # the daemon's machine was started again
            self.plans.clear()
        kept = {key: status.get(key) for key in KEPT}
        self.samples.append({"t_s": t_s, **kept})
        plan = status.get("plan")
        if plan is None:
            self.plans.clear()
        elif not self.plans or t_s - self.plans[-1][0] >= PLAN_EVERY_S:
            self.plans.append((t_s, plan))


KEPT = ("state", "from_upright_rad", "command_m_s", "target_m", "solver", "timing")


class Feed:
    """Asks the daemon for its status in a thread; a daemon that is gone is looked for again."""

    def __init__(self, socket: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._socket, self._clock_s = socket, clock_s
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._history = History()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self.status: Status = {}
        self.trouble = "connecting"

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._done.set()
        self._thread.join(2.0)

    def window(self) -> tuple[list[Status], list[tuple[float, Status]]]:
        """Copies of the kept samples and plans, oldest first."""
        with self._lock:
            return list(self._history.samples), list(self._history.plans)

    def _run(self) -> None:
        from cartpole.remote.socket import Client

        while not self._done.is_set():
            try:
                with Client(self._socket, SILENT_S) as client:
                    self._ask(client)
            except (CartpoleError, ValueError) as error:
                self.status, self.trouble = {}, str(error)
            self._done.wait(RETRY_S)

    def _ask(self, client: Any) -> None:
        while not self._done.is_set():
            began_s = self._clock_s()
            answer = client.call({"do": "status"})
            if not answer["ok"]:
                raise CartpoleError(answer["error"])
            status = answer["status"]
            with self._lock:
                if "t_ns" in status:
                    self._history.add(status)
            self.status, self.trouble = status, ""
            self._done.wait(max(0.0, POLL_S - (self._clock_s() - began_s)))
