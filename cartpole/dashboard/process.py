"""The page's process as the daemon sees it: started, shown where it is, and ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.dashboard.setup import PageSetup, page_setup

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.ring import FrameRing

END_WITHIN_S = 1.0
NICE = 5


class PageProcess:
    """While entered, the page is served. ``pictures`` is the camera's ring, if there is one.

    The address with its token is printed once and kept, readable for the socket's group, in a file
    beside the socket (``.url``).
    """

    def __init__(self, config: Config, pictures: FrameRing | None) -> None:
        self.setup = page_setup(config, os.getpid())
        self._file = Path(f"{config.service.socket}.url")
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(
            target=run, args=(self.setup, pictures), name="cartpole-page", daemon=True
        )

    def __enter__(self) -> PageProcess:
        self._process.start()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.unlink(missing_ok=True)
        handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        with os.fdopen(handle, "w") as file:
            file.write(self.setup.url + "\n")
        print(f"page: {self.setup.url}", file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if self._file.read_text(encoding="utf-8").strip() == self.setup.url:
                self._file.unlink()
        self._process.terminate()
        self._process.join(END_WITHIN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def run(setup: PageSetup, pictures: FrameRing | None) -> None:
    """The child: an ordinary process that never competes with the control thread."""
    from cartpole.dashboard.serve import serve
    from cartpole.realtime import leave

    leave()
    with contextlib.suppress(OSError):
        os.nice(NICE)
    serve(setup, pictures)
