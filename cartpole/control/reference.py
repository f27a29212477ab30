"""Where the cart shall be: a held target or a moving one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cartpole.messages import NANOSECONDS, Answer, FloatArray, Reference, ReferenceShape

ROOM_SHARE = 0.7  # targets stay inside this share of the position limit: balancing needs room


@dataclass(frozen=True, slots=True)
class TargetRules:
    """The configured target and the position limit [m]."""

    target_m: float
    position_limit_m: float

    @property
    def room_m(self) -> float:
        """How far from the middle a target may be."""
        return ROOM_SHARE * self.position_limit_m


@dataclass(slots=True)
class TargetMemory:
    """What is followed since when, and the rules' target and room when they were last looked at."""

    reference: Reference
    from_config_m: float
    room_m: float
    start_ns: int = 0


class Target:
    """The cart's target as a function of time; keeps itself inside the track."""

    def __init__(self, rules: TargetRules, memory: TargetMemory) -> None:
        self._rules, self._memory = rules, memory

    @staticmethod
    def fresh(rules: TargetRules) -> TargetMemory:
        """Nobody has asked for anything yet."""
        reference = Reference(centre_m=rules.target_m)
        return TargetMemory(reference, rules.target_m, rules.room_m)

    def conform(self) -> Answer | None:
        """After new rules: take over a changed target and the room for targets.

        A reference in force stays unless it leaves a smaller room: then its centre is held, or
        what comes nearest to it. Answers what happened to it; ``None`` if nothing did.
        """
        memory, room_m = self._memory, self._rules.room_m
        before_m, memory.room_m = memory.room_m, room_m
        if self._rules.target_m != memory.from_config_m:
            memory.from_config_m = self._rules.target_m
            self.hold(memory.from_config_m)
        now = memory.reference
        if room_m >= before_m or abs(now.centre_m) + abs(now.amplitude_m) <= room_m:
            return None
        return self.hold(min(max(now.centre_m, -room_m), room_m))

    def hold(self, position_m: float) -> Answer:
        """Hold the cart at a position [m]; answers what happened."""
        if not math.isfinite(position_m) or abs(position_m) > self._rules.room_m:
            return Answer(
                False, f"target refused: {position_m} m is outside ±{self._rules.room_m:.3f} m"
            )
        self._memory.reference = Reference(centre_m=position_m)
        return Answer(True, f"target {position_m:.3f} m")

    def follow(self, reference: Reference, now_ns: int) -> Answer:
        """Follow a moving target from now on; answers what happened."""
        numbers = (reference.centre_m, reference.amplitude_m, reference.period_s)
        if not all(math.isfinite(x) for x in numbers) or reference.period_s < 0.5:
            return Answer(
                False, "reference refused: numbers must be finite, the period at least 0.5 s"
            )
        if abs(reference.centre_m) + abs(reference.amplitude_m) > self._rules.room_m:
            return Answer(False, f"reference refused: it leaves ±{self._rules.room_m:.3f} m")
        self._memory.reference = reference
        self._memory.start_ns = now_ns
        return Answer(True, f"reference {reference.shape.value}")

    def at(self, t_ns: int) -> float:
        """The target [m] at a time."""
        held = self._memory.reference
        if held.shape is ReferenceShape.HOLD:
            return float(held.centre_m)
        return float(self.over(t_ns, np.zeros(1))[0])

    def over(self, start_ns: int, times_s: FloatArray) -> FloatArray:
        """The target [m] at ``start_ns`` plus each of ``times_s`` (n,)."""
        reference = self._memory.reference
        if reference.shape is ReferenceShape.HOLD:
            held = np.empty_like(times_s)
            held.fill(reference.centre_m)
            return held
        elapsed = (start_ns - self._memory.start_ns) / NANOSECONDS + times_s
        wave = np.sin(2.0 * np.pi * elapsed / reference.period_s)
        if reference.shape is ReferenceShape.SQUARE:
            wave = np.where(wave >= 0.0, 1.0, -1.0)
        return reference.centre_m + reference.amplitude_m * wave
