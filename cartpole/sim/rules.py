"""What the simulated rig takes from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Camera, Encoder, Motor, Sim
    from cartpole.model.parameters import ModelParameters


@dataclass(frozen=True, slots=True)
class Devices:
    """Camera, encoders and the motor's driver."""

    camera: Camera
    encoder: Encoder
    motor: Motor


@dataclass(frozen=True, slots=True)
class RigRules:
    """The rig as it is, ``true``, and as the host was ``told``; SI.

    ``tape_angle_rad``: what the camera sees beside the angle of the pole's mass, because it is
    turned or the pole bent. ``switch_m``: how far the switches are from the middle.
    ``user_model``: a file.py:function of equations that the true rig follows instead, or empty.
    """

    true: Devices
    told: Devices
    model: ModelParameters
    sim: Sim
    tape_angle_rad: float
    switch_m: float
    position_limit_m: float
    velocity_limit_m_s: float
    board_timeout_s: float
    user_model: str = ""
