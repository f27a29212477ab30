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
    Path | None, typer.Option("--config", "-c", help="settings (YAML); default: the simulated rig")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="dotted.key=value, repeatable", metavar="KEY=VALUE"),
]
ForceOption = Annotated[bool, typer.Option("--force", help="overwrite what is there")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="write the figures here")]


def load(path: Path | None, overrides: list[str] | None) -> Config:
    """The effective config: file (none: the simulated rig's), then ``--set``; ConfigError."""
    from cartpole.config.load import load_config
    from cartpole.shipped import default_settings

    return load_config(path or default_settings(), overrides or [])


def writable_folder(path: Path) -> Path:
    """The folder of a file to be written, made if need be; UsageError if it cannot be."""
    from cartpole.errors import UsageError

    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it")
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{folder} may not be written: permission denied")
    return folder


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures whole or not at all, over an older file of figures only."""
    if path is None:
        return
    from cartpole.session.outputs import check_output, figures_or_empty

    check_output(path, ours=figures_or_empty)
    text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    folder = writable_folder(path)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
