"""How a board's lines are read: the plain four numbers, or a pattern from the settings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from cartpole.config.schema import Encoder
from cartpole.record import record
from firmware_bridge.line_pattern import LinePattern, unescaped

POLL = b"a"
LARGEST_COUNTS = 2.0**31

_LINE = re.compile(
    rb"[\s,;\x00]*([+-]?\d{1,10})(?:\.0*)?"
    rb"[\s,;]+([+-]?\d{1,10})(?:\.0*)?"
    rb"[\s,;]+([01])(?:\.0*)?[\s,;]+([01])(?:\.0*)?[\s,;]*"
)


@record
class CountsLine:
    """One line as the board wrote it: raw counts, not unwrapped."""

    cart: int
    pole: int
    limit_low: bool
    limit_high: bool
    stamp_us: int = -1  # the board's own clock, if it tells it


def parse_line(line: bytes) -> CountsLine | None:
    """A line without its end, or None if it is not one of the board's.

    Blanks, commas and whole numbers written as ``12.0`` are accepted; anything else is not.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    first, second, low, high = match.groups()
    cart, pole = int(first), int(second)
    if not (-(1 << 31) <= cart < 1 << 32 and -(1 << 31) <= pole < 1 << 32):
        return None
    return CountsLine(cart, pole, low == b"1", high == b"1")


def format_line(line: CountsLine) -> bytes:
    """The bytes the board writes."""
    return b"%d\t%d\t%d\t%d\r\n" % (line.cart, line.pole, line.limit_low, line.limit_high)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a board is asked (empty: it speaks unasked), and after how many counts it begins anew."""

    question: bytes = POLL
    cart_modulus: int = 0
    pole_modulus: int = 0


# A whole record; else whether the line is part of one at all.
LineReader = Callable[[bytes], "CountsLine | bool"]


class PlainReader:
    """Reads the lines of the board that answers ``a``."""

    def __call__(self, line: bytes) -> CountsLine | bool:
        """See ``LineReader``."""
        found = parse_line(line)
        return False if found is None else found


class PatternReader:
    """Reads lines by a pattern, in the board's units; ``scales`` are counts per unit."""

    def __init__(self, pattern: LinePattern, cart_scale: float, pole_scale: float) -> None:
        self._pattern, self._cart, self._pole = pattern, cart_scale, pole_scale

    def __call__(self, line: bytes) -> CountsLine | bool:
        """See ``LineReader``."""
        found = self._pattern.feed(line)
        if isinstance(found, bool):
            return found
        cart, pole = found.cart * self._cart, found.pole * self._pole
        if max(abs(cart), abs(pole)) > LARGEST_COUNTS:
            return False
        return CountsLine(round(cart), round(pole), found.low, found.high, found.stamp_us)


def lines_board(encoder: Encoder) -> tuple[Dialect, LineReader]:
    """The dialect and the reader of a board that the settings describe by a pattern."""
    said = encoder.lines
    cart = {"counts": 1.0, "mm": 1e-3 * encoder.cart_counts_per_m, "m": encoder.cart_counts_per_m}
    turn = encoder.pole_counts_per_turn
    pole = {"counts": 1.0, "deg": turn / 360.0, "rad": turn / (2.0 * math.pi), "turns": turn}
    scales = cart[said.cart_unit], pole[said.pole_unit]
    dialect = Dialect(
        unescaped(said.question).encode(),
        round(said.cart_modulus * scales[0]),
        round(said.pole_modulus * scales[1]),
    )
    return dialect, PatternReader(LinePattern(said.pattern), *scales)
