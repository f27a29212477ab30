"""The house: imports run downward only; importing the daemon's path loads nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Room -> floor. A room may import itself and rooms on lower floors, for its types, too.
FLOORS = {
    "cartpole": -1,
    "cartpole.record": -1,
    "cartpole.errors": 0,
    "cartpole.messages": 0,
    "cartpole.shown": 0,
    "cartpole.kernel_cache": 0,
    "cartpole.shipped": 1,
    "cartpole.config": 1,
    "cartpole.recall": 1,
    "cartpole.model": 2,
    "cartpole.realtime": 2,
    "cartpole.pacing": 2,
    "cartpole.optimizer": 3,
    "cartpole.estimation": 3,
    "cartpole.vision": 3,
    "firmware_bridge": 4,
    "cartpole.control": 4,
    "cartpole.sim": 5,
    "cartpole.rules": 6,  # above all rooms whose rules it makes
    "cartpole.sim.run": 7,
    "cartpole.sim.process": 7,
    "cartpole.session": 8,
    "cartpole.devices": 8,
    "cartpole.learning": 10,  # on top of the fits of calibration
    "calibration": 9,
    "cartpole.api": 9,
    "cartpole.campaign": 9,
    # What another process may ask of a daemon stands below page and daemon.
    "cartpole.remote": 9,
    "cartpole.doctor": 10,
    "cartpole.dashboard": 10,
    "cartpole.daemon": 11,
    "cartpole.service": 12,
    "cartpole.first_start": 12,
    "cartpole.first_settings": 12,
    "cartpole.timing": 12,
    "cartpole.cli": 13,
    "cartpole.__main__": 14,
}
# The package's own doors, which load what they are asked for.
DOORS = ("cartpole", "cartpole.__main__")
# Who may know the whole tree of settings: its own room, who makes rules of it, and shells.
KNOW_SETTINGS = (
    "cartpole.config",
    "cartpole.rules",
    "cartpole.sim.run",
    "cartpole.sim.process",
    "cartpole.session",
    "cartpole.campaign",
    "cartpole.devices",
    "calibration",
    "cartpole.learning",  # like calibration, it reads settings and proposes others
    "cartpole.api",
    "cartpole.doctor",
    "cartpole.dashboard",
    "cartpole.daemon",
    "cartpole.service",
    "cartpole.timing",
    "cartpole.cli",
    "cartpole.first_settings",
    "cartpole.first_start",
)
# What knows the whole tree; a section of it may be part of a room's rules.
WHOLE_TREE = {"cartpole.config.schema.Config", "cartpole.config.load", "cartpole.config.edit"}
CLI_LINES = 2200  # the command line only speaks


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
        if there is None or there == here:
            continue
        assert FLOORS[there] < FLOORS[here], f"{here} imports {name}, which is not below it"


def test_the_floors_are_the_documented_ones() -> None:
    table = (ROOT / "docs/architecture.md").read_text().partition("## Rooms and floors")[2]
    rows = [
        line.split("|")[1:4] for line in table.partition("\n## ")[0].splitlines() if "| `" in line
    ]
    told = {
        place.replace("/", "."): int(floor)
        for places, _holds, floor in rows
        for place in re.findall(r"`([a-z_/]+)`", places)
    }
    assert told == {room: floor for room, floor in FLOORS.items() if room not in DOORS}


def running_imports(tree: ast.AST, modules: frozenset[str]) -> Iterator[str]:
    """Modules of ours that code runs, inside functions too; not those it needs for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from running_imports(ast.Module(node.orelse, []), modules)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module
        else:
            yield from running_imports(node, modules)


def circles(edges: Mapping[str, frozenset[str]]) -> Iterator[frozenset[str]]:
    """Files that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in edges:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            fresh = edges.get(waiting.pop(), frozenset()) - seen
            seen |= fresh
            waiting += fresh
        reached[start] = seen
    for name, seen in reached.items():
        yield frozenset(other for other in seen if name in reached.get(other, ()))


def test_no_circle_among_files() -> None:
    paths = {module_name(path): path for path in sources()}
    modules = frozenset(paths)
    edges = {
        name: frozenset(running_imports(ast.parse(path.read_text()), modules)) - {name}
        for name, path in paths.items()
    }
    found = {circle for circle in circles(edges) if circle}
    assert not found, f"these files import each other: {[sorted(circle) for circle in found]}"


def test_circles_are_seen() -> None:
    """Also those that hide inside a function; a file on the way into a circle is in none."""
    modules = frozenset({"a", "b", "c", "d"})
    texts = {
        "a": "def f():\n    import b",
        "b": "from c import x",
        "c": "if TYPE_CHECKING:\n    import d\nelse:\n    import a",
        "d": "import a",
    }
    edges = {
        name: frozenset(running_imports(ast.parse(text), modules)) for name, text in texts.items()
    }
    assert set(circles(edges)) == {frozenset({"a", "b", "c"}), frozenset()}


def test_settings_are_known_to_shells_only() -> None:
    """Rooms below get rules: small records of what they need, made by ``cartpole.rules``."""

    def within(name: str, rooms: Iterable[str]) -> bool:
        return any(name == room or name.startswith(f"{room}.") for room in rooms)

    for path in sources():
        name = module_name(path)
        if within(name, KNOW_SETTINGS):
            continue
        known = WHOLE_TREE & set(imports(path))
        assert not known, f"{name} imports {min(known)}: it should be given rules"


def test_the_mode_changes_in_one_place() -> None:
    found = [
        f"{path.name}: {ast.unparse(node)}"
        for path in sorted((ROOT / "cartpole/control").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute) and target.attr in ("mode", "_mode")
    ]
    assert found == ["standing.py: memory.mode = following"]


def test_the_command_line_only_speaks() -> None:
    lines = sum(
        len(path.read_text().splitlines()) for path in (ROOT / "cartpole/cli").rglob("*.py")
    )
    assert lines <= CLI_LINES, f"cartpole/cli has {lines} lines: logic belongs in the rooms below"


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
        for path in (ROOT / room).rglob("*.py"):
            if path.name not in allowed:
                names = set(imports(path))
                assert not names & {"time", "datetime", "threading"}, f"{path} reads a clock"
