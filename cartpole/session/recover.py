"""Saving what is whole in a broken recording."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cartpole.errors import SessionError
from cartpole.session.channels import CHANNELS
from cartpole.session.container import Container
from cartpole.session.listing import SUMMARY, summarise
from cartpole.session.mcap_stream import Contents, messages
from cartpole.session.reader import Session


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was saved; ``damage`` says why reading ended, empty for a whole file."""

    messages: int
    ticks: int
    saved_bytes: int  # of the broken file
    total_bytes: int
    damage: str


def recover(broken: Path, output: Path) -> Recovery:
    """Copy everything up to the last whole record into a new, indexed file.

    Raises SessionError if the file is no recording at all or not even its head is whole.
    """
    if output.exists() and output.samefile(broken):
        raise SessionError("the recovered file must be another one than the broken one")
    Session(broken).config  # noqa: B018  raises if the head is lost
    contents = Contents()
    source = messages(broken, contents)
    first = next(source, None)
    damage, count, ticks = "", 0, 0
    with output.open("wb") as stream:
        container = Container(stream, contents.attachments, contents.metadata)
        message = first
        while message is not None:
            topic, log_time, publish_time, data = message
            if topic in CHANNELS:
                container.add([(topic, log_time, data)], publish_time)
                count += 1
                ticks += topic == "/tick"
            try:
                message = next(source, None)
            except SessionError as error:
                damage, message = str(error), None
        figures = summarise(Session(broken))
        if figures is not None:
            container.add_metadata(SUMMARY, {"json": json.dumps(figures, allow_nan=False)})
        container.finish()
        os.fsync(stream.fileno())
    if not damage and not contents.whole:
        damage = "the file ends too early"
    return Recovery(count, ticks, contents.good_bytes, broken.stat().st_size, damage)
