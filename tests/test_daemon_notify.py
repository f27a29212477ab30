"""What the service manager is told, and what a changed settings file brings about."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from cartpole.config.load import load_config
from cartpole.config.schema import Config
from cartpole.daemon.notify import Herald, Notifier, watchdog_period_ns
from cartpole.daemon.reload import SettingsWatch
from cartpole.daemon.settings import SettingsKeeper
from cartpole.messages import (
    Answer,
    Command,
    Detection,
    DetectionStatus,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Mode,
    Request,
    TickInput,
    TickRecord,
)
from cartpole.rules.control import config_of

SECOND = 1_000_000_000


@pytest.fixture
def manager(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A notifier and a function that takes what its service manager was told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.setblocking(False)

        def told() -> list[str]:
            lines: list[str] = []
            while True:
                try:
                    lines += server.recv(4096).decode().split("\n")
                except BlockingIOError:
                    return lines

        notifier = Notifier(str(tmp_path / "notify"))
        yield notifier, told
        notifier.close()
        assert "STOPPING=1" in told()


def _record(t_ns: int, armed: bool, *measurements: Measurement) -> TickRecord:
    mode = Mode.BALANCE if armed else Mode.DISARMED
    return TickRecord(
        index=0,
        input=TickInput(t_ns, measurements),
        estimate=None,
        plan=None,
        command=Command(t_ns, 0, 0.0, armed, 0.0),
        mode=mode,
        armed=armed,
        homed=True,
    )


def _seen(t_ns: int) -> tuple[EncoderSample, Detection]:
    return (
        EncoderSample(t_ns, t_ns, 0, 0),
        Detection(t_ns, t_ns, 0, DetectionStatus.OK),
    )


def test_ready_waits_for_all_devices(manager) -> None:  # type: ignore[no-untyped-def]
    notifier, told = manager
    herald = Herald(notifier, Config(), 2 * SECOND)
    encoder, picture = _seen(1)
    up, down = (LinkEvent(1, Link.MOTOR, state, "") for state in (LinkState.UP, LinkState.DOWN))
    herald.put_tick(_record(SECOND, False, up, encoder))
    lines = told()
    assert "READY=1" not in lines
    assert "STATUS=waiting for camera" in lines
    herald.put_tick(_record(2 * SECOND, False, picture, down))
    herald.put_tick(_record(4 * SECOND, False))
    lines = told()
    assert "READY=1" not in lines
    assert "STATUS=waiting for motor driver" in lines
    herald.put_tick(_record(5 * SECOND, False, up))
    assert told().count("READY=1") == 1
    herald.put_tick(_record(3 * SECOND, False, encoder, picture))
    assert "READY=1" not in told()


def test_watchdog_is_not_fed_by_an_armed_rig_that_sees_nothing(manager) -> None:  # type: ignore[no-untyped-def]
    notifier, told = manager
    herald = Herald(notifier, Config(), 2 * SECOND)
    herald.put_tick(_record(SECOND, True, *_seen(1)))
    assert told().count("WATCHDOG=1") == 1
    for tick in range(200):
        herald.put_tick(_record(SECOND + tick * SECOND // 50, True))
    assert "WATCHDOG=1" not in told()
    herald.put_tick(_record(6 * SECOND, False))  # at rest a pulled cable is no hang
    assert told().count("WATCHDOG=1") == 1


def test_watchdog_is_fed_at_a_bounded_rate(manager) -> None:  # type: ignore[no-untyped-def]
    notifier, told = manager
    herald = Herald(notifier, Config(), 2 * SECOND)
    for tick in range(100):  # two seconds
        herald.put_tick(_record(SECOND + tick * SECOND // 50, True, *_seen(tick)))
    assert told().count("WATCHDOG=1") == 5


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    assert not notifier.enabled
    notifier.send(READY=1)
    notifier.close()


@pytest.mark.parametrize(("text", "period"), [("2000000", 2 * SECOND), ("", 0), ("soon", 0)])
def test_watchdog_period(monkeypatch: pytest.MonkeyPatch, text: str, period: int) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", text)
    assert watchdog_period_ns() == period


def test_a_changed_file_is_read_and_a_bad_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text("controller: {weights: {angle: 1.0}}\n")
    current = [load_config(path)]
    applied, told = threading.Event(), threading.Event()
    reasons: list[tuple[str, str]] = []

    def ask(request: Request) -> Answer:
        assert request.settings is not None
        current[0] = config_of(request.settings)
        applied.set()
        return Answer(True, "settings changed")

    def tell(name: str, detail: str) -> None:
        reasons.append((name, detail))
        told.set()

    keeper = SettingsKeeper(path, [], lambda: current[0], ask)
    with SettingsWatch(path, keeper, tell):
        path.write_text("controller: {weights: {angle: 2.0}}\n# longer\n")
        assert applied.wait(20.0)
        assert current[0].controller.weights.angle == 2.0
        time.sleep(0.01)  # another time stamp
        path.write_text("controller: {weights: {angel: 2.0}}\n")
        assert told.wait(20.0)
        assert reasons[-1][0] == "settings refused"
        assert "angel" in reasons[-1][1]
        assert "\n" not in reasons[-1][1]
        assert current[0].controller.weights.angle == 2.0
        told.clear()
        path.write_text("rig: {track_length_m: 1.5}\n")
        assert told.wait(20.0)
        assert "restart needed" in reasons[-1][1]
