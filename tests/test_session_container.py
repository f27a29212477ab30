"""The container writes what the MCAP library's own writer would, and keeps nothing of it."""

from __future__ import annotations

import random
import tracemalloc
from io import BytesIO
from pathlib import Path

from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from cartpole.session.channels import CHANNELS, SCHEMA_NAMES, schema
from cartpole.session.codec import Line
from cartpole.session.container import CHUNK_BYTES, PROFILE, Container

ATTACHMENTS = {"config.json": b"{}", "config.yaml": b"a: 1"}
METADATA = {"provenance": {"git": "abc"}, "part": {"number": "1"}}


def by_library(stream: BytesIO, pieces: list[list[Line]]) -> None:
    writer = Writer(stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
    writer.start(PROFILE, "cartpole")
    numbers = {}
    for topic, kind in CHANNELS.items():
        name = SCHEMA_NAMES.get(topic, f"cartpole.{kind.__name__}")
        number = writer.register_schema(name, "jsonschema", schema(kind))
        numbers[topic] = writer.register_channel(topic, "json", number)
    for name, values in METADATA.items():
        writer.add_metadata(name, values)
    for name, data in ATTACHMENTS.items():
        kind_of = "application/json" if name.endswith(".json") else "text/plain"
        writer.add_attachment(0, 0, name, kind_of, data)
    for k, lines in enumerate(pieces):
        for topic, t_ns, data in lines:
            writer.add_message(numbers[topic], max(t_ns, 0), data, k)
        if k % 3 == 0:
            writer.flush()  # type: ignore[no-untyped-call]
    writer.add_metadata("summary", {"json": "{}"})
    writer.finish()  # type: ignore[no-untyped-call]


def by_ours(stream: BytesIO, pieces: list[list[Line]]) -> None:
    container = Container(stream, ATTACHMENTS, METADATA)
    for k, lines in enumerate(pieces):
        container.add(lines, k)
        if k % 3 == 0:
            container.flush()
    container.add_metadata("summary", {"json": "{}"})
    container.finish()


def some(count: int, size: int = 400) -> list[list[Line]]:
    rng, topics = random.Random(3), list(CHANNELS)
    return [
        [(rng.choice(topics), rng.randrange(-9, 10**9), rng.randbytes(rng.randrange(size)))
         for _ in range(rng.randrange(6))]
        for _ in range(count)
    ]  # fmt: skip


def test_the_bytes_are_the_librarys() -> None:
    for pieces in ([], some(2000), some(20, 3 * CHUNK_BYTES)):
        ours, theirs = BytesIO(), BytesIO()
        by_ours(ours, pieces)
        by_library(theirs, pieces)
        assert ours.getvalue() == theirs.getvalue()


def test_an_hours_chunks_take_no_memory(tmp_path: Path) -> None:
    """A chunk every tenth of a second; the library's list of them would be 15 MB by then."""
    path = tmp_path / "hour.mcap"
    line: Line = ("/event", 5, b"{}")
    with path.open("w+b") as stream:
        container = Container(stream, ATTACHMENTS, METADATA)
        held = []
        tracemalloc.start(1)
        for number in range(36_000):
            container.add([line], number)
            container.flush()
            if number % 12_000 == 3_000:
                held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        container.finish()
    assert held[-1] < held[0] + 20_000
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    assert len(summary.chunk_indexes) == 36_000
    assert all(len(index.message_index_offsets) == 1 for index in summary.chunk_indexes)
