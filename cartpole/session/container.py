"""One MCAP file being written: channels, chunks closed often, everything a viewer wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from mcap.writer import CompressionType, Writer

from cartpole.session.channels import CHANNELS, SCHEMA_NAMES, schema
from cartpole.session.codec import Line

CHUNK_BYTES = 256 << 10
PROFILE = "cartpole"

Attachments = Mapping[str, bytes]
Metadata = Mapping[str, Mapping[str, str]]


class Container:
    """Writes lines into an MCAP stream; the stream is the caller's to open, sync and close."""

    def __init__(self, stream: IO[bytes], attachments: Attachments, metadata: Metadata) -> None:
        self._writer = Writer(stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._stream = stream
        self._writer.start(PROFILE, "cartpole")
        self._channels: dict[str, int] = {}
        for topic, kind in CHANNELS.items():
            name = SCHEMA_NAMES.get(topic, f"cartpole.{kind.__name__}")
            number = self._writer.register_schema(name, "jsonschema", schema(kind))
            self._channels[topic] = self._writer.register_channel(topic, "json", number)
        for name, values in metadata.items():
            self.add_metadata(name, values)
        for name, data in attachments.items():
            kind_of = "application/json" if name.endswith(".json") else "text/plain"
            self._writer.add_attachment(0, 0, name, kind_of, data)

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """A named set of texts."""
        self._writer.add_metadata(name, dict(values))

    def add(self, lines: list[Line], now_ns: int) -> None:
        """Write lines; ``now_ns`` is when they were handed over."""
        for topic, t_ns, data in lines:
            self._writer.add_message(self._channels[topic], max(t_ns, 0), data, max(now_ns, 0))

    def flush(self) -> None:
        """Close the chunk and hand it to the operating system."""
        self._writer.flush()  # type: ignore[no-untyped-call]

    @property
    def bytes(self) -> int:
        """Size of the file so far."""
        return self._stream.tell()

    def finish(self) -> None:
        """Write indexes and footer."""
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._stream.flush()
