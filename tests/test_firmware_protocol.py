"""The bridge protocol: one table for both ends, and a codec that believes only what is sound."""

from __future__ import annotations

import ctypes
import math
import random
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.firmware import (
    FIRMWARE,
    MUTATIONS,
    ROOT,
    Limits,
    Logic,
    PlainClock,
    load_host,
    needs_gcc,
)

from cartpole.config.schema import Config, Encoder, Motor, Rig, Safety
from cartpole.errors import UsageError
from cartpole.messages import (
    BoardStatus,
    Command,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
)
from cartpole.rules.firmware_bridge import link_rules
from firmware_bridge import protocol
from firmware_bridge.bridge_codec import BOARD_DELAY_NS, BridgeCodec, BridgeMessage
from firmware_bridge.framing import FrameSplitter, decode_frame, encode_frame
from firmware_bridge.protocol import BOARD, COMMAND, CONFIG, MESSAGES, SAMPLE, STATUS, SampleFlag


def codec(config: Config | None = None) -> BridgeCodec:
    return BridgeCodec(link_rules(config or Config()), PlainClock())


class FakeBoard:
    """Writes the board's frames."""

    def __init__(self, version: int = protocol.VERSION) -> None:
        self._counter = 0
        self._version = version

    def frame(self, message: protocol.Message, *values: int) -> bytes:
        self._counter = (self._counter + 1) & 0xFF
        head = bytes((self._version << 4 | message.id, self._counter))
        return encode_frame(head + struct.pack(message.format, *values))

    def sample(self, time_us: int, cart: int = 0, pole: int = 0, flags: int = 0) -> bytes:
        return self.frame(SAMPLE, time_us, cart, pole, flags)

    def status(
        self, *, boot_id: int = 1, ack: int = 0, config_crc: int = 0, flags: int = 0
    ) -> bytes:
        return self.frame(STATUS, 0, boot_id, ack, config_crc, 0, 0, 0, flags, *[0] * 6)

    def board(self, boot_id: int = 1) -> bytes:
        return self.frame(BOARD, boot_id, 1, 1, 5_000_000, 50_000)


# One table


def test_the_header_is_the_table() -> None:
    assert (FIRMWARE / "protocol.h").read_text() == protocol.c_header(), (
        "run `python -m firmware_bridge.protocol header > firmware_bridge/firmware/protocol.h`"
    )


def test_the_document_is_the_table() -> None:
    assert protocol.tables() in (ROOT / "docs" / "protocol.md").read_text(), (
        "paste the output of `python -m firmware_bridge.protocol tables` into docs/protocol.md"
    )


def test_ids_and_sizes_are_sane() -> None:
    assert len({message.id for message in MESSAGES}) == len(MESSAGES)
    assert all(0 < message.id < 16 for message in MESSAGES)
    # COBS needs one code byte only below 254 bytes, and the board's buffers are small.
    assert protocol.MAX_PAYLOAD < 64


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return load_host(tmp_path_factory.mktemp("host"))


@needs_gcc
def test_both_ends_write_the_same_bytes(lib: ctypes.CDLL) -> None:
    board, fake = Logic(lib), FakeBoard()
    for fields in (bytes(SAMPLE.size), bytes(range(SAMPLE.size)), b"\xff" * SAMPLE.size):
        assert board.encode(SAMPLE.id, fields) == fake.frame(
            SAMPLE, *struct.unpack(SAMPLE.format, fields)
        )


@needs_gcc
def test_the_board_takes_what_the_codec_writes(lib: ctypes.CDLL) -> None:
    board, host = Logic(lib), codec()
    assert board.receive(host.service(0)) == 1
    host.feed(FakeBoard().board(), 1)
    assert board.receive(host.service(10)) == 1
    assert board.flags & SampleFlag.CONFIGURED
    assert board.receive(host.encode_velocity(Command(0, 1, 0.0, False, 0.0))) == 1
    assert board.receive(host.encode_velocity(Command(0, 2, 0.3, True, 0.3))) == 1
    assert board.enabled
    assert board.drive(0, 0) == []
    board.ticks(40)
    assert board.velocity == 300_000
    assert board.receive(host.encode_stop()) == 1
    board.ticks(60)
    assert not board.enabled


@needs_gcc
def test_the_board_takes_no_mutant_either(lib: ctypes.CDLL) -> None:
    """The same mutations as the host's codec gets, against the firmware's own decoder."""
    board, host = Logic(lib, limits=Limits()), codec()
    frame = host.encode_velocity(Command(0, 77, 0.123456, True, 0.1))
    rng = random.Random(5)
    accepted = 0
    for _ in range(20_000):
        wire = bytearray(frame[:-1])
        for _ in range(rng.randint(1, 3)):
            wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
        if bytes(wire) == frame[:-1] or not within_guarantee(frame[:-1], bytes(wire)):
            continue
        accepted += board.receive(bytes(wire) + b"\x00")
    assert accepted == 0


# The codec


def _ready(host: BridgeCodec) -> bool:
    return host.ready


def test_the_conversation() -> None:
    host, board = codec(), FakeBoard()
    assert not _ready(host)
    hello = host.service(0)
    assert hello
    assert host.service(100_000_000) == b""
    assert host.service(200_000_000) != b""  # a boot loader ate the first
    host.feed(board.board(), 210_000_000)
    config = host.service(211_000_000)
    fields = decode_frame(config[:-1])
    assert fields is not None
    assert fields[0] == protocol.VERSION << 4 | CONFIG.id
    crc = host._config_crc
    host.feed(board.status(config_crc=crc, flags=SampleFlag.CONFIGURED), 220_000_000)
    assert _ready(host)
    assert host.service(230_000_000) == b""
    # The board restarts: everything from the beginning.
    host.feed(board.status(boot_id=2), 240_000_000)
    assert not _ready(host)
    assert host.service(450_000_000) != b""


def test_the_limits_of_the_rig_reach_the_board() -> None:
    config = Config(
        rig=Rig(velocity_limit_m_s=0.7, acceleration_limit_m_s2=6.0),
        motor=Motor(protocol="bridge", counts_per_m_s=1500.0, sign=-1, dead_band_counts=90.0),
        encoder=Encoder(protocol="bridge", poll_hz=250.0),
        safety=Safety(board_timeout_s=0.08, homing_speed_m_s=0.1),
    )
    host = codec(config)
    host.service(0)
    host.feed(FakeBoard().board(), 1)
    payload = decode_frame(host.service(2)[:-1])
    assert payload is not None
    values = dict(
        zip(
            (field.name for field in CONFIG.fields),
            struct.unpack(CONFIG.format, payload[2:]),
            strict=True,
        )
    )
    assert values == {
        "v_max": 700_000,
        "home_v_max": 560_000,  # 0.8 of the limit, which calming the pole may take
        "a_max": 6_000,
        "gain": round(1500e-6 * 2**32),
        "dead_band": 90,
        "timeout": 80,
        "stream_hz": 250,
        "period": 20,
        "flags": 1,
    }


def test_a_sample_is_stamped_before_its_frame_was_sent() -> None:
    (sample,) = codec().feed(FakeBoard().sample(5_000_000, 12, -34, SampleFlag.LIMIT_HIGH), 9)
    assert isinstance(sample, EncoderSample)
    wire_ns = SAMPLE.wire_size * 10 * 10**9 // 115200
    assert sample.t_ns == 5_000_000_000 - wire_ns - BOARD_DELAY_NS
    assert (sample.cart_counts, sample.pole_counts) == (12, -34)
    assert (sample.limit_low, sample.limit_high) == (False, True)


def test_counts_are_unwrapped() -> None:
    host, board = codec(), FakeBoard()
    counts = [2**31 - 2, 2**31 - 1, -(2**31), -(2**31) + 1]
    got = [
        host.feed(board.sample(k, count, -count % 2**31), k)[0] for k, count in enumerate(counts)
    ]
    assert [s.cart_counts for s in got if isinstance(s, EncoderSample)] == [
        2**31 - 2,
        2**31 - 1,
        2**31,
        2**31 + 1,
    ]


def test_acknowledgements_are_unwrapped() -> None:
    host, board = codec(), FakeBoard()
    host.encode_velocity(Command(0, 70_003, 0.0, True, 0.0))
    (status,) = host.feed(board.status(ack=70_001 & 0xFFFF, flags=SampleFlag.ACKNOWLEDGED), 1)
    assert isinstance(status, BoardStatus)
    assert status.acknowledged_sequence == 70_001
    (status,) = host.feed(board.status(ack=0), 2)
    assert isinstance(status, BoardStatus)
    assert status.acknowledged_sequence == -1


@pytest.mark.parametrize("velocity", [math.nan, math.inf, -math.inf])
def test_only_finite_velocities_leave(velocity: float) -> None:
    with pytest.raises(UsageError):
        codec().encode_velocity(Command(0, 1, velocity, True, 0.0))


def test_commands_carry_their_flags() -> None:
    host = codec()

    def flags(command: Command) -> int:
        payload = decode_frame(host.encode_velocity(command)[:-1])
        assert payload is not None
        return int(struct.unpack(COMMAND.format, payload[2:])[2])

    assert flags(Command(0, 1, 0.1, True, 0.1)) == 1
    assert flags(Command(0, 2, 0.1, True, 0.1, homing=True)) == 3
    assert flags(Command(0, 3, 0.0, False, 0.0)) == 0
    assert flags(Command(0, 4, 0.0, False, 0.0, clear_fault=True)) == 4
    assert flags(Command(0, 5, 0.1, True, 0.1, clear_fault=True)) == 1  # never while driving


def test_another_version_is_refused_once_and_by_name() -> None:
    host, board = codec(), FakeBoard(version=2)
    events = host.feed(board.sample(1) + board.sample(2), 5)
    assert len(events) == 1
    assert isinstance(events[0], LinkEvent)
    assert events[0].state is LinkState.REFUSED
    assert "protocol 2" in events[0].detail


def test_refused_limits_are_said() -> None:
    host, board = codec(), FakeBoard()
    events: list[BridgeMessage] = []
    host.service(0)
    host.feed(board.board(), 1)
    for k in range(60):
        host.service(k * 50_000_000)
        events += host.feed(board.status(), k * 50_000_000 + 1)
    refused = [e for e in events if isinstance(e, LinkEvent) and e.state is LinkState.REFUSED]
    assert len(refused) == 1
    assert refused[0].link is Link.MOTOR


def test_lost_frames_are_counted() -> None:
    host, board = codec(), FakeBoard()
    frames = [board.sample(k) for k in range(600)]
    for k, frame in enumerate(frames):
        if k not in (5, 300, 301):
            host.feed(frame, k)
    assert host.statistics.lost == 3
    assert host.statistics.samples == 597


# Noise

STREAM_BOARD = FakeBoard()
STREAM = b"".join(
    STREAM_BOARD.sample(4000 * k, 50 * k, -7 * k * (k % 3))
    if k % 5
    else STREAM_BOARD.status(ack=k, boot_id=1)
    for k in range(40)
)


@settings(max_examples=200, deadline=None)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=60))
def test_every_split_decodes_alike(cuts: list[int]) -> None:
    whole = codec().feed(STREAM, 0)
    host = codec()
    edges = [0, *sorted(cuts), len(STREAM)]
    parts = [
        message for begin, end in pairwise(edges) for message in host.feed(STREAM[begin:end], 0)
    ]
    assert parts == whole
    assert len(whole) == 40


@settings(max_examples=300, deadline=None)
@given(noise=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_noise_costs_at_most_the_frame_it_touches(noise: bytes, cuts: list[int]) -> None:
    host, board = codec(), FakeBoard()
    edges = [0, *sorted(cuts), len(noise)]
    for begin, end in pairwise(edges):
        host.feed(noise[begin:end], 0)
    good = [board.sample(k, k, k) for k in range(1, 4)]
    got = [m for f in good for m in host.feed(f, 1) if isinstance(m, EncoderSample)]
    assert [s.cart_counts for s in got[-2:]] == [2, 3]


def test_a_flood_without_end_costs_no_memory() -> None:
    splitter = FrameSplitter()
    for _ in range(1000):
        assert splitter.push(b"\x55" * 4096) == []
        assert len(splitter._rest) < protocol.MAX_WIRE
    assert splitter.overlong == 1
    assert splitter.push(b"\x00\x03\x01\x01\x00") == [b"\x03\x01\x01"]


def within_guarantee(sound: bytes, mutant: bytes) -> bool:
    """Whether the CRC promises to find what ``mutant`` differs by, after unstuffing."""
    from firmware_bridge.framing import cobs_decode

    a, b = cobs_decode(sound), cobs_decode(mutant)
    if a is None or b is None or len(a) != len(b):
        return True  # the length alone tells, or the CRC of another length: see the test below
    difference = int.from_bytes(a, "big") ^ int.from_bytes(b, "big")
    flipped = difference.bit_count()
    burst = difference.bit_length() - ((difference & -difference).bit_length() - 1)
    return flipped <= 3 or flipped % 2 == 1 or burst <= 16


def mutate(rng: np.random.Generator, frames: list[bytes], count: int) -> list[tuple[bytes, bytes]]:
    """(sound, mutant) pairs: flipped bits, bursts, lost, doubled and foreign bytes."""
    which = rng.integers(len(frames), size=count)
    kinds = rng.integers(6, size=count)
    places = rng.random((count, 4))
    values = rng.integers(1, 256, size=(count, 4))
    out = []
    for frame_index, kind, place, value in zip(
        which.tolist(), kinds.tolist(), places.tolist(), values.tolist(), strict=True
    ):
        sound = frames[frame_index]
        wire = bytearray(sound)
        last = len(wire) - 1  # the delimiter stays: splitting is tested elsewhere
        at = [int(p * last) for p in place]
        if kind < 3:
            for k in range(kind + 1):
                wire[at[k]] ^= 1 << (value[k] & 7)
        elif kind == 3:
            wire[at[0]] ^= value[0]
            wire[min(at[0] + 1, last - 1)] ^= value[1]
        elif kind == 4:
            del wire[at[0]]
        else:
            wire.insert(at[0], value[0])
        out.append((sound, bytes(wire)))
    return out


def test_mutants_are_not_believed() -> None:
    """``CARTPOLE_MUTATIONS=1000000`` for the long run."""
    rng = np.random.default_rng(20)
    board = FakeBoard()
    frames = [
        board.sample(time_us, cart, pole, flags=k % 64)
        for k, (time_us, cart, pole) in enumerate(rng.integers(0, 2**31, size=(64, 3)).tolist())
    ]
    frames += [board.sample(4000 * k, k, -k) for k in range(64)]
    frames += [board.status(ack=k, boot_id=k, config_crc=1000 + k) for k in range(64)]
    sound = set(frames)
    host = codec()
    wrong = guaranteed = 0
    for before, wire in mutate(rng, frames, MUTATIONS):
        if wire in sound:
            continue
        messages = host.feed(wire, 0)
        believed = [m for m in messages if not isinstance(m, LinkEvent)]
        if believed:
            wrong += 1
            pieces = [piece for piece in wire.split(b"\x00") if piece]
            guaranteed += len(pieces) == 1 and within_guarantee(before[:-1], pieces[0])
    assert guaranteed == 0
    # What the CRC does not promise it still finds but for one in 2^16.
    assert wrong <= 3 + 2 * MUTATIONS / 2**16


def test_no_flip_of_up_to_two_bits_on_the_wire_is_believed() -> None:
    """Exhaustive, with COBS in the way: a flipped code byte moves zeros about."""
    frame = FakeBoard().sample(4_096, 256, -3)
    bits = 8 * (len(frame) - 1)
    whole = int.from_bytes(frame[:-1], "big")
    size = len(frame) - 1
    for first in range(bits):
        for second in range(first, bits):
            wire = (whole ^ (1 << first) ^ (1 << second if second > first else 0)).to_bytes(
                size, "big"
            )
            for piece in wire.split(b"\x00"):
                payload = decode_frame(piece)
                assert payload is None or len(payload) != SAMPLE.size + 2, wire.hex()
