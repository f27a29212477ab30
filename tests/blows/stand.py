"""A simulated rig that outlives its daemons, what is true of it, and the daemon of the moment.

The rig is the product's own (``cartpole.sim.process``), in a process of its own; the daemon is
``cartpole run`` on the rig's ports, as on real ones. Whatever happens to the daemon, board and cart
go on, and the truth is kept every millisecond.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cartpole.config.schema import Config
from cartpole.remote.socket import call
from cartpole.session.reader import open_session
from cartpole.session.recorded import RecordedTick
from cartpole.sim.process import SimulatedRig

PATIENCE_S = 150.0  # a first start compiles kernels
KEPT = 30_000  # samples of the truth, about a millisecond apart
PROTOCOLS = ("text", "bridge")


@dataclass(frozen=True, slots=True)
class Moment:
    """The rig at a moment of CLOCK_MONOTONIC."""

    t_ns: int
    p_m: float
    v_m_s: float
    theta_rad: float
    omega_rad_s: float
    told_m_s: float  # the drive, by its board


def settings(folder: Path, protocol: str, **more: Any) -> dict[str, Any]:
    """A rig with encoders alone: of text boards, or of the bridge board with the real firmware."""
    motor = str(folder / "motor")
    found: dict[str, Any] = {
        "motor": {"port": motor},
        "encoder": {"port": str(folder / "encoder")},
        "camera": {"source": "none"},
        "safety": {"homing_speed_m_s": 0.4},
        "startup": {"action": "swing_up"},
        "session": {"folder": str(folder / "sessions")},
        "service": {"socket": str(folder / "socket")},
    }
    if protocol == "bridge":
        found["motor"] = {"port": motor, "protocol": "bridge"}
        found["encoder"] = {"port": motor, "protocol": "bridge"}
    for section, values in more.items():
        found[section] = found.get(section, {}) | values
    return found


class Stand:
    """Use as a context; ``start`` begins one daemon after another."""

    def __init__(self, folder: Path, protocol: str = "text", **more: Any) -> None:
        self.folder = folder
        self.settings = folder / "rig.yaml"
        values = settings(folder, protocol, **more)
        self.settings.write_text(json.dumps(values))
        self.config = Config.model_validate(values)
        self.rig = SimulatedRig(self.config, 0, folder)
        self.truth: deque[Moment] = deque(maxlen=KEPT)
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log"
        self._runs = itertools.count()
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Stand:
        self.rig.start()
        self.rig.wait_ready()
        self._watcher.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._end.set()
        self._watcher.join()
        self.rig.close()

    def _watch(self) -> None:
        while not self._end.wait(0.001):
            now_ns = time.monotonic_ns()
            self.truth.append(Moment(now_ns, *self.rig.truth(now_ns), self.rig.told_m_s))

    def since(self, t_ns: int) -> list[Moment]:
        """What was true from then on."""
        return [one for one in tuple(self.truth) if one.t_ns >= t_ns]

    @property
    def clear_m(self) -> float:
        """The least way to a switch, of all that is remembered."""
        farthest = max(abs(one.p_m) for one in tuple(self.truth))
        return self.config.rig.track_length_m / 2.0 - farthest

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """A daemon that homes and swings up by itself; the truth is remembered from here on."""
        self._log = self.folder / f"log.{next(self._runs)}"
        command = [sys.executable, "-m", "cartpole", "run", "--headless"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(self.settings), *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        return self.process

    def said(self) -> str:
        """All that the daemon of the moment wrote."""
        return self._log.read_text(errors="replace")

    def wait(self, what: str, holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Until it holds; AssertionError with the daemon's words if it never does."""
        end_s = time.monotonic() + patience_s
        while not holds():
            ended = self.process is None or self.process.poll() is not None
            assert not ended, f"ended while waiting for {what}:\n{self.said()[-2000:]}"
            assert time.monotonic() < end_s, f"waited in vain for {what}:\n{self.said()[-2000:]}"
            time.sleep(0.005)

    def mode(self) -> str:
        """What the control socket says; "" if nobody answers."""
        with contextlib.suppress(Exception):
            return str(self.ask({"do": "status"})["status"]["mode"])
        return ""

    def ask(self, message: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
        """One request to the daemon."""
        return call(Path(self.config.service.socket), message, timeout_s)

    def swing(self) -> None:
        """Until it has homed and swings up, a fifth of a second ago at most."""
        self.wait("the end of homing", lambda: "homed: " in self.said())

    def balance(self) -> None:
        """Until it balances."""
        self.wait("BALANCE", lambda: self.mode() == "BALANCE")

    def stop(self) -> int:
        """End the daemon as a service manager does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30.0)

    def recording(self) -> Path:
        """The newest recording."""
        return max((self.folder / "sessions").glob("*.mcap"), key=lambda path: path.stat().st_mtime)

    def recorded(self) -> list[RecordedTick]:
        """The newest recording's ticks."""
        return list(open_session(self.recording()).ticks())

    def memory_mb(self) -> float:
        """The daemon's own memory."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        line = next(line for line in text.splitlines() if line.startswith("Pss:"))
        return int(line.split()[1]) / 1024.0
