"""Which recordings make room for new ones: whole ones, the oldest, never the present.

Nothing that is being written goes, nor the newest few, whatever a clock says: their order is that
of the numbers which recordings are given one after the other in a folder. Sizes come first; an age
counts only where the recordings between it and now follow each other without a jump of the clock.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mcap.exceptions import McapError
from mcap.opcode import Opcode

from cartpole.errors import SessionError
from cartpole.session.folder import SUFFIX
from cartpole.session.mcap_scan import RECORD, Contents, open_stream

_OWN_NAME = re.compile(r"(?P<stem>\d{8}-\d{6}(-\d+)?)(-part(?P<part>\d+))?\.mcap")
HEAD_BYTES = 64 << 10
MOST_SKIPPED = 10**6  # numbers of recordings that went
DAY_S = 86400.0
PLAUSIBLE_FROM_S = 1_704_067_200.0  # 2024: no clock that was ever set shows less


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording in the folder: its files in order, ``serial`` 0 where none was given."""

    files: tuple[Path, ...]
    bytes: int
    serial: int
    modified_s: float
    busy: bool

    @property
    def name(self) -> str:
        """That of its first file."""
        return self.files[0].name


@dataclass(frozen=True, slots=True)
class Removed:
    """A recording that went, and why."""

    name: str
    files: int
    bytes: int
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.files} files, {self.bytes / 1e6:.1f} MB): {self.why}"


def kept_in(folder: Path) -> list[Kept]:
    """The recordings whose names the recorder gave, oldest first; links are left out."""
    groups: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        named = _OWN_NAME.fullmatch(path.name)
        if named is not None and not path.is_symlink() and path.is_file():
            groups.setdefault(named["stem"], []).append((int(named["part"] or 1), path))
    found = [_kept(tuple(path for _, path in sorted(group))) for group in groups.values()]
    return sorted(found, key=lambda one: (one.serial, one.modified_s, one.name))


def _kept(files: tuple[Path, ...]) -> Kept:
    size, modified = 0, 0.0
    for path in files:
        try:
            told = path.stat()
        except OSError:
            continue
        size, modified = size + told.st_size, max(modified, told.st_mtime)
    busy = any(is_being_written(path) for path in files)
    return Kept(files, size, serial_of(files[0]), modified, busy)


def next_serial(folder: Path) -> int:
    """The number of a recording that begins now."""
    last = 0
    try:
        for number in sorted(one.serial for one in kept_in(folder)):
            if number - last > MOST_SKIPPED:
                break  # somebody else's, who must not push those that follow to the end of numbers
            last = number
    except OSError:
        return 1
    return last + 1


def serial_of(path: Path) -> int:
    """The number that a recording was given when it began; 0 if it has none."""
    try:
        with open_stream(path) as stream:
            data = stream.read(HEAD_BYTES)
        contents = Contents()
        at = 0
        while at + RECORD.size <= len(data):
            opcode, length = RECORD.unpack_from(data, at)
            at += RECORD.size
            if opcode == Opcode.METADATA and at + length <= len(data):
                contents.take(opcode, data[at : at + length])
            elif opcode not in (Opcode.HEADER, Opcode.METADATA):
                break
            at += length
    except (OSError, SessionError, McapError, ValueError):
        return 0
    told = contents.metadata.get("part", {}).get("serial", "")
    return int(told) if told.isascii() and told.isdecimal() and len(told) < 12 else 0


def claim(descriptor: int) -> None:
    """Mark a file as being written, for as long as it is open."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_being_written(path: Path) -> bool:
    """Whether a recorder, of this or another process, has the file open."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def prune(
    folder: Path, most_bytes: int, most_s: float, newest: int, now_s: float, present: Path
) -> list[Removed]:
    """Remove whole recordings beyond a size, then beyond an age; returns those that went.

    ``present`` is a file of the recording in progress: neither it nor any other that is being
    written goes, nor one of the ``newest``.
    """
    found = kept_in(folder)
    protected = {one.name for one in found[max(0, len(found) - newest) :]} if newest else set()
    free = [
        one
        for one in found
        if not one.busy and one.name not in protected and present not in one.files
    ]
    removed = []
    total = sum(one.bytes for one in found)
    for one in free:
        if total > most_bytes and _remove(one):
            total -= one.bytes
            why = f"more than {most_bytes >> 20} MB in the folder"
            removed.append(Removed(one.name, len(one.files), one.bytes, why))
    gone = {one.name for one in removed}
    for one in reversed(list(_aged(found, most_s, now_s))):
        if one in free and one.name not in gone and _remove(one):
            why = f"older than {most_s / DAY_S:.0f} days"
            removed.append(Removed(one.name, len(one.files), one.bytes, why))
    return removed


def _aged(found: list[Kept], most_s: float, now_s: float) -> Iterable[Kept]:
    """Those too old by a clock that can be believed back to them, newest first."""
    if now_s < PLAUSIBLE_FROM_S or any(one.modified_s > now_s + DAY_S for one in found):
        return
    longest_s = max(DAY_S, most_s / 4.0)
    later_s = now_s
    for one in reversed(found):
        if not -DAY_S <= later_s - one.modified_s <= longest_s:
            return  # the clock jumped here, or nobody was there to know
        later_s = one.modified_s
        if now_s - one.modified_s > most_s:
            yield one


def _remove(one: Kept) -> bool:
    """Last file first: what is left if it is interrupted is a beginning."""
    try:
        for path in reversed(one.files):
            if path.suffix == SUFFIX:
                path.unlink()
    except OSError:
        return False
    return True
