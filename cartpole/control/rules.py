"""What a core is told: its parts' rules. Made from settings by ``cartpole.rules``."""

from __future__ import annotations

from dataclasses import dataclass

from cartpole.control.governor import GovernorLimits
from cartpole.control.homing import Homing
from cartpole.control.observer import ObserverRules
from cartpole.control.pilot import PilotRules
from cartpole.control.reference import TargetRules
from cartpole.control.watch_records import WatchRules
from cartpole.model.parameters import ModelParameters


@dataclass(frozen=True, slots=True)
class CoreRules:
    """The rules of all parts, and the configured model; SI."""

    model: ModelParameters
    observer: ObserverRules
    watch: WatchRules
    target: TargetRules
    homing: Homing
    pilot: PilotRules
    governor: GovernorLimits
    balance_angle_rad: float
    board_keeps_limits: bool  # the drive's board has limits of its own, and must be told
