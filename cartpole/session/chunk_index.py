"""The index at the end of an MCAP file, gathered from the file itself, a piece at a time."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import ChunkIndex, McapRecord, SummaryOffset

from cartpole.session.mcap_scan import CHUNK_HEAD, MAGIC, RECORD

AT_ONCE = 512  # records between which the end of the file is gone to
_CHANNEL_BYTES = 2


class Summary:
    """Groups of records behind the data, written at the stream's end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._crc = 0
        self._offsets: list[SummaryOffset] = []

    def group(self, kind: Opcode, records: Iterable[McapRecord]) -> None:
        """One kind's records; they may be read from the stream while they are asked for."""
        begin = self._stream.seek(0, os.SEEK_END)
        left = iter(records)
        while some := list(islice(left, AT_ONCE)):
            self._write(some)
        end = self._stream.seek(0, os.SEEK_END)
        self._offsets.append(SummaryOffset(kind, begin, end - begin))

    def offsets(self) -> tuple[int, int]:
        """Where the groups begin, written; where that stands, and the checksum of it all."""
        begin = self._stream.seek(0, os.SEEK_END)
        self._write(self._offsets)
        return begin, self._crc

    def _write(self, records: Iterable[McapRecord]) -> None:
        builder = RecordBuilder()
        for record in records:
            record.write(builder)
        data: bytes = builder.end()  # type: ignore[no-untyped-call]
        self._crc = zlib.crc32(data, self._crc)
        self._stream.seek(0, os.SEEK_END)
        self._stream.write(data)


def chunk_indexes(stream: IO[bytes], end: int) -> Iterator[ChunkIndex]:
    """An entry for each chunk before ``end`` of a file that is whole up to there."""
    at, index = len(MAGIC), None
    while at < end:
        stream.seek(at)
        opcode, length = RECORD.unpack(stream.read(RECORD.size))
        whole = RECORD.size + length
        if opcode == Opcode.MESSAGE_INDEX and index is not None:
            channel = int.from_bytes(stream.read(_CHANNEL_BYTES), "little")
            index.message_index_offsets[channel] = at
            index.message_index_length += whole
        elif index is not None:
            yield index
            index = None
            continue  # what the caller did has moved the stream
        elif opcode == Opcode.CHUNK:
            index = _entry(stream, at, whole)
        at += whole
    if index is not None:
        yield index


def _entry(stream: IO[bytes], at: int, whole: int) -> ChunkIndex:
    """Of the chunk at ``at``, whose record's head was just read."""
    first, last, unpacked, _, named = CHUNK_HEAD.unpack(stream.read(CHUNK_HEAD.size))
    method = stream.read(named).decode()
    packed = int.from_bytes(stream.read(8), "little")
    return ChunkIndex(
        chunk_length=whole,
        chunk_start_offset=at,
        compression=method,
        compressed_size=packed,
        message_end_time=last,
        message_index_length=0,
        message_index_offsets={},
        message_start_time=first,
        uncompressed_size=unpacked,
    )
