r"""The motor driver that takes text: velocity in, bytes out, no I/O and no clock.

USB Sabertooth plain text serial: ``M1: N\r\n`` with N in -2047…2047. The driver moves nothing
inside a dead band of about ±100, then linearly:
``N = sign(v) (dead_band_counts + |v| counts_per_m_s)``; **zero is exactly zero**.

The driver also answers questions (``M1: getb`` battery, ``getc`` current, ``gett`` temperature)
with ``M1:B244``; nothing here depends on an answer, and the command stream never asks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from cartpole.config.schema import Motor
from cartpole.errors import UsageError
from firmware_bridge.arduino_ascii import LineSplitter

FULL_SCALE = 2047
LONGEST_COMMAND = len(b"M1: -2047\r\n")
BITS_PER_BYTE = 10  # 8N1

_COMMAND = re.compile(rb"\s*M([12])\s*:\s*([+-]?\d{1,6})\s*", re.IGNORECASE)
_REPLY = re.compile(rb"\s*M([12])\s*:\s*([BCT])\s*([+-]?\d{1,6})\s*", re.IGNORECASE)


class Quantity(StrEnum):
    """What the driver can be asked; values are the letters of its answers."""

    BATTERY_V = "B"
    CURRENT_A = "C"
    TEMPERATURE_C = "T"


@dataclass(frozen=True, slots=True)
class SabertoothReply:
    """An answer in volts, amperes or degrees Celsius."""

    channel: int
    quantity: Quantity
    value: float


@dataclass(frozen=True, slots=True)
class SabertoothText:
    """Velocity [m/s, positive to the right] to the driver's units and bytes."""

    channel: int
    sign: int
    counts_per_m_s: float
    dead_band_counts: float

    @staticmethod
    def from_config(motor: Motor) -> SabertoothText:
        """The driver the config describes."""
        return SabertoothText(
            motor.channel, motor.sign, motor.counts_per_m_s, motor.dead_band_counts
        )

    def units(self, velocity_m_s: float) -> int:
        """The driver's N for a velocity, clamped to full scale; UsageError if not finite."""
        if not math.isfinite(velocity_m_s):
            raise UsageError(f"a velocity of {velocity_m_s} cannot be sent to the motor driver")
        if velocity_m_s == 0.0:
            return 0
        size = self.dead_band_counts + abs(velocity_m_s) * self.counts_per_m_s
        whole = min(round(min(size, float(FULL_SCALE))), FULL_SCALE)
        return whole if (velocity_m_s > 0.0) == (self.sign > 0) else -whole

    def velocity_m_s(self, units: int) -> float:
        """The velocity the driver makes of N: the inverse of ``units`` outside the dead band."""
        if abs(units) <= self.dead_band_counts:
            return 0.0
        speed = (abs(units) - self.dead_band_counts) / self.counts_per_m_s
        return math.copysign(speed, units * self.sign)

    @property
    def hello(self) -> bytes:
        """Nothing: the driver listens at once."""
        return b""

    @property
    def longest_command(self) -> int:
        """Bytes of the longest line."""
        return LONGEST_COMMAND

    @property
    def largest_velocity_m_s(self) -> float:
        """The velocity at full scale."""
        return max((FULL_SCALE - self.dead_band_counts) / self.counts_per_m_s, 0.0)

    def encode(self, velocity_m_s: float) -> bytes:
        """The line that commands a velocity."""
        return b"M%d: %d\r\n" % (self.channel, self.units(velocity_m_s))

    def stop(self) -> bytes:
        """The line that stops the motor."""
        return b"M%d: 0\r\n" % self.channel

    def ask(self, quantity: Quantity) -> bytes:
        """The line that asks for a figure."""
        return b"M%d: get%s\r\n" % (self.channel, quantity.value.lower().encode())


def parse_command(line: bytes) -> tuple[int, int] | None:
    """(channel, N) of a command line without its end, N clamped; None if it is not a command."""
    match = _COMMAND.fullmatch(line)
    if match is None:
        return None
    return int(match[1]), max(-FULL_SCALE, min(FULL_SCALE, int(match[2])))


class SabertoothReplies:
    """Cuts what the driver says into answers; everything else is ignored."""

    def __init__(self) -> None:
        self._splitter = LineSplitter()

    def feed(self, data: bytes) -> list[SabertoothReply]:
        """Answers in ``data``; never raises."""
        replies = []
        for line in self._splitter.split(data):
            match = _REPLY.fullmatch(line)
            if match is None:
                continue
            quantity = Quantity(match[2].decode().upper())
            scale = 1.0 if quantity is Quantity.TEMPERATURE_C else 0.1
            replies.append(SabertoothReply(int(match[1]), quantity, int(match[3]) * scale))
        return replies
