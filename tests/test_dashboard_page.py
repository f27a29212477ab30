"""The live page in a headless browser, on the simulated rig in real time."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
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
COMMENT = "# how much the place of the cart matters"
START_S = 240.0  # a first start compiles

pytestmark = pytest.mark.realtime


def _until(true: Callable[[], bool], timeout_s: float, what: str) -> None:
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Path]:
    """A daemon with its page; its settings' folder."""
    settings = tmp_path / "rig.yaml"
    text = (ROOT / "config" / "sim.yaml").read_text().replace("swing_up", "disarmed")
    weight = f"controller:\n  weights:\n    position: 1.0  {COMMENT}\n"
    text = text.replace("controller:\n", weight)
    text += (
        f"\nsession: {{record: false, folder: {tmp_path}/sessions}}\n"
        f"service: {{socket: {tmp_path}/rig.sock}}\n"
        # A test machine may be busy: its simulated devices answer late.
        "safety: {stale_state_s: 0.5, lag_error_s: 1.0, homing_speed_m_s: 0.4}\n"
        f"dashboard: {{enabled: true, commands: true, port: {_free_port()}}}\n"
    )
    settings.write_text(text)
    log = (tmp_path / "log").open("wb")
    command = [sys.executable, "-m", "cartpole", "run", "--headless", "--config", str(settings)]
    daemon = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    try:
        said = tmp_path / "log"
        _until(
            lambda: "camera up" in said.read_text() or daemon.poll() is not None, START_S, "start"
        )
        assert daemon.poll() is None, said.read_text()
        yield tmp_path
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(20.0)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        log.close()


def _status(rig: Path) -> dict[str, Any]:
    from cartpole.remote.socket import call

    status = call(rig / "rig.sock", {"do": "status"})["status"]
    assert isinstance(status, dict)
    return status


def _until_page(page: Any, true: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Like ``_until``, letting the browser's events through."""
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, f"not within {timeout_s:.0f} s: {what}"
        page.wait_for_timeout(100)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_operate_by_the_page(rig: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    url = (rig / "rig.sock.url").read_text().strip()
    complaints: list[str] = []
    elsewhere: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: None if _is_local(r.url) else elsewhere.append(r.url))

        _until(lambda: _answers(page, url), 30.0, "the page")
        refused = page.request.get(url[:-4] + "AAAA")
        assert refused.status == 403
        assert refused.text() == "wrong or missing token: open the address the daemon printed\n"
        page.goto(url)
        mode = page.get_by_test_id("mode")
        _until_page(page, lambda: mode.inner_text() == "DISARMED", 30.0, "the mode is shown")
        _swing_up_by_the_buttons(page, rig)
        _until_page(page, lambda: mode.inner_text() == "BALANCE", 20.0, "upright is shown")
        assert page.locator("#cp-picture").get_attribute("src").startswith("data:image/jpeg")
        plotted = page.evaluate(POINTS)
        assert len(plotted) == 6
        assert all(0 < points <= LARGEST for points in plotted)

        _record_by_the_button(page, rig)
        slider = page.get_by_test_id("controller.weights.position")
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
        _until_page(page, lambda: _position_weight(rig) > 1.5, 20.0, "the slider's value")
        page.get_by_role("button", name="Save to YAML").click()
        settings = rig / "rig.yaml"
        _until_page(page, lambda: "position: 1.0 " not in settings.read_text(), 20.0, "saved")
        (line,) = [line for line in settings.read_text().splitlines() if COMMENT in line]
        assert float(line.split()[1]) == pytest.approx(_position_weight(rig))

        page.keyboard.press("Space")
        _until_page(page, lambda: not _status(rig)["armed"], 20.0, "stopped by the space bar")
        _limits_are_followed(page, rig)
        browser.close()
    assert complaints == []
    assert elsewhere == []


def _swing_up_by_the_buttons(page: Any, rig: Path) -> None:
    """Arm and swing up; on a busy machine a device may seem silent: reset, as a person does."""
    end_s = time.monotonic() + 150.0
    while (status := _status(rig))["mode"] != "BALANCE":
        assert time.monotonic() < end_s, f"never upright: {status['mode']}, {status['faults']}"
        if not status["armed"]:
            words = (
                ("Reset", "Arm", "Swing up") if status["mode"] == "FAULT" else ("Arm", "Swing up")
            )
            for word in words:
                page.get_by_role("button", name=word, exact=True).click()
                page.wait_for_timeout(500)
        page.wait_for_timeout(200)


def _record_by_the_button(page: Any, rig: Path) -> None:
    """Begin and end a recording of the balancing rig; it replays bit for bit."""
    from cartpole.session.reader import open_session
    from cartpole.session.replay import replay

    told, dot = page.get_by_test_id("recording"), page.locator(".cp-dot")
    assert told.inner_text() == "not recording"
    assert not dot.is_visible()
    page.get_by_role("button", name="Record", exact=True).click()
    _until_page(page, lambda: "0:02" in told.inner_text(), 60.0, "two seconds are recorded")
    assert told.inner_text().startswith("recording 2")
    assert dot.is_visible()
    page.get_by_role("button", name="Stop recording").click()
    _until_page(page, lambda: told.inner_text() == "not recording", 20.0, "the recording's end")
    assert not dot.is_visible()
    page.get_by_role("button", name="Record", exact=True).wait_for()
    (path,) = (rig / "sessions").glob("*.mcap")
    session = open_session(path)
    assert session.state is not None
    result = replay(session)
    assert result.bitwise_equal, result.first
    assert result.ticks > 50


def _limits_are_followed(page: Any, rig: Path) -> None:
    """Limits change once the rig is disarmed, and the plots' ranges with them."""
    from cartpole.remote.socket import call

    def settled() -> bool:
        if _status(rig)["mode"] == "FAULT":
            call(rig / "rig.sock", {"do": "reset"})
        return bool(_status(rig)["mode"] == "DISARMED")

    _until_page(page, settled, 20.0, "disarmed")
    values = {"rig.velocity_limit_m_s": 0.5, "rig.position_limit_m": 0.2}
    answer = call(rig / "rig.sock", {"do": "set", "values": values})
    assert answer["ok"], answer
    wanted = [pytest.approx(0.22), pytest.approx(0.55)]
    _until_page(page, lambda: page.evaluate(RANGES) == wanted, 20.0, "the ranges follow")


RANGES = """() => [0, 2].map(k => getElement(Number(
    document.querySelectorAll('.nicegui-echart')[k].id.slice(1))).chart.getOption().yAxis[0].max)"""
LARGEST = 2000  # points a plot may hold: a fixed window, however long the page is open
POINTS = """() => [...document.querySelectorAll('.nicegui-echart')].map(
    place => getElement(Number(place.id.slice(1))).chart.getOption().series.reduce(
        (sum, series) => sum + series.data.length, 0))"""


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))


def _answers(page: Any, url: str) -> bool:
    try:
        return bool(page.request.get(url).ok)
    except Exception:
        return False


def _position_weight(rig: Path) -> float:
    from cartpole.remote.socket import call

    fields = call(rig / "rig.sock", {"do": "fields"})["fields"]
    return float(fields["controller.weights.position"]["value"])


def test_refusals_are_one_line(rig: Path) -> None:
    """Out of range, unknown, frozen, nonsense, and somebody else: refused, and nothing changed."""
    from cartpole.remote.socket import call

    path = rig / "rig.sock"
    before = _position_weight(rig)
    for values, told in (
        ({"controller.weights.position": -1.0}, "controller.weights.position"),
        ({"controller.weights.angel": 1.0}, "unknown key"),
        ({"rig.track_length_m": 0.9}, "restart needed"),
    ):
        answer = call(path, {"do": "set", "values": values})
        assert not answer["ok"]
        assert told in answer["error"]
        assert "\n" not in answer["error"]
    assert not call(path, {"do": "dance"})["ok"]
    assert _position_weight(rig) == before

    assert (path.stat().st_mode & 0o777) == 0o660
    if os.geteuid() != 0:
        return
    path.chmod(0o666)  # past the file's permissions, the peer check still stands
    for folder in [path.parent, *path.parent.parents][:3]:
        folder.chmod(0o755)
    code = (
        "import os,socket,sys\n"
        "s=socket.socket(socket.AF_UNIX)\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        's.connect(sys.argv[1]); s.sendall(b\'{"do":"arm"}\\n\'); print(s.recv(999).decode())'
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "may not command this rig" in done.stdout, done.stderr
    assert _status(rig)["mode"] == "DISARMED"
