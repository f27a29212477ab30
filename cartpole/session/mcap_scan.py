"""What an MCAP file holds and where, whatever state it is in.

One pass over the records' heads: definitions, attachments and metadata are kept, chunks and bare
messages only located. Nothing in the file is trusted: a length is checked against the file and a
cap before anything is allocated, every record must have exactly the length that its content says,
and behind a damaged one the search goes on for the next chunk that is one.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Metadata, Schema

from cartpole.errors import SessionError

MAGIC = b"\x89MCAP0\r\n"
LARGEST_CHUNK = 32 << 20  # packed or unpacked
LARGEST_ATTACHMENTS = 24 << 20  # all of them together
LARGEST_TEXTS = 4 << 20  # all metadata, all schemas and channels
MOST_ITEMS = 4096  # schemas, channels, attachments and metadata in one file
MOST_REGIONS = 1_000_000
MOST_DAMAGES = 1000
COMPRESSIONS = (b"", b"zstd", b"lz4")
RECORD = struct.Struct("<BQ")
CHUNK_HEAD = struct.Struct("<QQQII")  # start, end, size unpacked, checksum, method's length
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log and publish time
_LENGTH = struct.Struct("<Q")
_SEARCH_FIRST, _SEARCH_MOST = 1 << 12, 1 << 20
_SOUND = re.compile(
    rb"\x06.{5}\x00{3}.{16}.{5}\x00{3}.{4}(?:\x04\x00{3}zstd|\x03\x00{3}lz4|\x00{4}).{5}\x00{3}"
    # settings, which stand before the first chunk
    rb"|\x09.{5}\x00{3}.{16}\x0b\x00{3}config\.(?:json|yaml)",
    re.DOTALL,
)
_CHUNK_LEAST = RECORD.size + CHUNK_HEAD.size + _LENGTH.size
_HEAD_BYTES = _CHUNK_LEAST + 4
_KNOWN = frozenset(range(int(Opcode.HEADER), int(Opcode.DATA_END) + 1))
_DEFINITIONS = (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.ATTACHMENT, Opcode.METADATA)
_FOOTER_BYTES, _DATA_END_BYTES = 20, 4


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a file that could not be used, and why."""

    offset: int
    length: int
    why: str

    def __str__(self) -> str:
        return f"{self.length} bytes from byte {self.offset} on: {self.why}"


@dataclass(slots=True)
class Contents:
    """What a file says besides its messages, and what is wrong with it."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    whole: bool = False  # the end mark was reached
    damages: list[Damage] = field(default_factory=list)
    _noted: set[int] = field(default_factory=set)
    _attached: int = 0
    _texts: int = 0
    _items: int = 0
    _repeated: set[int] = field(default_factory=set)  # channels of which only the index tells

    def damage(self, offset: int, length: int, why: str) -> None:
        """Note what could not be used, once however often the file is read."""
        if offset in self._noted or len(self._noted) > MOST_REGIONS:
            return
        self._noted.add(offset)
        if len(self.damages) < MOST_DAMAGES:
            self.damages.append(Damage(offset, length, why))

    def take(self, opcode: int, content: bytes) -> None:
        """Keep a definition; raises SessionError if it is none or there is too much of them."""
        stream = ReadDataStream(io.BytesIO(content))
        self._items += 1
        if self._items > MOST_ITEMS:
            raise SessionError("the file declares too many channels or attachments")
        if opcode == Opcode.ATTACHMENT:
            self._attached += len(content)
            if self._attached > LARGEST_ATTACHMENTS:
                raise SessionError(f"attachments of more than {LARGEST_ATTACHMENTS >> 20} MB")
            self._attach(Attachment.read(stream), content)
            return
        self._texts += len(content)
        if self._texts > LARGEST_TEXTS:
            raise SessionError(f"texts and schemas of more than {LARGEST_TEXTS >> 20} MB")
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            self.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(stream)
            if self.whole and channel.id not in self.channels:
                self._repeated.add(channel.id)
            self.channels.setdefault(channel.id, channel)
        elif opcode == Opcode.METADATA:
            metadata = Metadata.read(stream)
            self.metadata[metadata.name] = metadata.metadata

    def disbelieve_index(self, offset: int, length: int) -> None:
        """The index at the end is damaged: the chunks declare their channels themselves."""
        for number in self._repeated:
            del self.channels[number]
        self._repeated.clear()
        self.damage(offset, length, "the checksum of the index is wrong")

    def _attach(self, found: Attachment, content: bytes) -> None:
        if (
            len(content) < 4
            or zlib.crc32(memoryview(content)[:-4]) != struct.unpack("<I", content[-4:])[0]
        ):
            raise SessionError("an attachment's checksum is wrong")
        known = self.attachments.setdefault(found.name, found.data)
        if known != found.data:
            raise SessionError(f"two attachments {found.name}: two recordings in one file")


@dataclass(slots=True)
class Scan:
    """Where the messages are: regions in file order, chunks or stretches of bare messages.

    ``begins`` and ``ends`` are times [ns] between which they are: of a chunk the log times that it
    claims, of bare messages those of their publishing. ``order``, once it is known, is the one in
    which the regions were written.
    """

    path: Path
    contents: Contents = field(default_factory=Contents)
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("Q"))
    begins: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    chunked: array[int] = field(default_factory=lambda: array("B"))
    order: list[int] | None = None
    index_at: int = 0  # behind the messages, where there is one

    def region(self, offset: int, length: int, times: tuple[int, int], chunk: bool) -> None:
        """Note where messages are; bare ones that follow each other are one region."""
        begin, end = times
        bare_before = not chunk and len(self.offsets) > 0 and not self.chunked[-1]
        if bare_before and self.offsets[-1] + self.lengths[-1] == offset:
            self.lengths[-1] += length
            self.begins[-1] = min(self.begins[-1], begin)
            self.ends[-1] = max(self.ends[-1], end)
            return
        if len(self.offsets) >= MOST_REGIONS:
            raise SessionError(f"{self.path}: more than {MOST_REGIONS} chunks")
        self.offsets.append(offset)
        self.lengths.append(length)
        self.begins.append(begin)
        self.ends.append(end)
        self.chunked.append(chunk)


def open_stream(path: Path) -> IO[bytes]:
    """Open a regular file that begins like MCAP; raises SessionError."""
    try:
        # A pipe would wait for its other end.
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise SessionError(f"cannot read {path}: {error.strerror}") from None
    try:
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) and stream.read(len(MAGIC)) == MAGIC:
            return stream
    except OSError as error:
        stream.close()
        raise SessionError(f"cannot read {path}: {error.strerror}") from None
    stream.close()
    raise SessionError(f"{path} is not a recording (no MCAP file)")


def scan(path: Path) -> Scan:
    """Look through a file; raises SessionError only if it is no MCAP file at all."""
    found = Scan(path)
    with open_stream(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        at = len(MAGIC)
        while at < size:
            at = _step(stream, at, size, found)
    return found


def _step(stream: IO[bytes], at: int, size: int, found: Scan) -> int:
    """Take the record at ``at``; returns where the next one begins, ``size`` at the end."""
    contents = found.contents
    if contents.whole and size - at <= len(MAGIC):
        return size
    stream.seek(at)
    head = stream.read(_HEAD_BYTES)
    try:
        opcode, length = _record(head, size - at)
        if opcode == Opcode.CHUNK:
            found.region(at, RECORD.size + length, _check_chunk(head, length), True)
        elif opcode == Opcode.MESSAGE:
            published = MESSAGE_HEAD.unpack_from(head, RECORD.size)[3]
            found.region(at, RECORD.size + length, (published, published), False)
        elif opcode in _DEFINITIONS:
            if length > LARGEST_CHUNK:
                contents.damage(at, RECORD.size + length, f"a definition of {length} bytes")
            else:
                stream.seek(at + RECORD.size)
                contents.take(opcode, stream.read(length))
        elif opcode == Opcode.DATA_END:
            contents.whole = True
            found.index_at = at + RECORD.size + length
        elif opcode == Opcode.FOOTER and contents.whole:
            _check_index(stream, found, at, head)
    except (McapError, SessionError, struct.error, UnicodeDecodeError, ValueError) as error:
        following = _next_sound(stream, at + 1, size)
        cut = following == size and not contents.whole and isinstance(error, _Cut)
        if not cut:
            contents.damage(at, following - at, str(error) or type(error).__name__)
        return following
    return at + RECORD.size + length


class _Cut(SessionError):
    """The file ends within a record."""


def _check_index(stream: IO[bytes], found: Scan, at: int, head: bytes) -> None:
    """Whether the index is what was written; its records have one checksum, in the footer."""
    told = int.from_bytes(head[RECORD.size + 16 : RECORD.size + _FOOTER_BYTES], "little")
    left = at + RECORD.size + 16 - found.index_at
    if not told:
        return
    stream.seek(found.index_at)
    seen = 0
    while left > 0 and (data := stream.read(min(left, 1 << 20))):
        seen, left = zlib.crc32(data, seen), left - len(data)
    if seen != told:
        found.contents.disbelieve_index(found.index_at, at - found.index_at)


def _record(head: bytes, left: int) -> tuple[int, int]:
    """A record's kind and length, checked against what is left of the file."""
    if len(head) < RECORD.size:
        raise _Cut("the file ends within a record")
    opcode, length = RECORD.unpack_from(head)
    if opcode not in _KNOWN and opcode < 0x80:
        raise SessionError(f"a record of unknown kind {opcode}")
    if length > left - RECORD.size:
        raise _Cut(f"a record of {length} bytes, of which {left - RECORD.size} are there")
    content = head[RECORD.size :]
    if opcode != Opcode.CHUNK and length >= _CHUNK_LEAST and _looks_like_chunk(head, length):
        raise SessionError(f"a chunk under the wrong kind {opcode}")
    wrong = (
        (opcode == Opcode.MESSAGE_INDEX and length != 6 + int.from_bytes(content[2:6], "little"))
        or (opcode == Opcode.FOOTER and length != _FOOTER_BYTES)
        or (opcode == Opcode.DATA_END and length != _DATA_END_BYTES)
    )
    if wrong:
        raise SessionError(f"a record of kind {opcode} with {length} bytes")
    return opcode, length


def _looks_like_chunk(head: bytes, length: int) -> bool:
    try:
        _check_chunk(head, length)
    except SessionError:
        return False
    return True


def _check_chunk(head: bytes, length: int) -> tuple[int, int]:
    """The log times between which a chunk claims to be, whose lengths fit each other."""
    if len(head) < _CHUNK_LEAST:
        raise _Cut("the file ends within a chunk's head")
    begin, end, unpacked, _, named = CHUNK_HEAD.unpack_from(head, RECORD.size)
    place = RECORD.size + CHUNK_HEAD.size
    method = head[place : place + named] if named <= 4 else b"?"
    if method not in COMPRESSIONS or len(head) < place + named + _LENGTH.size:
        raise SessionError("a chunk of an unknown compression")
    (packed,) = _LENGTH.unpack_from(head, place + named)
    if packed != length - CHUNK_HEAD.size - named - _LENGTH.size:
        raise SessionError("a chunk's lengths contradict each other")
    if unpacked > LARGEST_CHUNK or length > LARGEST_CHUNK:
        raise SessionError(f"a chunk of {max(unpacked, length)} bytes")
    return begin, end


def _next_sound(stream: IO[bytes], start: int, size: int) -> int:
    """Where the next chunk, or settings, begin that fit their lengths; ``size`` if none do."""
    at, wide = start, _SEARCH_FIRST
    while at < size:
        stream.seek(at)
        window = stream.read(wide + _HEAD_BYTES)
        for match in _SOUND.finditer(window):
            place = at + match.start()
            if _is_sound(match.group(), size - place):
                return place
        at += wide
        wide = min(4 * wide, _SEARCH_MOST)
    return size


def _is_sound(head: bytes, left: int) -> bool:
    opcode, length = RECORD.unpack_from(head)
    if opcode == Opcode.ATTACHMENT:
        return bool(length <= left - RECORD.size)
    named = int.from_bytes(head[37:41], "little")
    (packed,) = _LENGTH.unpack_from(head, 41 + named)
    fits = length <= min(left - RECORD.size, LARGEST_CHUNK)
    return bool(fits and packed + CHUNK_HEAD.size + named + _LENGTH.size == length)
