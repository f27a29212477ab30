"""The live page while the pole swings up, as a picture: ``python docs/draw_page.py``.

Starts the simulated rig with its page, arms, swings up, and takes a screenshot in a headless
Chromium into ``docs/pictures/page.png``.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from cartpole.errors import CartpoleError
from cartpole.remote.socket import call

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "page.png"
WINDOW = {"width": 1440, "height": 1040}
WITHIN_S = 240.0  # a first start compiles
AFTER_SWING_UP_MS = 3200


def wait(true: Callable[[], bool]) -> None:
    """Until it is so; TimeoutError if that takes too long."""
    end_s = time.monotonic() + WITHIN_S
    while not true():
        if time.monotonic() > end_s:
            raise TimeoutError("the simulated rig did not come up")
        time.sleep(0.2)


def main() -> None:
    """Start, fly, look, stop."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "rig.sock"
        settings = ["startup.action=disarmed", "dashboard.enabled=true", "dashboard.port=18097"]
        settings += ["dashboard.commands=true", f"service.socket={socket}"]
        settings += [f"session.folder={folder}/sessions"]
        command = [sys.executable, "-m", "cartpole", "run", "--headless"]
        command += ["--config", str(ROOT / "config" / "sim.yaml")]
        for one in settings:
            command += ["--set", one]
        daemon = subprocess.Popen(command, cwd=folder)
        try:
            show(socket)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30.0)


def show(socket: Path) -> None:
    """Fly the daemon at the socket and take the picture of its page."""

    def ask(word: str) -> dict[str, Any]:
        try:
            return call(socket, {"do": word})
        except CartpoleError:
            return {"status": {}}

    def mode() -> str:
        return str(ask("status")["status"].get("mode"))

    wait(lambda: ask("status")["status"].get("camera_age_ms") is not None or mode() == "DISARMED")
    time.sleep(2.0)  # the camera's first pictures
    ask("arm")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        page = browser.new_page(viewport=WINDOW)
        wait(lambda: mode() == "READY")
        page.goto(Path(f"{socket}.url").read_text().strip())
        page.wait_for_timeout(2000)
        ask("swing-up")
        page.wait_for_timeout(AFTER_SWING_UP_MS)
        page.screenshot(path=PICTURE)
        browser.close()
    ask("stop")
    print(PICTURE)


if __name__ == "__main__":
    main()
