"""Where compiled kernels are kept between starts.

numba invalidates a cached kernel when its own file changes, but not when a kernel it inlines from
another file does. So the cache folder is named after the content of every file with kernels: a
changed source is a new folder. Call ``use_kernel_cache`` before numba is imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

ENVIRONMENT = "NUMBA_CACHE_DIR"
MARKER = "warm"
KEEP = 3  # folders of older sources


def kernel_fingerprint() -> str:
    """Short hash of all sources with kernels, and of numba's and Python's versions."""
    package = Path(__file__).parent
    digest = hashlib.sha256(f"{version('numba')} {sys.version}".encode())
    for root in (package, package.parent / "firmware_bridge", package.parent / "calibration"):
        for path in sorted(root.rglob("*.py")):
            content = path.read_bytes()
            if b"njit" in content:
                digest.update(path.name.encode() + content)
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """``$CACHE_DIRECTORY`` (a service), else ``$XDG_CACHE_HOME/cartpole``, else under the home."""
    service = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if service:
        return Path(service)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cartpole"


def use_kernel_cache() -> Path:
    """Point numba at this source's folder, unless the environment names one already."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    root = cache_root()
    folder = root / f"kernels-{kernel_fingerprint()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return folder  # numba then falls back to its own places
    os.environ[ENVIRONMENT] = str(folder)
    others = [path for path in root.glob("kernels-*") if path != folder]
    for old in sorted(others, key=lambda path: path.stat().st_mtime)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def is_warm() -> bool:
    """Whether a start with these sources has compiled everything before."""
    return (Path(os.environ.get(ENVIRONMENT, "/nonexistent")) / MARKER).exists()


def mark_warm() -> None:
    """Remember that everything is compiled."""
    folder = Path(os.environ.get(ENVIRONMENT, "/nonexistent"))
    if folder.is_dir():
        (folder / MARKER).touch()
