"""`cartpole import`, `export`: recordings of other rigs in, tables out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, write_json


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("import", help="Turn a CSV into a recording and run the estimator on it.")
    def import_(
        source: Annotated[Path, typer.Argument(help="a CSV file")],
        form: Annotated[
            str, typer.Option("--format", help="plain (t_s, p_m, theta_rad) or physical_cartpole")
        ] = "plain",
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="default: beside the CSV, .mcap")
        ] = None,
        config: ConfigOption = None,
        override: SetOption = None,
        json_path: JsonOption = None,
    ) -> None:
        _import(source, form, output, config, override or [], json_path)

    @app.command(help="Write a recording as a table, one row a tick.")
    def export(
        session: Annotated[Path, typer.Argument(help="a recording (MCAP)")],
        csv: Annotated[Path, typer.Option("--csv", help="where the table goes")],
    ) -> None:
        from cartpole.session.exchange import export_csv
        from cartpole.session.reader import open_session

        rows = export_csv(open_session(session), csv)
        print(f"{rows} rows in {csv}")


def _import(
    source: Path,
    form: str,
    output: Path | None,
    config_path: Path | None,
    overrides: list[str],
    json_path: Path | None,
) -> None:
    import dataclasses
    import math

    from cartpole.config.load import dump_yaml, load_config, loads_config
    from cartpole.session.exchange import import_settings, import_table, read_table

    table = read_table(source, form)
    base = load_config(config_path) if config_path is not None else None
    config = loads_config(dump_yaml(import_settings(form, base)), "import settings", overrides)
    where = output if output is not None else source.with_suffix(".mcap")
    found = import_table(table, config, where, source.name, original=source.read_bytes())
    print(
        f"{found.samples} samples, {found.duration_s:.1f} s in {where}; innovations squared over "
        f"their variance {found.nis_mean:.2f} (1 is consistent), {found.rejected} rejected"
    )
    figures = dataclasses.asdict(found)
    if not math.isfinite(found.nis_mean):
        figures["nis_mean"] = None
    write_json(json_path, {**figures, "session": str(where)})
