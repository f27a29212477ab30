r"""Lines of boards that speak words of their own: a pattern with named fields, no I/O, no clock.

``{cart}\t{pole}\t{low}\t{high}``: text stands for itself, blanks for any blanks, ``{name}`` for a
number. Names: ``cart``, ``pole``, ``low`` and ``high`` (the switches: 0 or 1, or a word such as
true/false, on/off, open/closed), ``switches`` (both in one number: 1 is low, 2 high), ``time_us``,
``time_ms``, ``time_s`` (the board's clock), ``_`` (any word, passed over).
A pattern of several lines describes a board that writes one value a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cartpole.errors import UsageError

FIELDS = ("cart", "pole", "low", "high", "switches", "time_us", "time_ms", "time_s", "_")
PRESSED = ("true", "on", "high", "closed", "pressed", "yes", "y")
RELEASED = ("false", "off", "low", "open", "released", "no", "n")
_FIELD = re.compile(r"\{(" + "|".join(FIELDS) + r")\}")
# Twenty decimals: boards with an interpreter print all that a double has.
_NUMBER = r"\s*(?P<{}>[+-]?(?:\d{{1,12}}(?:\.\d{{0,20}})?|\.\d{{1,20}})(?:[eE][+-]?\d{{1,2}})?)\s*"
_SWITCH = rf"\s*(?P<{{}}>[01](?:\.0*)?|{'|'.join(PRESSED + RELEASED)})\s*"
_SWITCHES = r"\s*(?P<switches>[0-3])\s*"
_WORD = r"\s*[^\s,;]+?\s*"
_PRESSED = re.compile(rf"1(\.0*)?|{'|'.join(PRESSED)}", re.IGNORECASE)
_TO_US = {"time_us": 1.0, "time_ms": 1e3, "time_s": 1e6}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one record of a board says, in the board's own units; ``stamp_us`` -1: no clock."""

    cart: float
    pole: float
    low: bool
    high: bool
    stamp_us: int = -1


def unescaped(text: str) -> str:
    r"""``\t``, ``\r``, ``\n`` written out in a setting as what they mean."""
    return text.replace("\\t", "\t").replace("\\r", "\r").replace("\\n", "\n")


def _expression(line: str) -> re.Pattern[str]:
    parts = _FIELD.split(line)
    out = []
    for k, part in enumerate(parts):
        if k % 2 == 0:
            words = re.split(r"\s+", part)
            out.append(r"\s+".join(re.escape(word) for word in words))
        elif part == "_":
            out.append(_WORD)
        elif part == "switches":
            out.append(_SWITCHES)
        else:
            out.append((_SWITCH if part in ("low", "high") else _NUMBER).format(part))
    return re.compile("".join(out), re.IGNORECASE)


class LinePattern:
    """A compiled pattern; UsageError names what is wrong with it."""

    def __init__(self, pattern: str) -> None:
        lines = [line for line in re.split(r"[\r\n]+", unescaped(pattern)) if line.strip()]
        names = [name for line in lines for name in _FIELD.findall(line) if name != "_"]
        both = ("switches",) if "switches" in names else ("low", "high")
        for wanted in ("cart", "pole", *both):
            if wanted not in names:
                raise UsageError(
                    f"the pattern {pattern!r} has no {{{wanted}}}: it needs {{cart}}, {{pole}} and "
                    "both switches {low}, {high} (or {switches}), without which a rig cannot home"
                )
        if both == ("switches",) and {"low", "high"} & set(names):
            raise UsageError(f"the pattern {pattern!r} has {{switches}} and {{low}} or {{high}}")
        twice = {name for name in names if names.count(name) > 1}
        if twice or sum(name.startswith("time_") for name in names) > 1:
            raise UsageError(f"the pattern {pattern!r} names a field twice")
        self._lines = [_expression(line.strip()) for line in lines]
        self._found: dict[str, str] = {}
        self._next = 0

    def clear(self) -> None:
        """Forget the beginning of a record of several lines."""
        self._found, self._next = {}, 0

    def feed(self, line: bytes) -> Reading | bool:
        """A whole record's reading; else whether the line belongs to one at all."""
        text = line.decode("ascii", "replace").replace("\x00", "")
        match = self._lines[self._next].fullmatch(text)
        if match is None and self._next > 0:  # a line was lost: begin again
            self.clear()
            match = self._lines[0].fullmatch(text)
        if match is None:
            return False
        self._found |= match.groupdict()
        self._next += 1
        if self._next < len(self._lines):
            return True
        found = self._found
        self.clear()
        return _reading(found)


def _reading(found: dict[str, str]) -> Reading:
    stamp_us = -1
    for name, factor in _TO_US.items():
        if name in found:
            stamp_us = round(float(found[name]) * factor) % (1 << 32)
    if "switches" in found:
        low, high = bool(int(found["switches"]) & 1), bool(int(found["switches"]) & 2)
    else:
        low, high = (_PRESSED.fullmatch(found[name]) is not None for name in ("low", "high"))
    return Reading(float(found["cart"]), float(found["pole"]), low, high, stamp_us)
