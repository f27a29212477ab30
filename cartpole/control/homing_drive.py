"""How the drive follows its commands while homing: gain, lag, and whether anything holds the cart.

Where a lag model says the cart should have gone is set beside where it went, in pieces of a tenth
of a second. The gain is a median over them: a command whose digits were lost on the wire spoils one
piece, a drive that ripples spoils as many upward as downward, a wrong unit spoils all. Where slow
and quick pieces each agree well enough, it is the slope between them: a dead band that is set
wrong, or a drive that rubs, takes the same speed from both, and is no wrong gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cartpole.messages import FloatArray
from cartpole.model.dynamics import cart_step

PIECE_TICKS = 6
HELD = 0.35  # of the commanded way: less, twice in a row, and the cart is held
RUNS = 1.8  # of the commanded way: more, twice in a row, and a unit is wrong
STRIKES = 2
LEAST_M = 0.006  # a piece shorter than this says nothing of the gain
MOST_PIECES = 200
JUMP_M = 0.001  # between two samples, while the cart crawls
QUICKER = 1.5  # times the slow pieces' way: what a slope is taken from
EXCUSES = 0.05  # deviation of a slope that may excuse a drive ...
ACCUSES = 0.02  # ... and of one that may accuse it, by what is sure of it
SURE_SIGMAS = 2.0
LEAST_PIECES = 4  # slow, and quick
DEVIATIONS = 1.4826  # a deviation in median absolute ones, if errors are normal
MEDIAN_SIGMA = 1.2533  # a median's deviation over a mean's


@dataclass(frozen=True, slots=True)
class Drive:
    """Commanded and seen way of the present leg [m], and the pieces of all legs.

    ``pieces`` are (commanded, seen) ways [m]; ``behind`` are rows (way asked for, change of the
    seen speed since the leg's start, way gone) at the pieces' ends [m, m/s, m].
    """

    position_m: float | None = None
    start_m: float | None = None
    wanted_m: float = 0.0  # by the lag model
    asked_m: float = 0.0  # area under the commands
    speed_m_s: float = 0.0
    start_m_s: float = 0.0
    ticks: int = 0
    piece_wanted_m: float = 0.0
    piece_start_m: float = 0.0
    strikes: int = 0
    strike_gain: float = 1.0
    pieces: tuple[tuple[float, float], ...] = ()
    behind: tuple[tuple[float, float, float], ...] = ()


def leg(drive: Drive, speed_m_s: float) -> Drive:
    """A new move begins here, with the cart at a speed."""
    return replace(
        drive,
        start_m=drive.position_m,
        start_m_s=speed_m_s,
        wanted_m=0.0,
        asked_m=0.0,
        ticks=0,
        piece_wanted_m=0.0,
        piece_start_m=drive.position_m or 0.0,
        strikes=0,
    )


def follow(
    drive: Drive,
    seen: tuple[float, float] | None,
    sent_m_s: float,
    period_s: float,
    tau_s: float,
    acceleration_m_s2: float,
) -> Drive:
    """One tick: ``sent_m_s`` acted since the last one; ``seen`` is (position, speed) now."""
    way, speed = cart_step(0.0, drive.speed_m_s, sent_m_s, period_s, tau_s, acceleration_m_s2)
    position = drive.position_m if seen is None else seen[0]
    drive = replace(
        drive,
        position_m=position,
        start_m=position if drive.start_m is None else drive.start_m,
        wanted_m=drive.wanted_m + way,
        asked_m=drive.asked_m + sent_m_s * period_s,
        speed_m_s=speed,
        ticks=drive.ticks + 1,
        piece_wanted_m=drive.piece_wanted_m + way,
    )
    return drive if seen is None or drive.ticks % PIECE_TICKS else _piece(drive, seen[1])


def _piece(drive: Drive, speed_m_s: float) -> Drive:
    position = drive.position_m or 0.0
    seen, wanted = position - drive.piece_start_m, drive.piece_wanted_m
    after = replace(drive, piece_start_m=position, piece_wanted_m=0.0)
    if abs(wanted) < LEAST_M:
        return after
    gain = seen / wanted
    struck = gain < HELD or gain > RUNS
    # One spoilt count makes a piece too short and its neighbour too long: those are no two alike.
    alike = (gain > RUNS) == (drive.strike_gain > RUNS)
    strikes = drive.strikes + 1 if alike else 1
    after = replace(after, strikes=strikes if struck else 0, strike_gain=gain)
    if drive.ticks <= PIECE_TICKS:
        return after
    behind = (*drive.behind, (drive.asked_m, speed_m_s - drive.start_m_s, gone_m(drive)))
    return replace(
        after,
        pieces=(*drive.pieces, (wanted, seen))[-MOST_PIECES:],
        behind=behind[-MOST_PIECES:],
    )


def gone_m(drive: Drive) -> float:
    """Way of this leg, as seen."""
    if drive.position_m is None or drive.start_m is None:
        return 0.0
    return drive.position_m - drive.start_m


def likely_way_m(
    drive: Drive, places_m: Sequence[float], direction: float, expected_m: float
) -> float:
    """Way of this leg in its ``direction`` by the newest of two places; where that jumped, the one
    nearer to ``expected_m``: a line without a check sum that lost a digit accuses nobody alone."""
    start = drive.start_m or 0.0
    ways = [direction * (place - start) for place in places_m]
    if not ways:
        return direction * gone_m(drive)
    if abs(ways[-1] - ways[0]) < JUMP_M:
        return ways[-1]
    return min(ways, key=lambda way: abs(way - expected_m))


def wanted_m(drive: Drive) -> float:
    """Way of this leg, as the lag model has it."""
    return drive.wanted_m


def strike(drive: Drive) -> float | None:
    """The last piece's gain if the cart is held, or runs away; ``None`` if it follows."""
    return drive.strike_gain if drive.strikes >= STRIKES else None


def gain(drive: Drive) -> float:
    """Seen over commanded speed; 1 if nothing could be measured."""
    if len(drive.pieces) < 3:
        return 1.0
    wanted, seen = np.array(drive.pieces).T
    seen, wanted = np.copysign(1.0, wanted) * seen, np.abs(wanted)
    ratio = float(np.median(seen / wanted))
    slope, sigma = _slope(wanted, seen)
    if abs(slope - 1.0) < abs(ratio - 1.0):
        return slope if sigma < EXCUSES else ratio
    surely = abs(slope - 1.0) - SURE_SIGMAS * sigma
    if sigma > ACCUSES or surely < abs(ratio - 1.0):
        return ratio
    return 1.0 + math.copysign(surely, slope - 1.0)


def _slope(wanted: FloatArray, seen: FloatArray) -> tuple[float, float]:
    """Change of the way seen over that of the way commanded, from slow to quick pieces, and its
    deviation: infinite where there are too few of either."""
    middle = math.sqrt(float(np.quantile(wanted, 0.25) * wanted.max()))
    slow, quick = wanted < middle, wanted >= middle
    if min(int(slow.sum()), int(quick.sum())) < LEAST_PIECES:
        return 1.0, math.inf
    further = float(np.median(wanted[quick]) - np.median(wanted[slow]))
    if further < (QUICKER - 1.0) * float(np.median(wanted[slow])):
        return 1.0, math.inf
    lost = wanted - seen  # of pieces that need not be of one length
    sigma = math.hypot(_median_sigma(lost[slow]), _median_sigma(lost[quick])) / further
    return 1.0 - float(np.median(lost[quick]) - np.median(lost[slow])) / further, sigma


def _median_sigma(values: FloatArray) -> float:
    """Deviation of the median of ``values`` (n,)."""
    spread = DEVIATIONS * float(np.median(np.abs(values - np.median(values))))
    return MEDIAN_SIGMA * spread / math.sqrt(len(values))


def lag_s(drive: Drive) -> float:
    """Lag and delay together [s]: how long the cart stays behind its commands; 0: not seen.

    ``T v' = g u - v`` integrated from a leg's start is ``gone = g asked - T (v - v0)``.
    """
    rows = np.array(drive.behind)
    if len(rows) < 6:
        return 0.0
    fit, *_ = np.linalg.lstsq(rows[:, :2], rows[:, 2], rcond=None)
    return max(float(-fit[1]), 0.0)
