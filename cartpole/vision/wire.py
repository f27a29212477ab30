"""Records between the camera process and its parent: whole datagrams, neither side ever waits.

Both ends are this package's own processes on one socket pair, so plain pickled tuples are enough;
the kernel keeps their order and their borders.
"""

from __future__ import annotations

import pickle
import socket
from enum import StrEnum
from typing import Any

_LARGEST = 65536


class Word(StrEnum):
    """First field of every record."""

    READY = "ready"
    FAILED = "failed"
    DETECTION = "detection"
    LINK = "link"
    STATISTICS = "statistics"
    HINT = "hint"
    THRESHOLD = "threshold"
    STOP = "stop"


class Closed(Exception):
    """The other side is gone."""


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a non-blocking channel of datagrams."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ours, theirs


def send(channel: socket.socket, word: Word, *fields: Any) -> bool:
    """Hand a record over; False if the other side has not read for so long that it is full.

    Raises ``Closed``.
    """
    try:
        channel.send(pickle.dumps((word.value, *fields), pickle.HIGHEST_PROTOCOL))
    except BlockingIOError:
        return False
    except OSError as error:
        raise Closed from error
    return True


def receive(channel: socket.socket) -> tuple[Any, ...] | None:
    """The next record, or None if there is none. Raises ``Closed``."""
    try:
        record = channel.recv(_LARGEST)
    except BlockingIOError:
        return None
    except OSError as error:
        raise Closed from error
    if not record:
        raise Closed
    fields: tuple[Any, ...] = pickle.loads(record)
    return fields
