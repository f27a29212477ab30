"""How well the cart's counts are stamped, from the counts alone: a cart does not jump.

Where questions and answers wait in bridges and kernels, a sample's time is uncertain by
milliseconds, which at a metre a second is a hundred counts that rounding does not explain. Of three
counts in a row the middle one lies on the line through the others but for the cart's acceleration,
which the drive bounds, and for the stamps' errors, which grow with its speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cartpole.messages import NANOSECONDS

FORGET = 0.99  # a sample
PRIOR = 1e-3  # weight of no error at all [(m/s)^4]
WORST_S = 0.005  # a count that is off by more has another reason
FASTER = 1.5  # than the limit goes no cart
LONGEST_NS = 50_000_000  # between the first and the last of three
TELLING_S = 1e-3  # a cart that moves by less than a count meanwhile says nothing of stamps


@dataclass(frozen=True, slots=True)
class StampRules:
    """Bounds of what else bends the way of the counts: a count [m], the drive [m/s²]."""

    count_m: float
    acceleration_m_s2: float
    velocity_m_s: float


@dataclass(slots=True)
class StampMemory:
    """The last two counts with their times; sums of least squares."""

    before: tuple[int, float] = (-1, 0.0)
    last: tuple[int, float] = (-1, 0.0)
    moment: float = 0.0
    weight: float = PRIOR

    @property
    def jitter_s(self) -> float:
        """The stamps' deviation beyond what count and drive explain."""
        return math.sqrt(max(0.0, self.moment / self.weight))

    def take(self, t_ns: int, p_m: float, rules: StampRules) -> None:
        """The next count."""
        (first_ns, first), (middle_ns, middle) = self.before, self.last
        self.before, self.last = self.last, (t_ns, p_m)
        span_ns = t_ns - first_ns
        if first_ns < 0 or not first_ns < middle_ns < t_ns or span_ns > LONGEST_NS:
            return
        share = (middle_ns - first_ns) / span_ns
        speed = (p_m - first) / span_ns * NANOSECONDS
        off = middle - first - share * (p_m - first)
        if max(abs(speed), abs(off) / WORST_S) > FASTER * rules.velocity_m_s:
            return  # a wrong count
        if abs(speed) * TELLING_S < rules.count_m:
            return  # too slow to tell: nor is it a reason to forget
        bend = 0.5 * rules.acceleration_m_s2 * share * (1.0 - share) * (span_ns / NANOSECONDS) ** 2
        known = bend * bend + 1.5 * rules.count_m**2
        square = speed * speed
        slope = square * (1.0 + share**2 + (1.0 - share) ** 2)
        beyond = min(off * off, WORST_S**2 * square) - known
        self.moment = FORGET * self.moment + slope * beyond
        self.weight = FORGET * self.weight + slope * slope
        # Long of good stamps, and the first bad ones must still count.
        self.moment = max(self.moment, 0.0)
