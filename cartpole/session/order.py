"""The order of a tick's measurements, which no tool that sorts a file can lose."""

from __future__ import annotations

from collections.abc import Sequence

from cartpole.errors import SessionError
from cartpole.messages import BoardStatus, Detection, EncoderSample, LinkEvent, Measurement

_KIND_ORDER = {LinkEvent: 0, EncoderSample: 1, BoardStatus: 1, Detection: 2}


def _ranked(measurements: Sequence[Measurement]) -> tuple[list[int], list[int]]:
    """Places of measurements in the order in which any file's messages can be put again, and the
    rank of each there; equal ones have the same."""
    keys = [(_KIND_ORDER[type(one)], one.t_ns) for one in measurements]
    count = len(keys)
    if len(set(keys)) == count:
        places = sorted(range(count), key=lambda k: keys[k])
        return places, list(range(count))
    exact = [(*key, repr(one)) for key, one in zip(keys, measurements, strict=True)]
    places = sorted(range(count), key=lambda k: exact[k])
    ranks: list[int] = []
    for k, place in enumerate(places):
        new = k > 0 and exact[place] != exact[places[k - 1]]
        ranks.append(ranks[-1] + new if ranks else 0)
    return places, ranks


def order_of(measurements: tuple[Measurement, ...]) -> tuple[int, ...]:
    """What a tick's line says of its measurements' order: nothing if it is the canonical one.

    Equal measurements have equal ranks, by which they are told from messages that a tool doubled.
    """
    if len(measurements) < 2:
        return ()
    places, ranks = _ranked(measurements)
    order = [0] * len(places)
    for place, rank in zip(places, ranks, strict=True):
        order[place] = rank
    return () if order == list(range(len(order))) else tuple(order)


def in_order(measurements: list[Measurement], order: tuple[int, ...]) -> list[Measurement]:
    """Measurements that are all different (each of equal ones once) as ``order`` says."""
    put = [measurements[k] for k in _ranked(measurements)[0]]
    if not order:
        return put
    if set(order) != set(range(len(put))):
        raise SessionError("the order of its measurements is none")
    return [put[rank] for rank in order]
