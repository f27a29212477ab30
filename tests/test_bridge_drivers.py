"""Drivers by name, each held against a drive of its own that hears bytes as the manual says."""

from __future__ import annotations

import math
import struct
from binascii import crc_hqx
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint

import pytest

from cartpole.config.load import loads_config
from cartpole.config.schema import Motor
from cartpole.errors import ConfigError, UsageError
from firmware_bridge import drivers
from firmware_bridge.drivers import Driver, named_driver
from firmware_bridge.odrive_ascii import OdriveAscii
from firmware_bridge.rig_links import motor_driver
from firmware_bridge.roboclaw_packet import RoboclawPacket

ODRIVE = OdriveAscii(axis=1, sign=-1, turns_per_m=25.0)
ROBOCLAW = RoboclawPacket(address=0x81, channel=2, sign=1, pulses_per_m=20_000.0)
SPEEDS = (0.0, 0.4, -0.4, 1e-9, -1e-9, 1.0, -1.0, 1e9, -1e9)


@dataclass
class FakeOdrive:
    """An ODrive that listens: properties written, and the turns a second of each axis."""

    pending: bytes = b""
    written: dict[str, float] = field(default_factory=dict)
    turns_s: dict[int, float] = field(default_factory=dict)

    def hear(self, data: bytes) -> None:
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            word, *rest = line.decode().split()
            if word == "w":
                self.written[rest[0]] = float(rest[1])
            elif word == "v":
                armed = self.written.get(f"axis{rest[0]}.requested_state") == 8
                self.turns_s[int(rest[0])] = float(rest[1]) if armed else 0.0
            else:
                assert word == "sc"


@dataclass
class FakeRoboclaw:
    """A Roboclaw that listens: packets with a wrong sum, or for others, are passed over."""

    address: int = 0x81
    pending: bytes = b""
    pulses_s: dict[int, int] = field(default_factory=dict)
    timeout_s: float = 0.0
    refused: int = 0

    def hear(self, data: bytes) -> None:
        self.pending += data
        while len(self.pending) >= 2:
            length = {14: 5, 35: 8, 36: 8}.get(self.pending[1])
            if self.pending[0] != self.address or length is None:
                self.pending, self.refused = self.pending[1:], self.refused + 1
                continue
            if len(self.pending) < length:
                return
            packet, self.pending = self.pending[:length], self.pending[length:]
            if crc_hqx(packet, 0) != 0:  # over the sum itself: a remainder of nothing
                self.refused += 1
            elif packet[1] == 14:
                self.timeout_s = packet[2] / 10
            else:
                self.pulses_s[packet[1] - 34] = struct.unpack(">i", packet[2:6])[0]


@pytest.mark.parametrize("velocity", SPEEDS)
def test_the_odrive_does_as_it_is_told(velocity: float) -> None:
    drive = FakeOdrive()
    for byte in ODRIVE.hello + ODRIVE.encode(velocity):  # however the line is cut
        drive.hear(bytes([byte]))
    wanted = max(-999.0, min(999.0, -25.0 * velocity))
    assert drive.turns_s[1] == pytest.approx(wanted, abs=1e-4)
    assert drive.written["axis1.config.enable_watchdog"] == 1
    assert drive.written["axis1.config.watchdog_timeout"] <= 0.1


@pytest.mark.parametrize("velocity", SPEEDS)
def test_the_roboclaw_does_as_it_is_told(velocity: float) -> None:
    drive = FakeRoboclaw()
    for byte in ROBOCLAW.hello + ROBOCLAW.encode(velocity):
        drive.hear(bytes([byte]))
    assert drive.refused == 0
    assert drive.pulses_s == {2: round(max(-(2**31) + 1, min(2**31 - 1, 20_000 * velocity)))}
    assert 0 < drive.timeout_s <= 0.1


def test_the_check_sum_is_the_manual_s_and_no_damaged_packet_moves_anything() -> None:
    assert crc_hqx(b"123456789", 0) == 0x31C3  # CCITT of the manual: what the drive below uses
    packet = ROBOCLAW.encode(0.5)
    for at in range(1, len(packet)):
        for bit in range(8):
            damaged = bytearray(packet)
            damaged[at] ^= 1 << bit
            drive = FakeRoboclaw()
            drive.hear(bytes(damaged) + ROBOCLAW.stop())
            assert drive.pulses_s.get(2, 0) == 0


@pytest.mark.parametrize("driver", [ODRIVE, ROBOCLAW])
def test_zero_is_zero_and_nonsense_is_refused(driver: Driver) -> None:
    assert driver.encode(0.0) == driver.encode(-0.0) == driver.encode(1e-12) == driver.stop()
    for nonsense in (math.nan, math.inf, -math.inf):
        with pytest.raises(UsageError):
            driver.encode(nonsense)
    longest = max(len(driver.encode(velocity)) for velocity in SPEEDS)
    assert longest <= driver.longest_command
    assert driver.largest_velocity_m_s > 1.0


def settings(name: str) -> str:
    return f"motor: {{protocol: driver, driver: {name}, port: /dev/null}}\n"


def test_the_settings_name_a_driver() -> None:
    config = loads_config(settings("odrive_ascii") + "camera: {source: none}", "test")
    assert isinstance(motor_driver(config.motor), OdriveAscii)
    with pytest.raises(ConfigError, match="go together"):
        loads_config("motor: {protocol: driver, port: /dev/null}", "test")
    with pytest.raises(ConfigError, match="go together"):
        loads_config("motor: {driver: odrive_ascii}", "test")
    with pytest.raises(ConfigError, match=r"needs a real motor\.port"):
        loads_config("motor: {protocol: driver, driver: odrive_ascii}", "test")
    with pytest.raises(ConfigError, match="known are odrive_ascii, roboclaw_packet"):
        named_driver(Motor(protocol="driver", driver="mine"))


def third_party(motor: Motor) -> Driver:
    """As another package would bring it."""
    return OdriveAscii(0, motor.sign, 1.0)


def test_another_package_brings_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("mine", f"{__name__}:third_party", drivers.GROUP),
        EntryPoint("broken", "no_such_package:driver", drivers.GROUP),
    ]
    monkeypatch.setattr(drivers, "entry_points", lambda group: points if group else [])
    assert named_driver(Motor(protocol="driver", driver="mine")) == OdriveAscii(0, 1, 1.0)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        named_driver(Motor(protocol="driver", driver="broken"))
