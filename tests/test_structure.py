"""The house: imports run downward only; importing the daemon's path loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Room -> floor. A room may import itself and rooms on lower floors.
FLOORS = {
    "cartpole.errors": 0,
    "cartpole.messages": 0,
    "cartpole.config": 0,
    "cartpole.kernel_cache": 0,
    "cartpole.recall": 0,
    "cartpole.model": 0,
    "cartpole.realtime": 1,
    "cartpole.pacing": 1,
    "cartpole.optimizer": 1,
    "cartpole.estimation": 1,
    "cartpole.vision": 1,
    "firmware_bridge": 2,
    "cartpole.control": 2,
    "cartpole.sim": 3,
    "cartpole.rules": 4,  # above all rooms whose rules it makes
    "cartpole.sim.run": 5,
    "cartpole.sim.process": 5,
    "cartpole.session": 6,
    "cartpole.devices": 6,
    "cartpole.learning": 6,
    "calibration": 7,
    # What another process may ask of a daemon stands below page and daemon.
    "cartpole.remote": 7,
    "cartpole.doctor": 8,
    "cartpole.dashboard": 8,
    "cartpole.daemon": 9,
    "cartpole.cli": 10,
    "cartpole.__main__": 11,
    "cartpole": 0,
}
GROUND = {"cartpole.errors", "cartpole.messages", "cartpole.config", "cartpole.model", "cartpole"}


def room_of(module: str) -> str | None:
    """The room a module belongs to; None for the outside world."""
    for room in sorted(FLOORS, key=len, reverse=True):
        if module == room or module.startswith(room + "."):
            return room
    return None


def sources() -> Iterator[Path]:
    for package in ("cartpole", "firmware_bridge", "calibration"):
        yield from sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path: Path) -> None:
    here = room_of(module_name(path))
    assert here is not None, f"{path} stands in no room: give it one in FLOORS"
    for name in imports(path):
        there = room_of(name)
        if there is None or there == here or there in GROUND:
            continue
        assert FLOORS[there] < FLOORS[here], f"{here} imports {name}, which is not below it"


@pytest.mark.parametrize(
    "heavy", ["torch", "matplotlib", "plotly", "nicegui", "cv2", "scipy.optimize"]
)
def test_daemon_starts_without(heavy: str) -> None:
    code = f"import sys, cartpole.daemon.assembly; sys.exit({heavy!r} in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert found.returncode == 0, f"importing the daemon imports {heavy}"


def test_core_reads_no_clock() -> None:
    rooms = ("cartpole/model", "cartpole/estimation", "cartpole/control", "cartpole/optimizer")
    allowed = {"timed_planner.py"}
    for room in rooms:
        for path in (ROOT / room).glob("*.py"):
            if path.name not in allowed:
                names = set(imports(path))
                assert not names & {"time", "datetime", "threading"}, f"{path} reads a clock"
