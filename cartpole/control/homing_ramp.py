"""How fast the drive lets its command rise: a driver's own ramp, seen while homing.

A driver may ramp what it is told by itself. Small steps do not show it; a step to u is late by
u / (2 r) more, as if the lag grew with the step. So several ramps are tried at once: each turns
the commands into those behind it, and the first-order lag ``T v' = g c - v``, integrated over
windows of three tenths of a second, must explain the cart's way by them,

    way = g (area under c) - T (change of v) - d (change of c),

with gain g, lag T and delay d by least squares. The ramp with the least residual is the drive's,
if it explains what no ramp cannot: a slow drive or one that ripples is explained no better by any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cartpole.messages import FloatArray

# Tried: shares of the rate that commands may have; without a ramp first.
SHARES = (math.inf, 0.2, 0.25, 0.3, 0.36, 0.43, 0.5, 0.58, 0.67, 0.77, 0.88)
WINDOW = 15  # ticks
EVERY = 2  # ticks from one row to the next
LEAST_M = 0.004  # a window in which less was asked for and gone says nothing
LEAST_ROWS = 20
BETTER = 0.4  # of the squared residual without a ramp: what a ramp must leave at most
SURELY = 0.9  # a ramp is taken for slower than it was found: the windows see it too fast
UNKNOWNS = 3
RIDGE = 1e-9

_COUNT = len(SHARES)


@dataclass(frozen=True, slots=True)
class Ramp:
    """``commands`` and ``ways``: behind each ramp, the command now and the area under it so far
    [m/s, m]; ``trail`` rows of (place, speed, ways, commands) of the last window; the rest the
    normal equations, (count, 3, 3) and (count, 3) row by row."""

    commands: tuple[float, ...] = (0.0,) * _COUNT
    ways: tuple[float, ...] = (0.0,) * _COUNT
    trail: tuple[tuple[float, ...], ...] = ()
    normal: tuple[float, ...] = (0.0,) * (_COUNT * UNKNOWNS * UNKNOWNS)
    right: tuple[float, ...] = (0.0,) * (_COUNT * UNKNOWNS)
    square: float = 0.0
    rows: int = 0
    ticks: int = 0


def follow(
    ramp: Ramp,
    seen: tuple[float, float] | None,
    sent_m_s: float,
    period_s: float,
    rate_m_s2: float,
) -> Ramp:
    """One tick: ``sent_m_s`` acted since the last one, ``seen`` is (place, speed) of the cart now,
    ``rate_m_s2`` what commands may change by."""
    commands, ways = [], []
    for share, before, way in zip(SHARES, ramp.commands, ramp.ways, strict=True):
        most = share * rate_m_s2
        change = min(max(sent_m_s - before, -most * period_s), most * period_s)
        lost = 0.5 * change * abs(change) / most  # while it rises
        commands.append(before + change)
        ways.append(way + (before + change) * period_s - lost)
    trail = () if seen is None else (*ramp.trail, (*seen, *ways, *commands))[-WINDOW - 1 :]
    after = replace(
        ramp, commands=tuple(commands), ways=tuple(ways), trail=trail, ticks=ramp.ticks + 1
    )
    if len(trail) <= WINDOW or after.ticks % EVERY:
        return after
    return _with_row(after, np.array(trail[-1]) - np.array(trail[0]))


def _with_row(ramp: Ramp, change: FloatArray) -> Ramp:
    """``change`` over a window, as a row of the trail has it."""
    gone, speed, ways, commands = change[0], change[1], change[2 : 2 + _COUNT], change[2 + _COUNT :]
    if max(abs(gone), abs(ways[0])) < LEAST_M:
        return ramp
    rows = np.stack((ways, np.full(_COUNT, -speed), -commands), axis=1)
    normal = np.array(ramp.normal) + np.einsum("ki,kj->kij", rows, rows).ravel()
    right = np.array(ramp.right) + (gone * rows).ravel()
    return replace(
        ramp,
        normal=tuple(normal.tolist()),
        right=tuple(right.tolist()),
        square=ramp.square + float(gone * gone),
        rows=ramp.rows + 1,
    )


def seen(ramp: Ramp) -> float:
    """The drive's ramp as a share of what commands may change by; 0: it shows none."""
    if ramp.rows < LEAST_ROWS:
        return 0.0
    left = _residuals(ramp)
    best = int(np.argmin(left))
    if best == 0 or left[best] > BETTER * left[0]:
        return 0.0
    return SURELY * _between(left, best)


def _residuals(ramp: Ramp) -> FloatArray:
    """Sum of squares (count,) that each ramp leaves."""
    normal = np.array(ramp.normal).reshape(_COUNT, UNKNOWNS, UNKNOWNS)
    right = np.array(ramp.right).reshape(_COUNT, UNKNOWNS)
    fits = np.linalg.solve(normal + RIDGE * np.eye(UNKNOWNS), right[:, :, None])[:, :, 0]
    return np.asarray(ramp.square - np.einsum("ki,ki->k", fits, right), dtype=np.float64)


def _between(left: FloatArray, best: int) -> float:
    """The share at the bottom of a parabola through the best one and its neighbours, over their
    logarithms."""
    if not 1 < best < _COUNT - 1:
        return SHARES[best]
    places = np.log(SHARES[best - 1 : best + 2])
    bend, slope, _ = np.polyfit(places - places[1], left[best - 1 : best + 2], 2)
    off = float(-0.5 * slope / bend) if bend > 0.0 else 0.0
    return math.exp(min(max(float(places[1]) + off, float(places[0])), float(places[2])))
