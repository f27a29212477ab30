"""A recording begun as the program begins one: by date, in the folder, with all particulars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.errors import SessionError
from cartpole.session import folder as folders
from cartpole.session.writer import SessionWriter

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def open_writer(
    path: Path | None,
    config: Config,
    *,
    live: bool = True,
    attachments: Mapping[str, bytes] | None = None,
    git: str | None = None,
) -> SessionWriter:
    """A recording with this source's and machine's particulars.

    Without a ``path`` it gets a name by date in the configured folder, and old recordings there
    make room. ``git`` is the source's revision where it is known already.
    """
    from cartpole.session.provenance import provenance

    managed = path is None
    if path is None:
        folder = Path(config.session.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SessionError(f"cannot record to {folder}: {error.strerror}") from None
        path = folders.new_path(folder, datetime.now())
    return SessionWriter(
        path, config, provenance(config, git), attachments=attachments, live=live, managed=managed
    )
