"""What the links are told of the rig."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Encoder, Motor


@dataclass(frozen=True, slots=True)
class LinkRules:
    """The links' own sections, and the limits that a bridge board must be told; SI."""

    encoder: Encoder
    motor: Motor
    velocity_limit_m_s: float
    acceleration_limit_m_s2: float
    homing_speed_m_s: float
    board_timeout_s: float
    period_s: float
