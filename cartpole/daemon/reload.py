"""Settings read again: on SIGHUP, and when the file changes on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from cartpole.daemon.settings import SettingsKeeper
from cartpole.errors import CartpoleError

LOOK_EVERY_S = 0.5

Tell = Callable[[str, str], None]


class SettingsWatch:
    """While entered, a thread that reloads; what came of it is told as (name, detail).

    Settings that cannot be used leave everything as it was.
    """

    def __init__(
        self,
        path: Path | None,
        settings: SettingsKeeper,
        tell: Tell,
        begin: Callable[[], None] = lambda: None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        """``begin`` and ``end`` surround a reload that was asked for."""
        self._path, self._settings, self._tell = path, settings, tell
        self._begin, self._end = begin, end
        self._asked = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settings", daemon=True)

    def ask(self) -> None:
        """Reload soon; safe in a signal handler."""
        self._asked.set()

    def __enter__(self) -> SettingsWatch:
        self._seen = self._stamp()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._asked.set()
        self._thread.join(3.0)

    def _stamp(self) -> tuple[int, int] | None:
        """What changes when the file does; editors replace files, so the inode is part of it."""
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _run(self) -> None:
        while not self._done.is_set():
            asked = self._asked.wait(LOOK_EVERY_S)
            self._asked.clear()
            if self._done.is_set():
                return
            stamp = self._stamp()
            changed = stamp is not None and stamp != self._seen
            if not (asked or changed):
                continue
            self._seen = stamp
            self._reload(asked)

    def _reload(self, asked: bool) -> None:
        if asked:
            self._begin()
        try:
            self._settings.reload()
        except CartpoleError as error:
            self._tell("settings refused", str(error))
        finally:
            if asked:
                self._end()
