"""When the simulated camera exposes its frames and when they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cartpole.messages import NANOSECONDS
from cartpole.record import record

if TYPE_CHECKING:
    from cartpole.sim.rules import RigRules

State = tuple[float, float, float, float]


@record
class Shot:
    """One frame on its way: exposed around ``t_ns``, readable from ``arrival_ns``.

    The host, which only knows the configured latency, believes it was exposed at ``stamp_ns``.
    """

    t_ns: int
    stamp_ns: int
    arrival_ns: int
    sequence: int
    state: State
    lost: bool
    outlier: bool


class Shutter:
    """Exposure times and arrivals; deterministic for a seed."""

    def __init__(self, rules: RigRules, seed: int, t_ns: int = 0) -> None:
        camera, self._sim = rules.true.camera, rules.sim
        self._period_ns = round(NANOSECONDS / camera.rate_hz)
        self._latency_ns = camera.latency_s * NANOSECONDS
        self._late_ns = round((camera.latency_s - rules.told.camera.latency_s) * NANOSECONDS)
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
        self._next_ns = t_ns + self._period_ns
        self._sequence = 0

    @property
    def next_ns(self) -> int:
        """Middle of the next exposure."""
        return self._next_ns

    def expose(self, state: State) -> Shot:
        """The frame exposed at ``next_ns`` while the rig was at ``state``."""
        jitter = abs(self._rng.standard_normal()) * self._sim.camera_jitter_s * NANOSECONDS
        lost, outlier = self._rng.random(), self._rng.random()
        shot = Shot(
            t_ns=self._next_ns,
            stamp_ns=self._next_ns + self._late_ns,
            arrival_ns=self._next_ns + round(self._latency_ns + jitter),
            sequence=self._sequence,
            state=state,
            lost=lost < self._sim.camera_loss,
            outlier=outlier < self._sim.camera_outliers,
        )
        self._sequence += 1
        self._next_ns += self._period_ns
        return shot
