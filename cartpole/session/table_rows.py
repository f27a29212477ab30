"""The lines of a table as numbers: encoding, delimiter, decimal sign, columns, what is left out."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cartpole.errors import SessionError, UsageError
from cartpole.session.columns import COMMAND, LAYOUTS, Layout

MOST_ROWS, MOST_LINES = 200_000, 240_000  # an hour of 50 a second; twice as many take 256 MB
LONGEST_LINE = 10_000
MOST_COLUMNS = 500
UNREADABLE_SHARE = 0.05
DELIMITERS: Mapping[str, str] = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "bar": "|",
    "space": " ",
}
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?|[-+]?\d+,")

CUT, UNITS_LINE = "cut off at the file's end", "a line of units"
NO_VALUE, NOT_FINITE = "a value missing", "a value not finite"
NO_NUMBER, TOO_FEW, TOO_MANY = "not a number", "too few cells", "too many cells"
_UNREADABLE = (NO_NUMBER, TOO_FEW, TOO_MANY)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows that were not used: how many, why, and the file's line of the first."""

    why: str
    rows: int
    line: int


@dataclass(slots=True)
class Rows:
    """The usable rows of a file while it is read."""

    columns: dict[str, array[float]] = field(default_factory=dict)
    lines: array[int] = field(default_factory=lambda: array("q"))
    left: dict[str, LeftOut] = field(default_factory=dict)

    def leave(self, why: str, line: int, rows: int = 1) -> None:
        """Count rows that are not used."""
        before = self.left.get(why)
        self.left[why] = LeftOut(
            why, rows + (before.rows if before else 0), before.line if before else line
        )


def read_rows(
    raw: bytes, name: str, layout: Layout | None, delimiter: str | None
) -> tuple[Layout, Rows, list[str]]:
    """The layout found or given, the rows that can be used, and what is worth telling.

    Raises SessionError naming the line, UsageError for a delimiter that is not in ``DELIMITERS``.
    """
    if delimiter is not None and delimiter not in DELIMITERS:
        raise UsageError(f"--delimiter {delimiter}: one of {', '.join(DELIMITERS)}")
    lines = _lines(raw, name)
    number, header, divider = _header(lines, name, DELIMITERS.get(delimiter or ""))
    layout, places, named = _places(header, layout, name, number)
    if not named:  # the first line is one of numbers already
        lines = itertools.chain([(number, divider.join(header))], lines)
    open_end = raw[-1:] not in b"\r\n"
    rows, notes = _rows(lines, places, divider, len(header), layout, name, open_end)
    return layout, rows, notes


def _encoding(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "cp1252"  # a degree sign of an older spreadsheet
    return "utf-8-sig"


def _lines(raw: bytes, name: str) -> Iterator[tuple[int, str]]:
    """The file's lines that carry something, with their numbers."""
    text = io.TextIOWrapper(io.BytesIO(raw), encoding=_encoding(raw), newline=None)
    number = 0
    while True:
        try:
            line = text.readline(LONGEST_LINE + 1)
        except UnicodeError:
            raise SessionError(f"{name}: not a text file") from None
        if not line:
            return
        number += 1
        if number > MOST_LINES:
            raise SessionError(f"{name}: more than {MOST_LINES} lines")
        if len(line) > LONGEST_LINE:
            raise SessionError(f"{name}:{number}: a line of more than {LONGEST_LINE} characters")
        if "\0" in line:
            raise SessionError(f"{name}: not a text file")
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.rstrip("\n")


def _cells(line: str, divider: str) -> list[str]:
    if divider == " ":
        return line.split()
    if '"' not in line:
        return line.split(divider)
    try:
        return next(csv.reader([line], delimiter=divider))
    except (csv.Error, StopIteration):
        return []


def _header(
    lines: Iterator[tuple[int, str]], name: str, divider: str | None
) -> tuple[int, list[str], str]:
    """The first line's number, its cells, and what divides them."""
    for number, line in lines:
        if divider is None and line.lower().startswith("sep=") and len(line) == 5:
            divider = line[4]  # a spreadsheet's own word
            continue
        if divider is None:
            divider = max(DELIMITERS.values(), key=lambda one: _width(line, one))
        cells = [cell.strip() for cell in _cells(line, divider)]
        if not 0 < len(cells) <= MOST_COLUMNS:
            raise SessionError(f"{name}:{number}: no line of column names")
        return number, cells, divider
    raise SessionError(f"{name}: empty")


def _width(line: str, divider: str) -> tuple[int, bool]:
    # Column names may hold spaces: a space divides only where nothing else does.
    cells = len(_cells(line, divider))
    return (cells if divider != " " else min(cells, 2), divider != " ")


def _places(
    header: list[str], layout: Layout | None, name: str, number: int
) -> tuple[Layout, dict[str, int], bool]:
    """The layout, where its columns stand, and whether the first line was one of names."""
    if layout is None:
        layout = next(
            (
                one
                for one in LAYOUTS.values()
                if all(c.name in header for c in one.columns.values())
            ),
            None,
        )
    if layout is None:
        known = "; ".join(one.text() for one in LAYOUTS.values())
        raise SessionError(
            f"{name}:{number}: the columns {_some(header)} are no layout that is known ({known}); "
            "say which is what with --map time=COLUMN:ms,angle=COLUMN:deg,position=COLUMN:mm"
        )
    places: dict[str, int] = {}
    named = False
    for quantity, column in layout.columns.items():
        if re.fullmatch(r"#\d{1,3}", column.name) and column.name not in header:
            place = int(column.name[1:]) - 1
            if not 0 <= place < len(header):
                raise SessionError(
                    f"{name}:{number}: {quantity}={column.name}: there are {len(header)} columns"
                )
        else:
            named = True
            place = _place(header, column.name, name, number)
        places[quantity] = place
    return layout, places, named or not all(_is_number(header[p]) for p in places.values())


def _place(header: list[str], wanted: str, name: str, number: int) -> int:
    found = [k for k, cell in enumerate(header) if cell == wanted]
    if not found:
        found = [k for k, cell in enumerate(header) if cell.casefold() == wanted.casefold()]
    if len(found) != 1:
        what = f"no column {wanted!r}" if not found else f"{len(found)} columns {wanted!r}"
        raise SessionError(f"{name}:{number}: {what}; there are {_some(header)}")
    return found[0]


def _some(header: list[str]) -> str:
    shown = ", ".join(cell[:40] for cell in header[:12])
    return shown + (f", … ({len(header)})" if len(header) > 12 else "")


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _rows(
    lines: Iterator[tuple[int, str]],
    places: Mapping[str, int],
    divider: str,
    width: int,
    layout: Layout,
    name: str,
    open_end: bool,
) -> tuple[Rows, list[str]]:
    rows = Rows({quantity: array("d") for quantity in places})
    notes: list[str] = []
    decimal_comma: bool | None = None if divider != "," else False
    seen = 0
    pending: tuple[int, str] | None = None

    def take(number: int, line: str, last: bool) -> None:
        nonlocal decimal_comma, seen
        cells = [cell.strip() for cell in _cells(line, divider)]
        seen += 1
        if decimal_comma is None and len(cells) >= width:
            decimal_comma = _has_decimal_comma([cells[p] for p in places.values()])
            if decimal_comma:
                notes.append("numbers are written with a decimal comma")
        found = _numbers(cells, places, width, bool(decimal_comma))
        if isinstance(found, str):
            if seen == 1 and found == NO_NUMBER and not any(map(_is_number, cells)):
                found = UNITS_LINE
            elif last and found != TOO_MANY:
                found = CUT
            rows.leave(found, number)
            return
        for quantity, value in found.items():
            rows.columns[quantity].append(value)
        rows.lines.append(number)
        if len(rows.lines) > MOST_ROWS:
            raise SessionError(f"{name}: more than {MOST_ROWS} rows")

    for item in lines:
        if pending is not None:
            take(*pending, False)
        pending = item
    if pending is not None:
        take(*pending, open_end)
    _refuse_unreadable(rows, seen, divider, name, layout)
    return rows, notes


def _has_decimal_comma(cells: list[str]) -> bool | None:
    """None while nothing tells (whole numbers, empty cells)."""
    if any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells):
        return True
    return False if any("." in cell for cell in cells) else None


def _numbers(
    cells: list[str], places: Mapping[str, int], width: int, decimal_comma: bool
) -> dict[str, float] | str:
    """The needed values of a row, or why it has none; a missing command is no reason."""
    if len(cells) > width and any(cells[width:]):
        return TOO_MANY
    found: dict[str, float] = {}
    for quantity, place in places.items():
        if place >= len(cells):
            return TOO_FEW
        cell = cells[place]
        if decimal_comma:
            cell = "?" if "." in cell else cell.replace(",", ".")
        try:
            value = float(cell) if cell and "_" not in cell else math.nan
        except ValueError:
            return NO_NUMBER
        if quantity != COMMAND and not math.isfinite(value):
            return NO_VALUE if math.isnan(value) else NOT_FINITE
        found[quantity] = value
    return found


def _refuse_unreadable(rows: Rows, seen: int, divider: str, name: str, layout: Layout) -> None:
    bad = [rows.left[why] for why in _UNREADABLE if why in rows.left]
    if sum(one.rows for one in bad) > UNREADABLE_SHARE * seen:
        worst = min(bad, key=lambda one: one.line)
        hint = ""
        if worst.why == TOO_MANY and divider == ",":
            hint = "; is the decimal sign a comma? Then another delimiter is needed"
        columns = ", ".join(column.name for column in layout.columns.values())
        raise SessionError(
            f"{name}:{worst.line}: {worst.why}: columns {columns} with numbers expected{hint}"
        )
    if len(rows.lines) < 2:
        why = "; ".join(f"{one.rows} left out: {one.why}" for one in rows.left.values())
        raise SessionError(f"{name} has no rows to use" + (f" ({why})" if why else ""))
