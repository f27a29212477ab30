"""Files that come with the program: settings, unit, rules, examples.

In a checkout they stand beside the package, in an installed wheel under ``share/cartpole``.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from cartpole.errors import UsageError

FOLDERS = ("config", "systemd", "examples")


def shipped(folder: str, name: str) -> Path:
    """The path of a shipped file; UsageError if this installation lacks it."""
    beside = Path(__file__).parent.parent / folder / name
    if beside.is_file():
        return beside
    wanted = f"share/cartpole/{folder}/{name}"
    try:
        for entry in files("cartpole") or ():
            if entry.as_posix().endswith(wanted):
                return Path(str(entry.locate())).resolve()
    except PackageNotFoundError:
        pass
    raise UsageError(f"{folder}/{name} is not in this installation: install cartpole anew")


def default_settings() -> Path:
    """The simulated rig's settings, used where none are named."""
    return shipped("config", "sim.yaml")
