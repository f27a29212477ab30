"""The first thing a student does: start the simulated rig and look at its page, many times over.

``python benchmarks/first_minute.py [--times N] [--json FILE]``

Each time: ``cartpole run`` on the simulated rig with its page, and a headless Chromium that opens
the page as soon as anybody listens and keeps it open. On a small virtual machine a starting browser
takes the processors away for some 100 ms; what is asked is that the pole is balanced at the end,
and that a stop in between names the machine and is soon over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from page_visitor import FLAGS, chromium, free_port
from rich.console import Console
from rich.table import Table

from cartpole.messages import Mode
from cartpole.session.reader import Session

ROOT = Path(__file__).resolve().parent.parent
FLIGHT_S = 20.0
ENDING = (Mode.SAFE_STOP, Mode.DISARMED, Mode.READY)
COLUMNS = (
    "balanced",
    "upright_after_start_s",
    "stopped_for_s",
    "faults",
    "daemon_locked_mb",
    "page_mb",
)
PATIENCE_S = 240.0  # a first start compiles


def once(folder: Path) -> dict[str, Any]:
    """One start with a visitor; the figures that matter."""
    from playwright.sync_api import Error, sync_playwright

    port, figures = free_port(), folder / "figures.json"
    command = [sys.executable, "-m", "cartpole", "run", "--config", str(ROOT / "config/sim.yaml")]
    command += ["--duration", str(FLIGHT_S), "--headless", "--dashboard", "--json", str(figures)]
    for setting in (f"dashboard.port={port}", f"session.folder={folder}"):
        command += ["--set", setting]
    command += ["--set", f"service.socket={folder / 'socket'}"]
    begun_s = time.monotonic()
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as daemon,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page, seen = browser.new_page(viewport={"width": 1440, "height": 1000}), False
        memory: dict[str, float] = {}
        while daemon.poll() is None and time.monotonic() - begun_s < PATIENCE_S:
            try:
                if not seen:
                    page.goto(f"http://127.0.0.1:{port}/", timeout=1000)
                    seen = True
                else:
                    page.wait_for_timeout(500)
                    for key, mb in _memory(daemon.pid, port).items():
                        memory[key] = max(mb, memory.get(key, 0.0))
            except Error:  # nobody listens yet
                time.sleep(0.1)
        daemon.kill()
        browser.close()
        assert daemon.stdout is not None
        said = daemon.stdout.read().decode(errors="replace").splitlines()
    return _figures(figures, said, seen, begun_s, daemon.returncode) | memory


def _memory(daemon: int, port: int) -> dict[str, float]:
    """The daemon's locked memory, and the page process's own share of memory [MB]."""
    found = {"daemon_locked_mb": _rollup(daemon, "Locked")}
    threads = Path(f"/proc/{daemon}/task").glob("*/children")
    for child in (pid for children in threads for pid in children.read_text().split()):
        if _listens(int(child), port):
            found["page_mb"] = _rollup(int(child), "Pss")
    return found


def _rollup(process: int, key: str) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it is over
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), 0.0)


def _listens(process: int, port: int) -> bool:
    """Whether one of its sockets is the one that listens at ``port``."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}")}
    try:
        return any(os.readlink(link) in wanted for link in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False


def _figures(
    path: Path, said: list[str], seen: bool, begun_s: float, status: int | None
) -> dict[str, Any]:
    if not path.exists():
        return {"balanced": False, "seen": seen, "status": status, "said": said[-3:]}
    run = json.loads(path.read_text())
    ticks = Session(Path(run["session"])).ticks()
    modes = [(tick.input.now_ns / 1e9, tick.record_without_arrays().mode) for tick in ticks]
    return {
        "balanced": _ended_upright(modes),
        "seen": seen,
        "upright_after_start_s": _first(modes, Mode.BALANCE, begun_s),
        "stopped_for_s": _stops(modes),
        "faults": [fault["name"] for fault in run["faults"] if fault["action"] in ("brake", "off")],
    }


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


Modes = list[tuple[float, Mode]]


def _first(modes: Modes, mode: Mode, begun_s: float) -> float | None:
    return next((round(t_s - begun_s, 2) for t_s, now in modes if now is mode), None)


def _ended_upright(modes: Modes) -> bool:
    """The last ticks brake, whatever came before."""
    return next(mode for _, mode in reversed(modes) if mode not in ENDING) is Mode.BALANCE


def _stops(modes: Modes) -> list[float]:
    """How long each stop by a fault lasted, until the pole was balanced again [s]."""
    stops, since_s = [], None
    for t_s, mode in modes:
        if mode is Mode.FAULT and since_s is None:
            since_s = t_s
        elif mode is Mode.BALANCE and since_s is not None:
            stops.append(round(t_s - since_s, 2))
            since_s = None
    return stops


def main() -> None:
    """Start it many times, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = []
    table = Table(*(name.replace("_", " ") for name in COLUMNS))
    console = Console()
    with console.status("starting the simulated rig and a browser") as status:
        for count in range(options.times):
            status.update(f"start {count + 1} of {options.times}")
            with tempfile.TemporaryDirectory() as folder:
                runs.append(once(Path(folder)))
            run = runs[-1]
            table.add_row(*(_shown(run.get(key, "")) for key in COLUMNS))
            if options.json is not None:
                options.json.write_text(json.dumps(runs, indent=2))
    console.print(table)
    good = sum(run["balanced"] and run["seen"] for run in runs)
    console.print(f"balanced at the end with the page open: {good} of {len(runs)}")


if __name__ == "__main__":
    main()
