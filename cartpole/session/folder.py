"""The folder of recordings: names that cannot leave it, and a cap on what it holds."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from cartpole.errors import SessionError

SUFFIX = ".mcap"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OWN_NAME = re.compile(r"\d{8}-\d{6}(-\d+)?(-part\d+)?\.mcap")
_PART = re.compile(r"(?P<stem>.*)-part(?P<number>\d+)")


def session_path(folder: Path, name: str) -> Path:
    """The recording called ``name`` in ``folder``; raises SessionError if it could lead elsewhere.

    Letters, digits, ``_``, ``-`` and ``.`` only, no leading dot, and no symbolic links.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise SessionError(
            f"{name!r} is no session name: letters, digits, '_', '-' and '.' only, at most 100"
        )
    path = folder / (name if name.endswith(SUFFIX) else name + SUFFIX)
    if path.is_symlink() or not path.is_file():
        raise SessionError(f"no session {path.name} in {folder}")
    return path


def new_path(folder: Path, now: datetime) -> Path:
    """A name for a recording that begins now and is not taken."""
    stem = now.strftime("%Y%m%d-%H%M%S")
    path = folder / f"{stem}{SUFFIX}"
    count = 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}{SUFFIX}"
    return path


def part_path(first: Path, number: int) -> Path:
    """Where the ``number``-th file of a recording lives; the first is the recording's own name."""
    return first if number == 1 else first.with_name(f"{first.stem}-part{number}{SUFFIX}")


def parts(first: Path) -> list[Path]:
    """All files of the recording that begins with ``first``, in order."""
    found = [first]
    if _PART.fullmatch(first.stem):
        return found
    while (following := part_path(first, len(found) + 1)).is_file():
        found.append(following)
    return found


def recordings(folder: Path) -> list[Path]:
    """The recordings of a folder by name, oldest first; links and continuations are left out."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix == SUFFIX
        and _NAME.fullmatch(path.name)
        and not _PART.fullmatch(path.stem)
        and not path.is_symlink()
        and path.is_file()
    )


def prune(folder: Path, most_bytes: int, most_seconds: float, now_s: float, keep: Path) -> int:
    """Remove the oldest recordings beyond a size and an age; returns how many files went.

    Only names that the recorder gives itself are touched, and never ``keep`` or links.
    """
    files = []
    for path in folder.iterdir():
        if _OWN_NAME.fullmatch(path.name) and path != keep and not path.is_symlink():
            try:
                found = path.stat()
            except OSError:
                continue
            files.append((found.st_mtime, path, found.st_size))
    files.sort()
    total = sum(size for _, _, size in files)
    removed = 0
    for modified, path, size in files:
        if total <= most_bytes and now_s - modified <= most_seconds:
            continue
        try:
            path.unlink()
        except OSError:
            continue
        total -= size
        removed += 1
    return removed
