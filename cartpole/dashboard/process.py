"""The page's process as the daemon sees it: started, shown where it is, and ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.ring import FrameRing

END_WITHIN_S = 1.0
NICE = 5


@dataclass(frozen=True, slots=True)
class PageSetup:
    """What the page is told at its start; everything else it asks the control socket."""

    socket: str
    host: str
    port: int
    commands: bool
    token: str
    rig: str
    position_limit_m: float
    velocity_limit_m_s: float
    parent: int = 0  # ends with this process; 0: with its own

    @property
    def url(self) -> str:
        """The page's address, with the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/?token={self.token}"


def page_setup(config: Config, parent: int = 0) -> PageSetup:
    """From the settings, with a fresh token."""
    return PageSetup(
        socket=config.service.socket,
        host=config.dashboard.host,
        port=config.dashboard.port,
        commands=config.dashboard.commands,
        token=secrets.token_urlsafe(16),
        rig=config.rig.name,
        position_limit_m=config.rig.position_limit_m,
        velocity_limit_m_s=config.rig.velocity_limit_m_s,
        parent=parent,
    )


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.unlink(missing_ok=True)
        self._process.terminate()
        self._process.join(END_WITHIN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def run(setup: PageSetup, pictures: FrameRing | None) -> None:
    """The child: an ordinary process that never competes with the control thread."""
    from cartpole.daemon.realtime import leave
    from cartpole.dashboard.serve import serve

    leave()
    with contextlib.suppress(OSError):
        os.nice(NICE)
    serve(setup, pictures)
