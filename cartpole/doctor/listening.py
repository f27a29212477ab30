"""What an unknown board says: its lines shown, its shape recognised, settings proposed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from cartpole.errors import UsageError
from firmware_bridge.line_pattern import PRESSED, RELEASED, LinePattern, Reading

if TYPE_CHECKING:
    from firmware_bridge.ports import Port

BAUDS = (115200, 9600, 57600, 230400, 250000, 38400, 19200)
LISTEN_S = 1.0
QUESTIONS = (b"", b"a", b"?\n", b"\n", b"r\n")
SHOWN = 4
MOST_BYTES = 1 << 16
LONGEST_SHOWN = 120
# A word that a switch says, unless it is the name of what follows.
_NUMBER = re.compile(
    r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?"
    rf"|\b(?:{'|'.join(PRESSED + RELEASED)})\b(?![\"']?\s*[:=]|\s+[+-]?[\d.])",
    re.IGNORECASE,
)
_DECIMAL_COMMAS = re.compile(r"[+-]?\d+,\d+(?:[;\t ]+[+-]?\d+(?:,\d+)?){3,}")
_UNITS = {"cart": ("mm", "m"), "pole": ("deg", "rad", "turns")}
_GLUED = "low high"  # both switches without anything between them
READ_SHARE = 0.9  # of the lines heard that a proposal must read
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
    missing = {"cart", "pole"} - set(names)
    if not {"switches", _GLUED} & set(names):
        missing |= {"low", "high"} - set(names)
    if missing:
        words = ", ".join(sorted(missing))
        return {}, f"no field looks like {words}: both limit switches must be in its lines"
    pattern, proposal = _pattern(sample, names)
    if all(_DECIMAL_COMMAS.search(text) for text in texts):
        return {}, "its decimals have commas: points are read"
    if not _reads(pattern, texts, len(groups)):
        return {}, "its lines differ in shape, or their numbers are not decimal"
    remark = "check by hand that {cart} and {pole} are not exchanged: move the cart alone"
    if "." in "".join(rows[0]) and len(proposal) < 2:
        remark += "; its numbers have fractions: cart_unit and pole_unit say of what"
    return {"pattern": pattern, **proposal}, remark


def _pattern(sample: str, names: list[str]) -> tuple[str, dict[str, str | float]]:
    """The pattern, and the units that stand behind the numbers."""
    pattern, rest = "", sample
    units: dict[str, str | float] = {}
    for name in names:
        found = _NUMBER.search(rest)
        assert found is not None  # there were as many when it was cut up
        field = "{low}{high}" if name == _GLUED else "{" + (name or "_") + "}"
        pattern += rest[: found.start()] + field
        rest = rest[found.end() :]
        unit = re.match(r"\s*([a-z]+)\b", rest, re.IGNORECASE)
        if unit and unit[1].lower() in _UNITS.get(name, ()):
            units[f"{name}_unit"] = unit[1].lower()
    return (pattern + rest).replace("\t", "\\t").replace("\n", "\\n"), units


def _reads(pattern: str, texts: list[str], records: int) -> bool:
    try:
        reader = LinePattern(pattern)
    except UsageError:
        return False
    found = sum(isinstance(reader.feed(text.encode()), Reading) for text in texts)
    return found >= READ_SHARE * records


def _cycle(texts: list[str]) -> int:
    """After how many lines the same words come again: more than one for a value a line."""
    words = [_NUMBER.sub("#", text) for text in texts]
    for length in range(1, min(8, len(words) // 2) + 1):
        if all(words[k] == words[k + length] for k in range(len(words) - length)):
            return length
    return 1


def _value(text: str) -> float:
    word = text.lower()
    return 1.0 if word in PRESSED else 0.0 if word in RELEASED else float(text)


def _names(sample: str, rows: list[list[str]]) -> list[str]:
    names = _named_by_words(sample, len(rows[0]))
    columns = [[_value(row[k]) for row in rows] for k in range(len(names))]
    if not any(name.startswith("time") for name in names):
        _name_clock(names, columns)
    _name_switches(names, columns, rows)
    free = [k for k, name in enumerate(names) if not name]
    for wanted, k in zip([n for n in ("cart", "pole") if n not in names], free, strict=False):
        names[k] = wanted
    return names


def _named_by_words(sample: str, count: int) -> list[str]:
    names = [""] * count
    start = 0
    for k in range(count):
        found = _NUMBER.search(sample, start)
        if found is None:
            break
        words = re.findall(r"[A-Za-z_]+\d?(?=[^A-Za-z]*$)", sample[start : found.start()])
        named = _WORDS.get(words[-1].lower()) if words else None
        if named is not None and named not in names:
            names[k] = named
        start = found.end()
    return names


def _name_clock(names: list[str], columns: list[list[float]]) -> None:
    """The first column without a name that always grows, if enough others are left."""
    for k, column in enumerate(columns):
        if names[k] or names.count("") <= 2 or not all(a < b for a, b in pairwise(column)):
            continue
        steps = {b - a for a, b in pairwise(column)}
        if steps == {1.0}:  # it counts its lines
            names[k] = "_"
            continue
        step = (column[-1] - column[0]) / max(len(column) - 1, 1)
        names[k] = "time_s" if step < 0.5 else "time_ms" if step < 200.0 else "time_us"
        return


def _name_switches(names: list[str], columns: list[list[float]], rows: list[list[str]]) -> None:
    """Two columns of zeros and ones; or one of two digits, or one that holds two bits."""
    free = [k for k, name in enumerate(names) if not name]
    wanted = [name for name in ("low", "high") if name not in names]
    spare = len(free) - sum(name not in names for name in ("cart", "pole"))
    if len(wanted) == 2 and spare == 1:
        glued = [k for k in free if all(re.fullmatch("[01]{2}", row[k]) for row in rows)]
        bits = [k for k in free if set(columns[k]) <= {0.0, 1.0, 2.0, 3.0}]
        for kind, found in ((_GLUED, glued), ("switches", bits)):
            if found:
                names[found[-1]] = kind
                return
    switches = [k for k in free if set(columns[k]) <= {0.0, 1.0}]
    for name, k in zip(wanted, switches[-2:], strict=False):
        names[k] = name
