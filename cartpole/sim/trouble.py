"""What is broken on a simulated rig right now: set while it runs, by tests and by the campaign.

Each field is a fault that a person, a cable or a chip can make; a rig whose trouble is untouched
behaves as one that has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cartpole.messages import Detection, DetectionStatus


@dataclass(slots=True)
class Trouble:
    """Angles [rad], ways [m], times [ns]; as it is made, nothing is broken."""

    # The camera.
    camera_silent: bool = False  # no picture arrives
    camera_says: DetectionStatus = DetectionStatus.OK  # what every picture is judged as
    reflection_rad: float | None = None  # where something that shines stands: taken for the pole
    turned_rad: float = 0.0  # the camera was turned
    moved_m: float = 0.0  # and pushed along the track
    stamps_shift_ns: int = 0  # its clock jumped
    # The encoder board's line: answers are lost, or these bytes come instead.
    encoder_silent: bool = False
    encoder_says: bytes | None = None
    # Switches that read so whatever the cart does.
    switches: tuple[bool | None, bool | None] = (None, None)
    # The motor's line and the drive behind it.
    motor_deaf: bool = False
    drive_dead: bool = False  # asked, it does nothing
    drive_held: bool = False  # it keeps the speed it has

    def see(self, detection: Detection) -> Detection | None:
        """What becomes of a picture; ``None`` if it never comes."""
        if self.camera_silent:
            return None
        if self.camera_says is not DetectionStatus.OK:
            return replace(detection, status=self.camera_says)
        if not (self.turned_rad or self.moved_m or self.stamps_shift_ns) and (
            self.reflection_rad is None
        ):
            return detection
        angle = detection.theta_rad if self.reflection_rad is None else self.reflection_rad
        return replace(
            detection,
            t_ns=detection.t_ns + self.stamps_shift_ns,
            theta_rad=math.remainder(angle + self.turned_rad, 2.0 * math.pi),
            p_m=detection.p_m + self.moved_m,
        )

    def answer(self, data: bytes) -> bytes:
        """What becomes of an answer of the encoder board."""
        if self.encoder_silent:
            return b""
        return data if self.encoder_says is None else self.encoder_says

    def pressed(self, switches: tuple[bool, bool]) -> tuple[bool, bool]:
        """What the switches read."""
        low, high = self.switches
        return (
            switches[0] if low is None else low,
            switches[1] if high is None else high,
        )
