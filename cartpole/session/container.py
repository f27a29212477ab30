"""One MCAP file being written: channels, chunks closed often, everything a viewer wants.

The library's own writer keeps an entry for every chunk until the file ends, tens of megabytes an
hour where a chunk is closed ten times a second, in a daemon whose memory is locked. This one writes
the same bytes and keeps none: the index is gathered from the file itself when it ends
(`cartpole.session.chunk_index`).
"""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from collections.abc import Mapping
from typing import IO

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    Chunk,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
)

from cartpole.session.channels import CHANNELS, SCHEMA_NAMES, schema
from cartpole.session.chunk_index import Summary, chunk_indexes
from cartpole.session.codec import Line
from cartpole.session.mcap_scan import MAGIC

CHUNK_BYTES = 256 << 10
PROFILE = "cartpole"
_MESSAGE = struct.Struct("<BQHIQQ")  # kind, length, channel, sequence, log and publish time
_MESSAGE_HEAD = _MESSAGE.size - 9  # what of it counts as content
_FOOTER = struct.Struct("<BQQQ")
_FOOTER_BYTES = 20

Attachments = Mapping[str, bytes]
Texts = Mapping[str, Mapping[str, str]]


class _Lines:
    """Messages of the chunk that is not closed yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.places: dict[int, list[tuple[int, int]]] = {}  # (log time, offset) by channel
        self.first_ns = self.last_ns = 0

    def add(self, channel: int, t_ns: int, now_ns: int, data: bytes) -> None:
        if not self.places:
            self.first_ns = self.last_ns = t_ns
        self.first_ns, self.last_ns = min(self.first_ns, t_ns), max(self.last_ns, t_ns)
        self.places.setdefault(channel, []).append((t_ns, len(self.data)))
        length = _MESSAGE_HEAD + len(data)
        self.data += _MESSAGE.pack(Opcode.MESSAGE, length, channel, 0, t_ns, now_ns)
        self.data += data


class Container:
    """Writes lines into an MCAP stream, which must be readable too; the stream is the caller's to
    open, sync and close."""

    def __init__(self, stream: IO[bytes], attachments: Attachments, metadata: Texts) -> None:
        self._stream = stream
        self._attachments: list[AttachmentIndex] = []
        self._metadata: list[MetadataIndex] = []
        self._statistics = Statistics(0, 0, defaultdict(int), 0, 0, 0, 0, 0, 0)
        self._lines = _Lines()
        stream.write(MAGIC)
        self._write(Header(PROFILE, "cartpole"))
        self._channels, self._definitions = _channels()
        self._statistics.schema_count = self._statistics.channel_count = len(self._channels)
        for record in self._definitions:  # at the head of the first chunk
            self._lines.data += _bytes(record)
        for name, values in metadata.items():
            self.add_metadata(name, values)
        for name, data in attachments.items():
            self._attach(name, data)

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """A named set of texts."""
        self._statistics.metadata_count += 1
        offset, length = self._write(Metadata(name=name, metadata=dict(values)))
        self._metadata.append(MetadataIndex(offset=offset, length=length, name=name))

    def add(self, lines: list[Line], now_ns: int) -> None:
        """Write lines; ``now_ns`` is when they were handed over."""
        now_ns, figures = max(now_ns, 0), self._statistics
        for topic, t_ns, data in lines:
            channel, t_ns = self._channels[topic], max(t_ns, 0)
            if figures.message_count == 0:
                figures.message_start_time = t_ns
            figures.message_start_time = min(t_ns, figures.message_start_time)
            figures.message_end_time = max(t_ns, figures.message_end_time)
            figures.message_count += 1
            figures.channel_message_counts[channel] += 1
            self._lines.add(channel, t_ns, now_ns, data)
            if len(self._lines.data) > CHUNK_BYTES:
                self._close_chunk()

    def flush(self) -> None:
        """Close the chunk and hand it to the operating system."""
        self._close_chunk()
        self._stream.flush()

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self._stream.tell()

    def finish(self) -> None:
        """Write indexes and footer."""
        self._close_chunk()
        end = self._stream.tell()
        self._write(DataEnd(0))
        summary = Summary(self._stream)
        begin = self._stream.tell()
        schemas, channels = self._definitions[::2], self._definitions[1::2]
        summary.group(Opcode.SCHEMA, schemas)
        summary.group(Opcode.CHANNEL, channels)
        summary.group(Opcode.STATISTICS, [self._statistics])
        summary.group(Opcode.CHUNK_INDEX, chunk_indexes(self._stream, end))
        summary.group(Opcode.ATTACHMENT_INDEX, self._attachments)
        summary.group(Opcode.METADATA_INDEX, self._metadata)
        offsets, crc = summary.offsets()
        head = _FOOTER.pack(Opcode.FOOTER, _FOOTER_BYTES, begin, offsets)
        self._write(Footer(begin, offsets, zlib.crc32(head, crc)))
        self._stream.write(MAGIC)
        self._stream.flush()

    def _write(self, record: McapRecord) -> tuple[int, int]:
        """A record outside the chunks; where it stands and how long it is."""
        offset, data = self._stream.tell(), _bytes(record)
        self._stream.write(data)
        return offset, len(data)

    def _attach(self, name: str, data: bytes) -> None:
        kind = "application/json" if name.endswith(".json") else "text/plain"
        self._statistics.attachment_count += 1
        offset, length = self._write(Attachment(0, 0, name, kind, data))
        self._attachments.append(AttachmentIndex(offset, length, 0, 0, len(data), name, kind))

    def _close_chunk(self) -> None:
        lines = self._lines
        if not lines.places:
            return
        self._lines = _Lines()
        self._statistics.chunk_count += 1
        self._write(
            Chunk(
                compression="zstd",
                data=zstandard.compress(bytes(lines.data)),
                message_start_time=lines.first_ns,
                message_end_time=lines.last_ns,
                uncompressed_crc=zlib.crc32(lines.data),
                uncompressed_size=len(lines.data),
            )
        )
        for channel, places in lines.places.items():
            self._write(MessageIndex(channel_id=channel, records=places))


def _channels() -> tuple[dict[str, int], list[McapRecord]]:
    """The number of each topic's channel; a schema and a channel for each."""
    numbers: dict[str, int] = {}
    records: list[McapRecord] = []
    for number, (topic, kind) in enumerate(CHANNELS.items(), 1):
        name = SCHEMA_NAMES.get(topic, f"cartpole.{kind.__name__}")
        numbers[topic] = number
        records.append(Schema(number, schema(kind), "jsonschema", name))
        records.append(Channel(number, topic, "json", {}, number))
    return numbers, records


def _bytes(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    data: bytes = builder.end()  # type: ignore[no-untyped-call]
    return data
