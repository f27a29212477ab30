"""Which columns of a table mean what: units, zero and sign of each, layouts known by name.

A mapping is written ``time=t_ms:ms,angle=theta:deg:zero-up:clockwise,position=x:mm``: for each
quantity a column (its name, or ``#3`` for the third) and what is special about it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cartpole.errors import UsageError

TIME, ANGLE, POSITION, COMMAND = "time", "angle", "position", "command"

# What one of the unit is in seconds, radians, metres, metres per second.
UNITS: Mapping[str, Mapping[str, float]] = {
    TIME: {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0},
    ANGLE: {
        "rad": 1.0,
        "deg": math.pi / 180.0,
        "grad": math.pi / 200.0,
        "turns": 2.0 * math.pi,
        "mrad": 1e-3,
    },
    POSITION: {"m": 1.0, "mm": 1e-3, "cm": 1e-2, "um": 1e-6, "in": 0.0254},
    COMMAND: {"m/s": 1.0, "mm/s": 1e-3, "cm/s": 1e-2},
}
UNIT_NAMES = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "rad": "radians",
    "deg": "degrees",
    "grad": "gradians",
    "turns": "turns",
    "mrad": "milliradians",
    "m": "metres",
    "mm": "millimetres",
    "cm": "centimetres",
    "um": "micrometres",
    "in": "inches",
}
_REVERSED = {ANGLE: "clockwise", POSITION: "left", COMMAND: "left"}
_FORWARD = {ANGLE: "counter-clockwise", POSITION: "right", COMMAND: "right"}
_ZEROS = ("zero-down", "zero-up")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
GRAMMAR = (
    "--map time=COLUMN:ms,angle=COLUMN:deg:zero-up:clockwise,position=COLUMN:mm; units "
    "s ms us ns min | rad deg grad turns mrad | m mm cm um in | or a number: SI units of one; "
    "zero=VALUE: what the column says where zero is; left: grows to the left; #3: the third column"
)


@dataclass(frozen=True, slots=True)
class Column:
    """Where a quantity stands and how: SI value = ``sign * (cell - zero) * scale + offset``."""

    name: str
    unit: str
    scale: float
    reversed: bool = False
    zero: float = 0.0
    zero_up: bool = False

    def text(self, quantity: str) -> str:
        """As it is written in a mapping."""
        plain = next(iter(UNITS[quantity]))
        words = [] if self.unit == plain else [self.unit]
        words += [f"zero={self.zero:g}"] if self.zero else []
        words += ["zero-up"] if self.zero_up else []
        words += [_REVERSED[quantity]] if self.reversed else []
        return ":".join([f"{quantity}={self.name}", *words])


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a kind of table; no position: the cart stands still."""

    name: str
    columns: Mapping[str, Column] = field(default_factory=dict)

    def text(self) -> str:
        """As ``--map`` would say it."""
        return ",".join(column.text(quantity) for quantity, column in self.columns.items())


def _layout(name: str, text: str) -> Layout:
    return parse_mapping(text, name)


def parse_mapping(text: str, name: str = "mapping") -> Layout:
    """The layout that a mapping describes; raises UsageError saying what is allowed."""
    columns: dict[str, Column] = {}
    for part in text.split(","):
        quantity, equals, rest = part.strip().partition("=")
        if quantity not in UNITS or not equals:
            raise UsageError(
                f"--map {part!r}: time=, angle=, position= or command= expected; {GRAMMAR}"
            )
        if quantity in columns:
            raise UsageError(f"--map: {quantity} is named twice")
        columns[quantity] = _column(quantity, rest)
    missing = [quantity for quantity in (TIME, ANGLE) if quantity not in columns]
    if missing:
        raise UsageError(f"--map: {' and '.join(missing)} must be named; {GRAMMAR}")
    return Layout(name, MappingProxyType(columns))


def _column(quantity: str, text: str) -> Column:
    name, *words = text.split(":")
    if not name.strip():
        raise UsageError(f"--map {quantity}=: a column's name, or #1 for the first")
    unit, scale = next(iter(UNITS[quantity].items()))
    turned, zero, zero_up = False, 0.0, False
    for word in words:
        if word in UNITS[quantity]:
            unit, scale = word, UNITS[quantity][word]
        elif _NUMBER.fullmatch(word) and math.isfinite(float(word)) and float(word) != 0.0:
            unit, scale = word, float(word)
        elif quantity in _REVERSED and word in (_REVERSED[quantity], _FORWARD[quantity]):
            turned = word == _REVERSED[quantity]
        elif quantity == ANGLE and word in _ZEROS:
            zero_up = word == "zero-up"
        elif word.startswith("zero=") and _NUMBER.fullmatch(word[5:]):
            zero = float(word[5:])
        else:
            raise UsageError(f"--map {quantity}={text}: {word!r} is not known; {GRAMMAR}")
    return Column(name.strip(), unit, scale, turned, zero, zero_up)


# Tried in this order when no layout is named: the first whose columns are all there.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        one.name: one
        for one in (
            # this program's own export, and anything that follows it
            _layout("export", "time=t_s,angle=theta_rad,position=p_m,command=u_m_s"),
            _layout("plain", "time=t_s,angle=theta_rad,position=p_m"),
            # SensorsINI: zero upright. Its sign fits ours as it stands: in all of their recordings
            # the pole's acceleration goes with +cos(angle) times the cart's.
            _layout("physical_cartpole", "time=time,angle=angle:zero-up,position=position"),
        )
    }
)
AUTOMATIC = "auto"
FORMATS = (AUTOMATIC, *LAYOUTS)


def choose(form: str, mapping: str | None) -> Layout | None:
    """The layout that a user named, or None: by the table's columns. Raises UsageError."""
    if mapping is not None:
        if form != AUTOMATIC:
            raise UsageError("--map and --format: one of them")
        return parse_mapping(mapping)
    if form == AUTOMATIC:
        return None
    if form not in LAYOUTS:
        raise UsageError(f"--format {form}: one of {', '.join(FORMATS)}; or {GRAMMAR}")
    return LAYOUTS[form]
