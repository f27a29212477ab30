"""What an unknown board says: its lines shown, its shape recognised, settings proposed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firmware_bridge.ports import Port

BAUDS = (115200, 9600, 57600, 230400, 250000, 38400, 19200)
LISTEN_S = 1.0
QUESTIONS = (b"", b"a", b"?\n", b"\n", b"r\n")
SHOWN = 4
MOST_BYTES = 1 << 16
LONGEST_SHOWN = 120
_NUMBER = re.compile(
    r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?|\b(?:true|false|on|off)\b", re.IGNORECASE
)
_SWITCHES = {"true": 1.0, "on": 1.0, "false": 0.0, "off": 0.0}
# Words before a number, and the field that they mean.
_WORDS = {
    "cart": "cart", "pos": "cart", "position": "cart", "x": "cart", "p": "cart", "enc1": "cart",
    "pole": "pole", "angle": "pole", "theta": "pole", "pend": "pole", "pendulum": "pole",
    "enc2": "pole", "low": "low", "left": "low", "l": "low", "lim1": "low", "min": "low",
    "high": "high", "right": "high", "r": "high", "lim2": "high", "max": "high",
    "t": "time_us", "time": "time_us", "us": "time_us", "micros": "time_us", "ms": "time_ms",
    "millis": "time_ms",
}  # fmt: skip


def printable(line: bytes) -> str:
    """A line as it may be shown on a terminal: escapes instead of control characters, cut."""
    text = line.decode("ascii", "backslashreplace")
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + "…"


@dataclass(frozen=True, slots=True)
class Heard:
    """What came at which speed after which question; ``lines`` without their ends."""

    baud: int
    question: str
    lines: tuple[bytes, ...]
    rate_hz: float
    proposal: dict[str, str | float] = field(default_factory=dict)
    remark: str = ""


def hear(
    open_port: Callable[[int], Port],
    bauds: tuple[int, ...] = BAUDS,
    clock: Callable[[], float] = time.monotonic,
) -> Heard | None:
    """Listen, then ask, at one speed after the other; ``None``: not a readable line at any."""
    for baud in bauds:
        port = open_port(baud)
        try:
            for question in QUESTIONS:
                lines, took_s = _lines(port, question, clock)
                if len(lines) >= 3 and _readable(lines):
                    rate = (len(lines) - 1) / took_s
                    word = question.decode().replace("\n", "\\n")
                    proposal, remark = propose(lines)
                    if proposal:
                        proposal |= {"question": word}
                    return Heard(baud, word, tuple(lines), rate, proposal, remark)
        finally:
            port.close()
    return None


def _lines(port: Port, question: bytes, clock: Callable[[], float]) -> tuple[list[bytes], float]:
    begin = clock()
    data = b""
    asked = begin - 1.0
    while clock() - begin < LISTEN_S and len(data) < MOST_BYTES:
        if question and clock() - asked > 0.02:
            port.write(question)
            asked = clock()
        data += port.read(0.01)
    whole = data.replace(b"\r", b"\n").split(b"\n")[1 if not question else 0 : -1]
    return [line for line in whole if line.strip()], max(clock() - begin, 1e-3)


def _readable(lines: list[bytes]) -> bool:
    data = b"".join(lines)
    good = sum(32 <= byte < 127 or byte == 9 for byte in data)
    return good >= 0.95 * len(data)


def propose(lines: list[bytes]) -> tuple[dict[str, str | float], str]:
    """Settings of ``encoder.lines`` for lines of a common shape, and a remark for a person.

    Fields are told by the words before them, else by what they do: the one that always grows is a
    clock, those that are only 0 and 1 are switches, the others cart and pole in this order. An
    empty proposal: the shape was not recognised.
    """
    texts = [line.decode("ascii", "replace").strip() for line in lines]
    cycle = _cycle(texts)
    groups = [texts[k : k + cycle] for k in range(0, len(texts) - cycle + 1, cycle)]
    rows = [_NUMBER.findall("\n".join(group)) for group in groups]
    width = max(set(map(len, rows)), key=list(map(len, rows)).count)
    rows = [row for row in rows if len(row) == width]
    if width < 2 or len(rows) < 2:
        return {}, "fewer than two numbers a line: cart and pole are needed"
    sample = "\n".join(next(g for g in groups if len(_NUMBER.findall("\n".join(g))) == width))
    names = _names(sample, rows)
    missing = {"cart", "pole", "low", "high"} - set(names)
    pattern, rest = "", sample
    for name in names:
        found = _NUMBER.search(rest)
        if found is None:
            return {}, "its lines differ in shape"
        pattern += rest[: found.start()] + "{" + (name or "_") + "}"
        rest = rest[found.end() :]
    pattern = (pattern + rest).replace("\t", "\\t").replace("\n", "\\n")
    proposal: dict[str, str | float] = {"pattern": pattern}
    if missing:
        words = ", ".join(sorted(missing))
        return {}, f"no field looks like {words}: both limit switches must be in its lines"
    return proposal, "check by hand that {cart} and {pole} are not exchanged: move the cart alone"


def _cycle(texts: list[str]) -> int:
    """After how many lines the same words come again: more than one for a value a line."""
    words = [_NUMBER.sub("#", text) for text in texts]
    for length in range(1, min(8, len(words) // 2) + 1):
        if all(words[k] == words[k + length] for k in range(len(words) - length)):
            return length
    return 1


def _value(text: str) -> float:
    switch = _SWITCHES.get(text.lower())
    return float(text) if switch is None else switch


def _names(sample: str, rows: list[list[str]]) -> list[str]:
    columns = [[_value(row[k]) for row in rows] for k in range(len(rows[0]))]
    names = [""] * len(columns)
    start = 0
    for k in range(len(columns)):
        found = _NUMBER.search(sample, start)
        if found is None:
            break
        words = re.findall(r"[A-Za-z_]+\d?(?=[^A-Za-z]*$)", sample[start : found.start()])
        named = _WORDS.get(words[-1].lower()) if words else None
        if named is not None and named not in names:
            names[k] = named
        start = found.end()
    free = [k for k, name in enumerate(names) if not name]
    for k in list(free):
        column = columns[k]
        grows = all(a < b for a, b in pairwise(column))
        if grows and len(free) > 2 and not any(n.startswith("time") for n in names):
            step = (column[-1] - column[0]) / max(len(column) - 1, 1)
            names[k] = "time_s" if step < 0.5 else "time_ms" if step < 200.0 else "time_us"
            free.remove(k)
    switches = [k for k in free if set(columns[k]) <= {0.0, 1.0}]
    for wanted, k in zip(
        [n for n in ("low", "high") if n not in names], switches[-2:], strict=False
    ):
        names[k] = wanted
        free.remove(k)
    for wanted, k in zip([n for n in ("cart", "pole") if n not in names], free, strict=False):
        names[k] = wanted
    return names
