"""Tables of numbers read as motions: the one reader behind `import` and `calibrate --session`.

A file is one run or several, one after the other, each with a clock that only grows; they are
never sorted into each other. Rows that cannot be used are left out, counted by reason and told; a
table of which much is unreadable, or that does not move like a pole, is refused, its slip named.
"""

from __future__ import annotations

import hashlib
import math
import os
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cartpole.errors import SessionError
from cartpole.messages import FloatArray
from cartpole.session.columns import ANGLE, COMMAND, POSITION, TIME, Layout
from cartpole.session.slips import find_slip
from cartpole.session.table_rows import LeftOut, Rows, read_rows

LARGEST_BYTES = 24 << 20
LEAST_STEP_S = 2e-9  # a recording tells times in whole nanoseconds: closer rows are one time
MOST_RUNS = 1000
STANDING_SHARE = 0.2
BACK_FOR_GOOD = 5  # rows: fewer that lie in the past are strays, more are another run
LONGEST_GAP_S, GAP_STEPS = 1.0, 20.0
LONGEST_RUN_S, FARTHEST_M, MOST_TURNED_RAD = 7 * 86400.0, 100.0, 1e5
STANDS, GOES_BACK, ALONE = "time stands still", "time goes back", "alone between two jumps of time"


@dataclass(frozen=True, slots=True)
class Run:
    """A motion in the signs used here, all (n,): theta 0 hanging, unwrapped, time from its start.

    ``u_m_s`` is the velocity command in force, if the table has one in every row; ``start_s`` the
    table's own time of the first row, ``line`` the file's line.
    """

    t_s: FloatArray
    p_m: FloatArray
    theta_rad: FloatArray
    u_m_s: FloatArray | None = None
    start_s: float = 0.0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """What a file says; ``sha256`` is over its bytes."""

    name: str
    sha256: str
    layout: Layout
    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in use."""
        return sum(len(run.t_s) for run in self.runs)

    @property
    def zero_up(self) -> bool:
        """Whether its angle is measured from upright: there the sensor was set."""
        return self.layout.columns[ANGLE].zero_up

    def told(self) -> list[str]:
        """What a user should know of the reading, a line each."""
        lines = list(self.notes)
        if len(self.runs) > 1:
            sizes = ", ".join(str(len(run.t_s)) for run in self.runs[:10])
            more = ", …" if len(self.runs) > 10 else ""
            lines.append(f"{len(self.runs)} runs of {sizes}{more} rows: each begins its own clock")
        for one in self.left_out:
            rows = f"{one.rows} row{'s' if one.rows > 1 else ''}"
            lines.append(f"{rows} left out: {one.why} (first in line {one.line})")
        return lines


def read_table(
    path: Path,
    layout: Layout | None = None,
    *,
    delimiter: str | None = None,
    checked: bool = True,
    coarse: bool = False,
) -> Table:
    """Read a file as ``parse_table`` does; SessionError as well if it cannot be opened."""
    try:
        with path.open("rb") as file:
            large = os.fstat(file.fileno()).st_size > LARGEST_BYTES
            raw = b"" if large else file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise SessionError(f"{path}: cannot be read: {error.strerror}") from None
    if large:
        raise _too_large(str(path))
    return parse_table(raw, str(path), layout, delimiter=delimiter, checked=checked, coarse=coarse)


def _too_large(name: str) -> SessionError:
    return SessionError(f"{name} is larger than {LARGEST_BYTES >> 20} MB")


def parse_table(
    raw: bytes,
    name: str,
    layout: Layout | None = None,
    *,
    delimiter: str | None = None,
    checked: bool = True,
    coarse: bool = False,
) -> Table:
    """A table's bytes as runs; ``layout`` None: by its columns; ``name`` is for messages.

    ``delimiter`` is a key of ``DELIMITERS``, None: recognised. ``checked`` refuses what does not
    move like a cart with a pole. ``coarse`` keeps rows that have the time of the row before, for a
    reader that spreads rounded times. Raises SessionError naming the line, UsageError for a
    delimiter.
    """
    if len(raw) > LARGEST_BYTES:
        raise _too_large(name)
    layout, rows, notes = read_rows(raw, name, layout, delimiter)
    runs = _runs(rows, layout, name, coarse)
    if checked:
        for run in runs:
            _refuse_slip(run, layout, name)
    digest = hashlib.sha256(raw).hexdigest()
    whole = tuple(_unwrapped(run, name) for run in runs)
    return Table(name, digest, layout, whole, tuple(rows.left.values()), tuple(notes))


def _refuse_slip(run: Run, layout: Layout, name: str) -> None:
    slip = find_slip(run.t_s, run.p_m, run.theta_rad, layout)
    if slip is not None:
        raise SessionError(f"{name}: {slip} (--unchecked takes it as it is)")


def _unwrapped(run: Run, name: str) -> Run:
    if run.t_s[-1] > LONGEST_RUN_S or np.abs(run.p_m).max() > FARTHEST_M:
        raise SessionError(f"{name}: seconds and metres expected, these values are absurd")
    if np.abs(run.theta_rad).max() > MOST_TURNED_RAD:
        raise SessionError(f"{name}: radians expected, these values are absurd")
    return replace(run, theta_rad=np.unwrap(run.theta_rad))


def _runs(rows: Rows, layout: Layout, name: str, coarse: bool) -> list[Run]:
    """The file's rows cut where the clock begins anew or jumps."""
    values = {quantity: np.array(cells) for quantity, cells in rows.columns.items()}
    lines = np.array(rows.lines)
    time = values[TIME] * layout.columns[TIME].scale
    pieces = _split(time, lines, rows, coarse)
    standing = rows.left.get(STANDS)
    if standing is not None and standing.rows > STANDING_SHARE * len(time):
        raise SessionError(
            f"{name}:{standing.line}: {standing.rows} of {len(time)} rows have the time of the row "
            "before: time is written too coarsely"
        )
    if not pieces:
        raise SessionError(f"{name}: time does not grow")
    return [_run(keep, time, values, lines, layout, name) for keep in pieces]


def _split(time: FloatArray, lines: FloatArray, rows: Rows, coarse: bool) -> list[array[int]]:
    pieces = [array("q", [0])]
    steps = np.diff(time)
    forward = steps[steps > 0]
    gap = max(LONGEST_GAP_S, GAP_STEPS * float(np.median(forward))) if len(forward) else math.inf
    latest = float(time[0])
    k = 1
    while k < len(time):
        now = float(time[k])
        stands = 0.0 <= now - latest < LEAST_STEP_S
        if stands and coarse:
            pieces[-1].append(k)
        elif stands:
            rows.leave(STANDS, int(lines[k]))
        elif now > latest + gap:
            pieces.append(array("q", [k]))
            latest = now
        elif now > latest:
            pieces[-1].append(k)
            latest = now
        elif _is_back_for_good(time, k, latest):
            pieces.append(array("q", [k]))
            latest = now
        else:
            rows.leave(GOES_BACK, int(lines[k]))
        k += 1
        if len(pieces) > MOST_RUNS:
            raise SessionError(f"the clock begins anew more than {MOST_RUNS} times")
    for piece in pieces:
        if len(piece) < 2:
            rows.leave(ALONE, int(lines[piece[0]]))
    return [piece for piece in pieces if len(piece) >= 2]


def _is_back_for_good(time: FloatArray, k: int, latest: float) -> bool:
    ahead = time[k : k + BACK_FOR_GOOD]
    return len(ahead) >= 2 and bool(np.all(ahead < latest)) and bool(np.all(np.diff(ahead) >= 0))


def _run(
    keep: array[int],
    time: FloatArray,
    values: Mapping[str, FloatArray],
    lines: FloatArray,
    layout: Layout,
    name: str,
) -> Run:
    columns = layout.columns

    def of(quantity: str) -> FloatArray:
        column = columns[quantity]
        sign = -1.0 if column.reversed else 1.0
        return sign * (values[quantity][keep] - column.zero) * column.scale

    t_s = time[keep]
    theta = of(ANGLE) + (math.pi if columns[ANGLE].zero_up else 0.0)
    p_m = of(POSITION) if POSITION in columns else np.zeros(len(keep))
    u_m_s = of(COMMAND) if COMMAND in columns else None
    if u_m_s is not None and not np.all(np.isfinite(u_m_s)):
        u_m_s = None
    return Run(t_s - t_s[0], p_m, theta, u_m_s, float(t_s[0]), int(lines[keep[0]]))
