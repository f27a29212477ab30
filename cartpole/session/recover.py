"""Saving what is whole in a broken recording."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cartpole.session.channels import CHANNELS, FIRST_TICK, LAST_TICK
from cartpole.session.container import Container
from cartpole.session.listing import SUMMARY, summarise
from cartpole.session.outputs import written
from cartpole.session.reader import Session


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was saved; ``damage`` says what is lost, a line each, nothing for a whole recording."""

    messages: int
    ticks: int
    saved_bytes: int  # of the broken recording
    total_bytes: int
    damage: tuple[str, ...]


def recover(broken: Path, output: Path, force: bool = False) -> Recovery:
    """Copy all that is whole, before and behind damages, into a new, indexed file.

    Raises SessionError if the file is no recording at all or its settings are lost, UsageError if
    the output is the input or exists and ``force`` is not given.
    """
    session = Session(broken)
    session.config  # noqa: B018  raises if the head is lost
    anew = (SUMMARY, FIRST_TICK, LAST_TICK)
    metadata = {name: one for name, one in session.metadata.items() if name not in anew}
    count = 0
    with (
        written(output, inputs=session.parts, force=force) as beside,
        beside.open("w+b") as stream,
    ):
        container = Container(stream, session.contents.attachments, metadata)
        for topic, log_time, publish_time, data in session.messages():
            if topic in CHANNELS:
                container.add([(topic, log_time, data)], publish_time)
                count += 1
        figures = summarise(session)
        for name, index in zip((FIRST_TICK, LAST_TICK), _ends(session), strict=True):
            if index is not None:
                container.add_metadata(name, {"index": str(index)})
        if figures is not None:
            container.add_metadata(SUMMARY, {"json": json.dumps(figures, allow_nan=False)})
        container.finish()
        os.fsync(stream.fileno())
    total = sum(part.stat().st_size for part in session.parts)
    lost = sum(one.length for one in session.damages)
    return Recovery(
        count, session.account.whole, max(0, total - lost), total, tuple(session.told())
    )


def _ends(session: Session) -> tuple[int | None, int | None]:
    """The indices between which ticks were written: what is missing there stays missing."""
    first, last = session.claimed
    account = session.account
    if account.first is not None:
        first = account.first if first is None else min(first, account.first)
        last = max(account.following - 1, -1 if last is None else last)
    return first, last
