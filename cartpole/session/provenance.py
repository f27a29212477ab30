"""Which source and which versions made a session."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import cartpole
from cartpole.config.load import config_sha256
from cartpole.session.code import code_provenance

if TYPE_CHECKING:
    from cartpole.config.schema import Config

PACKAGES = ("numpy", "numba", "scipy", "mcap", "pyserial", "opencv-python-headless")


def git_revision() -> str:
    """Revision of the source tree, ``+`` if it is changed; the package's version outside a tree."""
    folder = Path(cartpole.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return f"v{cartpole.__version__}"
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return f"v{cartpole.__version__}"
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of this package, Python, the machine's type and what computes."""
    found = {
        "cartpole": cartpole.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def provenance(config: Config, git: str | None = None) -> dict[str, str]:
    """What a recording says of its making, of code that its settings name too; ``git`` saves asking
    for the revision."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_revision() if git is None else git,
        "config_sha256": config_sha256(config),
        "seed": str(config.sim.seed),
        **versions(),
        **code_provenance(config),
    }
