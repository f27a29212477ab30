"""``check-config`` and ``schema``: settings without a rig."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, write_json

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def check_config(
    file: Annotated[Path | None, typer.Argument(help="settings to check (YAML)")] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    json_file: JsonOption = None,
    show: Annotated[bool, typer.Option("--show", help="print the effective settings")] = False,
) -> None:
    """Check settings: exit 0 if they are good, else 2 and one line that says what to change."""
    from cartpole.config.load import config_sha256, dump_yaml, load_config
    from cartpole.errors import UsageError

    path = file or config
    if path is None:
        raise UsageError("check-config needs a file: cartpole check-config config/sim.yaml")
    loaded = load_config(path, overrides or [])
    refuse_nonsense(path, loaded)
    digest = config_sha256(loaded)
    write_json(json_file, {"ok": True, "config_sha256": digest})
    if show:
        typer.echo(dump_yaml(loaded), nl=False)
    else:
        typer.echo(f"{path}: good (settings {digest[:12]})")


def refuse_nonsense(path: Path, config: Config) -> None:
    """ConfigError with a line for each setting that makes no sense beside the others."""
    from cartpole.config import tree
    from cartpole.config.load import read_text
    from cartpole.config.sense import doubts
    from cartpole.errors import ConfigError

    root = tree.parse(read_text(path), str(path))
    lines = [
        f"{path}:{root.line_of(tuple(one.key.split('.'))) if root else 1}: {one.key}: {one.text}"
        for one in doubts(config)
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def schema() -> None:
    """Print the JSON Schema of the settings, for editors that complete and check YAML."""
    import json

    from cartpole.config.schema import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=2))


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("check-config")(check_config)
    app.command("schema")(schema)
