"""Motor drivers by name: those that come along, and those that other packages bring.

A package offers one under the entry point group ``cartpole.motor_drivers``: the name of the entry
point is the name in ``motor.driver``, the object is called with the settings' motor section and
returns a ``Driver``. Only whoever opens the links loads one; reading or replaying a recording never
does. ``docs/drivers.md`` writes one in an evening.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol

from cartpole.config.schema import Motor
from cartpole.errors import ConfigError
from firmware_bridge.odrive_ascii import OdriveAscii
from firmware_bridge.roboclaw_packet import RoboclawPacket

GROUP = "cartpole.motor_drivers"


class Driver(Protocol):
    """Velocity to bytes for a motor board that only listens: no I/O, no clock, no memory.

    Zero must be exactly zero on the wire, whatever dead band is added to motion.
    """

    def encode(self, velocity_m_s: float) -> bytes:
        """The command of a velocity [m/s, positive to the right]; UsageError if not finite."""
        ...

    def stop(self) -> bytes:
        """The command that stops the motor."""
        ...

    @property
    def hello(self) -> bytes:
        """Said when the port is opened, before the first stop."""
        ...

    @property
    def longest_command(self) -> int:
        """Bytes of the longest command."""
        ...

    @property
    def largest_velocity_m_s(self) -> float:
        """The velocity at full scale; ``inf`` if nothing on the wire bounds it."""
        ...


Make = Callable[[Motor], Driver]
OURS: dict[str, Make] = {
    "odrive_ascii": OdriveAscii.from_config,
    "roboclaw_packet": RoboclawPacket.from_config,
}


def named_driver(motor: Motor) -> Driver:
    """The driver that ``motor.driver`` names; ConfigError with all names if nobody offers it."""
    if motor.driver in OURS:
        return OURS[motor.driver](motor)
    offered = {point.name: point for point in entry_points(group=GROUP)}
    if motor.driver not in offered:
        names = ", ".join(sorted({*OURS, *offered}))
        raise ConfigError(f"motor.driver {motor.driver!r}: known are {names}")
    try:
        make: Make = offered[motor.driver].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"motor.driver {motor.driver}: cannot be loaded: {error}") from None
    return make(motor)
