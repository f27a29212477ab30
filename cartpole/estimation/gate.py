"""Whom the filter believes: the gate of each channel, and who is found guilty of a jump; compiled.

``row`` and ``stamp`` are a snapshot, ``par`` the parameters: :mod:`cartpole.estimation.layout`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.estimation import layout as at
from cartpole.messages import OMEGA, THETA, P, V

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

TURN = 2.0 * math.pi


@njit(cache=True, nogil=True, inline="always")
def to_nearest_turn(angle: float) -> float:
    """The angle, brought to [-pi, pi) by whole turns."""
    return angle - TURN * math.floor(angle / TURN + 0.5)


@njit(cache=True, nogil=True, inline="always")
def trusted(row: Floats, stamp: Whole, channel: int) -> bool:
    """Whether a channel is at work: accepted last time, and not long ago."""
    return bool(lately(stamp, channel) and row[at.IN_A_ROW + channel] == 0.0)


@njit(cache=True, nogil=True, inline="always")
def lately(stamp: Whole, channel: int) -> bool:
    """Whether a channel was accepted not long ago."""
    last = stamp[at.ACCEPTED + channel]
    return bool(last >= 0 and stamp[at.TIME] - last <= at.FRESH_NS)


@njit(cache=True, nogil=True)
def _blame(row: Floats, stamp: Whole, culprit: int) -> None:
    """Somebody is found guilty now."""
    row[at.CULPRITS + culprit] += 1.0
    stamp[at.GUILTY_AT + culprit] = stamp[at.TIME]


@njit(cache=True, nogil=True)
def _left(row: Floats, channel: int, other: int) -> bool:
    """Whether a channel of the angle has left the model, too, and not by one reading of nonsense.

    One refusal counts if it tells of about the same jump as the ``other`` channel does.
    """
    refused = row[at.IN_A_ROW + channel]
    if refused != 1.0:
        return bool(refused > 1.0)
    jump = row[at.MISS + other]
    most = min(at.ALIKE * abs(jump), at.ALIKE_RAD)
    return bool(abs(to_nearest_turn(row[at.MISS + channel] - jump)) < most)


@njit(cache=True, nogil=True)
def _vouched(row: Floats, stamp: Whole) -> bool:
    """Whether the camera went on agreeing with the model while the pole's count did not.

    A pole that was hit leaves both; a count that jumps alone has slipped on its shaft.
    """
    seen, since = stamp[at.ACCEPTED + at.CAMERA_THETA], stamp[at.FIRST_REFUSED + at.ENCODER_THETA]
    left = _left(row, at.CAMERA_THETA, at.ENCODER_THETA)
    return bool(seen - since >= at.VOUCH_NS and not left)


@njit(cache=True, nogil=True)
def _seen(row: Floats, stamp: Whole) -> bool:
    """Whether the camera is at work and did not leave the model: it will tell what a count's jump
    is as soon as its next frames come."""
    return bool(
        lately(stamp, at.CAMERA_THETA) and not _left(row, at.CAMERA_THETA, at.ENCODER_THETA)
    )


@njit(cache=True, nogil=True)
def _counted(row: Floats, stamp: Whole) -> bool:
    """Whether the pole's count went on agreeing with the model while the camera did not."""
    left = _left(row, at.ENCODER_THETA, at.CAMERA_THETA)
    return bool(lately(stamp, at.ENCODER_THETA) and not left)


@njit(cache=True, nogil=True)
def _goes_along(row: Floats, miss: float, bound: float, share: float) -> bool:
    """Whether what the camera sees goes where the pole goes, but for a ``share`` of the way.

    A camera that was pushed, or is late, sees the pole; what shines elsewhere stays where it is.
    """
    change = to_nearest_turn(miss - row[at.FIRST_MISS])
    way = to_nearest_turn(row[at.LAST_THETA] - row[at.OBJECT_FROM]) - change
    return bool(abs(change) <= bound + share * abs(way))


@njit(cache=True, nogil=True)
def _stuck(row: Floats, stamp: Whole) -> bool:
    """Whether the count stands while the camera sees the pole go: then the camera was not moved.

    A push of the camera is there at once, in one frame, and then nothing moves on; a pole leaves
    its count by and by, or goes on leaving it.
    """
    still = stamp[at.TIME] - stamp[at.COUNT_SINCE] >= at.STILL_NS
    if row[at.IN_A_ROW + at.CAMERA_THETA] == 0.0:  # it fits, and the count does not
        gone = abs(to_nearest_turn(row[at.LAST_THETA] - row[at.SEEN]))
        return bool(still and gone > at.STILL_RAD)
    crept = row[at.FIRST_SHARE + at.CAMERA_THETA] < at.CREEP
    by_and_by = crept and abs(to_nearest_turn(row[at.LAST_THETA] - row[at.SEEN])) > at.STILL_RAD
    # What moved before the count last changed says nothing of a count that stands now.
    later = stamp[at.COUNT_SINCE] > stamp[at.FIRST_REFUSED + at.CAMERA_THETA]
    then = row[at.SEEN] if later else row[at.REFUSED_FROM]
    onward = abs(to_nearest_turn(row[at.LAST_THETA] - then)) > at.STILL_RAD
    return bool(still and (by_and_by or onward))


@njit(cache=True, nogil=True, inline="always")
def still_stuck(stamp: Whole) -> bool:
    """Whether the pole's count is the one for which it was found stuck."""
    found = stamp[at.GUILTY_AT + at.STUCK]
    return bool(0 <= stamp[at.COUNT_SINCE] <= found)


@njit(cache=True, nogil=True)
def _take_back(row: Floats, stamp: Whole) -> None:
    """The count is guilty: a camera whose offset was freed of late stands as it stood."""
    since = stamp[at.FREED_AT]
    if since < 0 or stamp[at.TIME] - since > at.AGAIN_NS:
        return
    row[at.X + at.OFFSET] = row[at.MOVED_FROM]
    for j in range(at.STATES):
        row[at.COV + at.STATES * at.OFFSET + j] = 0.0
        row[at.COV + at.STATES * j + at.OFFSET] = 0.0
    row[at.COV + (at.STATES + 1) * at.OFFSET] = row[at.MOVED_FROM + 1]


@njit(cache=True, nogil=True)
def note_count(row: Floats, stamp: Whole, count: float) -> None:
    """Since when the pole's count is the same, and what the camera said then."""
    if count != row[at.COUNT]:
        row[at.COUNT], row[at.SEEN] = count, row[at.LAST_THETA]
        stamp[at.COUNT_SINCE] = stamp[at.TIME]


@njit(cache=True, nogil=True)
def _judge_jump(row: Floats, stamp: Whole, offset: float) -> None:
    """Whether the camera's offset jumped because it was pushed.

    Counts stamped some milliseconds wrong look like a push while the pole is fast: their jump is
    gone when it is slow, a push stays and is told then.
    """
    far = abs(offset - row[at.MOVED_FROM])
    if far < at.LEAST_PUSH_RAD:
        row[at.JUMPED] = 0.0
    elif far >= at.LEAST_PUSH_RAD + at.STAMPS_OFF_S * abs(row[at.X + OMEGA]):
        _blame(row, stamp, at.MOVED)
        row[at.JUMPED] = 0.0


@njit(cache=True, nogil=True)
def _reopen(row: Floats, stamp: Whole, channel: int, innovation: float, par: Floats) -> None:
    """After too many rejections in a row, believe in a jump as large as the innovation.

    A camera that disagrees with a pole encoder at work has been moved: its offset jumped. Otherwise
    the pole or the cart did, and its rate may explain what gathered since the last acceptance.
    """
    square = innovation * innovation
    if channel == at.ENCODER_P:
        stamp[at.CART_AT] = stamp[at.TIME]
    if channel == at.CAMERA_THETA and _counted(row, stamp):
        if not _stuck(row, stamp):
            freed = stamp[at.FREED_AT]
            if freed < 0 or stamp[at.TIME] - freed > at.AGAIN_NS:
                row[at.MOVED_FROM] = row[at.X + at.OFFSET]
                row[at.MOVED_FROM + 1] = row[at.COV + (at.STATES + 1) * at.OFFSET]
            stamp[at.FREED_AT] = stamp[at.TIME]
            if abs(innovation) >= at.LEAST_PUSH_RAD:
                row[at.JUMPED] = 1.0
            if row[at.JUMPED] != 0.0:
                _judge_jump(row, stamp, row[at.X + at.OFFSET] + innovation)
            row[at.COV + (at.STATES + 1) * at.OFFSET] += square
            return
        _blame(row, stamp, at.STUCK)
        _take_back(row, stamp)
        row[at.JUMPED] = 0.0
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
def _off_line(
    row: Floats, far: float, span: float, bound: float, par: Floats
) -> tuple[float, float]:
    """How far a refused frame is from where those before lead, and how far it may be.

    Frames of a pole, which is heavy, lie on a line but for what gravity bends of it. Of frames of
    nonsense every tenth is as near to another as a pole can have gone.
    """
    off = abs(to_nearest_turn(far - row[at.MISS_RATE] * span))
    bend = 2.0 * par[at.COUPLING] * par[at.GRAVITY] * span * (span + row[at.MISS_RATE + 1])
    return off, bound * (1.0 + span / max(row[at.MISS_RATE + 1], 1e-9)) + bend


@njit(cache=True, nogil=True)
def _compare(
    row: Floats, stamp: Whole, channel: int, miss: float, bound: float, par: Floats
) -> None:
    """Whether a refused innovation agrees with the one kept: as near as what moves can have gone.

    A jump of pole, cart or camera refuses readings that agree with each other; nonsense does not.
    """
    far = miss - row[at.MISS + channel]
    span = (stamp[at.TIME] - stamp[at.REFUSED_AT + channel]) * 1e-9
    most = bound + par[at.MOST_SPEED] * span
    if channel in (at.ENCODER_THETA, at.CAMERA_THETA):
        far, most = to_nearest_turn(far), bound + par[at.MOST_RATE] * span
    alone = channel == at.CAMERA_THETA and not lately(stamp, at.ENCODER_THETA)
    off = abs(far)
    if alone and row[at.AGREED + channel] > 0.0:
        off, most = _off_line(row, far, span, bound, par)
    if row[at.IN_A_ROW + channel] == 0.0:
        row[at.AGREED + channel] = 0.0
        stamp[at.FIRST_REFUSED + channel] = stamp[at.TIME]
        row[at.FIRST_SHARE + channel] = abs(miss) / bound
        if channel == at.CAMERA_THETA:
            row[at.REFUSED_FROM], row[at.FIRST_MISS] = row[at.LAST_THETA], miss
            row[at.OBJECT_FROM], stamp[at.OBJECT_SINCE] = row[at.LAST_THETA], stamp[at.TIME]
    elif off <= most:
        row[at.AGREED + channel] += 1.0
        if alone:
            row[at.MISS_RATE], row[at.MISS_RATE + 1] = far / max(span, 1e-9), span
    else:
        row[at.STRANGE + channel] += 1.0
        if row[at.STRANGE + channel] < 2.0:
            return
        row[at.AGREED + channel] = 0.0
    row[at.MISS + channel] = miss
    row[at.STRANGE + channel] = 0.0
    stamp[at.REFUSED_AT + channel] = stamp[at.TIME]


@njit(cache=True, nogil=True)
def _as_pushed(row: Floats, stamp: Whole, miss: float, bound: float) -> bool:
    """Whether the camera sees the pole, and is off by the same since it was refused first.

    What was off by something else before may be an object near which the pole turns back.
    """
    since = stamp[at.OBJECT_SINCE]
    long = stamp[at.TIME] - since >= at.STEADY_NS
    at_once = since == stamp[at.FIRST_REFUSED + at.CAMERA_THETA]
    return bool((at_once or long) and _goes_along(row, miss, bound, at.ALONG))


@njit(cache=True, nogil=True)
def _refuse_object(row: Floats, stamp: Whole, miss: float, bound: float) -> None:
    """What the camera sees is something else than the pole: what it said before counts no more."""
    row[at.REJECTED] += 1.0
    row[at.IN_A_ROW + at.CAMERA_THETA], row[at.AGREED + at.CAMERA_THETA] = 1.0, 0.0
    if not _goes_along(row, miss, bound, at.ALONG):
        row[at.FIRST_MISS], row[at.OBJECT_FROM] = miss, row[at.LAST_THETA]
        stamp[at.OBJECT_SINCE] = stamp[at.TIME]


@njit(cache=True, nogil=True)
def _follows(row: Floats, stamp: Whole, miss: float, bound: float) -> bool:
    """Whether an object that is far from the count moves as the pole does: it is the pole.

    Its count slipped by so much, and was believed: what shines elsewhere does not follow the pole.
    """
    long = stamp[at.TIME] - stamp[at.OBJECT_SINCE] >= at.FOLLOWS_NS
    went = abs(to_nearest_turn(row[at.LAST_THETA] - row[at.OBJECT_FROM]))
    return bool(long and went >= at.FOLLOWS_RAD and _goes_along(row, miss, bound, at.CLOSELY))


@njit(cache=True, nogil=True)
def gate(row: Floats, stamp: Whole, channel: int, miss: float, bound: float, par: Floats) -> bool:
    """Whether to believe an innovation that may be as large as ``bound``; keeps the counters."""
    if -bound <= miss <= bound:
        if channel == at.CAMERA_THETA and row[at.JUMPED] != 0.0:
            _judge_jump(row, stamp, row[at.X + at.OFFSET])
        return True
    _compare(row, stamp, channel, miss, bound, par)
    row[at.IN_A_ROW + channel] += 1.0
    refused = row[at.IN_A_ROW + channel]
    far = channel == at.CAMERA_THETA and abs(to_nearest_turn(miss)) > at.MOST_PUSH_RAD
    if far and lately(stamp, at.ENCODER_THETA) and not _stuck(row, stamp):
        # Another object, such as a reflection: however long it shone, it says nothing more when
        # the encoder misses a sample, or a count of a calm pole comes as a surprise.
        if not _follows(row, stamp, miss, bound):
            _refuse_object(row, stamp, miss, bound)
            return False
        _blame(row, stamp, at.SLIPPED)
        row[at.COV + (at.STATES + 1) * at.ZERO] += miss * miss
        row[at.COV + (at.STATES + 1) * THETA] += miss * miss
        return True
    hit = (
        channel == at.ENCODER_THETA
        and row[at.AGREED + channel] >= at.HIT_AGREE
        and abs(miss) > at.HIT_GROWS * row[at.FIRST_SHARE + channel] * bound
    )
    waits = False  # before that nobody can tell a count that sticks
    if stamp[at.TIME] - stamp[at.FIRST_REFUSED + channel] < at.STILL_NS:
        if channel == at.CAMERA_THETA:
            waits = _counted(row, stamp)
        elif channel == at.ENCODER_THETA:
            waits = _vouched(row, stamp) or (not hit and _seen(row, stamp))
    if waits:
        row[at.REJECTED] += 1.0
        return False
    if hit:
        _reopen(row, stamp, channel, miss, par)
        return True
    agreed = row[at.AGREED + channel] >= at.AGREE or refused >= at.PATIENCE * par[at.REOPEN]
    if refused >= par[at.REOPEN] and agreed:
        pushed = channel == at.CAMERA_THETA and _counted(row, stamp) and not _stuck(row, stamp)
        if pushed and not _as_pushed(row, stamp, miss, bound):
            _refuse_object(row, stamp, miss, bound)
            return False
        _reopen(row, stamp, channel, miss, par)
        return True
    row[at.REJECTED] += 1.0
    return False
