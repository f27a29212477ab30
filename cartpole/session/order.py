"""The order of a tick's measurements, which no tool that sorts a file can lose."""

from __future__ import annotations

from collections.abc import Iterable

from cartpole.errors import SessionError
from cartpole.messages import BoardStatus, Detection, EncoderSample, LinkEvent, Measurement

_KIND_ORDER = {LinkEvent: 0, EncoderSample: 1, BoardStatus: 1, Detection: 2}


def canonical(measurements: Iterable[Measurement]) -> list[int]:
    """Places of measurements in the order in which any file's messages can be put again."""
    found = list(measurements)
    keys = [(_KIND_ORDER[type(one)], one.t_ns) for one in found]
    if len(set(keys)) == len(keys):
        return sorted(range(len(found)), key=lambda k: keys[k])
    exact = [(*key, repr(one)) for key, one in zip(keys, found, strict=True)]
    return sorted(range(len(found)), key=lambda k: exact[k])


def order_of(measurements: tuple[Measurement, ...]) -> tuple[int, ...]:
    """What a tick's line says of its measurements' order: nothing if it is the canonical one."""
    if len(measurements) < 2:
        return ()
    places = canonical(measurements)
    if places == list(range(len(places))):
        return ()
    ranks = [0] * len(places)
    for rank, place in enumerate(places):
        ranks[place] = rank
    return tuple(ranks)


def in_order(measurements: list[Measurement], order: tuple[int, ...]) -> list[Measurement]:
    put = [measurements[k] for k in canonical(measurements)]
    if not order:
        return put
    if sorted(order) != list(range(len(put))):
        raise SessionError("the order of its measurements is none")
    return [put[rank] for rank in order]
