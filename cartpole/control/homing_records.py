"""What homing is told, remembers and answers; the rules over these are in `homing`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cartpole.control import swing
from cartpole.control.homing_drive import Drive
from cartpole.control.homing_ramp import Ramp
from cartpole.messages import HomingResult


class HomingPhase(StrEnum):
    """Where homing is."""

    LOOK = "looking at switches and pole"
    CRAWL = "the first centimetre"
    SEEK = "moving to a switch"
    RETURN = "moving to the other switch"
    CALM = "calming the pole in the middle"
    REST = "resting"
    DONE = "done"
    FAILED = "failed"


FAST = 3.0  # times the speed towards the switches, where no switch can be
FASTEST_M_S = 1.0  # a board's firmware takes no more for homing


@dataclass(frozen=True, slots=True)
class HomingRules:
    """What homing takes from the settings; SI. Counts per unit are along the configured signs."""

    scales: swing.Scales
    pole_counts_per_turn: float
    speed_m_s: float
    velocity_limit_m_s: float
    acceleration_m_s2: float
    travel_m: float
    position_limit_m: float
    stop_margin_m: float
    travel_tolerance: float
    gain_tolerance: float
    period_s: float
    tau_s: float
    delay_s: float
    coupling_1_m: float
    switch_active: str = "high"

    @property
    def between_m_s(self) -> float:
        """Speed between the switches, where none can be."""
        return min(FAST * self.speed_m_s, 0.5 * self.velocity_limit_m_s, FASTEST_M_S)

    @property
    def calming_m_s(self) -> float:
        """The most that calming the pole takes."""
        return min(0.8 * self.velocity_limit_m_s, FASTEST_M_S)

    @property
    def fastest_m_s(self) -> float:
        """What a bridge board is told: a command that it cut would pass for a weak drive."""
        return max(self.between_m_s, self.calming_m_s)


@dataclass(frozen=True, slots=True)
class HomingState:
    """Everything homing remembers between two ticks; ``direction`` is that of the present move.

    ``held_low`` and ``held_high``: that switch was pressed at the start and not released yet.
    """

    phase: HomingPhase = HomingPhase.LOOK
    started_ns: int = 0
    since_ns: int = 0
    direction: float = -1.0
    held_low: bool = False
    held_high: bool = False
    low_counts: int | None = None
    high_counts: int | None = None
    drive: Drive = field(default_factory=Drive)
    ramp: Ramp = field(default_factory=Ramp)
    swing: swing.Swing = field(default_factory=swing.Swing)
    failure: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class HomingStep:
    """What to do now: the velocity to command, and the result once there is one.

    ``cart`` is (p, v) once the track is known, for the governor; ``at_switch`` tells a board with
    limits of its own that a switch may be touched.
    """

    state: HomingState
    velocity_m_s: float
    result: HomingResult | None = None
    cart: tuple[float, float] | None = None
    at_switch: bool = True
