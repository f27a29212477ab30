"""Does the daemon stay as it is? Memory, late ticks and balance over an hour.

``python benchmarks/soak.py [--minutes N | --quick] [--json FILE] [--plot FILE.png]``

Starts ``cartpole run`` on the simulated rig with pictures and recording, without a page. Memory is
sampled every ten seconds (shared pages by their share); lateness and modes are the recording's,
tick by tick. The file is written anew with every sample; ``done`` is true at the end. Slopes are
those of a line through all samples after five minutes (a fifth of a shorter run). Lateness means
something on a quiet machine only: ``others_processors`` says how busy everybody else was.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from page_hour import EVERY_S, START_S, below, daemon, pss_mb
from page_visitor import Operator

from cartpole.cli.progress import progress
from cartpole.errors import CartpoleError
from cartpole.remote.socket import Client
from cartpole.session.reader import open_session

SETTLE_S = 300.0
PIECE_S = 60.0  # lateness is told minute by minute


def busy_others(own: set[int]) -> float:
    """Processors' worth of time that other processes used up to now [s]."""
    lines = Path("/proc/stat").read_text().splitlines()
    used = sum(map(int, lines[0].split()[1:4])) / os.sysconf("SC_CLK_TCK")
    return used - sum(cpu_s(process) for process in own)


def cpu_s(process: int) -> float:
    """Processor time of a process."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / float(os.sysconf("SC_CLK_TCK"))


def slope_per_hour(times_s: list[float], values: list[float]) -> float | None:
    """Of a line through all; ``None`` for too few."""
    if len(values) < 3:
        return None
    return statistics.linear_regression([t / 3600.0 for t in times_s], values).slope


def watch(minutes: float, folder: Path, path: Path | None) -> dict[str, Any]:
    """Run it; the samples and whether it came to its end."""
    figures: dict[str, Any] = {"minutes": minutes, "done": False, "samples": []}
    with daemon(folder, page=False) as process, progress("soaking", minutes * 60.0) as advance:
        operator = ready(folder, process)
        began_s = due_s = time.monotonic()
        family = {process.pid, *below(process.pid)}
        busy_from_s = busy_others(family)
        while (now_s := time.monotonic()) < began_s + 60.0 * minutes and process.poll() is None:
            try:
                mode = operator.look()
            except CartpoleError as error:
                mode = str(error)
            advance(now_s - began_s, mode[:20])
            if now_s >= due_s:
                due_s += EVERY_S
                children = sorted(below(process.pid))
                sample = {"t_s": round(now_s - began_s, 1), "daemon_mb": pss_mb(process.pid)}
                sample["all_mb"] = sample["daemon_mb"] + sum(map(pss_mb, children))
                figures["samples"].append(sample)
                write(figures, path)
            time.sleep(1.0)
        elapsed_s = time.monotonic() - began_s
        figures["others_processors"] = round((busy_others(family) - busy_from_s) / elapsed_s, 2)
        figures["done"] = process.poll() is None
        figures["fault_stops"] = operator.fault_stops
    return figures


def ready(folder: Path, process: subprocess.Popen[bytes]) -> Operator:
    """Whoever looks at the daemon, once it balances."""

    def ask(message: dict[str, Any]) -> dict[str, Any]:
        with Client(folder / "socket", 10.0) as client:
            return client.call(message)

    operator = Operator(ask)
    end_s = time.monotonic() + START_S
    while True:
        if process.poll() is not None or time.monotonic() > end_s:
            sys.exit((folder / "log").read_text()[-2000:])
        try:
            if operator.look() == "BALANCE":
                return operator
        except (CartpoleError, OSError):
            pass
        time.sleep(0.2)


def judge(figures: dict[str, Any], sessions: Path) -> None:
    """Trends of the samples, and of every recorded tick from the first balance on."""
    settle_s = min(SETTLE_S, 12.0 * figures["minutes"])
    settled = [one for one in figures["samples"] if one["t_s"] >= settle_s]
    times_s = [one["t_s"] for one in settled]
    for name in ("daemon_mb", "all_mb"):
        values = [one[name] for one in settled]
        slope = slope_per_hour(times_s, values)
        figures[name] = {
            "after_settling": round(values[0], 1) if values else None,
            "at_the_end": round(values[-1], 1) if values else None,
            "slope_per_hour": None if slope is None else round(slope, 3),
        }
    pieces: list[dict[str, float]] = []
    late: list[float] = []
    balanced = ticks = missed = 0
    begin_ns: int | None = None
    for path in sorted(sessions.glob("*.mcap"), key=lambda one: one.stat().st_mtime):
        for tick in open_session(path).ticks() if not continued(path) else ():
            if begin_ns is None and tick.line.mode.value != "BALANCE":
                continue
            begin_ns = tick.line.now_ns if begin_ns is None else begin_ns
            ticks += 1
            balanced += tick.line.mode.value == "BALANCE"
            if tick.timing is None:
                continue
            missed += tick.timing.missed
            late.append(abs(tick.timing.late_ns) / 1e3)
            if (tick.line.now_ns - begin_ns) * 1e-9 >= PIECE_S * (len(pieces) + 1):
                pieces.append(piece(late))
                late = []
    minutes = [PIECE_S * n for n in range(len(pieces))]
    slope = slope_per_hour(minutes, [one["late_us_p99"] for one in pieces])
    figures |= {
        "ticks": ticks,
        "missed": missed,
        "balanced_share": round(balanced / max(ticks, 1), 5),
        "late_by_minute": pieces,
        "late_us_p99_slope_per_hour": None if slope is None else round(slope, 1),
    }


def continued(path: Path) -> bool:
    """Whether another file's session contains this one."""
    return open_session(path).first_number > 1


def piece(late: list[float]) -> dict[str, float]:
    """A minute's lateness."""
    ordered = sorted(late)
    return {
        "late_us_median": round(ordered[len(ordered) // 2], 1),
        "late_us_p99": round(ordered[int(0.99 * (len(ordered) - 1))], 1),
        "late_us_max": round(ordered[-1], 1),
    }


def write(figures: dict[str, Any], path: Path | None) -> None:
    """Whole or not at all."""
    if path is None:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(figures, indent=1) + "\n")
    temporary.replace(path)


def draw(figures: dict[str, Any], path: Path) -> None:
    """Memory and lateness over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    above, below_ = figure.subplots(2, 1, sharex=True)
    minutes = [one["t_s"] / 60.0 for one in figures["samples"]]
    for name, words in (("daemon_mb", "daemon"), ("all_mb", "with camera and simulated rig")):
        above.plot(minutes, [one[name] for one in figures["samples"]], label=words)
    above.set_ylabel("memory [MB]")
    above.set_ylim(bottom=0.0)
    above.legend(loc="lower right")
    pieces = figures["late_by_minute"]
    at = [PIECE_S / 60.0 * (n + 0.5) for n in range(len(pieces))]
    for name in ("late_us_median", "late_us_p99", "late_us_max"):
        below_.plot(at, [one[name] for one in pieces], marker=".", label=name.split("_")[-1])
    below_.set_yscale("log")
    below_.set_ylabel("late, by minute [us]")
    below_.set_xlabel("minutes")
    below_.legend(loc="lower right")
    share = 100.0 * figures["balanced_share"]
    figure.suptitle(f"balanced {share:.2f} % of {figures['ticks']} ticks, {figures['missed']} late")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run, print, write, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="half a minute")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    minutes = 0.5 if options.quick else options.minutes
    path = options.json.resolve() if options.json is not None else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = watch(minutes, folder, path)
        judge(figures, folder / "sessions")
    write(figures, path)
    if options.plot is not None:
        draw(figures, options.plot)
    print(json.dumps({k: v for k, v in figures.items() if k not in ("samples", "late_by_minute")}))
    if not figures["done"]:
        sys.exit("the daemon ended before its time")


if __name__ == "__main__":
    main()
