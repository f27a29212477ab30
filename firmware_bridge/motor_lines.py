r"""A motor board that takes lines of its own, written from a template: no I/O and no clock.

``V{mm_s:.0f}\\n``: one field with the velocity, positive to the right after ``motor.sign``. Zero is
exactly zero: ``-0`` never leaves, and a board with another word for it is given that.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from cartpole.config.schema import Motor
from cartpole.errors import ConfigError, UsageError
from firmware_bridge.line_pattern import unescaped

_FIELD = re.compile(r"\{(m_s|mm_s|rad_s|units)(?::\.([0-9])f)?\}")


@dataclass(frozen=True, slots=True)
class LinesMotor:
    """Velocity [m/s, positive to the right] to a board's bytes; see ``SabertoothText``."""

    before: str
    after: str
    digits: int
    scale: float  # the board's numbers for 1 m/s
    offset: float  # added to every motion, in the board's numbers (its dead band)
    sign: int
    largest: float
    zero: bytes
    hello: bytes

    @staticmethod
    def from_config(motor: Motor) -> LinesMotor:
        """The board the config describes; ConfigError for a template without its field."""
        said = motor.lines
        template = unescaped(said.command)
        fields = list(_FIELD.finditer(template))
        if len(fields) != 1:
            raise ConfigError(
                f"motor.lines.command {said.command!r}: it needs one of {{m_s}}, {{mm_s}}, "
                "{rad_s}, {units} once, with digits if wanted ({m_s:.3f})"
            )
        field = fields[0]
        units = field[1] == "units"
        scale = {"m_s": 1.0, "mm_s": 1e3, "rad_s": 1.0 / said.wheel_radius_m}.get(field[1])
        digits = int(field[2]) if field[2] else {"m_s": 4, "rad_s": 3}.get(field[1], 0)
        before, after = template[: field.start()], template[field.end() :]
        zero = unescaped(said.zero) if said.zero else f"{before}{0.0:.{digits}f}{after}"
        return LinesMotor(
            before, after, digits,
            motor.counts_per_m_s if scale is None else scale,
            motor.dead_band_counts if units else 0.0,
            motor.sign, said.largest, zero.encode(), unescaped(said.hello).encode(),
        )  # fmt: skip

    @property
    def largest_velocity_m_s(self) -> float:
        """The velocity at the largest number that the board takes."""
        return max((self.largest - self.offset) / self.scale, 0.0)

    @property
    def longest_command(self) -> int:
        """Bytes of the longest line."""
        number = f"{-self.largest:.{self.digits}f}"
        return max(len(self.before) + len(number) + len(self.after), len(self.zero))

    def encode(self, velocity_m_s: float) -> bytes:
        """The line that commands a velocity; UsageError if it is not finite."""
        if not math.isfinite(velocity_m_s):
            raise UsageError(f"a velocity of {velocity_m_s} cannot be sent to the motor board")
        size = min(self.offset + abs(velocity_m_s) * self.scale, self.largest)
        text = f"{size:.{self.digits}f}"
        if velocity_m_s == 0.0 or float(text) == 0.0:
            return self.zero
        minus = "" if (velocity_m_s > 0.0) == (self.sign > 0) else "-"
        return f"{self.before}{minus}{text}{self.after}".encode()

    def stop(self) -> bytes:
        """The line that stops the motor."""
        return self.zero
