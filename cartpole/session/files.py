"""The files that a recorder writes, one after the other: parts of a recording, or another one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cartpole.session import folder as folders
from cartpole.session.channels import FIRST_TICK, LAST_TICK, Event
from cartpole.session.codec import Line, encode
from cartpole.session.container import Container
from cartpole.session.retention import DAY_S, claim, next_serial, prune

if TYPE_CHECKING:
    from cartpole.config.schema import Session


def open_file(path: Path) -> IO[bytes]:
    """A new file, or an old one emptied."""
    return path.open("w+b")


class Files:
    """Begun with the first file; OSError as the disk has it.

    ``managed``: the folder is kept within what the settings allow; what went is told by ``told``.
    """

    def __init__(
        self,
        first: Path,
        session: Session,
        attachments: Mapping[str, bytes],
        provenance: Mapping[str, str],
        *,
        managed: bool,
        told: Callable[[str], None],
        opener: Callable[[Path], IO[bytes]] = open_file,
    ) -> None:
        self.path = self.first = first
        self.paths = [first]
        self._session, self._managed = session, managed
        self._attachments, self._opener, self._told = dict(attachments), opener, told
        self._metadata: dict[str, dict[str, str]] = {"provenance": dict(provenance)}
        self._part, self._serial = 1, 0
        self._bytes_before = 0
        self._ticks: tuple[int, int] | None = None  # the first and the last index in this file
        self._begin()

    @property
    def bytes(self) -> int:
        """Of the recording in all its files, what is not flushed included."""
        return self._bytes_before + self._container.size

    @property
    def flushed(self) -> int:
        """Of the recording, up to the last flush."""
        return self._bytes_before + self.whole

    def add(self, lines: list[Line], now_ns: int) -> None:
        """Write lines; ``now_ns`` is when they were handed over."""
        self._container.add(lines, now_ns)

    def add_tick(self, index: int, lines: list[Line], now_ns: int) -> None:
        """Write a tick's lines; which ones the file begins and ends with is kept in it."""
        if self._ticks is None:
            self._container.add_metadata(FIRST_TICK, {"index": str(index)})
            self._ticks = index, index
        self._ticks = self._ticks[0], index
        self.add(lines, now_ns)

    def keep(self, name: str, values: dict[str, str]) -> None:
        """A named set of texts, in this file and in all that follow."""
        self._metadata[name] = values
        self._container.add_metadata(name, values)

    def flush(self) -> None:
        """Close the chunk; a file that breaks off later is whole up to here."""
        self._container.flush()
        self.whole = self._container.size  # of this file

    def sync(self) -> None:
        """Wait for the disk; ValueError if the file was closed just now."""
        os.fdatasync(self._stream.fileno())

    def is_there(self, path: Path) -> bool:
        """Whether the open file still stands at ``path``; OSError if it was removed."""
        return folders.is_there(path, self._stream.fileno())

    def finish(self, summary: str, following: str = "") -> None:
        """Complete the file and have it on the disk; ``following`` is the file that goes on."""
        if self._ticks is not None:
            told = {"index": str(self._ticks[1]), **({"next": following} if following else {})}
            self._container.add_metadata(LAST_TICK, told)
        self._container.add_metadata("summary", {"json": summary})
        self._container.finish()
        os.fsync(self._stream.fileno())

    def follow(self, summary: str, *, another: bool) -> None:
        """Finish this file and go on in the next, or in ``another`` recording."""
        following = folders.part_path(self.first, self._part + 1)
        self.finish(summary, "" if another else following.name)
        finished, self._bytes_before = self._stream, self.bytes
        self._part += 1
        if another:
            self._part, self._bytes_before = 1, 0
            self.first = folders.new_path(self.path.parent, datetime.now())
            self.paths.append(self.first)
        try:
            self._begin()
        finally:
            finished.close()

    def close(self) -> None:
        """Close what is open."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.close()

    def truncate(self) -> None:
        """Leave a file that ends with its last whole chunk."""
        with contextlib.suppress(OSError, ValueError):
            os.truncate(self.path, self.whole)

    def _begin(self) -> None:
        self.path = folders.part_path(self.first, self._part)
        if self._part == 1 and self._managed:
            self._serial = next_serial(self.path.parent)
        part = {"number": str(self._part), "first": self.first.name}
        if self._serial:
            part["serial"] = str(self._serial)
        self._stream = self._opener(self.path)
        self._ticks = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            claim(self._stream.fileno())
        metadata = {**self._metadata, "part": part}
        self._container = Container(self._stream, self._attachments, metadata)
        self.flush()
        if self._managed:
            self._make_room()

    def _make_room(self) -> None:
        session = self._session
        removed = prune(
            self.path.parent,
            session.max_folder_mb << 20,
            session.max_age_days * DAY_S,
            session.keep_newest,
            datetime.now(UTC).timestamp(),
            self.path,
        )
        for one in removed:
            self._told(f"removed {one}")
            event = Event(time.monotonic_ns(), "removed", str(one))
            self.add([("/event", event.t_ns, encode(event))], event.t_ns)
