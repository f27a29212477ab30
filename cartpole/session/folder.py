"""The folder of recordings: names that cannot leave it, and a cap on what it holds."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

SUFFIX = ".mcap"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OWN_NAME = re.compile(r"\d{8}-\d{6}(-\d+)?(-part\d+)?\.mcap")
_PART = re.compile(r"(?P<stem>.*)-part(?P<number>\d+)")


def new_path(folder: Path, now: datetime) -> Path:
    """A name for a recording that begins now and is not taken."""
    stem = now.strftime("%Y%m%d-%H%M%S")
    path = folder / f"{stem}{SUFFIX}"
    count = 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}{SUFFIX}"
    return path


def is_there(path: Path, handle: int) -> bool:
    """Whether an open file is still the one at ``path``: it may have been moved meanwhile.

    OSError if it was removed: what is written goes nowhere.
    """
    mine = os.fstat(handle)
    if mine.st_nlink == 0:
        raise OSError("its file, or the whole folder, was removed while it was written")
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def part_path(first: Path, number: int) -> Path:
    """Where the ``number``-th file of a recording lives; the first is the recording's own name."""
    return first if number == 1 else first.with_name(f"{first.stem}-part{number}{SUFFIX}")


def parts(first: Path) -> list[Path]:
    """All files of the recording that begins with ``first``, in order; from a continuation on, the
    rest of it."""
    found = [first]
    continued = _PART.fullmatch(first.stem)
    stem, number = (continued["stem"], int(continued["number"])) if continued else (first.stem, 1)
    while (following := first.with_name(f"{stem}-part{number + 1}{SUFFIX}")).is_file():
        found.append(following)
        number += 1
    return found


def recordings(folder: Path) -> list[Path]:
    """The recordings of a folder by name, oldest first; links are left out, and continuations of
    those whose file before them is there."""
    if not folder.is_dir():
        return []
    found = {
        path.name: path
        for path in folder.iterdir()
        if path.suffix == SUFFIX
        and _NAME.fullmatch(path.name)
        and not path.is_symlink()
        and path.is_file()
    }
    return sorted(path for path in found.values() if _before(path) not in found)


def _before(path: Path) -> str:
    """The name of the file that ``path`` continues; empty if it is a beginning."""
    continued = _PART.fullmatch(path.stem)
    if continued is None:
        return ""
    number = int(continued["number"]) - 1
    return f"{continued['stem']}{SUFFIX if number <= 1 else f'-part{number}{SUFFIX}'}"
