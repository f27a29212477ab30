"""Options that every command shares."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cartpole.config.schema import Config

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="settings (YAML); default: built-in defaults")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="dotted.key=value, repeatable", metavar="KEY=VALUE"),
]
ForceOption = Annotated[bool, typer.Option("--force", help="overwrite what is there")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="write the figures here")]


def load(path: Path | None, overrides: list[str] | None) -> Config:
    """The effective config: file, then ``--set``; raises ConfigError."""
    from cartpole.config.load import load_config

    return load_config(path, overrides or [])


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures whole or not at all."""
    if path is None:
        return
    text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    folder = path.resolve().parent
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
