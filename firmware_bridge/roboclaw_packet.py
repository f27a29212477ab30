"""A Roboclaw's packet serial: address, command, signed speed, CRC-16; no I/O and no clock.

``motor.counts_per_m_s`` is quadrature pulses for a metre of the belt (the drive closes its own
speed loop over its encoder), ``motor.channel`` the motor, ``motor.address`` the drive. A packet
whose check sum is wrong moves nothing; after ``TIMEOUT_S`` without one the drive stops. Source: the
Roboclaw user manual, packet serial, commands 14, 35 and 36.
"""

from __future__ import annotations

import math
import struct
from binascii import crc_hqx
from dataclasses import dataclass

from cartpole.config.schema import Motor
from cartpole.errors import UsageError

SET_TIMEOUT, SPEED_1, SPEED_2 = 14, 35, 36
TIMEOUT_S = 0.1
LARGEST = 2**31 - 1
CRC_INITIAL = 0  # of CCITT, polynomial 0x1021


@dataclass(frozen=True, slots=True)
class RoboclawPacket:
    """Velocity [m/s, positive to the right] to the drive's packets; see ``drivers.Driver``."""

    address: int
    channel: int
    sign: int
    pulses_per_m: float

    @staticmethod
    def from_config(motor: Motor) -> RoboclawPacket:
        """The drive the config describes."""
        return RoboclawPacket(motor.address, motor.channel, motor.sign, motor.counts_per_m_s)

    @property
    def hello(self) -> bytes:
        """The time-out, in tenths of a second."""
        return self._packet(bytes([SET_TIMEOUT, round(10 * TIMEOUT_S)]))

    def encode(self, velocity_m_s: float) -> bytes:
        """The packet that commands a velocity; UsageError if it is not finite."""
        if not math.isfinite(velocity_m_s):
            raise UsageError(f"a velocity of {velocity_m_s} cannot be sent to the Roboclaw")
        wanted = self.sign * velocity_m_s * self.pulses_per_m
        return self._speed(round(max(-LARGEST, min(LARGEST, wanted))))

    def stop(self) -> bytes:
        """The packet that holds the motor still."""
        return self._speed(0)

    @property
    def longest_command(self) -> int:
        """Bytes of every speed packet."""
        return len(self.stop())

    @property
    def largest_velocity_m_s(self) -> float:
        """The velocity at the largest number."""
        return LARGEST / self.pulses_per_m

    def _speed(self, pulses_s: int) -> bytes:
        command = SPEED_1 if self.channel == 1 else SPEED_2
        return self._packet(struct.pack(">Bi", command, pulses_s))

    def _packet(self, body: bytes) -> bytes:
        data = bytes([self.address]) + body
        return data + struct.pack(">H", crc_hqx(data, CRC_INITIAL))
