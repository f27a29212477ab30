"""Settings into the rules of the serial links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cartpole.rules.control import homing_rules
from firmware_bridge.rules import LinkRules

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def link_rules(config: Config) -> LinkRules:
    """What the links need, and what a bridge board is told."""
    return LinkRules(
        encoder=config.encoder,
        motor=config.motor,
        velocity_limit_m_s=config.rig.velocity_limit_m_s,
        acceleration_limit_m_s2=config.rig.acceleration_limit_m_s2,
        # Between the switches homing goes faster than towards them; the board must let it.
        homing_speed_m_s=homing_rules(config).fastest_m_s,
        board_timeout_s=config.safety.board_timeout_s,
        period_s=config.controller.period_s,
    )
