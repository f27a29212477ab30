"""Somebody who looks at the page in a real browser, and keeps the simulated rig balancing.

Shared by ``page_load.py`` and ``page_hour.py``.
"""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CALM_S = 0.4  # between an operator's words


def chromium() -> str:
    """Where the browser is; ends the benchmark if there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        sys.exit("this needs chromium: apt install chromium")
    return found


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Operator:
    """Swings up again after a fault stop: on a busy machine a simulated device may seem silent."""

    def __init__(self, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """``ask`` is one request to the control socket and its answer."""
        self._ask = ask
        self.fault_stops: list[str] = []

    def look(self) -> str:
        """The mode now; begins to swing up if the drive is off."""
        status = self._ask({"do": "status"})["status"]
        mode, armed = status.get("mode", ""), status.get("armed", True)
        if mode == "FAULT":
            self.fault_stops.append(", ".join(fault["name"] for fault in status["faults"]))
        if not armed:
            for word in ("reset", "arm", "swing-up"):
                self._ask({"do": word})
                time.sleep(CALM_S)
        return str(mode)

    def until_balanced(self, timeout_s: float) -> bool:
        """Whether the pole was upright within the time."""
        end_s = time.monotonic() + timeout_s
        while self.look() != "BALANCE":
            if time.monotonic() > end_s:
                return False
            time.sleep(0.2)
        return True
