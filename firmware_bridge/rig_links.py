"""All serial links of a rig behind one narrow interface, and the factory that opens them."""

from __future__ import annotations

import time
from typing import Protocol

from cartpole.config.schema import Motor
from cartpole.errors import ConfigError, UsageError
from cartpole.messages import Command, Measurement
from firmware_bridge import sabertooth_text
from firmware_bridge.arduino_ascii import ArduinoAscii
from firmware_bridge.drivers import Driver, named_driver
from firmware_bridge.keeper import Clock, Outbox, Tap, no_tap
from firmware_bridge.link import EncoderLink, MotorLink
from firmware_bridge.motor_lines import LinesMotor
from firmware_bridge.ports import PARITIES, Parity, PortFactory, PortOpener, SerialPort
from firmware_bridge.rules import LinkRules
from firmware_bridge.sabertooth_text import SabertoothText

Figures = dict[str, dict[str, int]]


class RigLinks(Protocol):
    """What the daemon needs of the rig's boards."""

    def start(self) -> None:
        """Open all ports; DeviceError naming the first that cannot be."""
        ...

    def poll(self) -> list[Measurement]:
        """Everything heard since the last call, in order of arrival; never blocks."""
        ...

    def send(self, command: Command) -> bool:
        """Put a command on the wire at once; never blocks; False if it could not go out."""
        ...

    def update(self, rules: LinkRules) -> None:
        """Other limits, with the drive disabled: a board with limits of its own is told; it says
        UP when it has them. Never blocks."""
        ...

    def close(self) -> None:
        """Stop the motor, let the ports go; never raises; may be called twice."""
        ...

    def statistics(self) -> Figures:
        """Counters by link: bytes, lines, refusals, reconnects."""
        ...


class Drive(Protocol):
    """A link that commands go through; see ``RigLinks``."""

    def start(self) -> None: ...
    def send(self, command: Command) -> bool: ...
    def update(self, rules: LinkRules) -> None: ...
    def close(self) -> None: ...
    def figures(self) -> dict[str, int]: ...


class Links:
    """A drive, which may measure too, and an encoder board of its own where there is one."""

    def __init__(self, drive: Drive, encoder: EncoderLink | None, outbox: Outbox) -> None:
        self.drive = drive
        self.encoder = encoder
        self._outbox = outbox

    def start(self) -> None:
        """See ``RigLinks``; the drive first, because opening it stops it."""
        try:
            self.drive.start()
            if self.encoder is not None:
                self.encoder.start()
        except BaseException:
            self.close()
            raise

    def poll(self) -> list[Measurement]:
        """See ``RigLinks``."""
        return self._outbox.take()

    def send(self, command: Command) -> bool:
        """See ``RigLinks``."""
        return self.drive.send(command)

    def update(self, rules: LinkRules) -> None:
        """See ``RigLinks``."""
        self.drive.update(rules)

    def close(self) -> None:
        """See ``RigLinks``."""
        self.drive.close()
        if self.encoder is not None:
            self.encoder.close()

    def statistics(self) -> Figures:
        """See ``RigLinks``."""
        figures = {"drive": self.drive.figures() | {"dropped": self._outbox.dropped}}
        if self.encoder is not None:
            figures["encoder"] = self.encoder.figures()
        return figures


def open_links(
    rules: LinkRules,
    tap: Tap = no_tap,
    *,
    encoder_port: str | None = None,
    motor_port: str | None = None,
    clock: Clock = time.monotonic_ns,
    open_port: PortFactory = SerialPort,
) -> RigLinks:
    """The links that the rules describe, not yet started.

    ``encoder_port`` and ``motor_port`` stand in for the configured names (the simulated rig's
    pseudo-terminals stand in for ``sim``). Raises ConfigError for a port that cannot carry what the
    rules ask of it, UsageError for ``sim`` without a stand-in.
    """
    outbox = Outbox()
    encoder: EncoderLink | None = None
    if rules.encoder.protocol in ("arduino_ascii", "lines"):
        encoder_name = _named(encoder_port or rules.encoder.port, "encoder.port")
        parity: Parity = "E"
        if rules.encoder.protocol == "lines":
            parity = PARITIES[rules.encoder.lines.parity]
        open_encoder = PortOpener(encoder_name, rules.encoder.baud, parity, open_port)
        board = ArduinoAscii.from_config(rules.encoder, rules.velocity_limit_m_s)
        encoder = EncoderLink(board, rules.encoder.poll_hz, open_encoder, outbox, tap, clock)
    motor_name = _named(motor_port or rules.motor.port, "motor.port")
    if rules.motor.protocol == "bridge":
        from firmware_bridge.bridge_link import BridgeLink, bridge_baud

        open_motor = PortOpener(motor_name, bridge_baud(rules.encoder, rules.motor), "N", open_port)
        return Links(BridgeLink(rules, open_motor, outbox, tap, clock), encoder, outbox)
    driver = motor_driver(rules.motor)
    _check_motor_speed(rules, driver.longest_command)
    open_motor = PortOpener(motor_name, rules.motor.baud, "N", open_port)
    return Links(MotorLink(driver, open_motor, outbox, tap, clock), encoder, outbox)


def _named(name: str, key: str) -> str:
    if name == "sim":
        raise UsageError(f"{key} is sim, and no simulated rig is running")
    return name


def motor_driver(motor: Motor) -> Driver:
    """The driver of a motor board that only listens; ConfigError if it cannot be made."""
    if motor.protocol == "driver":
        return named_driver(motor)
    if motor.protocol == "lines":
        return LinesMotor.from_config(motor)
    return SabertoothText.from_config(motor)


def _check_motor_speed(rules: LinkRules, longest: int) -> None:
    """A line that is slower than the tick would fill up with old commands."""
    longest_s = longest * sabertooth_text.BITS_PER_BYTE / rules.motor.baud
    if longest_s > rules.period_s:
        raise ConfigError(
            f"motor.baud {rules.motor.baud} needs {longest_s * 1e3:.1f} ms for a command, "
            f"controller.period_s allows {rules.period_s * 1e3:.1f} ms: raise either"
        )
