"""The filter's arithmetic, compiled: update, fold, insert.

Arrays (layouts in :mod:`cartpole.estimation.layout`; ``n`` ring slots, a power of two):
``when`` (n, 2) int64 time and kind, ``what`` (n, 4) two readings and their variances, ``known``
(n + 1, FLOATS) and ``stamps`` (n + 1, WHOLE) snapshots after each event, the last row scratch.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.estimation import layout as at
from cartpole.estimation.gate import gate, note_count, still_stuck, to_nearest_turn, trusted
from cartpole.estimation.motion import propagate
from cartpole.messages import OMEGA, THETA, P, V

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

ROOT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # of the normal distribution at its middle
NONE = -1  # no second state in a measurement


@njit(cache=True, nogil=True)
def variance_of(row: Floats, i: int, also: int) -> float:
    """Variance of state i, or of the sum of states i and ``also``."""
    base = at.COV + at.STATES * i
    if also == NONE:
        return float(row[base + i])
    return float(row[base + i] + 2.0 * row[base + also] + row[at.COV + at.STATES * also + also])


@njit(cache=True, nogil=True)
def _possible(row: Floats, par: Floats) -> None:
    """A pole's rate that the rig cannot have is none: it starts afresh.

    Else a few frames of nonsense leave the filter at a whole turn a frame, where every frame fits.
    """
    if abs(row[at.X + OMEGA]) <= par[at.MOST_RATE]:
        return
    row[at.X + OMEGA] = 0.0
    row[at.SLOPE + OMEGA] = 0.0
    for j in range(at.STATES):
        row[at.COV + at.STATES * OMEGA + j] = 0.0
        row[at.COV + at.STATES * j + OMEGA] = 0.0
    row[at.COV + (at.STATES + 1) * OMEGA] = at.RATE_SIGMA_RAD_S * at.RATE_SIGMA_RAD_S


@njit(cache=True, nogil=True)
def _update(
    row: Floats,
    stamp: Whole,
    channel: int,
    i: int,
    also: int,
    shift: float,
    share: float,
    expected: float,
    delay_slope: float,
) -> None:
    """Scalar update by a measurement y of state i (plus state ``also``).

    ``expected`` is y's predicted variance; seeing it moves y's mean by ``shift`` and takes away
    ``share`` of that variance (all of it unless y was rounded). ``delay_slope`` is the reading's
    derivative by the camera's delay error; the estimate's own (SLOPE) follows the same gain.
    """
    slope = delay_slope - row[at.SLOPE + i]
    # A column of the covariance is needed whole while the covariance changes: six scalars.
    base = at.COV + at.STATES * i
    c0, c1, c2 = row[base], row[base + 1], row[base + 2]
    c3, c4, c5 = row[base + 3], row[base + 4], row[base + 5]
    if also != NONE:
        slope -= row[at.SLOPE + also]
        base = at.COV + at.STATES * also
        c0 += row[base]
        c1 += row[base + 1]
        c2 += row[base + 2]
        c3 += row[base + 3]
        c4 += row[base + 4]
        c5 += row[base + 5]
    column = (c0, c1, c2, c3, c4, c5)
    for j in range(at.STATES):
        gain = column[j] / expected
        row[at.X + j] += gain * shift
        gain *= share
        row[at.SLOPE + j] += gain * slope
        for k in range(j + 1):
            value = row[at.COV + at.STATES * j + k] - gain * column[k]
            row[at.COV + at.STATES * j + k] = value
            row[at.COV + at.STATES * k + j] = value
    row[at.NIS + channel] += at.AVERAGE * (shift * shift / expected - share * row[at.NIS + channel])
    row[at.IN_A_ROW + channel] = 0.0
    stamp[at.ACCEPTED + channel] = stamp[at.TIME]


@njit(cache=True, nogil=True)
def rounded_moments(miss: float, half: float, sigma: float) -> tuple[float, float]:
    """What a reading rounded to a bin tells of a normal quantity.

    The bin is ``miss`` ± ``half`` from the predicted mean, ``sigma`` the predicted deviation.
    Returns the shift of the mean and the share of the variance that is lost (moments of the
    truncated normal distribution; ``miss`` at most some 20 sigma outside of the bin).
    """
    low, high = (abs(miss) - half) / sigma, (abs(miss) + half) / sigma
    if low < -7.0:
        return 0.0, 0.0  # well inside: nothing learned
    mass = 0.5 * (math.erfc(low * ROOT_HALF) - math.erfc(high * ROOT_HALF))
    at_low = math.exp(-0.5 * low * low) * DENSITY / mass
    at_high = math.exp(-0.5 * high * high) * DENSITY / mass
    mean = at_low - at_high
    share = mean * mean - low * at_low + high * at_high
    return math.copysign(mean * sigma, miss), min(max(share, 0.0), 1.0)


@njit(cache=True, nogil=True)
def _count(
    row: Floats,
    stamp: Whole,
    channel: int,
    reading: float,
    half: float,
    variance: float,
    par: Floats,
) -> None:
    """One encoder's reading: true to ±half, or with half = 0 normal; on top its own variance."""
    i, rate, also = (P, V, NONE) if channel == at.ENCODER_P else (THETA, OMEGA, at.ZERO)
    far = reading - row[at.X + i]
    if also != NONE:
        far -= row[at.X + also]
    miss = far if i == P else to_nearest_turn(far)
    jitter = row[at.X + rate] * par[at.JITTER_S]
    variance += jitter * jitter
    spread = math.sqrt(variance_of(row, i, also) + variance)
    if not gate(row, stamp, channel, miss, par[at.GATE] * spread + half, par):
        return
    row[at.X + i] += far - miss  # the encoder counts the turns
    expected = variance_of(row, i, also) + variance
    shift, share = miss, 1.0
    if half > 0.0:
        shift, share = rounded_moments(miss, half, math.sqrt(expected))
    _update(row, stamp, channel, i, also, shift, share, expected, 0.0)


@njit(cache=True, nogil=True)
def _encoder(row: Floats, stamp: Whole, reading: Floats, par: Floats) -> None:
    """Cart and pole counts: two devices, two gates."""
    if math.isfinite(reading[3]):
        note_count(row, stamp, reading[1])
    for k in range(2):
        distrusted = k == 1 and (stamp[at.TIME] < stamp[at.DISTRUST] or still_stuck(stamp))
        if math.isfinite(reading[2 + k]) and not distrusted:
            half, variance = 0.0, reading[2 + k]
            if variance < 0.0:
                half = -variance
                variance = (at.EDGE * half) ** 2
            _count(row, stamp, at.ENCODER_P + k, reading[k], half, variance, par)


@njit(cache=True, nogil=True)
def _frozen(row: Floats, stamp: Whole, reading: Floats) -> bool:
    """Whether this is the same picture as before although the rig moved since."""
    if reading[1] != row[at.LAST_THETA] or reading[0] != row[at.LAST_P]:
        row[at.LAST_THETA], row[at.LAST_P] = reading[1], reading[0]
        stamp[at.SAME_SINCE] = stamp[at.TIME]
        return False
    span = (stamp[at.TIME] - stamp[at.SAME_SINCE]) * 1e-9
    turned, moved = row[at.X + OMEGA] * span, row[at.X + V] * span
    return bool(turned * turned > reading[3] or moved * moved > reading[2])


@njit(cache=True, nogil=True)
def _weigh_delay(row: Floats, innovation: float, spread: float, par: Floats) -> None:
    """Gather evidence for an error of the camera's delay, rejected frames included.

    Maximum likelihood from the innovations' sensitivity to the delay (Friedland's separate bias
    estimation, IEEE TAC 14, 1969); innovations are clipped at the gate. The sensitivity contains
    the estimated rate, whose error comes with the innovation's: their covariance is taken out, and
    frames of a pole that may as well stand still, or that no delay explains, are left out.
    """
    rate_variance = row[at.COV + (at.STATES + 1) * OMEGA]
    slope = -row[at.X + OMEGA] - row[at.SLOPE + THETA] - row[at.SLOPE + at.OFFSET]
    if slope * slope < 9.0 * rate_variance:
        return
    expected, bound = spread * spread, par[at.GATE] * spread
    if abs(innovation) > bound + at.MOST_DELAY_S * abs(slope):
        return  # no delay puts the pole there: another object
    clipped = max(-bound, min(bound, innovation))
    line = at.COV + at.STATES * OMEGA
    common = row[line + THETA] + row[line + at.OFFSET]
    row[at.SCORE] = at.DELAY_MEMORY * row[at.SCORE] + (slope * clipped - common) / expected
    row[at.WEIGHT] = at.DELAY_MEMORY * row[at.WEIGHT] + slope * slope / expected


@njit(cache=True, nogil=True)
def _camera(row: Floats, stamp: Whole, reading: Floats, par: Floats) -> None:
    """A frame: angle (with the camera's offset) and position are believed together or not at all.

    While the cart's encoder is at work the frame's position is left out: it knows nothing more, and
    a camera that is off along the track must not cost its angles.
    """
    if _frozen(row, stamp, reading):
        row[at.REJECTED] += 1.0
        return
    use_p = not trusted(row, stamp, at.ENCODER_P) and math.isfinite(reading[2])
    use_theta = math.isfinite(reading[3])
    miss_p = reading[0] - row[at.X + P]
    miss = to_nearest_turn(reading[1] - row[at.X + THETA] - row[at.X + at.OFFSET])
    if use_theta:
        spread = math.sqrt(variance_of(row, THETA, at.OFFSET) + reading[3])
        _weigh_delay(row, miss, spread, par)
        if not gate(row, stamp, at.CAMERA_THETA, miss, par[at.GATE] * spread, par):
            return
    if use_p:
        spread = math.sqrt(variance_of(row, P, NONE) + reading[2])
        if not gate(row, stamp, at.CAMERA_P, miss_p, par[at.GATE] * spread, par):
            return
    if use_theta:
        expected = variance_of(row, THETA, at.OFFSET) + reading[3]
        slope = -row[at.X + OMEGA]
        _update(row, stamp, at.CAMERA_THETA, THETA, at.OFFSET, miss, 1.0, expected, slope)
    if use_p:
        expected = variance_of(row, P, NONE) + reading[2]
        miss_p, slope = reading[0] - row[at.X + P], -row[at.X + V]
        _update(row, stamp, at.CAMERA_P, P, NONE, miss_p, 1.0, expected, slope)


@njit(cache=True, nogil=True)
def _copy(table: Floats | Whole, source: int, target: int) -> None:
    """A row into another. As a loop: what numba compiles for the sake of a slice's error message
    takes longer than the filter."""
    for k in range(table.shape[1]):
        table[target, k] = table[source, k]


@njit(cache=True, nogil=True)
def fold(
    when: Whole, what: Floats, known: Floats, stamps: Whole, marks: Whole, par: Floats, t_ns: int
) -> None:
    """Work through all events up to ``t_ns`` that are not in the estimate yet."""
    mask = when.shape[0] - 1
    while marks[at.DONE] + 1 < marks[at.END]:
        last, slot = marks[at.DONE] & mask, (marks[at.DONE] + 1) & mask
        if when[slot, 0] > t_ns:
            break
        row, stamp, reading = known[slot], stamps[slot], what[slot]
        _copy(known, last, slot)
        _copy(stamps, last, slot)
        propagate(row, stamp, when[slot, 0], par)
        kind = when[slot, 1]
        if kind == at.COMMAND:
            row[at.INPUT] = reading[0]
        elif kind == at.ENCODER:
            _encoder(row, stamp, reading, par)
        elif kind == at.CAMERA:
            _camera(row, stamp, reading, par)
        _possible(row, par)
        marks[at.DONE] += 1
    newest = when[(marks[at.END] - 1) & mask, 0]
    while marks[at.FIRST] < marks[at.DONE]:
        if when[(marks[at.FIRST] + 1) & mask, 0] > newest - par[at.HISTORY_NS]:
            break
        marks[at.FIRST] += 1


@njit(cache=True, nogil=True)
def insert(
    when: Whole,
    what: Floats,
    known: Floats,
    stamps: Whole,
    marks: Whole,
    par: Floats,
    t_ns: int,
    kind: int,
    first: float,
    second: float,
    first_variance: float,
    second_variance: float,
) -> int:
    """Put an event at its place in time; estimates after that place become void."""
    mask = when.shape[0] - 1
    base = marks[at.FIRST] & mask
    newest = when[(marks[at.END] - 1) & mask, 0]
    if t_ns < newest - par[at.HISTORY_NS] or t_ns < when[base, 0]:
        return at.TOO_OLD
    if marks[at.END] - marks[at.FIRST] > mask:  # full: give up the oldest
        fold(when, what, known, stamps, marks, par, when[(marks[at.FIRST] + 1) & mask, 0])
        if marks[at.END] - marks[at.FIRST] > mask:
            marks[at.FIRST] += 1
    place = marks[at.END]
    while place > marks[at.FIRST]:
        before = (place - 1) & mask
        if when[before, 0] < t_ns or (when[before, 0] == t_ns and when[before, 1] < kind):
            break
        if when[before, 0] == t_ns and when[before, 1] == kind:
            if kind != at.COMMAND:
                return at.REPEATED
            what[before, 0] = first  # the later of two commands for one instant
            if place - 1 == marks[at.FIRST]:
                known[base, at.INPUT] = first
            marks[at.DONE] = max(marks[at.FIRST], min(marks[at.DONE], place - 2))
            return at.TAKEN
        place -= 1
    if place <= marks[at.FIRST]:
        return at.TOO_OLD
    for i in range(marks[at.END], place, -1):
        _copy(when, (i - 1) & mask, i & mask)
        _copy(what, (i - 1) & mask, i & mask)
    slot = place & mask
    when[slot, 0], when[slot, 1] = t_ns, kind
    what[slot, 0], what[slot, 1] = first, second
    what[slot, 2], what[slot, 3] = first_variance, second_variance
    marks[at.END] += 1
    marks[at.DONE] = min(marks[at.DONE], place - 1)
    return at.TAKEN


@njit(cache=True, nogil=True)
def look(
    when: Whole, what: Floats, known: Floats, stamps: Whole, marks: Whole, par: Floats, t_ns: int
) -> None:
    """The estimate at ``t_ns``, left in the scratch row; folds what is due by then."""
    fold(when, what, known, stamps, marks, par, t_ns)
    mask, scratch = when.shape[0] - 1, when.shape[0]
    place = marks[at.DONE]
    while place > marks[at.FIRST] and when[place & mask, 0] > t_ns:
        place -= 1  # asked about the past
    _copy(known, place & mask, scratch)
    _copy(stamps, place & mask, scratch)
    propagate(known[scratch], stamps[scratch], t_ns, par)
