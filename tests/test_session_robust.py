"""Recordings in any state: cut, flipped, hostile; a result or a typed error, never a hang."""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from mcap.reader import SeekingReader as McapReader
from mcap.writer import CompressionType, Writer
from support.sessions import FakeCore, write_session

from cartpole.errors import SessionError
from cartpole.session import frames
from cartpole.session.listing import describe, stored_summary
from cartpole.session.mcap_scan import MAGIC, Scan, scan
from cartpole.session.mcap_stream import messages
from cartpole.session.reader import open_session
from cartpole.session.recover import recover
from cartpole.session.replay import replay


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("robust") / "run.mcap"
    write_session(path, ticks=32, lost_at=25)
    return path


def read_all(path: Path) -> str:
    """Touch everything a session offers; the SessionError's text, if there is one."""
    try:
        session = open_session(path)
        _ = session.config, session.homed
        for tick in session.ticks():
            tick.record()
        list(session.frames())
        list(session.raw())
    except SessionError as error:
        return str(error)
    return ""


def test_cut_anywhere_loses_only_the_end(recording: Path, tmp_path: Path) -> None:
    data = recording.read_bytes()
    whole = list(open_session(recording).ticks())
    rng = random.Random(1)
    cut = tmp_path / "cut.mcap"
    for at in sorted(rng.randrange(len(data)) for _ in range(200)):
        cut.write_bytes(data[:at])
        if at < len(MAGIC):
            with pytest.raises(SessionError):
                open_session(cut)
            continue
        session = open_session(cut)
        ticks = list(session.ticks())
        assert [t.input for t in ticks][-1:] == [t.input for t in whole[: len(ticks)]][-1:]


def test_what_was_flushed_survives_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    write_session(path, ticks=600)
    data = path.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(data[: len(data) * 3 // 4])
    ticks = sum(1 for _ in open_session(cut).ticks())
    assert ticks > 0.5 * 600


def test_random_flips_give_typed_errors(recording: Path, tmp_path: Path) -> None:
    data = recording.read_bytes()
    rng = random.Random(2)
    broken = tmp_path / "broken.mcap"
    for _ in range(100):
        bad = bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 20))):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        broken.write_bytes(bad)
        assert "\n" not in read_all(broken)
        stored = stored_summary(open_session(broken)) if bad[:8] == MAGIC else None
        assert stored is None or "upright_at_s" in stored


def test_a_damaged_index_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """It repeats what the channels are called, before anybody has looked into a chunk."""
    path = tmp_path / "run.mcap"
    write_session(path, ticks=60)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"/estimate")
    assert at > scan(path).index_at > 0
    assert scan(path).contents.damages == []
    data[at] ^= 1
    path.write_bytes(data)
    session = open_session(path)
    assert {tick.line.index for tick in session.ticks()} == set(range(60))
    assert ["index" in damage.why for damage in scan(path).contents.damages] == [True]


def test_flips_in_the_data_are_noticed(recording: Path, tmp_path: Path) -> None:
    """A chunk carries a checksum: no flipped bit in it may pass as data."""
    data = recording.read_bytes()
    reference = {tick.line.index: repr(tick.input) for tick in open_session(recording).ticks()}
    rng = random.Random(3)
    broken = tmp_path / "broken.mcap"
    for _ in range(60):
        bad = bytearray(data)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        broken.write_bytes(bad)
        try:
            for tick in open_session(broken).ticks():
                assert repr(tick.input) == reference[tick.line.index]
        except SessionError:
            pass


def regions(path: Path) -> list[tuple[int, int, set[int]]]:
    """Beginning and end of each chunk, and the indices of the ticks whose messages are in it."""
    found = scan(path)
    with path.open("rb") as stream:
        raw = list(McapReader(stream).iter_messages(log_time_order=False))
    indices = {m.publish_time: json.loads(m.data)["index"] for _, c, m in raw if c.topic == "/tick"}
    out = []
    for offset, length in zip(found.offsets, found.lengths, strict=True):
        part = Scan(path, found.contents)
        part.region(offset, length, (0, 0), True)
        times = {publish for _, _, publish, _ in messages(part)}
        out.append((offset, offset + length, {indices[t] for t in times if t in indices}))
    return out


def test_a_flipped_bit_loses_at_most_its_chunk(tmp_path: Path) -> None:
    """Wherever it is: in data, in a length, in a kind, in settings, in the index at the end."""
    path, broken = tmp_path / "run.mcap", tmp_path / "broken.mcap"
    write_session(path, ticks=300)
    data, places = path.read_bytes(), regions(path)
    assert len(places) >= 3
    flips = int(os.environ.get("CARTPOLE_FLIPS", "120"))
    rng = random.Random(4)
    heads = [offset + k for offset, _, _ in places for k in range(53)]
    for number in range(flips):
        at = rng.randrange(len(MAGIC), len(data)) if number % 2 else rng.choice(heads)
        bad = bytearray(data)
        bad[at] ^= 1 << rng.randrange(8)
        broken.write_bytes(bad)
        hit = next((inside for begin, end, inside in places if begin <= at < end), set())
        session = open_session(broken)
        found = {tick.line.index for tick in session.ticks()}
        assert session.config is not None
        assert found >= set(range(300)) - hit, f"bit in byte {at}"
        lost = 300 - len(found)
        assert not lost or not session.whole, f"byte {at}: {lost} ticks gone without a word"


def test_damage_in_the_middle_names_the_way_out(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.mcap"
    write_session(path, ticks=800)
    data = bytearray(path.read_bytes())
    # flip a bit in the data of a late chunk: found through the index of a whole file
    from mcap.reader import make_reader

    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    chunk = summary.chunk_indexes[len(summary.chunk_indexes) * 2 // 3]
    data[chunk.chunk_start_offset + chunk.chunk_length // 2] ^= 0x10
    broken, saved = tmp_path / "broken.mcap", tmp_path / "saved.mcap"
    broken.write_bytes(data)
    session = open_session(broken)
    ticks = [tick.line.index for tick in session.ticks()]
    assert len(ticks) == 800 - session.account.missing < 800
    assert ticks[-1] == 799
    assert any("damaged" in line for line in session.told())
    entry = describe(broken)
    assert (entry.whole, entry.damage) == (False, "damaged")
    assert describe(path).whole
    found = recover(broken, saved)
    assert found.ticks == len(ticks)
    assert any("damaged" in line for line in found.damage)
    result = replay(open_session(saved), make_core=FakeCore)
    assert result.bitwise_equal
    assert result.ticks + result.skipped == len(ticks)
    (gap,) = result.gaps
    assert result.ticks == gap.first


def test_not_a_recording(tmp_path: Path) -> None:
    for content in (b"", b"\x89MCA", b"hello" * 100):
        path = tmp_path / "x.mcap"
        path.write_bytes(content)
        with pytest.raises(SessionError, match="not a recording"):
            open_session(path)
    with pytest.raises(SessionError):
        open_session(tmp_path)
    with pytest.raises(SessionError):
        open_session(tmp_path / "missing.mcap")
    pipe = tmp_path / "pipe.mcap"
    os.mkfifo(pipe)
    assert describe(tmp_path / "x.mcap").error


def chunk_record(compression: bytes, size: int, data: bytes) -> bytes:
    body = struct.pack("<QQQI", 0, 0, size, 0)
    body += struct.pack("<I", len(compression)) + compression
    body += struct.pack("<Q", len(data)) + data
    return struct.pack("<BQ", 6, len(body)) + body


@pytest.mark.parametrize("compression", [b"zstd", b"lz4", b"", b"evil"])
def test_bombs_do_not_allocate(tmp_path: Path, compression: bytes) -> None:
    import zstandard

    packed = zstandard.compress(bytes(200 << 20)) if compression == b"zstd" else b"\0" * 90
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for claimed in (1 << 40, 200 << 20, 60 << 20, 91):
        path = tmp_path / "bomb.mcap"
        path.write_bytes(MAGIC + chunk_record(compression, claimed, packed))
        session = open_session(path)
        assert list(session.messages()) == []
        assert session.damages or session.truncated
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # kB


def test_a_record_longer_than_the_file_is_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(MAGIC + struct.pack("<BQ", 6, 1 << 62) + b"abc")
    session = open_session(path)
    assert list(session.messages()) == []
    assert session.truncated


def foreign(lines: list[tuple[str, bytes]]) -> bytes:
    """A file whose container is right and whose messages are not."""
    buffer = BytesIO()
    writer = Writer(buffer, compression=CompressionType.NONE)
    writer.start()
    channels: dict[str, int] = {}
    for topic, data in lines:
        if topic not in channels:
            channels[topic] = writer.register_channel(topic, "json", 0)
        writer.add_message(channels[topic], 1, data, 1)
    writer.finish()  # type: ignore[no-untyped-call]
    return buffer.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b'{"t_ns": "1", "arrival_ns": 1, "cart_counts": 1, "pole_counts": 1}',
        b'{"t_ns": 1, "arrival_ns": 1, "cart_counts": 1.5, "pole_counts": 1}',
        b'{"t_ns": 1, "arrival_ns": 1, "cart_counts": true, "pole_counts": 1}',
        b"[" * 100_000,
    ],
)
def test_messages_that_do_not_fit(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(foreign([("/encoder", line)]))
    session = open_session(path)
    assert list(session.ticks()) == []
    assert session.account.left_out.total() == 1
    assert not session.whole


def test_unknown_channels_and_fields_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    good = b'{"t_ns": 1, "arrival_ns": 1, "cart_counts": 1, "pole_counts": 1, "colour": "red"}'
    path.write_bytes(foreign([("/elsewhere", b"\0\1"), ("/encoder", good)]))
    assert list(open_session(path).ticks()) == []


def test_pictures_that_lie_about_their_size() -> None:
    import numpy as np

    picture = frames.compress(np.zeros((48, 64), np.uint8))
    assert frames.decompress(picture).shape == (48, 64)
    at = picture.index(b"\xff\xc0")
    huge = picture[: at + 5] + b"\xff\xff\xff\xff" + picture[at + 9 :]
    chunk = struct.pack(">I4sII5B", 13, b"IHDR", 1 << 30, 1 << 30, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(chunk[4:]))
    for data in (huge, png, b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00", picture[:40]):
        with pytest.raises(SessionError):
            frames.decompress(data)
