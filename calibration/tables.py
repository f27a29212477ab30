"""Tables of other rigs as recordings."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from calibration.recording import (
    Commands,
    Motion,
    Recording,
    TableSource,
    motion_from,
    within_a_turn,
)
from cartpole.errors import SessionError
from cartpole.session.columns import Layout
from cartpole.session.tables import LARGEST_BYTES, Table, parse_table

SCALE_SIGMA = 0.05  # nobody knows from a table how well its sensors were scaled
HEADER_LINES, LONGEST_ROW = 60, 1000  # before and in what is read otherwise
UPRIGHT_SIGMA_RAD, HANGING_SIGMA_RAD = 0.03, 0.3  # a rig that balances had its zero set upright


def load_table(path: Path, layout: Layout | None = None, delimiter: str | None = None) -> Recording:
    """A table of numbers, by its columns or a given layout; SessionError if it is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise SessionError(f"{path}: cannot be read: {error.strerror}") from None
    return table_recording(raw, str(path), layout, delimiter)


def table_recording(
    raw: bytes, name: str, layout: Layout | None = None, delimiter: str | None = None
) -> Recording:
    """As ``load_table`` for a table's bytes; ``name`` is for messages."""
    try:
        table = parse_table(raw, name, layout, delimiter=delimiter, checked=False, coarse=True)
    except SessionError:  # with the slip's name, if it has one
        parse_table(raw, name, layout, delimiter=delimiter, checked=True)
        raise
    source = TableSource(raw, table.layout, name)
    commands = None
    if len(table.runs) == 1 and (u := table.runs[0].u_m_s) is not None:
        commands = Commands(table.runs[0].t_s, u)
    return Recording(
        Path(name).name,
        table.sha256,
        motion=table_motion(table),
        commands=commands,
        source=source,
        told=tuple(table.told()),
    )


def table_motion(table: Table) -> Motion:
    """Every run of the table, and what may be believed of its sensors."""
    upright = table.zero_up
    runs = [(run.t_s, run.p_m, within_a_turn(run.theta_rad)) for run in table.runs]
    return replace(
        motion_from(runs, table.name),
        scale_sigma=SCALE_SIGMA,
        anchor_rad=math.pi if upright else 0.0,
        anchor_sigma_rad=UPRIGHT_SIGMA_RAD if upright else HANGING_SIGMA_RAD,
    )


def read_otherwise(source: TableSource, layout: Layout, rows: int) -> Motion:
    """The first rows of a table by another layout; raises SessionError."""
    head = source.raw[: rows * LONGEST_ROW]
    lines = head.splitlines(keepends=True)[: rows + HEADER_LINES]
    table = parse_table(b"".join(lines), source.name, layout, checked=False, coarse=True)
    motion = table_motion(table)
    return motion.part(0, min(rows, len(motion.t_s)))
