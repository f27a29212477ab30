"""`cartpole import`, `export`: recordings of other rigs in, tables out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cartpole.cli.common import ConfigOption, ForceOption, JsonOption, SetOption, write_json
from cartpole.shown import shown

if TYPE_CHECKING:
    from cartpole.session.tables import Table

# How a table is to be read: for every command that reads one.
FormatOption = Annotated[
    str, typer.Option("--format", help="auto, plain, export or physical_cartpole")
]
MapOption = Annotated[
    str | None,
    typer.Option(
        "--map",
        help="which column is what: time=t_ms:ms,angle=theta:deg:zero-up:clockwise,position=x:mm",
        metavar="COLUMNS",
    ),
]
DelimiterOption = Annotated[
    str | None, typer.Option(help="comma, semicolon, tab, bar or space; default: recognised")
]
UncheckedOption = Annotated[
    bool, typer.Option("--unchecked", help="take it even if it does not move like a pole")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("import", help="Turn a table into recordings and run the estimator on them.")
    def import_(
        source: Annotated[Path, typer.Argument(help="a table of numbers (CSV)")],
        form: FormatOption = "auto",
        mapping: MapOption = None,
        delimiter: DelimiterOption = None,
        unchecked: UncheckedOption = False,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="default: beside the table, .mcap")
        ] = None,
        config: ConfigOption = None,
        override: SetOption = None,
        json_path: JsonOption = None,
        force: ForceOption = False,
    ) -> None:
        from cartpole.session.columns import choose
        from cartpole.session.tables import read_table

        table = read_table(
            source, choose(form, mapping), delimiter=delimiter, checked=not unchecked
        )
        _import(table, source, output, config, override or [], json_path, force)

    @app.command(help="Write a recording as a table, one row a tick, or for the Rerun viewer.")
    def export(
        session: Annotated[Path, typer.Argument(help="a recording (MCAP)")],
        csv: Annotated[Path | None, typer.Option("--csv", help="where the table goes")] = None,
        rrd: Annotated[Path | None, typer.Option("--rrd", help="where Rerun's file goes")] = None,
        force: ForceOption = False,
    ) -> None:
        from cartpole.errors import UsageError
        from cartpole.session.exchange import COLUMNS, export_csv
        from cartpole.session.outputs import begins_with, written
        from cartpole.session.reader import open_session
        from cartpole.session.rrd import RRD, export_rrd

        if csv is None and rrd is None:
            raise UsageError("export to what? --csv FILE for a table, --rrd FILE for Rerun")
        opened = open_session(session)
        done = []
        if csv is not None:
            ours = begins_with(",".join(COLUMNS).encode())
            with written(csv, inputs=opened.parts, ours=ours, force=force) as beside:
                done.append(f"{export_csv(opened, beside)} rows in {csv}")
        if rrd is not None:
            ours = begins_with(RRD)
            with written(rrd, inputs=opened.parts, ours=ours, force=force) as beside:
                done.append(f"{export_rrd(opened, beside)} ticks in {rrd}")
        for line in [*opened.told(), *done]:
            print(shown(line))


def _import(
    table: Table,
    source: Path,
    output: Path | None,
    config_path: Path | None,
    overrides: list[str],
    json_path: Path | None,
    force: bool,
) -> None:
    import dataclasses
    import math

    from cartpole.config.load import dump_yaml, load_config, loads_config
    from cartpole.session.exchange import import_settings, import_table, run_path
    from cartpole.session.outputs import check_output, written

    base = load_config(config_path) if config_path is not None else None
    settings = import_settings(table.layout.name, base)
    config = loads_config(dump_yaml(settings), "import settings", overrides)
    where = output if output is not None else source.with_suffix(".mcap")
    for number in range(2, len(table.runs) + 1):
        check_output(run_path(where, number), inputs=[source], force=force)
    for line in table.told():
        print(shown(line))
    runs = []
    with written(where, inputs=[source], force=force) as beside:
        found = import_table(table, config, beside, original=source.read_bytes())
    for path, one in found:
        print(
            f"{one.samples} samples, {one.duration_s:.1f} s in {where.with_name(path.name)}; "
            f"innovations squared over their variance {one.nis_mean:.2f} (1 is consistent), "
            f"{one.rejected} rejected"
        )
        figures = dataclasses.asdict(one)
        figures["nis_mean"] = one.nis_mean if math.isfinite(one.nis_mean) else None
        runs.append({**figures, "session": str(where.with_name(path.name))})
    left_out = {one.why: one.rows for one in table.left_out}
    write_json(json_path, {**runs[0], "runs": runs, "left_out": left_out})
