"""Recordings begun and ended while the daemon runs, by the control socket and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cartpole.messages import Mode
from cartpole.remote.socket import call
from cartpole.session.listing import describe, list_sessions
from cartpole.session.reader import open_session
from cartpole.session.replay import replay

ROOT = Path(__file__).resolve().parent.parent
START_S = 240.0  # a first start compiles
UPRIGHT_S = 150.0

pytestmark = pytest.mark.realtime


def ask(rig: Path, message: dict[str, Any]) -> dict[str, Any]:
    return call(rig / "rig.sock", message, 20.0)


def status(rig: Path) -> dict[str, Any]:
    shown = ask(rig, {"do": "status"})["status"]
    assert isinstance(shown, dict)
    return shown


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Path]:
    """A daemon on the simulated rig, without a camera: less for a busy machine to do."""
    settings = tmp_path / "rig.yaml"
    settings.write_text(
        "camera: {source: none}\n"
        # A test machine may be busy: its simulated board answers late.
        "safety: {stale_state_s: 0.5, lag_error_s: 1.0, homing_speed_m_s: 0.4}\n"
        f"session: {{record: false, folder: {tmp_path}/sessions}}\n"
        f"service: {{socket: {tmp_path}/rig.sock}}\n"
    )
    log = (tmp_path / "log").open("wb")
    command = [sys.executable, "-m", "cartpole", "run", "--headless", "--config", str(settings)]
    command += ["--json", str(tmp_path / "figures.json")]
    daemon = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    (tmp_path / "pid").write_text(str(daemon.pid))
    try:
        end_s = time.monotonic() + START_S
        while "encoder up" not in (tmp_path / "log").read_text():
            assert time.monotonic() < end_s
            assert daemon.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield tmp_path
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60.0)
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
        log.close()


def balance(rig: Path) -> None:
    """Home and swing up; on a busy machine a device may seem silent: again, as a person does."""
    end_s = time.monotonic() + UPRIGHT_S
    while (mode := status(rig)["mode"]) != "BALANCE":
        assert time.monotonic() < end_s, f"never upright: {mode}"
        if mode in ("DISARMED", "FAULT"):
            for word in ("reset", "arm", "swing-up"):
                ask(rig, {"do": word})
        time.sleep(0.1)


def test_two_recordings_of_a_running_rig(rig: Path) -> None:
    names = []
    assert status(rig)["recording"] is None
    assert ask(rig, {"do": "stop-record"}) == {"ok": False, "error": "not recording"}

    told = ask(rig, {"do": "record"})["text"]  # disarmed
    names.append(told.removeprefix("recording "))
    assert "recording already" in ask(rig, {"do": "record"})["error"]
    balance(rig)
    shown = status(rig)
    assert shown["recording"]["name"] == names[0]
    assert shown["session"] == shown["recording"]["path"]
    assert shown["recording"]["seconds"] > 1.0
    assert shown["recording"]["bytes"] > 0
    assert ask(rig, {"do": "stop-record"})["text"].startswith(f"recorded {names[0]}: ")
    assert status(rig)["recording"] is None

    balance(rig)
    common = ["--config", str(rig / "rig.yaml")]
    for action in ("start", "stop"):
        done = subprocess.run(
            [sys.executable, "-m", "cartpole", "record", action, *common],
            capture_output=True,
            text=True,
            cwd=rig,
            check=True,
        )
        if action == "start":
            names.append(done.stdout.strip().removeprefix("recording "))
            time.sleep(2.0)
    assert done.stdout.startswith(f"recorded {names[1]}: ")

    folder = rig / "sessions"
    assert [entry.name for entry in list_sessions(folder)] == sorted(names)
    for name in names:
        session = open_session(folder / name)
        assert session.state is not None
        result = replay(session)
        assert result.bitwise_equal, (name, result.first)
        assert result.gap_at is None
        assert result.ticks > 40
        entry = describe(folder / name)
        assert entry.whole
        assert entry.summary is not None
        assert Path(entry.summary["session"]).name == name
    first, second = (open_session(folder / name) for name in names)
    assert first.state is not None
    assert first.state.mode is Mode.DISARMED
    assert second.state is not None
    assert second.state.mode is not Mode.DISARMED
    assert any(piece.link == "motor" for piece in second.raw())


def test_the_summary_names_every_recording(rig: Path) -> None:
    for _ in range(2):
        assert ask(rig, {"do": "record"})["ok"]
        time.sleep(0.3)
        assert ask(rig, {"do": "stop-record"})["ok"]
    assert ask(rig, {"do": "record"})["ok"]  # and the run's end is its end
    last = status(rig)["session"]
    time.sleep(0.3)
    os.kill(int((rig / "pid").read_text()), signal.SIGTERM)
    figures = rig / "figures.json"
    end_s = time.monotonic() + 60.0
    while not (figures.exists() and figures.stat().st_size):
        assert time.monotonic() < end_s
        time.sleep(0.1)
    time.sleep(0.2)
    told = json.loads(figures.read_text())
    assert told["session"] == last
    assert len(told["sessions"]) == 3
    for path in told["sessions"]:
        assert replay(open_session(Path(path))).bitwise_equal
