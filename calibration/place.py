"""Where a cart was left, and where a pole hangs, by the counts of their encoders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import savgol_filter

from cartpole.messages import NANOSECONDS, EncoderSample

NEAR_SHARE = 0.02  # of the way to a switch: so far a cart may roll between two parts
RATE_S = 0.06  # over which a rate is taken
GRID_S = 0.005
EXPLAINED = 0.5  # share of the rate's square that a cosine of the angle must account for


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cart was left: its counts, those of the middle, and from there to a switch."""

    cart_counts: int
    middle_counts: float
    half_counts: float

    def seen_from(self, counts: int) -> Place | None:
        """The same place by a board that reads ``counts`` now: it counted on or began anew.

        None for a cart that stands elsewhere: somebody has moved it.
        """
        went_on, anew = abs(counts - self.cart_counts), abs(counts)
        if min(went_on, anew) > NEAR_SHARE * self.half_counts:
            return None
        shift = counts - self.cart_counts if anew < went_on else 0
        return Place(counts, self.middle_counts + shift, self.half_counts)


def between_switches(samples: Sequence[EncoderSample]) -> Place | None:
    """The place of the last sample, by both switches; None if one was not reached."""
    low = next((one.cart_counts for one in samples if one.limit_low), None)
    high = next((one.cart_counts for one in samples if one.limit_high), None)
    if low is None or high is None:
        return None
    return Place(samples[-1].cart_counts, 0.5 * (low + high), 0.5 * abs(high - low))


def hanging(samples: Sequence[EncoderSample], counts_per_turn: float) -> float | None:
    """Counts at which a pole hangs that swings far or turns over, its cart at rest.

    Its energy is conserved but for friction, so omega^2 is a cosine of the angle that has its
    maximum where the pole hangs. None where no such cosine shows.
    """
    times = np.array([one.t_ns - samples[0].t_ns for one in samples]) / NANOSECONDS
    grid = np.arange(0.0, times[-1], GRID_S)
    width = 2 * round(0.5 * RATE_S / GRID_S) + 1
    if len(grid) < 2 * width:
        return None
    counts = np.interp(grid, times, np.array([float(one.pole_counts) for one in samples]))
    square = savgol_filter(counts, width, 2, deriv=1, delta=GRID_S) ** 2
    angle = 2.0 * math.pi * counts / counts_per_turn
    waves = np.stack([np.cos(angle), np.sin(angle), np.ones_like(grid), grid], axis=1)
    weights, *_ = np.linalg.lstsq(waves, square, rcond=None)
    left = square - waves @ weights
    if float(np.var(left)) > (1.0 - EXPLAINED) * float(np.var(square)):
        return None
    hangs = math.atan2(weights[1], weights[0]) / (2.0 * math.pi) * counts_per_turn
    middle = 0.5 * float(counts.min() + counts.max())
    return hangs + counts_per_turn * round((middle - hangs) / counts_per_turn)
