"""A campaign cut off by SIGKILL goes on, and flies no finished seed twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = "from cartpole.cli import main; main()"
RUNS = 5


def command(path: Path) -> list[str]:
    words = ["campaign", "--runs", str(RUNS), "--faults", "e-stop", "--jobs", "1"]
    return [sys.executable, "-c", COMMAND, *words, "--resume", str(path)]


def seeds(path: Path) -> list[int]:
    """Of the whole lines."""
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1].splitlines()[1:]
    return [json.loads(line)["seed"] for line in whole]


def test_killed_and_resumed(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with subprocess.Popen(
        command(path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as first:
        until = time.monotonic() + 240.0
        while len(seeds(path)) < 2 and first.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if first.poll() is None:
            os.killpg(first.pid, signal.SIGKILL)
    finished = seeds(path)
    assert len(finished) >= 2
    before = path.read_bytes()
    subprocess.run(command(path), capture_output=True, check=False)
    assert sorted(seeds(path)) == list(range(RUNS))
    whole = before[: before.rfind(b"\n") + 1]
    assert path.read_bytes().startswith(whole)
