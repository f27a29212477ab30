"""Where a run ended and what it was called, from its records and from the truth."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from cartpole.campaign.strikes import End, Strike
from cartpole.control.modes import FLYING
from cartpole.messages import NANOSECONDS, Fault, Mode, RequestKind, Severity
from cartpole.sim.run import SimulatedTick

UPRIGHT_RAD = 0.1
# Not faults of the controller but findings about the rig, which does differ here (rows 39, 40).
FINDINGS = frozenset({
    "pole length differs", "pole damping differs", "dry friction differs", "drive lag differs",
    "drive gain differs", "drive ramp differs", "command delay differs",
})  # fmt: skip
FLYING_UPRIGHT_RAD = 0.3  # a fault that is flown through ends closer to upright than this
AFTER_FAULT_NS = NANOSECONDS


@dataclass(slots=True)
class Flown:
    """What one run came to; plain values, so that it passes between processes and into a file."""

    seed: int
    ingredients: tuple[str, ...]
    fault: str | None
    simulated_s: float = 0.0
    wall_s: float = 0.0
    upright_s: float | None = None  # after the first tick of SWING_UP, up to the end
    end: str = ""
    causes: tuple[str, ...] = ()
    react_s: float | None = None
    end_right: bool = True
    cause_right: bool = True
    violations: dict[str, int] = field(default_factory=dict)
    first_violation: str = ""
    modes: dict[str, int] = field(default_factory=dict)
    plan_statuses: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)  # ticks in which something was not asked
    # True over believed length and lag: where on the map the run stands.
    mismatch: tuple[float, float] = (1.0, 1.0)
    why: str = ""  # what failed; empty: nothing

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


class Outcome:
    """Gathers, tick by tick, what the judgement needs."""

    def __init__(self, strike: Strike | None, strike_at_s: float) -> None:
        self.strike = strike
        self.mode = Mode.DISARMED
        self.was_ready = False
        self.refused = False
        self.last_faults: tuple[Fault, ...] = ()
        self.named: dict[str, Severity] = {}  # every fault that was ever latched
        self.braked_by: list[str] = []  # the first that braked or turned off, and what came with it
        self.struck_ns: int | None = None
        self.reacted_ns: int | None = None
        self.angle_rad = math.pi
        self._fallen_ns = -1  # last tick that was not upright
        self._fault_ns: int | None = None
        self._stopped_ns: int | None = None
        self._t_ns = 0

    def take(self, tick: SimulatedTick, struck_ns: int | None) -> None:
        """One tick."""
        record = tick.record
        self._t_ns = record.input.now_ns
        self.struck_ns = struck_ns
        self.mode = record.mode
        self.was_ready |= record.mode is Mode.READY or record.mode in FLYING
        for request, answer in zip(record.input.requests, record.answers, strict=False):
            self.refused |= request.kind is RequestKind.ARM and not answer.ok
        faults = [fault for fault in record.faults if fault.name not in FINDINGS]
        new = [fault for fault in faults if fault.name not in self.named]
        for fault in new:
            self.named[fault.name] = fault.severity
        grave = [fault.name for fault in new if fault.severity >= Severity.BRAKE]
        if grave and not self.braked_by:
            self.braked_by = grave
        if new and struck_ns is not None and self.reacted_ns is None:
            self.reacted_ns = self._t_ns
        self.last_faults = tuple(faults)
        self.angle_rad = abs(math.remainder(tick.truth[2] - math.pi, 2.0 * math.pi))
        if self.angle_rad >= UPRIGHT_RAD:
            self._fallen_ns = self._t_ns
        if record.mode is Mode.FAULT and self._fault_ns is None:
            self._fault_ns = self._t_ns
        asked = any(request.kind is RequestKind.STOP for request in record.input.requests)
        if asked and self._stopped_ns is None:
            self._stopped_ns = self._t_ns

    def over(self, now_ns: int, limit_ns: int) -> bool:
        """Whether there is nothing more to see."""
        for begun_ns in (self._fault_ns, self._stopped_ns):
            if begun_ns is not None and now_ns - begun_ns >= AFTER_FAULT_NS:
                return True
        refused = self.refused and self.mode is Mode.DISARMED
        return refused or now_ns >= limit_ns

    def upright_s(self, begun_ns: int | None) -> float | None:
        """Seconds from the first tick of SWING_UP until it was upright to the end."""
        if begun_ns is None or self.mode not in FLYING or self._fallen_ns >= self._t_ns:
            return None
        return max(self._fallen_ns - begun_ns, 0) / NANOSECONDS

    def end(self) -> End | None:
        """Where it ended; ``None`` where a run must not end (fallen, or hanging in between)."""
        worst = max((fault.severity for fault in self.last_faults), default=Severity.WARNING)
        if self.refused or (self.mode is Mode.FAULT and not self.was_ready):
            return End.REFUSED
        if self.mode is Mode.FAULT:
            return End.OFF if worst is Severity.OFF else End.BRAKED
        if self.mode is Mode.DISARMED and self._stopped_ns is not None:
            return End.STOPPED
        if self.mode in FLYING and self.angle_rad < FLYING_UPRIGHT_RAD:
            return End.DEGRADED if self.named else End.RUN
        return None


def judge(flown: Flown, outcome: Outcome) -> None:
    """Write end, causes and whether they are right into ``flown``."""
    end = outcome.end()
    flown.end = end.value if end is not None else f"{outcome.mode.value}, not upright"
    flown.causes = tuple(outcome.braked_by) or tuple(outcome.named)
    if outcome.struck_ns is not None and outcome.reacted_ns is not None:
        flown.react_s = (outcome.reacted_ns - outcome.struck_ns) / NANOSECONDS
    strike = outcome.strike
    if strike is None:
        flown.end_right = end is End.RUN
        flown.cause_right = not flown.causes
        return
    flown.end_right = end in strike.ends
    # The first that acted must be a right one; a run that went on may have named nothing.
    flown.cause_right = (
        any(name in strike.causes for name in flown.causes)
        if flown.causes and strike.causes
        else not flown.causes or end is End.STOPPED
    )
