"""A cable pulled while the whole daemon balances: it stops, says why, and stays stopped."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cartpole.config.schema import Config
from cartpole.rules.sim import rig_rules
from cartpole.sim.boards import ArduinoAsciiBoard, SabertoothTextBoard
from cartpole.sim.plant import Plant
from cartpole.sim.pty_port import PtyPort, PtyServer
from firmware_bridge.sabertooth_text import SabertoothText

pytestmark = pytest.mark.realtime
PATIENCE_S = 120.0  # the first start compiles kernels


class TextRig:
    """Plant and text boards, served by a thread of this process; the encoders are all it has."""

    def __init__(self, folder: Path) -> None:
        settings = {
            "motor": {"port": str(folder / "motor")},
            "encoder": {"port": str(folder / "encoder")},
            "camera": {"source": "none"},
            "safety": {"homing_speed_m_s": 0.4},
            "startup": {"action": "swing_up"},
            "session": {"record": False},
            "service": {"socket": str(folder / "socket")},
        }
        config = Config.model_validate(settings)
        now_ns = time.monotonic_ns()
        self.settings = folder / "rig.yaml"
        self.settings.write_text(json.dumps(settings))
        self.plant = Plant(rig_rules(config), 0, (0.02, 0.0, 0.0, 0.0), now_ns)
        driver = SabertoothText.from_config(config.motor)
        self.motor = PtyPort(
            SabertoothTextBoard(self.plant, driver, timeout_ns=100_000_000), folder / "motor"
        )
        self.encoder = PtyPort(ArduinoAsciiBoard(self.plant, t_ns=now_ns), folder / "encoder")
        self.server = PtyServer([self.motor, self.encoder])
        self.server.start()

    def state(self) -> tuple[float, float, float, float]:
        with self.server.lock:
            return self.plant.advance(time.monotonic_ns())

    def upright(self) -> bool:
        _, _, theta, omega = self.state()
        return math.cos(theta) < -0.99 and abs(omega) < 0.5


class Daemon:
    """`cartpole run` and what it says."""

    def __init__(self, rig: TextRig) -> None:
        command = [sys.executable, "-m", "cartpole", "run", "-c", str(rig.settings), "--headless"]
        self.process = subprocess.Popen(
            command,
            cwd=rig.settings.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self.said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip())

    def wait_for(self, what: str, holds: object) -> None:
        assert callable(holds)
        end_s = time.monotonic() + PATIENCE_S
        while not holds():
            told = "\n".join(self.said[-20:])
            assert self.process.poll() is None, f"ended while waiting for {what}:\n{told}"
            assert time.monotonic() < end_s, f"waited in vain for {what}:\n{told}"
            time.sleep(0.02)

    def heard(self, text: str) -> bool:
        return any(text in line for line in self.said)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._listener.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[TextRig]:
    made = TextRig(tmp_path)
    yield made
    made.server.close()


@pytest.mark.parametrize("cable", ["encoder", "motor"])
def test_a_cable_pulled_while_balancing(rig: TextRig, cable: str) -> None:
    port = {"encoder": rig.encoder, "motor": rig.motor}[cable]
    daemon = Daemon(rig)
    try:
        daemon.wait_for("balance", lambda: daemon.heard("BALANCE") and rig.upright())
        rig.server.unplug(port)
        daemon.wait_for("a clear message", lambda: daemon.heard(f"{cable} lost"))
        daemon.wait_for("the end in FAULT", lambda: daemon.heard("-> FAULT"))
        time.sleep(0.5)
        assert abs(rig.state()[1]) < 0.05
        rig.server.plug(port)
        daemon.wait_for("the link", lambda: daemon.heard(f"{cable} up") and port.plugged)
        end_s = time.monotonic() + 2.0
        while time.monotonic() < end_s:
            assert abs(rig.state()[1]) < 0.05, "it moved without anybody asking"
            time.sleep(0.05)
        assert not any("Traceback" in line for line in daemon.said)
    finally:
        daemon.end()
    assert abs(rig.state()[0]) < 0.44
