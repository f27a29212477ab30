"""Whether a recording holds as many messages as its ticks say, without putting ticks together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cartpole.errors import SessionError
from cartpole.session.channels import CHANNELS
from cartpole.session.gather import LARGEST_MESSAGE, MEASUREMENTS
from cartpole.session.recorded import DECODE

if TYPE_CHECKING:
    from cartpole.session.reader import Session

_COUNTED = (*MEASUREMENTS, "/request", "/fault", "/estimate", "/plan", "/command", "/tick")


def adds_up(session: Session) -> bool:
    """Read every message once and count; ``session.damages`` knows of every broken chunk then.

    False where a message is missing, or there twice, or no tick is there at all.
    """
    found: Counter[str] = Counter()
    told: Counter[str] = Counter()
    lowest, highest = 1 << 62, -1
    try:
        for topic, _, _, data in session.messages(frozenset(CHANNELS) - frozenset(_COUNTED)):
            found[topic] += 1
            if topic == "/tick":
                if len(data) > LARGEST_MESSAGE:
                    return False
                line = DECODE[topic](data)
                lowest, highest = min(lowest, line.index), max(highest, line.index)
                told["measurements"] += line.measurements
                told["/request"] += line.requests
                told["/fault"] += line.faults
                told["/estimate"] += line.estimate
                told["/plan"] += line.plan
    except SessionError:
        return False
    ticks = found["/tick"]
    told["/tick"] = highest - lowest + 1 if ticks else 0
    told["/command"] = ticks
    found["measurements"] = sum(found.pop(topic, 0) for topic in MEASUREMENTS)
    first, last = session.claimed
    ends = first in (None, lowest) and last in (None, highest)
    return ticks > 0 and ends and all(found[name] == told[name] for name in told)
