"""Serves the page until the process ends, or the one that started it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.dashboard.feed import Feed
from cartpole.dashboard.gate import TokenGate
from cartpole.dashboard.setup import PageSetup

if TYPE_CHECKING:
    from cartpole.vision.ring import FrameRing

LOOK_EVERY_S = 0.5


def serve(setup: PageSetup, pictures: FrameRing | None) -> None:
    """Blocks. Everything a browser loads comes from this process."""
    import uvicorn
    from fastapi import FastAPI
    from nicegui import ui

    from cartpole.dashboard.page import add_page

    feed = Feed(Path(setup.socket))
    feed.start()
    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_page(setup, feed, pictures)
    web.add_middleware(TokenGate, token=setup.token)
    ui.run_with(web, title=setup.rig, dark=None, show_welcome_message=False)
    server = uvicorn.Server(
        uvicorn.Config(
            web,
            host=setup.host,
            port=setup.port,
            log_level="error",
            timeout_graceful_shutdown=1,
        )
    )
    if setup.parent:
        threading.Thread(target=_watch_parent, args=(setup.parent, server), daemon=True).start()
    server.run()
    feed.stop()


def _watch_parent(parent: int, server: object) -> None:
    """A daemon that was killed takes its page with it."""
    done = threading.Event()
    while not done.wait(LOOK_EVERY_S):
        if os.getppid() != parent:
            os._exit(0)
