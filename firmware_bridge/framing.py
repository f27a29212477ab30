"""Frames on a byte stream: COBS stuffing, CRC-16, a splitter. Bytes in, bytes out.

COBS (Cheshire and Baker, 1999) replaces every zero, so that a zero ends a frame and nothing else.
The CRC is CRC-16/CCITT-FALSE: in messages as short as these it finds every error of up to three
bits, every odd number of bits and every burst of up to 16 bits.
"""

from __future__ import annotations

from binascii import crc_hqx

from firmware_bridge.protocol import CRC_INITIAL, MAX_WIRE

DELIMITER = 0


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE of ``data``."""
    return crc_hqx(data, CRC_INITIAL)


def cobs_encode(data: bytes) -> bytes:
    """``data`` (at most 253 bytes) without zeros, one byte longer; no delimiter."""
    return b"".join(bytes((len(part) + 1,)) + part for part in data.split(b"\x00"))


def cobs_decode(data: bytes) -> bytes | None:
    """Inverse of ``cobs_encode``; None if ``data`` is not what it writes."""
    parts = []
    index, end = 0, len(data)
    while index < end:
        following = index + data[index]
        if following > end or following == index:
            return None
        parts.append(data[index + 1 : following])
        index = following
    return b"\x00".join(parts) if parts else None


def encode_frame(payload: bytes) -> bytes:
    """Head and fields to wire bytes, delimiter included."""
    return cobs_encode(payload + crc16(payload).to_bytes(2, "little")) + b"\x00"


def decode_frame(wire: bytes) -> bytes | None:
    """Wire bytes without their delimiter to head and fields; None if spoilt."""
    decoded = cobs_decode(wire)
    if decoded is None or len(decoded) < 4:
        return None
    payload = decoded[:-2]
    return payload if crc16(payload) == int.from_bytes(decoded[-2:], "little") else None


class FrameSplitter:
    """Cuts a stream at zeros; memory stays bounded whatever arrives.

    What is too long for a frame is dropped up to its zero and counted in ``overlong``.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self.overlong = 0

    def push(self, data: bytes) -> list[bytes]:
        """Complete non-empty frames, without their delimiters, in order."""
        *frames, self._rest = (self._rest + data).split(b"\x00")
        if self._skipping and frames:
            del frames[0]
            self._skipping = False
        kept = [frame for frame in frames if 0 < len(frame) < MAX_WIRE]
        self.overlong += sum(len(frame) >= MAX_WIRE for frame in frames)
        if len(self._rest) >= MAX_WIRE:
            self.overlong += not self._skipping
            self._rest = b""
            self._skipping = True
        elif self._skipping:
            self._rest = b""
        return kept
