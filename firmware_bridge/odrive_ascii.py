r"""An ODrive's ASCII protocol: ``v AXIS TURNS_PER_S 0\n``; no I/O and no clock.

``motor.counts_per_m_s`` is turns of the motor for a metre of the belt, ``motor.channel`` 1 or 2 is
axis 0 or 1. A velocity feeds the axis's watchdog, so that the drive stops by itself when commands
stop. Source: the ODrive documentation, ASCII protocol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cartpole.config.schema import Motor
from cartpole.errors import UsageError

CLOSED_LOOP, VELOCITY, PASSTHROUGH = 8, 2, 1  # AxisState, ControlMode, InputMode
WATCHDOG_S = 0.1
LARGEST_TURNS_S = 999.0  # a figure, not a limit: the drive has its own


@dataclass(frozen=True, slots=True)
class OdriveAscii:
    """Velocity [m/s, positive to the right] to the drive's bytes; see ``drivers.Driver``."""

    axis: int
    sign: int
    turns_per_m: float

    @staticmethod
    def from_config(motor: Motor) -> OdriveAscii:
        """The axis the config describes."""
        return OdriveAscii(motor.channel - 1, motor.sign, motor.counts_per_m_s)

    @property
    def hello(self) -> bytes:
        """Errors cleared, velocity control, watchdog on; the first command follows at once."""
        axis = f"axis{self.axis}"
        lines = (
            "sc",
            f"w {axis}.controller.config.control_mode {VELOCITY}",
            f"w {axis}.controller.config.input_mode {PASSTHROUGH}",
            f"w {axis}.config.watchdog_timeout {WATCHDOG_S}",
            f"w {axis}.config.enable_watchdog 1",
            f"w {axis}.requested_state {CLOSED_LOOP}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    def encode(self, velocity_m_s: float) -> bytes:
        """The line that commands a velocity; UsageError if it is not finite."""
        if not math.isfinite(velocity_m_s):
            raise UsageError(f"a velocity of {velocity_m_s} cannot be sent to the ODrive")
        turns = self.sign * velocity_m_s * self.turns_per_m
        turns = max(-LARGEST_TURNS_S, min(LARGEST_TURNS_S, turns))
        text = f"{turns:.4f}"
        return self.stop() if float(text) == 0.0 else f"v {self.axis} {text} 0\n".encode()

    def stop(self) -> bytes:
        """The line that holds the motor still."""
        return f"v {self.axis} 0 0\n".encode()

    @property
    def longest_command(self) -> int:
        """Bytes of the longest line."""
        return len(f"v {self.axis} {-LARGEST_TURNS_S:.4f} 0\n")

    @property
    def largest_velocity_m_s(self) -> float:
        """The velocity at the largest number sent."""
        return LARGEST_TURNS_S / self.turns_per_m
