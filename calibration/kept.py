"""The recordings that a guided calibration leaves behind."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.run import PARTS
from cartpole.errors import SessionError
from cartpole.session.provenance import provenance
from cartpole.session.resume import MADE_BY
from cartpole.session.writer import SessionWriter

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def part_recording(started: datetime, live: bool, config: Config, part: str) -> SessionWriter:
    """A part's own recording, in the folder of sessions; never removed to make room.

    SessionError if the folder cannot be made.
    """
    frames = config.session.model_copy(update={"frames": "all", "frame_every": 1})
    config = config.model_copy(update={"session": frames})
    folder = Path(config.session.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SessionError(f"cannot record to {folder}: {error.strerror}") from None
    stem, count = f"calibrate-{part}-{started:%Y%m%d-%H%M%S}", 1
    path = folder / f"{stem}.mcap"
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}.mcap"
    made_by = {MADE_BY: f"calibrate {part if part in PARTS else 'camera'}"}
    return SessionWriter(path, config, {**provenance(config), **made_by}, live=live)
