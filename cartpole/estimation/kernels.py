"""The filter's arithmetic, compiled: gate, update, fold, insert.

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
from cartpole.estimation.motion import propagate
from cartpole.messages import OMEGA, THETA, P, V

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

TURN = 2.0 * math.pi
ROOT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # of the normal distribution at its middle
NONE = -1  # no second state in a measurement


@njit(cache=True, nogil=True, inline="always")
def _to_nearest_turn(angle: float) -> float:
    """The angle, brought to [-pi, pi) by whole turns."""
    return angle - TURN * math.floor(angle / TURN + 0.5)


@njit(cache=True, nogil=True)
def variance_of(row: Floats, i: int, also: int) -> float:
    """Variance of state i, or of the sum of states i and ``also``."""
    base = at.COV + at.STATES * i
    if also == NONE:
        return float(row[base + i])
    return float(row[base + i] + 2.0 * row[base + also] + row[at.COV + at.STATES * also + also])


@njit(cache=True, nogil=True, inline="always")
def _trusted(row: Floats, stamp: Whole, channel: int) -> bool:
    """Whether a channel is at work: accepted last time, and not long ago."""
    last = stamp[at.ACCEPTED + channel]
    recent = last >= 0 and stamp[at.TIME] - last <= at.FRESH_NS
    return bool(recent and row[at.IN_A_ROW + channel] == 0.0)


@njit(cache=True, nogil=True)
def _blame(row: Floats, stamp: Whole, culprit: int) -> None:
    """Somebody is found guilty now."""
    row[at.CULPRITS + culprit] += 1.0
    stamp[at.GUILTY_AT + culprit] = stamp[at.TIME]


@njit(cache=True, nogil=True)
def _vouched(row: Floats, stamp: Whole) -> bool:
    """Whether the camera went on agreeing with the model while the pole's count did not.

    A pole that was hit leaves both; a count that jumps alone has slipped on its shaft.
    """
    seen, since = stamp[at.ACCEPTED + at.CAMERA_THETA], stamp[at.FIRST_REFUSED + at.ENCODER_THETA]
    return bool(seen - since >= at.VOUCH_NS and row[at.IN_A_ROW + at.CAMERA_THETA] == 0.0)


@njit(cache=True, nogil=True)
def _stuck(row: Floats, stamp: Whole) -> bool:
    """Whether the count stands while the camera sees the pole go: then the camera was not moved.

    A push of the camera is there at once, in one frame, and then nothing moves on; a pole leaves
    its count by and by, or goes on leaving it.
    """
    still = stamp[at.TIME] - stamp[at.COUNT_SINCE] >= at.STILL_NS
    if row[at.IN_A_ROW + at.CAMERA_THETA] == 0.0:  # it fits, and the count does not
        gone = abs(_to_nearest_turn(row[at.LAST_THETA] - row[at.SEEN]))
        return bool(still and gone > at.STILL_RAD)
    crept = row[at.FIRST_SHARE + at.CAMERA_THETA] < at.CREEP
    by_and_by = crept and abs(_to_nearest_turn(row[at.LAST_THETA] - row[at.SEEN])) > at.STILL_RAD
    onward = abs(_to_nearest_turn(row[at.LAST_THETA] - row[at.REFUSED_FROM])) > at.STILL_RAD
    return bool(still and (by_and_by or onward))


@njit(cache=True, nogil=True)
def _take_back(row: Floats, stamp: Whole) -> None:
    """The count is guilty: a camera that was accused of late stands as it stood."""
    since = stamp[at.GUILTY_AT + at.MOVED]
    if since < 0 or stamp[at.TIME] - since > at.AGAIN_NS:
        return
    row[at.X + at.OFFSET] = row[at.MOVED_FROM]
    for j in range(at.STATES):
        row[at.COV + at.STATES * at.OFFSET + j] = 0.0
        row[at.COV + at.STATES * j + at.OFFSET] = 0.0
    row[at.COV + (at.STATES + 1) * at.OFFSET] = row[at.MOVED_FROM + 1]


@njit(cache=True, nogil=True)
def _note_count(row: Floats, stamp: Whole, count: float) -> None:
    """Since when the pole's count is the same, and what the camera said then."""
    if count != row[at.COUNT]:
        row[at.COUNT], row[at.SEEN] = count, row[at.LAST_THETA]
        stamp[at.COUNT_SINCE] = stamp[at.TIME]


@njit(cache=True, nogil=True)
def _reopen(row: Floats, stamp: Whole, channel: int, innovation: float, par: Floats) -> None:
    """After too many rejections in a row, believe in a jump as large as the innovation.

    A camera that disagrees with a pole encoder at work has been moved: its offset jumped. Otherwise
    the pole or the cart did, and its rate may explain what gathered since the last acceptance.
    """
    square = innovation * innovation
    if channel == at.CAMERA_THETA and _trusted(row, stamp, at.ENCODER_THETA):
        if not _stuck(row, stamp):
            if abs(innovation) >= at.LEAST_PUSH_RAD:
                row[at.MOVED_FROM] = row[at.X + at.OFFSET]
                row[at.MOVED_FROM + 1] = row[at.COV + (at.STATES + 1) * at.OFFSET]
                _blame(row, stamp, at.MOVED)
            row[at.COV + (at.STATES + 1) * at.OFFSET] += square
            return
        _blame(row, stamp, at.STUCK)
        _take_back(row, stamp)
        stamp[at.DISTRUST] = stamp[at.TIME] + at.DISTRUST_NS
    elif (
        channel == at.ENCODER_THETA
        and abs(innovation) >= at.LEAST_SLIP_RAD
        and _vouched(row, stamp)
    ):
        again = stamp[at.GUILTY_AT + at.SLIPPED]
        stuck = _stuck(row, stamp)
        if stuck or (again >= 0 and stamp[at.TIME] - again < at.AGAIN_NS):
            _blame(row, stamp, at.STUCK)
            stamp[at.DISTRUST] = stamp[at.TIME] + at.DISTRUST_NS
        if not stuck:
            _blame(row, stamp, at.SLIPPED)
        row[at.COV + (at.STATES + 1) * at.ZERO] += square
        return
    place, rate = (P, V) if channel in (at.ENCODER_P, at.CAMERA_P) else (THETA, OMEGA)
    last = stamp[at.ACCEPTED + channel]
    gap = 0.1 if last < 0 else max(1e-3, (stamp[at.TIME] - last) * 1e-9)
    row[at.COV + (at.STATES + 1) * place] += square
    speed = square / (gap * gap)
    if rate == OMEGA:
        speed = min(speed, par[at.MOST_RATE] * par[at.MOST_RATE])
    row[at.COV + (at.STATES + 1) * rate] += speed


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
def _compare(
    row: Floats, stamp: Whole, channel: int, miss: float, bound: float, par: Floats
) -> None:
    """Whether a refused innovation agrees with the one kept: as near as what moves can have gone.

    A jump of pole, cart or camera refuses readings that agree with each other; nonsense does not.
    """
    far = miss - row[at.MISS + channel]
    most = par[at.MOST_SPEED]
    if channel in (at.ENCODER_THETA, at.CAMERA_THETA):
        far, most = _to_nearest_turn(far), par[at.MOST_RATE]
    span = (stamp[at.TIME] - stamp[at.REFUSED_AT + channel]) * 1e-9
    if row[at.IN_A_ROW + channel] == 0.0:
        row[at.AGREED + channel] = 0.0
        stamp[at.FIRST_REFUSED + channel] = stamp[at.TIME]
        row[at.FIRST_SHARE + channel] = abs(miss) / bound
        if channel == at.CAMERA_THETA:
            row[at.REFUSED_FROM] = row[at.LAST_THETA]
    elif abs(far) <= bound + most * span:
        row[at.AGREED + channel] += 1.0
    else:
        row[at.STRANGE + channel] += 1.0
        if row[at.STRANGE + channel] < 2.0:
            return
        row[at.AGREED + channel] = 0.0
    row[at.MISS + channel] = miss
    row[at.STRANGE + channel] = 0.0
    stamp[at.REFUSED_AT + channel] = stamp[at.TIME]


@njit(cache=True, nogil=True)
def _gate(row: Floats, stamp: Whole, channel: int, miss: float, bound: float, par: Floats) -> bool:
    """Whether to believe an innovation that may be as large as ``bound``; keeps the counters."""
    inside = -bound <= miss <= bound
    row[at.REFUSED + channel] += at.AVERAGE * ((0.0 if inside else 1.0) - row[at.REFUSED + channel])
    if inside:
        return True
    _compare(row, stamp, channel, miss, bound, par)
    row[at.IN_A_ROW + channel] += 1.0
    refused = row[at.IN_A_ROW + channel]
    far = channel == at.CAMERA_THETA and abs(_to_nearest_turn(miss)) > at.MOST_PUSH_RAD
    if far and _trusted(row, stamp, at.ENCODER_THETA) and not _stuck(row, stamp):
        # Another object, such as a reflection: however long it shone, it says nothing more when
        # the encoder misses a sample.
        row[at.REJECTED] += 1.0
        row[at.IN_A_ROW + channel], row[at.AGREED + channel] = 1.0, 0.0
        return False
    if stamp[at.TIME] - stamp[at.FIRST_REFUSED + channel] < at.STILL_NS and (
        (channel == at.CAMERA_THETA and _trusted(row, stamp, at.ENCODER_THETA))
        or (channel == at.ENCODER_THETA and _vouched(row, stamp))
    ):  # before that nobody can tell a count that sticks
        row[at.REJECTED] += 1.0
        return False
    agreed = row[at.AGREED + channel] >= at.AGREE or refused >= at.PATIENCE * par[at.REOPEN]
    if refused >= par[at.REOPEN] and agreed:
        _reopen(row, stamp, channel, miss, par)
        return True
    row[at.REJECTED] += 1.0
    return False


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
    miss = far if i == P else _to_nearest_turn(far)
    jitter = row[at.X + rate] * par[at.JITTER_S]
    variance += jitter * jitter
    spread = math.sqrt(variance_of(row, i, also) + variance)
    if not _gate(row, stamp, channel, miss, par[at.GATE] * spread + half, par):
        return
    row[at.X + i] += far - miss  # the encoder counts the turns
    expected = variance_of(row, i, also) + variance
    shift, share = miss, 1.0
    if half > 0.0:
        shift, share = rounded_moments(miss, half, math.sqrt(expected))
    _update(row, stamp, channel, i, also, shift, share, expected, 0.0)


@njit(cache=True, nogil=True, inline="always")
def _still_stuck(stamp: Whole) -> bool:
    """Whether the pole's count is the one for which it was found stuck."""
    found = stamp[at.GUILTY_AT + at.STUCK]
    return bool(0 <= stamp[at.COUNT_SINCE] <= found)


@njit(cache=True, nogil=True)
def _encoder(row: Floats, stamp: Whole, reading: Floats, par: Floats) -> None:
    """Cart and pole counts: two devices, two gates."""
    if math.isfinite(reading[3]):
        _note_count(row, stamp, reading[1])
    for k in range(2):
        distrusted = k == 1 and (stamp[at.TIME] < stamp[at.DISTRUST] or _still_stuck(stamp))
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
    frames of a pole that may as well stand still are left out.
    """
    rate_variance = row[at.COV + (at.STATES + 1) * OMEGA]
    slope = -row[at.X + OMEGA] - row[at.SLOPE + THETA] - row[at.SLOPE + at.OFFSET]
    if slope * slope < 9.0 * rate_variance:
        return
    expected, bound = spread * spread, par[at.GATE] * spread
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
    use_p = not _trusted(row, stamp, at.ENCODER_P) and math.isfinite(reading[2])
    use_theta = math.isfinite(reading[3])
    miss_p = reading[0] - row[at.X + P]
    miss = _to_nearest_turn(reading[1] - row[at.X + THETA] - row[at.X + at.OFFSET])
    if use_theta:
        spread = math.sqrt(variance_of(row, THETA, at.OFFSET) + reading[3])
        _weigh_delay(row, miss, spread, par)
        if not _gate(row, stamp, at.CAMERA_THETA, miss, par[at.GATE] * spread, par):
            return
    if use_p:
        spread = math.sqrt(variance_of(row, P, NONE) + reading[2])
        if not _gate(row, stamp, at.CAMERA_P, miss_p, par[at.GATE] * spread, par):
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
