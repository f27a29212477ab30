"""What the daemon holds: only named libraries, and nothing locked once the rig is at rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Whatever a tick, its links, its recorder and its socket load. Everything here is locked in memory
# while the rig runs: who adds a library says why in docs/dependencies.md.
ALLOWED = {
    "numpy", "numba", "llvmlite",  # arithmetic
    "scipy",  # its linear algebra alone (below): Riccati equation and matrix exponential
    "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection",
    "ruamel", "_ruamel_yaml",  # settings
    "yaml",  # numba, where it is installed, for a file of its own
    "mcap", "lz4", "zstandard", "orjson",  # recordings
    "serial", "v4l2",  # devices
    "sitecustomize", "usercustomize",  # the machine's own, in every Python
}  # fmt: skip
WHAT_IS_LOADED = """
import sys
from cartpole.kernel_cache import use_kernel_cache
use_kernel_cache()
from cartpole.config.schema import Config
from cartpole.daemon.assembly import warm_up
warm_up(Config())
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", WHAT_IS_LOADED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_daemon_loads_named_libraries_only(loaded: set[str]) -> None:
    known = ALLOWED | set(sys.stdlib_module_names) | {"cartpole", "firmware_bridge"}
    foreign = {name.split(".")[0] for name in loaded} - known
    foreign = {name for name in foreign if not name.startswith(("_", "cython_runtime"))}
    assert foreign == set()


def test_of_scipy_only_the_linear_algebra(loaded: set[str]) -> None:
    rooms = {name.split(".")[1] for name in loaded if name.startswith("scipy.")}
    heavy = {"optimize", "stats", "signal", "interpolate", "ndimage", "spatial", "integrate"}
    assert rooms & heavy == set()


def test_after_the_run_nothing_is_locked() -> None:
    """The picture drawn at the end was locked with the rest: it doubled what the daemon held."""
    code = """
import sys
from cartpole import realtime
from cartpole.config.schema import Service
def locked():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Locked"))
refused = realtime.enter(Service(priority=0, cpu=-1))
if any("mlockall" in line for line in refused):
    sys.exit("may not lock")
assert locked() > 1000
realtime.release()
assert locked() == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "may not lock" in done.stderr:
        pytest.skip("this user may lock no memory")
    assert done.returncode == 0, done.stderr
