"""How far the stamps of camera and counts are apart: what is seen of it, and what is taken off.

The filter gathers what frames say (``kernels._weigh_delay``). Two ways lead to a verdict: the same
error at several checks in a row, which a swing-up's transients do not give; or a large one, certain
for some ticks of a pole that is fast, forgotten, and found again from what came after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from cartpole.estimation import layout as at
from cartpole.messages import NANOSECONDS, FloatArray

STAMPS_S = 0.004  # stamps of camera and counts may be apart by this, and nobody says so
SIGMAS, SUSPECT_S = 5.0, 0.002  # an error is called out when it is both certain and large, ...
JITTERS = 4.0  # ... and beyond what the counts' own stamps are off by: they are the measure
SHARE, LEAST_S = 1.5, 0.0005  # what is seen of it is right within a third; less is not worth it
STRIKES = 3  # checks in a row
LARGE_S, LARGE_TICKS = 0.003, 3  # ticks in a row, twice, while the pole ...
TELLS_RAD_S = 1.0  # ... is as fast
SAME_SHARE = 0.5  # two opinions that differ by less are one


@dataclass(frozen=True, slots=True)
class DelaySeen:
    """By how much frames are older than their stamps say, by what was gathered so far [s]; its
    deviation, ``inf`` for nothing known; what the counts' stamps are taken to be off by."""

    error_s: float
    sigma_s: float
    jitter_s: float

    @property
    def known(self) -> bool:
        """Whether it is an error and not chance."""
        return abs(self.error_s) >= SIGMAS * self.sigma_s

    @property
    def bound_s(self) -> float:
        """By how much the stamps are apart at most: ``inf`` where nothing is known."""
        return SHARE * abs(self.error_s) + SIGMAS * self.sigma_s + JITTERS * self.jitter_s + LEAST_S

    def suspect(self, least_s: float = 0.0) -> bool:
        """Whether it is certain, and beyond ``least_s``."""
        return abs(self.error_s) > max(least_s, SUSPECT_S + self.jitter_s, SIGMAS * self.sigma_s)


def delay_of(row: FloatArray, jitter_s: float) -> DelaySeen:
    """What a row of the filter (FLOATS,) has gathered."""
    score, weight = row[at.SCORE : at.WEIGHT + 1].tolist()
    if weight <= 0.0:
        return DelaySeen(0.0, math.inf, jitter_s)
    return DelaySeen(score / weight, 1.0 / math.sqrt(weight), jitter_s)


class Delay(IntEnum):
    """What is certain of the frames' stamps."""

    NOTHING = 0
    RIGHT = 1  # what was said of them is over
    ANEW = 2  # what was gathered is void: an opinion that must come back, or a small correction
    WRONG = 3  # it is taken off from now on, and what was gathered is void


@dataclass(slots=True)
class DelayMemory:
    """What is taken off the frames' stamps, and how often in a row more was found."""

    late_ns: int = 0  # frames are older than their stamps by this
    strikes: int = 0  # checks in a row
    ticks: int = 0  # ticks in a row that found much more
    opinion_s: float = 0.0  # ... by so much, when it was looked at first

    def judge(self, seen: DelaySeen, jitter_s: float, *, due: bool, fast: bool) -> Delay:
        """Once a tick: ``due`` now and then, ``fast`` while the pole is.

        ``jitter_s`` is what the counts' stamps were seen to be off by, without the settings' word.
        """
        least_s = JITTERS * jitter_s
        verdict = self._check(seen, least_s) if due else Delay.NOTHING
        if verdict is Delay.NOTHING and fast:
            verdict = self._check_large(seen, LARGE_S + least_s)
        if verdict is not Delay.NOTHING:
            self.ticks = 0
        return verdict

    def _check(self, seen: DelaySeen, least_s: float) -> Delay:
        if seen.suspect(least_s):
            self.strikes += 1
            return self._correct(seen) if self.strikes >= STRIKES else Delay.NOTHING
        self.strikes = 0
        if self.late_ns == 0:
            return Delay.RIGHT
        if not seen.known:
            return Delay.NOTHING
        self._correct(seen)  # it was found in a swing, and roughly
        return Delay.ANEW

    def _check_large(self, seen: DelaySeen, least_s: float) -> Delay:
        """What a model that is still to be learned leaves looks like a delay, but does not come
        back."""
        large = seen.suspect(least_s)
        self.ticks = self.ticks + 1 if large else 0
        if not large or self.ticks < LARGE_TICKS:
            return Delay.NOTHING
        first_s, self.opinion_s = self.opinion_s, 0.0
        if abs(seen.error_s - first_s) < SAME_SHARE * abs(first_s):
            return self._correct(seen)
        self.opinion_s = seen.error_s
        return Delay.ANEW

    def _correct(self, seen: DelaySeen) -> Delay:
        late_ns = self.late_ns + round(seen.error_s * NANOSECONDS)
        self.late_ns = late_ns if abs(late_ns) > LEAST_S * NANOSECONDS else 0
        return Delay.WRONG
