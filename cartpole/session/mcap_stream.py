"""Messages of an MCAP file, in the order of the time they were written, whatever the file's state.

Chunks are read one after the other; one that is damaged is left out and noted, and reading goes on
behind it. Where tools have put chunks in another order, that of their ticks is restored; within it
a reader puts messages together by what they say (``cartpole.session.ticks``).
"""

from __future__ import annotations

import io
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk

from cartpole.errors import SessionError
from cartpole.session.channels import CHANNELS, NO_PART_OF_A_TICK
from cartpole.session.mcap_scan import (
    LARGEST_CHUNK,
    MESSAGE_HEAD,
    RECORD,
    Contents,
    Scan,
    open_stream,
    scan,
)

_BARE_AT_ONCE = 1 << 20
_FEED = 4096
_MOST_SORTED = 1_000_000
_FAILURES = (McapError, SessionError, struct.error, UnicodeDecodeError, ValueError)

Message = tuple[str, int, int, bytes]  # topic, log time [ns], publish time [ns], data
Names = dict[int, str | None]  # topic of each channel; None: passed over


def messages(
    source: Path | Scan, contents: Contents | None = None, skip: frozenset[str] = frozenset()
) -> Iterator[Message]:
    """The messages but for topics to skip. What is damaged is noted in ``contents`` and left out.

    Raises SessionError only if the file is no MCAP file or cannot be read at all.
    """
    found = source if isinstance(source, Scan) else scan(source)
    noted = found.contents if contents is None else contents
    with open_stream(found.path) as stream:
        names = _Names(found, skip)
        for k in _order(found, stream):
            offset, length = found.offsets[k], found.lengths[k]
            if found.chunked[k]:
                inside = _of_chunk(stream, offset, length, names, noted)
                yield from sorted(inside, key=_publish_time)
            else:
                yield from _of_bare(stream, offset, length, names, noted)


def _publish_time(message: Message) -> int:
    return message[2]


class _BrokenBlock(SessionError):
    """A chunk of which only the first blocks can be unpacked, without a checksum of their own."""

    def __init__(self, why: str, before: bytes) -> None:
        super().__init__(f"{why} (the first {len(before)} bytes can)" if before else why)
        self.before = before


class _Names:
    """Topics by channel number; declared in the file, or, where that is lost, as we number them."""

    def __init__(self, found: Scan, skip: frozenset[str]) -> None:
        self._skip = skip
        self._own = found.contents.metadata.get("part") is not None
        self.topics: Names = {}
        for channel in found.contents.channels.values():
            self.declare(channel)

    def declare(self, channel: Channel) -> None:
        """A channel that the file declares."""
        if channel.id not in self.topics:
            self.topics[channel.id] = None if channel.topic in self._skip else channel.topic

    def assumed(self, number: int) -> str | None:
        """The topic of a channel whose declaration was lost; SessionError if nobody can know."""
        own = list(CHANNELS)
        if not self._own or not 0 < number <= len(own):
            raise SessionError(f"a message on channel {number}, which is not declared")
        topic = own[number - 1]
        self.topics[number] = None if topic in self._skip else topic
        return self.topics[number]


def _of_chunk(
    stream: IO[bytes], offset: int, length: int, names: _Names, contents: Contents
) -> Iterator[Message]:
    data = _unpacked(stream, offset, length, contents)
    if data is not None:
        yield from _of_records(data, offset, names, contents)


def _unpacked(stream: IO[bytes], offset: int, length: int, contents: Contents) -> bytes | None:
    try:
        stream.seek(offset + RECORD.size)
        content = stream.read(length - RECORD.size)
        chunk = Chunk.read(ReadDataStream(io.BytesIO(content)))
    except _FAILURES as error:
        contents.damage(offset, length, str(error) or type(error).__name__)
        return None
    try:
        return decompress(chunk)
    except _BrokenBlock as error:
        contents.damage(offset, length, str(error))
        return error.before
    except _FAILURES as error:
        contents.damage(offset, length, str(error) or type(error).__name__)
        return None


def _of_bare(
    stream: IO[bytes], offset: int, length: int, names: _Names, contents: Contents
) -> Iterator[Message]:
    """Bare messages, as many at once as memory should hold; one by one where a tool has put them
    in another order."""
    places = _disordered(stream, offset, length)
    if places is None:
        yield from _stretch(stream, offset, length, names, contents)
        return
    for at, size in places:
        yield from _stretch(stream, at, size, names, contents)


def _disordered(stream: IO[bytes], offset: int, length: int) -> list[tuple[int, int]] | None:
    """Where each bare message is, in the order of their publish times, if that is not the file's;
    None if it is, or if there are more than anybody sorts."""
    times, places = array("Q"), array("Q")
    at, end = offset, offset + length
    head = RECORD.size + MESSAGE_HEAD.size
    while at + head <= end:
        stream.seek(at)
        block = stream.read(min(_BARE_AT_ONCE, end - at))
        inside = 0
        while inside + head <= len(block):
            opcode, size = RECORD.unpack_from(block, inside)
            publish = MESSAGE_HEAD.unpack_from(block, inside + RECORD.size)[3] if opcode == 5 else 0
            times.append(publish)
            places.append(at + inside)
            inside += RECORD.size + size
        if len(times) > _MOST_SORTED:
            return None
        at += inside if inside else len(block)
    stamps = np.frombuffer(times, dtype=np.uint64)
    if len(stamps) < 2 or bool(np.all(stamps[1:] >= stamps[:-1])):
        return None
    ends = [*places[1:], end]
    order = np.argsort(stamps, kind="stable").tolist()
    return [(places[k], ends[k] - places[k]) for k in order]


def _stretch(
    stream: IO[bytes], offset: int, length: int, names: _Names, contents: Contents
) -> Iterator[Message]:
    end = offset + length
    rest = b""
    while offset < end:
        stream.seek(offset)
        data = rest + stream.read(min(_BARE_AT_ONCE, end - offset))
        at = 0
        while at + RECORD.size <= len(data):
            _, size = RECORD.unpack_from(data, at)
            if at + RECORD.size + size > len(data):
                break
            at += RECORD.size + size
        yield from _of_records(data[:at], offset, names, contents)
        if at == 0 and len(data) >= LARGEST_CHUNK:
            contents.damage(offset, end - offset, "a message of more than memory should hold")
            return
        offset += len(data) - len(rest)
        rest = data[at:]


def _of_records(data: bytes, offset: int, names: _Names, contents: Contents) -> Iterator[Message]:
    at, end = 0, len(data)
    topics = names.topics
    unpack_record, unpack_message = RECORD.unpack_from, MESSAGE_HEAD.unpack_from
    while at < end:
        try:
            opcode, length = unpack_record(data, at)
            at += 9
            if length > end - at:
                raise SessionError("a record reaches beyond its chunk")
            if opcode == 5:
                number, _, log_time, publish_time = unpack_message(data, at)
                topic = topics[number] if number in topics else names.assumed(number)
                if topic is not None:
                    yield topic, log_time, publish_time, data[at + 22 : at + length]
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                contents.take(opcode, data[at : at + length])
                if opcode == Opcode.CHANNEL:
                    names.declare(Channel.read(ReadDataStream(io.BytesIO(data[at : at + length]))))
            at += length
        except _FAILURES as error:
            contents.damage(offset, 0, f"the rest of a chunk: {error}")
            return


def _order(found: Scan, stream: IO[bytes]) -> list[int]:
    """Regions as their ticks were written; file order unless a tool has changed that."""
    if found.order is None:
        found.order = list(range(len(found.offsets)))
        begins, ends = list(found.begins), list(found.ends)
        if begins != sorted(begins) or ends != sorted(ends):
            # Times in a chunk's head have no checksum, and are those of measurements: the ticks
            # themselves decide. A chunk of two pieces comes with its earlier ticks, for which
            # others wait; its later ones can wait themselves.
            earliest = _earliest(found, stream)
            found.order.sort(key=earliest.__getitem__)
    return found.order


def _earliest(found: Scan, stream: IO[bytes]) -> list[int]:
    """When the first tick in each region was published [ns]; where there is none, as before it."""
    names, silent = _Names(found, NO_PART_OF_A_TICK | {"/state"}), Contents()
    times: list[int] = []
    for k, (offset, length) in enumerate(zip(found.offsets, found.lengths, strict=True)):
        if found.chunked[k]:
            data = _unpacked(stream, offset, length, silent)
            inside = [] if data is None else _publish_times(data, names)
            times.append(min(inside, default=times[-1] if times else 0))
        else:
            times.append(found.begins[k])
    return times


def _publish_times(data: bytes, names: _Names) -> list[int]:
    """Of a chunk's messages that are part of a tick, up to the first record that is none."""
    times: list[int] = []
    at, end = 0, len(data) - RECORD.size - MESSAGE_HEAD.size
    try:
        while at <= end:
            opcode, length = RECORD.unpack_from(data, at)
            if opcode == Opcode.CHANNEL:
                content = io.BytesIO(data[at + RECORD.size : at + RECORD.size + length])
                names.declare(Channel.read(ReadDataStream(content)))
            elif opcode == Opcode.MESSAGE:
                number, _, _, publish_time = MESSAGE_HEAD.unpack_from(data, at + RECORD.size)
                known = number in names.topics
                if (names.topics[number] if known else names.assumed(number)) is not None:
                    times.append(publish_time)
            at += RECORD.size + length
    except _FAILURES:
        pass  # told where the messages themselves are read
    return times


def decompress(chunk: Chunk) -> bytes:
    """A chunk's records; raises SessionError on a wrong size, method or checksum."""
    size = chunk.uncompressed_size
    if size > LARGEST_CHUNK:
        raise SessionError(f"a chunk claims {size} bytes")
    if chunk.compression == "":
        data = chunk.data
    elif chunk.compression == "zstd":
        data = _zstd(chunk.data, size)
    elif chunk.compression == "lz4":
        data = _lz4(chunk.data, size)
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
        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_CHUNK)
        return decompressor.decompress(data, max_output_size=size) if size else b""
    except zstandard.ZstdError as error:
        steps = zstandard.ZstdDecompressor(max_window_size=LARGEST_CHUNK).decompressobj()
        before = _whole_blocks(steps.decompress, data, size, zstandard.ZstdError)
        raise _BrokenBlock(f"a chunk cannot be decompressed: {error}", before) from None


def _whole_blocks(
    feed: Callable[[bytes], bytes], data: bytes, size: int, failure: type[Exception]
) -> bytes:
    """What comes out before the first block that is broken."""
    out = bytearray()
    try:
        for at in range(0, len(data), _FEED):
            out += feed(data[at : at + _FEED])
            if len(out) > size:
                return b""
    except failure:
        pass
    return bytes(out)


def _lz4(data: bytes, size: int) -> bytes:
    import lz4.frame

    try:
        unpacked: bytes = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
    except (RuntimeError, EOFError, MemoryError) as error:
        raise SessionError(f"a chunk cannot be decompressed: {error}") from None
    return unpacked
