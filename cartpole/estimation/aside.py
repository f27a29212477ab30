"""Frames that lie aside all at once: the camera was pushed along the track, or the counts jumped.

Counts that get lost leave the frames by and by, and counts that jump are refused by the filter. A
push is there from one frame to the next, it stays, and no count jumped meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from cartpole.estimation.delay import JITTERS, STAMPS_S

LEAST_M = 0.004  # a camera that was pushed by less is not worth a word
SIGMAS = 2.0  # of a frame, where frames lie lately scatters by less than half
LATELY, FOLLOW = 0.3, 0.1  # weight of a frame in where frames lie lately, and did all the time
MOST_M = 0.008  # one frame moves them by no more than its weight of this
LASTS_NS = 60_000_000  # by then it is no accident
BEFORE_NS = 200_000_000  # counts that jumped this long before frames lay aside are why:
LESS = 0.6  # then this share of the way is enough


class Aside(IntEnum):
    """What made frames lie where they lie."""

    NOTHING = 0
    PUSHED = 1  # the camera
    JUMPED = 2  # the cart's counts


@dataclass(slots=True)
class AsideMemory:
    """Where frames lie against the counts [m], at which speed of the cart they did [m/s], where
    they lie lately, and since when that is somewhere else."""

    level_m: float | None = None
    speed_m_s: float = 0.0
    lately_m: float = 0.0
    since_ns: int = -1

    def judge(
        self,
        t_ns: int,
        apart_m: float,
        sigma_m: float,
        speed_m_s: float,
        jitter_s: float,
        counts_jumped_ns: int,
    ) -> Aside:
        """What this frame, ``apart_m`` from the estimate, makes certain; told once."""
        if self.level_m is None:
            self._begin(apart_m, speed_m_s)
            return Aside.NOTHING
        self.lately_m += LATELY * max(-MOST_M, min(MOST_M, apart_m - self.lately_m))
        least = max(LEAST_M, SIGMAS * sigma_m) + JITTERS * jitter_s * abs(speed_m_s)
        most = least + STAMPS_S * abs(speed_m_s - self.speed_m_s)
        by_counts = counts_jumped_ns >= 0 and t_ns - counts_jumped_ns < BEFORE_NS
        if abs(self.lately_m - self.level_m) <= (LESS * most if by_counts else most):
            if not by_counts:
                self.level_m += FOLLOW * (self.lately_m - self.level_m)
                self.speed_m_s = speed_m_s
            self.since_ns = -1
            return Aside.NOTHING
        if self.since_ns < 0:
            self.since_ns = t_ns
        if t_ns - self.since_ns < LASTS_NS:
            return Aside.NOTHING
        self._begin(apart_m, speed_m_s)
        return Aside.JUMPED if by_counts else Aside.PUSHED

    def _begin(self, apart_m: float, speed_m_s: float) -> None:
        self.level_m = self.lately_m = apart_m
        self.speed_m_s, self.since_ns = speed_m_s, -1
