"""``cartpole learn``: from yesterday's sessions to truer settings, past a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, load, write_json


def learn(
    what: Annotated[str, typer.Argument(help="sysid, residual, cost, dynamics or tune")],
    sessions: Annotated[list[Path], typer.Argument(help="recordings")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    json_file: JsonOption = None,
    write: Annotated[bool, typer.Option("--write", help="if the gate lets it (keeps a backup)")] = (
        False
    ),
    plot: Annotated[Path | None, typer.Option("--plot", help="curves, before/after (PNG)")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of the starts", min=0)] = 0,
) -> None:
    """Learn model, residuals, weights from recorded sessions; judged by what was held out."""
    from cartpole.cli.progress import announce_compilation, progress
    from cartpole.errors import IdentificationError, UsageError
    from cartpole.learning.command import run

    if write and config is None:
        raise UsageError("--write needs --config FILE: the settings that the numbers go into")
    announce_compilation()
    with progress(f"learn {what}", 1.0) as advance:
        outcome = run(what, sessions, load(config, overrides), seed, advance)
    print("\n".join(outcome.lines))
    write_json(json_file, outcome.figures)
    if plot is not None:
        from cartpole.learning.report import draw

        draw(outcome, plot)
    if write and config is not None:
        if not outcome.writable:
            raise IdentificationError("nothing written: " + outcome.why)
        from cartpole.config.edit import write_values

        backup = write_values(config, outcome.values, f"learned ({what})")
        print(f"written to {config}; the settings before are in {backup.name}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("learn")(learn)
