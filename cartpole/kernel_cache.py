"""Where compiled kernels are kept between starts.

numba invalidates a cached kernel when its own file changes, but not when a kernel it inlines or a
constant it reads from another file does. So the cache folder is named after the content of every
file with kernels and of all that those import, directly or not: a changed source is a new folder.
Call ``use_kernel_cache`` before numba is imported.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ENVIRONMENT = "NUMBA_CACHE_DIR"
MARKER = "warm"
PACKAGES = ("cartpole", "firmware_bridge", "calibration")
# At the start of a line only. Parsing the sources would take every command a tenth of a second.
IMPORT = re.compile(r"^(?:from|import) ([\w.]+)(?: import (\([^)]*\)|[^\n]+))?", re.MULTILINE)
KEEP = 3  # folders of older sources


def kernel_sources(top: Path) -> list[Path]:
    """The files under ``top`` with kernels, and those whose constants may reach one; sorted."""
    files = _modules(top)
    reached: set[str] = set()
    waiting = [name for name, path in files.items() if b"njit" in path.read_bytes()]
    while waiting:
        name = waiting.pop()
        if name in files and name not in reached:
            reached.add(name)
            waiting.extend(_imports(files[name].read_bytes()))
    return sorted(files[name] for name in reached)


def importers(path: Path, top: Path) -> list[Path]:
    """The files under ``top`` that import ``path``, directly or not, and itself; sorted."""
    files = _modules(top)
    imports = {name: set(_imports(file.read_bytes())) for name, file in files.items()}
    found, new = set(), {_module(path.relative_to(top))}
    while new:
        found |= new
        new = {name for name, those in imports.items() if those & new} - found
    return sorted(files[name] for name in found if name in files)


def _modules(top: Path) -> dict[str, Path]:
    return {
        _module(path.relative_to(top)): path
        for package in PACKAGES
        for path in (top / package).rglob("*.py")
    }


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(source: bytes) -> Iterator[str]:
    """What a module imports when it is loaded: what stands in functions or is for types is not."""
    for module, names in IMPORT.findall(source.decode()):
        yield module
        yield from (f"{module}.{name}" for name in re.findall(r"\w+", names))


def kernel_fingerprint(top: Path = Path(__file__).parent.parent) -> str:
    """Short hash of all sources that reach a kernel, and of numba's and Python's versions."""
    digest = hashlib.sha256(f"{version('numba')} {sys.version}".encode())
    for path in kernel_sources(top):
        digest.update(f"{path.relative_to(top)}\n".encode() + path.read_bytes())
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
