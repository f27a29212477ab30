"""What an open page costs over time: memory of page, daemon and browser, sampled every ten seconds.

``python benchmarks/page_hour.py [--minutes N | --quick] [--json FILE]``

Starts ``cartpole run`` on the simulated rig, recording, with its page; a headless Chromium keeps
the page open while the pole is balanced. The file is written anew with every sample, so that it may
be read while this runs; ``done`` is true at the end. Growth is the slope of a line through all
samples after the first minute, by when the daemon's memory of the last pictures is full.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from page_visitor import FLAGS, Operator, chromium, free_port
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cartpole.dashboard.process import NICE
from cartpole.errors import CartpoleError
from cartpole.remote.socket import Client

ROOT = Path(__file__).resolve().parent.parent
EVERY_S = 10.0
SETTLE_S = 70.0  # the pictures of the last minute, kept for a fault
START_S = 240.0  # a first start compiles
MEBIBYTE = 1 << 20
UNITS = {
    "page_mb": "MB",
    "daemon_mb": "MB",
    "browser_mb": "MB",
    "heap_mb": "MB",
    "nodes": "",
    "listeners": "",
}


@contextmanager
def daemon(folder: Path, *, page: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon, with its page or without, until the end."""
    settings: dict[str, Any] = {
        "session.folder": folder / "sessions",
        "session.max_folder_mb": 512 if page else 4096,
        "session.max_file_mb": 128,
        "service.socket": folder / "socket",
    }
    if page:
        settings |= {"dashboard.enabled": "true", "dashboard.port": free_port()}
    command = [sys.executable, "-m", "cartpole", "run", "--headless"]
    command += ["--config", str(ROOT / "config" / "sim.yaml")]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def pss_mb(process: int) -> float:
    """Memory of a process, shared pages counted by their share."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return float(sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024)


def below(process: int) -> Iterator[int]:
    """All processes that a process started, and those they started."""
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from below(child)


def page_process(parent: int) -> int:
    """The page is the daemon's child that made itself nice."""
    for child in below(parent):
        if os.getpriority(os.PRIO_PROCESS, child) == NICE:
            return child
    return 0


def is_renderer(process: int) -> bool:
    """Whether a process is a browser's that draws a page."""
    try:
        return b"--type=renderer" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


class Watch:
    """Samples, console errors and fault stops; what the file holds."""

    def __init__(self, minutes: float, path: Path | None) -> None:
        self._path = path
        self.samples: list[dict[str, float]] = []
        self.errors: list[str] = []
        self.figures: dict[str, Any] = {
            "minutes": minutes,
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "done": False,
        }

    def add(self, sample: dict[str, float], operator: Operator) -> None:
        """One more; the file is written anew."""
        self.samples.append(sample)
        self.figures |= {
            "quantities": {name: trend(self.samples, name) for name in UNITS},
            "console_errors": len(self.errors),
            "first_console_errors": self.errors[:5],
            "fault_stops": operator.fault_stops,
            "not_balancing": sum(not item["balancing"] for item in self.samples),
            "samples": self.samples,
        }
        self.write()

    def write(self) -> None:
        """Whole or not at all."""
        if self._path is None:
            return
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(self.figures, indent=1) + "\n")
        temporary.replace(self._path)


def trend(samples: list[dict[str, float]], name: str) -> dict[str, float | None]:
    """First against last quarter, and the slope of a line through all."""
    values = [sample[name] for sample in samples]
    quarter = max(1, len(values) // 4)
    slope = None
    if len(values) > 2:
        times_h = [sample["t_s"] / 3600.0 for sample in samples]
        slope = statistics.linear_regression(times_h, values).slope
    return {
        "first_quarter": statistics.median(values[:quarter]),
        "last_quarter": statistics.median(values[-quarter:]),
        "largest": max(values),
        "slope_per_hour": slope,
    }


def browser_sample(devtools: Any) -> dict[str, float]:
    """What lives in the page after its garbage is gone."""
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {m["name"]: m["value"] for m in devtools.send("Performance.getMetrics")["metrics"]}
    renderers = [pss_mb(process) for process in below(os.getpid()) if is_renderer(process)]
    return {
        "heap_mb": metrics["JSHeapUsedSize"] / MEBIBYTE,
        "nodes": metrics["Nodes"],
        "listeners": metrics["JSEventListeners"],
        "browser_mb": max(renderers, default=0.0),
    }


def until_page(folder: Path, process: subprocess.Popen[bytes], page: Any) -> None:
    """Open the page as soon as it answers."""
    end_s = time.monotonic() + START_S
    address = folder / "socket.url"
    while True:
        if process.poll() is not None or time.monotonic() > end_s:
            sys.exit((folder / "log").read_text()[-2000:])
        try:
            if page.request.get(address.read_text().strip()).ok:
                page.goto(address.read_text().strip())
                return
        except Exception:  # not there yet
            page.wait_for_timeout(500)


def watch_page(minutes: float, settle_s: float, path: Path | None, folder: Path) -> Watch:
    """The whole of it; see the head of this file."""
    from playwright.sync_api import sync_playwright

    watch = Watch(minutes, path)
    bar_columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with (
        daemon(folder) as process,
        sync_playwright() as playwright,
        Progress(*bar_columns, console=Console(stderr=True), transient=True) as bar,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.on("console", lambda m: watch.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: watch.errors.append(str(error)))
        until_page(folder, process, page)
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")
        devtools.send("HeapProfiler.enable")
        served_by = page_process(process.pid)

        def ask(message: dict[str, Any]) -> dict[str, Any]:
            with Client(folder / "socket", 10.0) as client:
                return client.call(message)

        operator = Operator(ask)
        began_s = time.monotonic()
        task = bar.add_task("swing up", total=60.0 * minutes)
        due_s = began_s + settle_s
        end_s = began_s + 60.0 * minutes
        mode = ""
        while time.monotonic() < end_s and process.poll() is None:
            try:
                mode = operator.look()
            except CartpoleError as error:
                mode = str(error)
            bar.update(task, completed=time.monotonic() - began_s, description=mode[:20])
            if time.monotonic() >= due_s:
                due_s += EVERY_S
                sample = {
                    "t_s": round(time.monotonic() - began_s, 1),
                    "balancing": float(mode == "BALANCE"),
                    "page_mb": pss_mb(served_by),
                    "daemon_mb": pss_mb(process.pid),
                    **browser_sample(devtools),
                }
                watch.add(sample, operator)
            page.wait_for_timeout(1000)  # lets the browser's events through
        watch.figures |= {"done": process.poll() is None, "console_errors": len(watch.errors)}
        watch.write()
        browser.close()
    return watch


def show(figures: dict[str, Any]) -> None:
    """For a person."""
    table = Table(title=f"page open for {figures['minutes']:g} minutes", box=None)
    for title in ("", "first quarter", "last quarter", "largest", "an hour"):
        table.add_column(title, justify="right")
    for name, unit in UNITS.items():
        row = figures["quantities"][name]
        slope = row["slope_per_hour"]
        cells = [f"{row[key]:.1f}" for key in ("first_quarter", "last_quarter", "largest")]
        growth = "–" if slope is None else f"{slope:+.1f} {unit}"
        table.add_row(name.removesuffix("_mb"), *cells, growth)
    Console().print(table)
    print(
        f"console errors {figures['console_errors']}, fault stops {len(figures['fault_stops'])}, "
        f"samples {len(figures['samples'])}, not balancing in {figures['not_balancing']}"
    )


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="1.5 minutes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    minutes = 1.5 if options.quick else options.minutes
    path = options.json.resolve() if options.json is not None else None
    with tempfile.TemporaryDirectory() as folder:
        watch = watch_page(minutes, min(SETTLE_S, 12.0 * minutes), path, Path(folder))
    if not watch.samples:
        sys.exit("not one sample")
    show(watch.figures)
    if not watch.figures["done"]:
        sys.exit("the daemon ended before its time")


if __name__ == "__main__":
    main()
