"""Messages of an MCAP file in the order they were written, whatever state the file is in.

Nothing in the file is trusted: a length is checked against the file and a cap before anything is
allocated, checksums are verified, and every step moves forward. A file that merely ends too early
is read to its last whole record; a file whose content contradicts itself raises SessionError.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Chunk, Metadata, Schema

from cartpole.errors import SessionError

MAGIC = b"\x89MCAP0\r\n"
LARGEST_RECORD = 64 << 20
LARGEST_HEAD_ITEMS = 4096  # schemas, channels, attachments and metadata in one file
_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")

Message = tuple[str, int, int, bytes]  # topic, log time [ns], publish time [ns], data


@dataclass(slots=True)
class Contents:
    """What a file says besides its messages; it grows while the file is read."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    whole: bool = False  # the end mark was reached
    good_bytes: int = 0  # up to the last whole record

    def _count(self) -> int:
        return len(self.schemas) + len(self.channels) + len(self.attachments) + len(self.metadata)

    def take(self, opcode: int, content: bytes) -> None:
        """Keep a record that is no message; others are passed over."""
        stream = ReadDataStream(io.BytesIO(content))
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            self.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(stream)
            self.channels[channel.id] = channel
        elif opcode == Opcode.ATTACHMENT:
            _check_attachment(content)
            attachment = Attachment.read(stream)
            self.attachments[attachment.name] = attachment.data
        elif opcode == Opcode.METADATA:
            metadata = Metadata.read(stream)
            self.metadata[metadata.name] = metadata.metadata
        if self._count() > LARGEST_HEAD_ITEMS:
            raise SessionError("the file declares too many channels or attachments")


def _check_attachment(content: bytes) -> None:
    if len(content) < 4 or zlib.crc32(content[:-4]) != struct.unpack("<I", content[-4:])[0]:
        raise SessionError("an attachment's checksum is wrong")


def open_stream(path: Path) -> IO[bytes]:
    """Open a regular file that begins like MCAP; raises SessionError."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise SessionError(f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode) or stream.read(len(MAGIC)) != MAGIC:
        stream.close()
        raise SessionError(f"{path} is not a recording (no MCAP file)")
    return stream


def messages(
    path: Path, contents: Contents, skip: frozenset[str] = frozenset()
) -> Iterator[Message]:
    """The messages in file order but for topics to skip; ``contents`` fills along the way.

    Raises SessionError where the file is damaged: what came before was whole.
    """
    with open_stream(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        while True:
            contents.good_bytes = stream.tell()
            record = _next_record(stream, size)
            if record is None:
                return
            opcode, content = record
            try:
                if opcode == Opcode.CHUNK:
                    yield from _chunk_messages(content, contents, skip)
                elif opcode == Opcode.MESSAGE:
                    message = _message(content, 0, len(content), contents, skip)
                    if message is not None:
                        yield message
                elif opcode == Opcode.DATA_END:
                    contents.whole = True
                    return
                else:
                    contents.take(opcode, content)
            except (McapError, struct.error, UnicodeDecodeError, ValueError) as error:
                raise SessionError(_damage(path, contents.good_bytes, error)) from None
            except SessionError as error:
                raise SessionError(_damage(path, contents.good_bytes, error)) from None


def _damage(path: Path, offset: int, error: Exception) -> str:
    what = str(error) or type(error).__name__
    return f"{path} is damaged at byte {offset} ({what}); `cartpole recover` saves what is before"


def _next_record(stream: IO[bytes], size: int) -> tuple[int, bytes] | None:
    """The next whole record, or None where the file ends."""
    head = stream.read(_RECORD.size)
    if len(head) < _RECORD.size:
        return None
    opcode, length = _RECORD.unpack(head)
    if length > size - stream.tell():
        return None
    if length > LARGEST_RECORD or opcode == 0:
        raise SessionError(
            f"{stream.name} is damaged at byte {stream.tell() - _RECORD.size} (a record of kind "
            f"{opcode} with {length} bytes); `cartpole recover` saves what is before"
        )
    return opcode, stream.read(length)


def _chunk_messages(content: bytes, contents: Contents, skip: frozenset[str]) -> Iterator[Message]:
    data = decompress(Chunk.read(ReadDataStream(io.BytesIO(content))))
    at, end = 0, len(data)
    while at < end:
        opcode, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if length > end - at:
            raise SessionError("a record reaches beyond its chunk")
        if opcode == Opcode.MESSAGE:
            message = _message(data, at, at + length, contents, skip)
            if message is not None:
                yield message
        else:
            contents.take(opcode, data[at : at + length])
        at += length


def _message(
    data: bytes, start: int, end: int, contents: Contents, skip: frozenset[str]
) -> Message | None:
    if end - start < _MESSAGE.size:
        raise SessionError("a message is too short")
    number, _, log_time, publish_time = _MESSAGE.unpack_from(data, start)
    channel = contents.channels.get(number)
    if channel is None:
        raise SessionError(f"a message on channel {number}, which is not declared")
    if channel.topic in skip:
        return None
    return channel.topic, log_time, publish_time, data[start + _MESSAGE.size : end]


def decompress(chunk: Chunk) -> bytes:
    """A chunk's records; raises SessionError on a wrong size, method or checksum."""
    size = chunk.uncompressed_size
    if size > LARGEST_RECORD:
        raise SessionError(f"a chunk claims {size} bytes")
    if chunk.compression == "":
        data = chunk.data
    elif chunk.compression == "zstd":
        data = _zstd(chunk.data, size)
    else:
        raise SessionError(f"unknown compression {chunk.compression[:20]!r}")
    if len(data) != size:
        raise SessionError("a chunk's size is not what it claims")
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise SessionError("a chunk's checksum is wrong")
    return data


def _zstd(data: bytes, size: int) -> bytes:
    import zstandard

    try:
        if zstandard.frame_content_size(data) > size:
            raise SessionError("a chunk's size is not what it claims")
        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_RECORD)
        return decompressor.decompress(data, max_output_size=size) if size else b""
    except zstandard.ZstdError as error:
        raise SessionError(f"a chunk cannot be decompressed: {error}") from None
