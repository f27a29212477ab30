"""The bridge board seen from the host: bytes in, messages out, commands to bytes; no I/O, no clock.

One codec lives as long as one open port. ``feed`` takes what arrived, ``service`` says what the
conversation itself needs (HELLO until the board answers, CONFIG until it has ours), and the
``encode_*`` methods write a tick's command. The messages are those of ``firmware_bridge.protocol``.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Protocol

from cartpole.errors import UsageError
from cartpole.messages import (
    NANOSECONDS,
    BoardStatus,
    Command,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
)
from firmware_bridge import protocol
from firmware_bridge.framing import FrameSplitter, crc16, decode_frame, encode_frame
from firmware_bridge.protocol import (
    BOARD,
    COMMAND,
    CONFIG,
    HELLO,
    SAMPLE,
    STATUS,
    BoardFault,
    CommandFlag,
    ConfigFlag,
    Message,
    SampleFlag,
)
from firmware_bridge.rules import LinkRules

HELLO_EVERY_NS = 200_000_000  # a boot loader swallows what comes in its first second or two
CONFIG_EVERY_NS = 50_000_000
SILENT_NS = 300_000_000  # no valid frame for this long: ask again who is there
REFUSED_AFTER = 20  # CONFIG frames without effect
BITS_PER_BYTE = 10  # 8N1
BOARD_DELAY_NS = 100_000  # from the latch to a sample's first bit

BridgeMessage = EncoderSample | BoardStatus | LinkEvent


class ClockMap(Protocol):
    """Maps the board's wrapping microseconds onto the host's clock."""

    def observe(self, board_us: int, arrival_ns: int) -> int:
        """Host time [ns] of the board's time stamp, given when its frame arrived."""
        ...


@dataclass(frozen=True, slots=True)
class BoardInfo:
    """What the board said of itself in BOARD."""

    boot_id: int
    reset_cause: int
    firmware: int
    velocity_ceiling_m_s: float
    acceleration_ceiling_m_s2: float


@dataclass(frozen=True, slots=True)
class BoardCounters:
    """The board's own counters, from STATUS."""

    bad_frames: int = 0
    stale_frames: int = 0
    overruns: int = 0
    cart_errors: int = 0
    pole_errors: int = 0
    loop_max_s: float = 0.0
    drive_units: int = 0
    fault: BoardFault = BoardFault.NONE


@dataclass(slots=True)
class LinkStatistics:
    """What the host's end counted since the codec was made."""

    frames: int = 0
    spoilt: int = 0  # length, CRC or id wrong
    lost: int = 0  # gaps in the board's frame counter
    samples: int = 0
    counters: BoardCounters = field(default_factory=BoardCounters)


class _Unwrap:
    """A counter of ``bits`` bits made endless by signed modular difference."""

    def __init__(self, bits: int) -> None:
        self._modulus = 1 << bits
        self._value: int | None = None

    def __call__(self, raw: int) -> int:
        if self._value is None:
            self._value = raw
        half = self._modulus // 2
        self._value += (raw - self._value + half) % self._modulus - half
        return self._value


class BridgeCodec:
    """Both directions of one conversation with a bridge board."""

    def __init__(self, rules: LinkRules, clock: ClockMap | None = None, baud: int = 115200) -> None:
        """``clock`` maps latch times; without one a fresh ``BoardClock`` is made.

        The least time from latch to arrival is known from ``baud``; a longer one may be given as
        ``encoder.latency_s``.
        """
        self._config_fields = _config_fields(rules)
        self._config_crc = crc16(self._config_fields)
        # The clock map finds the least delay it ever saw; this is what even that one took.
        wire_ns = SAMPLE.wire_size * BITS_PER_BYTE * NANOSECONDS // baud
        self._least_delay_ns = max(
            wire_ns + BOARD_DELAY_NS, round(rules.encoder.latency_s * NANOSECONDS)
        )
        self._clock = clock if clock is not None else _board_clock()
        self._own_clock = clock is None
        self._splitter = FrameSplitter()
        self._counts = (_Unwrap(32), _Unwrap(32))
        self._frame_counter = 0
        self._board_counter: int | None = None
        self._sent_sequence = -1
        self._boot_id: int | None = None
        self._heard_ns: int | None = None
        self._hello_ns: int | None = None
        self._config_ns: int | None = None
        self._configs_unheard = 0
        self._configured = False
        self._refused: str | None = None
        self.info: BoardInfo | None = None
        self.statistics = LinkStatistics()

    @property
    def ready(self) -> bool:
        """Whether the board has answered and holds this configuration."""
        return self.info is not None and self._configured

    def reconfigure(self, rules: LinkRules) -> None:
        """Other limits for the board: ``ready`` is false until it says that it holds them."""
        self._config_fields = _config_fields(rules)
        self._config_crc = crc16(self._config_fields)
        self._config_ns = None
        self._configs_unheard = 0
        self._configured = False

    # From the board -----------------------------------------------------------------------------

    def feed(self, data: bytes, arrival_ns: int) -> list[BridgeMessage]:
        """What ``data``, read at ``arrival_ns``, says; any split of a stream decodes alike.

        Samples and states come in wire order; a burst that does not decode gives one GARBLED event,
        a board of another protocol version or one that refuses the limits one REFUSED event.
        """
        out: list[BridgeMessage] = []
        overlong = self._splitter.overlong
        spoilt = 0
        for wire in self._splitter.push(data):
            payload = decode_frame(wire)
            message = self._accept(payload, arrival_ns) if payload is not None else None
            if message is None:
                spoilt += 1
            else:
                out.extend(message)
        spoilt += self._splitter.overlong - overlong
        if spoilt:
            self.statistics.spoilt += spoilt
            text = f"{spoilt} spoilt frame{'s' if spoilt > 1 else ''}"
            out.append(LinkEvent(arrival_ns, Link.ENCODER, LinkState.GARBLED, text))
        return out

    def _accept(self, payload: bytes, arrival_ns: int) -> list[BridgeMessage] | None:
        """One sound frame; None if it is not one of the board's."""
        version, identity = payload[0] >> 4, payload[0] & 0x0F
        if version != protocol.VERSION:
            return self._refuse(
                arrival_ns,
                f"the board speaks protocol {version}, this program {protocol.VERSION}: "
                "run `cartpole flash`",
            )
        message = _FROM_BOARD.get(identity)
        if message is None or len(payload) != message.size + 2:
            return None
        self.statistics.frames += 1
        if self._board_counter is not None:
            self.statistics.lost += (payload[1] - self._board_counter - 1) & 0xFF
        self._board_counter = payload[1]
        self._heard_ns = arrival_ns
        values = struct.unpack(message.format, payload[2:])
        if message is SAMPLE:
            return [self._sample(values, arrival_ns)]
        if message is STATUS:
            return [self._status(values, arrival_ns), *self._check_config(arrival_ns)]
        return self._board(values)

    def _board(self, values: tuple[int, ...]) -> list[BridgeMessage]:
        boot_id, cause, firmware, velocity, acceleration = values
        self.info = BoardInfo(boot_id, cause, firmware, velocity * 1e-6, acceleration * 1e-3)
        self._note_boot(boot_id)
        return []

    def _sample(self, values: tuple[int, ...], arrival_ns: int) -> EncoderSample:
        time_us, cart, pole, flags = values
        self.statistics.samples += 1
        return EncoderSample(
            t_ns=self._clock.observe(time_us, arrival_ns) - self._least_delay_ns,
            arrival_ns=arrival_ns,
            cart_counts=self._counts[0](cart),
            pole_counts=self._counts[1](pole),
            limit_low=bool(flags & SampleFlag.LIMIT_LOW),
            limit_high=bool(flags & SampleFlag.LIMIT_HIGH),
        )

    def _status(self, values: tuple[int, ...], arrival_ns: int) -> BoardStatus:
        (_, boot_id, ack, config_crc, velocity, drive, fault, flags, *counters) = values
        self._note_boot(boot_id)
        self._configured = bool(flags & SampleFlag.CONFIGURED) and config_crc == self._config_crc
        bad, stale, overruns, cart_errors, pole_errors, loop_us = counters
        known = BoardFault(min(fault, max(BoardFault)))
        self.statistics.counters = BoardCounters(
            bad, stale, overruns, cart_errors, pole_errors, loop_us * 1e-6, drive, known
        )
        acknowledged = -1
        if flags & SampleFlag.ACKNOWLEDGED and self._sent_sequence >= 0:
            acknowledged = self._sent_sequence - ((self._sent_sequence - ack) & 0xFFFF)
        return BoardStatus(
            t_ns=arrival_ns,
            boot_id=boot_id,
            enabled=bool(flags & SampleFlag.ENABLED),
            fault_code=fault,
            velocity_m_s=velocity * 1e-6,
            estop=bool(flags & SampleFlag.ESTOP),
            limit_low=bool(flags & SampleFlag.LIMIT_LOW),
            limit_high=bool(flags & SampleFlag.LIMIT_HIGH),
            acknowledged_sequence=acknowledged,
        )

    def _note_boot(self, boot_id: int) -> None:
        if self._boot_id is not None and boot_id != self._boot_id:
            # Counts and clock began again; homing is lost with them, the core sees the boot id.
            self._counts = (_Unwrap(32), _Unwrap(32))
            self._configured = False
            self.info = None if self.info and self.info.boot_id != boot_id else self.info
            if self._own_clock:
                self._clock = _board_clock()
        self._boot_id = boot_id

    def _check_config(self, arrival_ns: int) -> list[BridgeMessage]:
        if self._configured:
            self._configs_unheard = 0
            self._refused = None
        elif self._configs_unheard >= REFUSED_AFTER:
            return self._refuse(
                arrival_ns,
                "the board refuses the limits: rig or motor settings beyond its ceilings",
            )
        return []

    def _refuse(self, arrival_ns: int, detail: str) -> list[BridgeMessage]:
        """A REFUSED event, once for each reason."""
        if self._refused == detail:
            return []
        self._refused = detail
        return [LinkEvent(arrival_ns, Link.MOTOR, LinkState.REFUSED, detail)]

    # To the board -------------------------------------------------------------------------------

    def service(self, now_ns: int) -> bytes:
        """What the conversation needs now: HELLO, CONFIG, or nothing. Call it at every poll."""
        silent = self._heard_ns is None or now_ns - self._heard_ns > SILENT_NS
        if silent or self.info is None:
            if self._hello_ns is None or now_ns - self._hello_ns >= HELLO_EVERY_NS:
                self._hello_ns = now_ns
                return self._frame(HELLO, b"")
            return b""
        if self._configured:
            return b""
        if self._config_ns is None or now_ns - self._config_ns >= CONFIG_EVERY_NS:
            self._config_ns = now_ns
            self._configs_unheard += 1
            return self._frame(CONFIG, self._config_fields)
        return b""

    def encode_velocity(self, command: Command) -> bytes:
        """A tick's command, which is the heartbeat too; UsageError if it is not finite."""
        flags = CommandFlag(0)
        if command.enable:
            flags |= CommandFlag.ENABLE
            flags |= CommandFlag.HOMING if command.homing else CommandFlag(0)
        elif command.clear_fault:
            flags |= CommandFlag.CLEAR
        return self._command(command.sequence, command.velocity_m_s, flags)

    def encode_stop(self) -> bytes:
        """The last frame before the port closes: ramp to zero, then drive off."""
        return self._command(self._sent_sequence + 1, 0.0, CommandFlag.ENABLE | CommandFlag.RELEASE)

    def _command(self, sequence: int, velocity_m_s: float, flags: CommandFlag) -> bytes:
        if not math.isfinite(velocity_m_s):
            raise UsageError(f"a velocity of {velocity_m_s} cannot be sent to the board")
        limit = protocol.CEILING_VELOCITY_UM_S
        velocity = round(max(-limit, min(limit, velocity_m_s * 1e6)))
        self._sent_sequence = sequence
        fields = struct.pack(COMMAND.format, sequence & 0xFFFF, velocity, flags)
        return self._frame(COMMAND, fields)

    def _frame(self, message: Message, fields: bytes) -> bytes:
        self._frame_counter = (self._frame_counter + 1) & 0xFF
        head = bytes((protocol.VERSION << 4 | message.id, self._frame_counter))
        return encode_frame(head + fields)


_FROM_BOARD = {message.id: message for message in (BOARD, SAMPLE, STATUS)}


def _config_fields(rules: LinkRules) -> bytes:
    """The fields of CONFIG for this rig."""
    gain = rules.motor.counts_per_m_s * 1e-6 * 2.0**protocol.GAIN_SHIFT
    return struct.pack(
        CONFIG.format,
        round(rules.velocity_limit_m_s * 1e6),
        round(min(rules.homing_speed_m_s, rules.velocity_limit_m_s) * 1e6),
        round(rules.acceleration_limit_m_s2 * 1e3),
        min(round(gain), 0xFFFFFFFF),
        round(rules.motor.dead_band_counts),
        round(rules.board_timeout_s * 1e3),
        round(min(max(rules.encoder.poll_hz, protocol.STREAM_HZ_MIN), protocol.STREAM_HZ_MAX)),
        round(rules.period_s * 1e3),
        ConfigFlag.REVERSE if rules.motor.sign < 0 else 0,
    )


def _board_clock() -> ClockMap:
    from cartpole.estimation.clock import BoardClock

    return BoardClock()
