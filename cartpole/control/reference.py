"""Where the cart shall be: a held target or a moving one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cartpole.messages import NANOSECONDS, Answer, FloatArray, Reference, ReferenceShape

if TYPE_CHECKING:
    from cartpole.config.schema import Config

ROOM_SHARE = 0.7  # targets stay inside this share of the position limit: balancing needs room


@dataclass(frozen=True, slots=True)
class TargetState:
    """The target's memory."""

    reference: Reference
    from_config_m: float
    start_ns: int


class Target:
    """The cart's target as a function of time; keeps itself inside the track."""

    def __init__(self, config: Config) -> None:
        self._room_m = ROOM_SHARE * config.rig.position_limit_m
        self._reference = Reference(centre_m=config.controller.target_m)
        self._from_config_m = config.controller.target_m
        self._start_ns = 0

    def update(self, config: Config) -> Answer | None:
        """Take over a changed ``controller.target_m`` and the room for targets.

        A reference in force stays unless it leaves a smaller room: then its centre is held, or
        what comes nearest to it. Answers what happened to it; ``None`` if nothing did.
        """
        before_m, self._room_m = self._room_m, ROOM_SHARE * config.rig.position_limit_m
        if config.controller.target_m != self._from_config_m:
            self._from_config_m = config.controller.target_m
            self.hold(config.controller.target_m)
        now = self._reference
        if self._room_m >= before_m or abs(now.centre_m) + abs(now.amplitude_m) <= self._room_m:
            return None
        return self.hold(min(max(now.centre_m, -self._room_m), self._room_m))

    def state(self) -> TargetState:
        """All that is remembered."""
        return TargetState(self._reference, self._from_config_m, self._start_ns)

    def restore(self, state: TargetState) -> None:
        """Go on from a state under the same settings."""
        self._reference, self._start_ns = state.reference, state.start_ns
        self._from_config_m = state.from_config_m

    def hold(self, position_m: float) -> Answer:
        """Hold the cart at a position [m]; answers what happened."""
        if not math.isfinite(position_m) or abs(position_m) > self._room_m:
            return Answer(False, f"target refused: {position_m} m is outside ±{self._room_m:.3f} m")
        self._reference = Reference(centre_m=position_m)
        return Answer(True, f"target {position_m:.3f} m")

    def follow(self, reference: Reference, now_ns: int) -> Answer:
        """Follow a moving target from now on; answers what happened."""
        numbers = (reference.centre_m, reference.amplitude_m, reference.period_s)
        if not all(math.isfinite(x) for x in numbers) or reference.period_s < 0.5:
            return Answer(
                False, "reference refused: numbers must be finite, the period at least 0.5 s"
            )
        if abs(reference.centre_m) + abs(reference.amplitude_m) > self._room_m:
            return Answer(False, f"reference refused: it leaves ±{self._room_m:.3f} m")
        self._reference = reference
        self._start_ns = now_ns
        return Answer(True, f"reference {reference.shape.value}")

    def at(self, t_ns: int) -> float:
        """The target [m] at a time."""
        return float(self.over(t_ns, np.zeros(1))[0])

    def over(self, start_ns: int, times_s: FloatArray) -> FloatArray:
        """The target [m] at ``start_ns`` plus each of ``times_s`` (n,)."""
        reference = self._reference
        if reference.shape is ReferenceShape.HOLD:
            return np.full(times_s.shape, reference.centre_m)
        elapsed = (start_ns - self._start_ns) / NANOSECONDS + times_s
        wave = np.sin(2.0 * np.pi * elapsed / reference.period_s)
        if reference.shape is ReferenceShape.SQUARE:
            wave = np.where(wave >= 0.0, 1.0, -1.0)
        return reference.centre_m + reference.amplitude_m * wave
