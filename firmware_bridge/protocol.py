"""The bridge protocol, written once: messages, fields, units, limits.

Both ends are held to this table: the Python codec packs and unpacks by it, ``firmware/protocol.h``
is generated from it (``python -m firmware_bridge.protocol header``) and so are the tables of
``docs/protocol.md`` (``python -m firmware_bridge.protocol tables``); a test fails when one differs.

On the wire a message is ``COBS(head, fields..., crc16) 0x00``. ``head`` is two bytes: the version
in the high and the message's id in the low four bits of the first, a counter of the sender's frames
in the second. Fields are little-endian, without padding. The CRC covers head and fields.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

VERSION: Final = 1
CRC_INITIAL: Final = 0xFFFF  # CRC-16/CCITT-FALSE: polynomial 0x1021, not reflected, no final xor

# Ceilings compiled into the board: no configuration gets beyond them.
CEILING_VELOCITY_UM_S: Final = 5_000_000
CEILING_ACCELERATION_MM_S2: Final = 50_000
CEILING_TIMEOUT_MS: Final = 500
FLOOR_TIMEOUT_MS: Final = 20
CEILING_PERIOD_MS: Final = 100
CEILING_DRIVE: Final = 2047  # full scale of the motor driver
STREAM_HZ_MIN: Final = 200
STREAM_HZ_MAX: Final = 500
GAIN_SHIFT: Final = 32  # CONFIG.gain is driver units per um/s times 2**32


class CommandFlag(IntFlag):
    """Bits of ``COMMAND.flags``."""

    ENABLE = 1  # drive on; a cleared bit switches it off at once
    HOMING = 2  # slow, and a pressed switch blocks its direction instead of tripping
    CLEAR = 4  # clear latched faults whose cause is gone (with ENABLE cleared)
    RELEASE = 8  # ramp to zero, then drive off, nothing latched: the host says goodbye


class ConfigFlag(IntFlag):
    """Bits of ``CONFIG.flags``."""

    REVERSE = 1  # a positive velocity needs a negative drive


class SampleFlag(IntFlag):
    """Bits of ``SAMPLE.flags`` and ``STATUS.flags``."""

    LIMIT_LOW = 1
    LIMIT_HIGH = 2
    ESTOP = 4
    ENABLED = 8  # the drive is on
    CONFIGURED = 16
    FAULT = 32  # something is latched
    ACKNOWLEDGED = 64  # STATUS.ack holds the sequence of an accepted command


class BoardFault(IntEnum):
    """Latched causes, the more severe the greater; the board keeps the greatest."""

    NONE = 0
    HEARTBEAT = 1  # no valid command for CONFIG.timeout: ramp, then off
    LINK = 2  # three spoilt frames in a row: ramp, then off
    LIMIT_LOW = 3  # switch pressed: off at once
    LIMIT_HIGH = 4
    STALLED = 5  # the main loop did not run for STALL_MS: off at once
    RESET = 6  # the board was reset while the drive was on
    ESTOP = 7  # emergency stop: off at once


@dataclass(frozen=True, slots=True)
class Field:
    """One number on the wire; ``kind`` is u8, u16, u32, i16 or i32."""

    name: str
    kind: str
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of frame; fields in wire order."""

    id: int
    name: str
    to_board: bool
    text: str
    fields: tuple[Field, ...]

    @property
    def format(self) -> str:
        """Format of ``struct`` for the fields."""
        return "<" + "".join(_STRUCT[field.kind] for field in self.fields)

    @property
    def size(self) -> int:
        """Bytes of the fields alone."""
        return struct.calcsize(self.format)

    @property
    def wire_size(self) -> int:
        """Bytes on the wire: head, fields, CRC, COBS overhead, delimiter."""
        return self.size + 2 + 2 + 1 + 1


_STRUCT: Final = {"u8": "B", "u16": "H", "u32": "I", "i16": "h", "i32": "i"}
_C_TYPE: Final = {
    "u8": "uint8_t",
    "u16": "uint16_t",
    "u32": "uint32_t",
    "i16": "int16_t",
    "i32": "int32_t",
}

HELLO: Final = Message(1, "HELLO", True, "Who are you? Starts the board's stream.", ())
CONFIG: Final = Message(
    2,
    "CONFIG",
    True,
    "Limits and scales; accepted only while the drive is off.",
    (
        Field("v_max", "u32", "um/s", "clamp of the velocity"),
        Field("home_v_max", "u32", "um/s", "clamp while homing"),
        Field("a_max", "u32", "mm/s2", "slope of the ramp"),
        Field(
            "gain", "u32", "2^-32 units/(um/s)", "driver units per velocity, above the dead band"
        ),
        Field("dead_band", "u16", "units of 2047", "driver units before anything moves"),
        Field("timeout", "u16", "ms", "longest silence of the host"),
        Field("stream_hz", "u16", "1/s", "samples a second"),
        Field("period", "u8", "ms", "between two commands: the ramp may jump by a_max times this"),
        Field("flags", "u8", "bits", "ConfigFlag"),
    ),
)
COMMAND: Final = Message(
    3,
    "COMMAND",
    True,
    "One a tick: velocity, and the heartbeat.",
    (
        Field("sequence", "u16", "", "grows by one or more modulo 2^16; stale ones are ignored"),
        Field("velocity", "i32", "um/s", "asked for; positive to the right"),
        Field("flags", "u8", "bits", "CommandFlag"),
    ),
)
BOARD: Final = Message(
    8,
    "BOARD",
    False,
    "Answer to HELLO.",
    (
        Field("boot_id", "u16", "", "grows with every reset"),
        Field("reset_cause", "u8", "bits", "MCUSR: 1 power, 2 external, 4 brown-out, 8 watchdog"),
        Field("firmware", "u16", "", "revision of the firmware"),
        Field("v_ceiling", "u32", "um/s", "compiled-in ceiling"),
        Field("a_ceiling", "u32", "mm/s2", "compiled-in ceiling"),
    ),
)
SAMPLE: Final = Message(
    9,
    "SAMPLE",
    False,
    "Both encoders, latched together.",
    (
        Field("time", "u32", "us", "board clock at the latch, wraps"),
        Field("cart", "i32", "counts", "since boot"),
        Field("pole", "i32", "counts", "since boot"),
        Field("flags", "u8", "bits", "SampleFlag"),
    ),
)
STATUS: Final = Message(
    10,
    "STATUS",
    False,
    "After each accepted command, at most every 10 ms; otherwise every 50 ms.",
    (
        Field("time", "u32", "us", "board clock, wraps"),
        Field("boot_id", "u16", "", "as in BOARD"),
        Field("ack", "u16", "", "sequence of the last accepted command"),
        Field("config_crc", "u16", "", "CRC of the fields of the accepted CONFIG, 0 for none"),
        Field("velocity", "i32", "um/s", "velocity the ramp is at"),
        Field("drive", "i16", "units of 2047", "what the motor driver is told"),
        Field("fault", "u8", "", "BoardFault"),
        Field("flags", "u8", "bits", "SampleFlag"),
        Field("bad_frames", "u16", "", "frames that failed length or CRC"),
        Field("stale_frames", "u16", "", "commands with an old sequence"),
        Field("overruns", "u16", "", "bytes lost in the receiver"),
        Field("cart_errors", "u16", "", "illegal transitions of the cart encoder"),
        Field("pole_errors", "u16", "", "illegal transitions of the pole encoder"),
        Field("loop_max", "u16", "us", "longest turn of the main loop since boot"),
    ),
)

MESSAGES: Final = (HELLO, CONFIG, COMMAND, BOARD, SAMPLE, STATUS)
MAX_PAYLOAD: Final = max(message.size for message in MESSAGES) + 4  # with head and CRC
MAX_WIRE: Final = max(message.wire_size for message in MESSAGES)

_CONSTANTS: Final = (
    "CRC_INITIAL",
    "CEILING_VELOCITY_UM_S",
    "CEILING_ACCELERATION_MM_S2",
    "CEILING_TIMEOUT_MS",
    "FLOOR_TIMEOUT_MS",
    "CEILING_PERIOD_MS",
    "CEILING_DRIVE",
    "STREAM_HZ_MIN",
    "STREAM_HZ_MAX",
    "MAX_PAYLOAD",
    "MAX_WIRE",
)


def c_header() -> str:
    """The text of ``firmware/protocol.h``."""
    lines = [
        "/* Generated by `python -m firmware_bridge.protocol header`: do not edit. */",
        "#ifndef PROTOCOL_H",
        "#define PROTOCOL_H",
        "#include <stdint.h>",
        "",
        f"#define PROTOCOL_VERSION {VERSION}",
    ]
    lines += [f"#define {name} {globals()[name]}" for name in _CONSTANTS]
    for flags in (CommandFlag, ConfigFlag, SampleFlag):
        prefix = flags.__name__.removesuffix("Flag").upper()
        lines += ["", *(f"#define {prefix}_{bit.name} {bit.value}" for bit in flags)]
    lines += ["", "enum board_fault {"]
    lines += [f"  FAULT_{fault.name} = {fault.value}," for fault in BoardFault]
    lines += ["};"]
    for message in MESSAGES:
        lines += ["", f"#define ID_{message.name} {message.id}"]
        lines += [f"#define SIZE_{message.name} {message.size}"]
        if message.fields:
            lines += ["typedef struct __attribute__((packed)) {"]
            lines += [f"  {_C_TYPE[field.kind]} {field.name};" for field in message.fields]
            lines += [f"}} {message.name.lower()}_t;"]
            lines += [
                f'_Static_assert(sizeof({message.name.lower()}_t) == SIZE_{message.name}, "size");'
            ]
    return "\n".join([*lines, "", "#endif", ""])


def tables() -> str:
    """The message tables of ``docs/protocol.md``."""
    parts = []
    for message in MESSAGES:
        way = "host to board" if message.to_board else "board to host"
        parts.append(
            f"### {message.name} ({message.id}, {way}, {message.wire_size} bytes on the wire)"
        )
        parts.append(message.text)
        if message.fields:
            rows = ["| field | type | unit | meaning |", "|---|---|---|---|"]
            rows += [f"| {f.name} | {f.kind} | {f.unit} | {f.text} |" for f in message.fields]
            parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(c_header() if sys.argv[1:] == ["header"] else tables())
