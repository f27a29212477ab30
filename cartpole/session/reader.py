"""A recording as the rest of the program sees it: settings, ticks, truth, pictures, raw bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.errors import ConfigError, SessionError
from cartpole.messages import HomingResult
from cartpole.session import folder
from cartpole.session.channels import (
    CHANNELS,
    FIRST_TICK,
    LAST_TICK,
    NO_PART_OF_A_TICK,
    Event,
    Picture,
    RawBytes,
)
from cartpole.session.mcap_scan import Contents, Damage, Scan, scan
from cartpole.session.mcap_stream import Message, messages
from cartpole.session.packing import check_size
from cartpole.session.recorded import DECODE, RecordedTick
from cartpole.session.settings import recorded_config
from cartpole.session.ticks import SELDOM_READ, Account, Assembler

if TYPE_CHECKING:
    from pandas import DataFrame

    from cartpole.config.schema import Config
    from cartpole.control.memory import CoreMemory
    from cartpole.vision.frame import Pixels

__all__ = ["RawPiece", "RecordedFrame", "RecordedTick", "Session", "open_session"]

_ALL_BUT = {topic: frozenset(CHANNELS) - {topic} for topic in CHANNELS}
LARGEST_PICTURE = 8 << 20
LARGEST_PIECE = 1 << 20
SHOWN_DAMAGES = 5


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A picture as recorded: still compressed."""

    t_ns: int
    sequence: int
    data: bytes

    def pixels(self) -> Pixels:
        """Grey levels (height, width); raises SessionError if they do not decode."""
        from cartpole.session.frames import decompress

        return decompress(self.data)


@dataclass(frozen=True, slots=True)
class RawPiece:
    """Bytes of a serial line; ``direction`` is in or out, seen from the host."""

    t_ns: int
    link: str
    direction: str
    data: bytes


class Session:
    """An opened recording with its continuations; every iteration reads it anew.

    ``account`` says what the last reading of its ticks found, ``damages`` what is broken.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.parts = folder.parts(self.path)
        self.account = Account()
        self._scans = [scan(self.path)]

    @property
    def contents(self) -> Contents:
        """What its first file says besides messages."""
        return self._scans[0].contents

    @property
    def metadata(self) -> dict[str, dict[str, str]]:
        """Named sets of texts: ``provenance``, ``start``, ``part``, ``summary``."""
        return self.contents.metadata

    @property
    def provenance(self) -> dict[str, str]:
        """Source revision, versions, seed, date; empty for a file without."""
        return self.contents.metadata.get("provenance", {})

    @property
    def truncated(self) -> bool:
        """True if a file of it ends without its end mark."""
        return not all(one.contents.whole for one in self._all_scans())

    @property
    def damages(self) -> list[Damage]:
        """What could not be used; all of it is known after the recording was read through."""
        return [damage for one in self._scans for damage in one.contents.damages]

    def told(self) -> list[str]:
        """What the last reading left out and why, a line each; nothing for a sound recording."""
        lines = self.account.told()
        damages = self.damages
        lines += [f"damaged: {damage}" for damage in damages[:SHOWN_DAMAGES]]
        if len(damages) > SHOWN_DAMAGES:
            lines.append(f"damaged in {len(damages) - SHOWN_DAMAGES} more places")
        if self.truncated:
            lines.append("it ends without its end mark")
        if self._goes_on_in:
            lines.append(f"it goes on in {self._goes_on_in}, which is not there")
        return lines

    @property
    def whole(self) -> bool:
        """Whether the last reading found everything that was written."""
        account = self.account
        lost = account.missing or account.left_out or self.damages
        return not lost and not self.truncated and not self._goes_on_in

    @cached_property
    def config(self) -> Config:
        """The settings it was made with; raises SessionError if there are none that fit."""
        for one in self._all_scans():
            attached = one.contents.attachments
            if "config.json" in attached:
                return recorded_config(attached["config.json"], str(self.path))
            if "config.yaml" in attached:
                return _settings_of_yaml(attached["config.yaml"], str(self.path))
        raise SessionError(f"{self.path} holds no settings (cut off or damaged at its beginning?)")

    @cached_property
    def homed(self) -> HomingResult | None:
        """What the controller knew of its homing when it started."""
        start = self.contents.metadata.get("start")
        if not start:
            return None
        try:
            known = {n: float(start[n]) for n in HomingResult.__slots__ if n in start}
            return HomingResult(**known)
        except (TypeError, ValueError):
            raise SessionError(f"{self.path} has a bad start record") from None

    @cached_property
    def state(self) -> CoreMemory | None:
        """What the controller remembered before the first tick, if that was recorded."""
        first = next(iter(Assembler(Account()).ticks(self.messages(NO_PART_OF_A_TICK))), None)
        return None if first is None else self.state_before(first)

    def state_before(self, tick: RecordedTick) -> CoreMemory | None:
        """What the controller remembered before a tick; None where that was not recorded.

        SessionError if it is not what a controller remembers.
        """
        data = tick.state_before
        if data is None:
            return None
        check_size(data)
        state: CoreMemory = DECODE["/state"](data)
        return state

    @property
    def first_number(self) -> int:
        """1 for the beginning of a recording, more for a continuation."""
        number = self.contents.metadata.get("part", {}).get("number", "1")
        return int(number) if number.isdecimal() and len(number) < 9 else 1

    @property
    def last_metadata(self) -> dict[str, dict[str, str]]:
        """The metadata of its last file, where the summary is."""
        return self._all_scans()[-1].contents.metadata

    @property
    def claimed(self) -> tuple[int | None, int | None]:
        """The indices of its first and its last tick, as its files say; None where they do not."""
        last = self.last_metadata.get(LAST_TICK, {})
        return _index(self.metadata.get(FIRST_TICK, {})), _index(last)

    @property
    def _goes_on_in(self) -> str:
        """The name of a file that should be there and is not."""
        return self.last_metadata.get(LAST_TICK, {}).get("next", "")

    def messages(self, skip: frozenset[str] = frozenset()) -> Iterator[Message]:
        """(topic, log time, publish time, data) of all channels and parts but for ``skip``."""
        for one in self._all_scans():
            yield from messages(one, skip=skip)

    def ticks(
        self,
        unread: frozenset[str] = SELDOM_READ,
        between: tuple[float, float] | None = None,
        first: int | None = None,
    ) -> Iterator[RecordedTick]:
        """The whole ticks, in their order; ``account`` tells what is missing.

        Topics among ``unread`` are decoded when a tick is asked for them, and only then checked.
        ``between`` takes only what was published later than the first and not later than the
        second time [ns]; a state belongs to what follows it. ``first`` is the index they begin
        with, where that is known: a chunk of two pieces may hold the last ticks before it.
        """
        self.account = Account()
        found = self.messages(NO_PART_OF_A_TICK)
        if between is not None:
            found = _between(found, *between)
        yield from Assembler(self.account, unread, first).ticks(found)
        if between is None:
            self.account.ends_at(*self.claimed)

    def frames(self) -> Iterator[RecordedFrame]:
        """The pictures; in the order of the file."""
        for data in self._of("/frame", LARGEST_PICTURE):
            picture: Picture = DECODE["/frame"](data)
            yield RecordedFrame(picture.t_ns, picture.sequence, _bytes(picture.data))

    def raw(self) -> Iterator[RawPiece]:
        """The serial lines' bytes."""
        for data in self._of("/raw", LARGEST_PIECE):
            piece: RawBytes = DECODE["/raw"](data)
            yield RawPiece(piece.t_ns, piece.link, piece.direction, _bytes(piece.data))

    def events(self) -> Iterator[Event]:
        """What was noted outside of ticks."""
        for data in self._of("/event", LARGEST_PIECE):
            yield DECODE["/event"](data)

    def table(self, topic: str) -> DataFrame:
        """A channel (``estimate``, ``command``, ``encoder``, …) as a pandas DataFrame.

        See :func:`cartpole.session.frame.table`; needs pandas, raises UsageError without.
        """
        from cartpole.session.frame import table

        return table(self, topic)

    def _of(self, topic: str, most: int) -> Iterator[bytes]:
        for _, _, _, data in self.messages(_ALL_BUT[topic]):
            if len(data) > most:
                raise SessionError(f"{self.path}: a message of {len(data)} bytes on {topic}")
            yield data

    def _all_scans(self) -> list[Scan]:
        for path in self.parts[len(self._scans) :]:
            try:
                self._scans.append(scan(path))
            except SessionError as error:
                broken = Scan(path)
                broken.contents.damage(0, path.stat().st_size, str(error))
                self._scans.append(broken)
        return self._scans


def _index(told: dict[str, str]) -> int | None:
    text = told.get("index", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None


def _between(found: Iterator[Message], after: float, last: float) -> Iterator[Message]:
    for message in found:
        at = message[2]
        if after < at <= last or (message[0] == "/state" and at == after):
            yield message


def _settings_of_yaml(data: bytes, source: str) -> Config:
    from cartpole.config.load import loads_config

    try:
        return loads_config(data.decode(), source)
    except (ConfigError, UnicodeDecodeError) as error:
        raise SessionError(f"{source}: settings do not fit: {error}") from None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SessionError("bytes in a recording are not base64") from None


def open_session(path: Path) -> Session:
    """Open a recording, whole or cut off; raises SessionError if it is none."""
    return Session(path)
