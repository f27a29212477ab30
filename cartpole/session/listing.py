"""What a folder of recordings holds, and what sets two of them apart."""

from __future__ import annotations

import io
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Footer, Metadata, MetadataIndex

from cartpole.errors import SessionError
from cartpole.session import folder
from cartpole.session.mcap_stream import LARGEST_RECORD, MAGIC, open_stream
from cartpole.session.reader import Session, open_session
from cartpole.session.summary import SummaryBuilder

_RECORD = struct.Struct("<BQ")
_FOOTER_SIZE = _RECORD.size + 20 + len(MAGIC)
SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the list; ``error`` says why a file could not be read."""

    name: str
    created: str
    size_bytes: int
    whole: bool
    summary: dict[str, Any] | None
    error: str = ""

    @property
    def outcome(self) -> str:
        """In a few words how it ended."""
        if self.summary is None:
            return self.error or "empty"
        if self.summary["faults"]:
            return ", ".join(sorted({fault["name"] for fault in self.summary["faults"]}))
        if self.summary["upright_at_s"] is not None:
            return f"upright after {self.summary['upright_at_s']:.2f} s"
        return "never upright" if self.summary["swing_ups"] else "no swing-up"


def list_sessions(where: Path) -> list[Entry]:
    """The recordings of a folder, oldest first; broken ones are listed as such."""
    return [describe(path) for path in folder.recordings(where)]


def describe(path: Path) -> Entry:
    """One recording's line."""
    size = sum(part.stat().st_size for part in folder.parts(path))
    try:
        session = open_session(path)
        created = session.provenance.get("created", "")
        stored = stored_summary(session.parts[-1])
        if stored is not None:
            return Entry(path.name, created, size, True, stored)
        summary = summarise(session)
        return Entry(path.name, created, size, not session.truncated, summary)
    except SessionError as error:
        return Entry(path.name, "", size, False, None, str(error))


def summarise(session: Session) -> dict[str, Any] | None:
    """The figures of a recording from its ticks; as far as it can be read. None without ticks."""
    provenance = session.provenance
    builder = SummaryBuilder(
        session.config, provenance.get("git", ""), provenance.get("config_sha256", "")
    )
    found = False
    try:
        for tick in session.ticks():
            builder.add(tick.record_without_arrays(), tick.truth, tick.timing)
            found = True
    except SessionError:
        pass  # damaged further on: what came before counts
    return builder.result(str(session.path)) if found else None


def stored_summary(path: Path) -> dict[str, Any] | None:
    """The summary that a whole file carries at its end; None if there is none."""
    with open_stream(path) as stream:
        try:
            return _find_summary(stream)
        except (McapError, struct.error, ValueError, KeyError, TypeError):
            return None


def _find_summary(stream: IO[bytes]) -> dict[str, Any] | None:
    size = os.fstat(stream.fileno()).st_size
    if size < _FOOTER_SIZE:
        return None
    stream.seek(size - _FOOTER_SIZE)
    tail = stream.read(_FOOTER_SIZE)
    if tail[0] != Opcode.FOOTER or not tail.endswith(MAGIC):
        return None
    start = Footer.read(ReadDataStream(io.BytesIO(tail[_RECORD.size :]))).summary_start
    if not 0 < start <= size - _FOOTER_SIZE or size - start > LARGEST_RECORD:
        return None
    stream.seek(start)
    section = stream.read(size - _FOOTER_SIZE - start)
    at = 0
    while at + _RECORD.size <= len(section):
        opcode, length = _RECORD.unpack_from(section, at)
        at += _RECORD.size
        if opcode == Opcode.METADATA_INDEX:
            index = MetadataIndex.read(ReadDataStream(io.BytesIO(section[at : at + length])))
            if index.name == SUMMARY:
                return _read_summary(stream, index.offset, index.length, size)
        at += length
    return None


def _read_summary(stream: IO[bytes], offset: int, length: int, size: int) -> dict[str, Any] | None:
    if not (_RECORD.size < length <= 1 << 20 and offset + length <= size):
        return None
    stream.seek(offset)
    content = stream.read(length)[_RECORD.size :]
    text = Metadata.read(ReadDataStream(io.BytesIO(content))).metadata["json"]
    summary = json.loads(text)
    needed = {"faults", "upright_at_s", "swing_ups", "duration_s"}
    return summary if isinstance(summary, dict) and needed <= summary.keys() else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two recordings side by side; each value is (first, second)."""

    settings: dict[str, tuple[Any, Any]]
    provenance: dict[str, tuple[str, str]]
    figures: dict[str, tuple[Any, Any]]


def compare(first: Session, second: Session) -> Comparison:
    """The settings, versions and figures in which two recordings differ."""
    from cartpole.config.load import flatten

    settings = _different(flatten(first.config), flatten(second.config))
    provenance = _different(first.provenance, second.provenance)
    figures = _different(_flat_figures(first), _flat_figures(second))
    return Comparison(settings, provenance, figures)


def _different(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [*first, *(name for name in second if name not in first)]
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat_figures(session: Session) -> dict[str, Any]:
    summary = summarise(session) or {}
    flat: dict[str, Any] = {}
    for name, value in summary.items():
        if name in ("session", "git", "config_sha256"):
            continue
        if isinstance(value, dict):
            flat.update({f"{name}.{inner}": v for inner, v in value.items()})
        elif name == "faults":
            flat[name] = ", ".join(fault["name"] for fault in value) or "none"
        else:
            flat[name] = value
    return flat
