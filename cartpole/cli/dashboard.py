"""`cartpole dashboard`: the live page for a daemon that runs without one."""

from __future__ import annotations

from typing import Annotated

import typer

from cartpole.cli.common import ConfigOption, SetOption, load


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help="Serve the live page for a running daemon, until Ctrl-C.")
    def dashboard(
        config: ConfigOption = None,
        override: SetOption = None,
        port: Annotated[int | None, typer.Option(help="default: dashboard.port")] = None,
        commands: Annotated[
            bool, typer.Option("--commands", help="allow buttons and sliders")
        ] = False,
    ) -> None:
        overrides = list(override or [])
        if port is not None:
            overrides.append(f"dashboard.port={port}")
        if commands:
            overrides.append("dashboard.commands=true")
        settings = load(config, overrides)
        from cartpole.dashboard.serve import serve
        from cartpole.dashboard.setup import page_setup

        setup = page_setup(settings)
        print(f"page: {setup.url}", flush=True)
        serve(setup, None)
