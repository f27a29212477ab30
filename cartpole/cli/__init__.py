"""The console script: each module registers its commands; heavy imports wait inside them."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Annotated

import typer

# Modules with a `register(app)` function, in the order of the help page.
COMMAND_MODULES = (
    "run",
    "simulate",
    "replay",
    "report",
    "sessions",
    "exchange",
    "calibrate",
    "learn",
    "operate",
    "dashboard",
    "service",
    "doctor",
    "flash",
    "settings",
    "init",
    "campaign",
    "bench",
)


def _module(name: str) -> ModuleType | None:
    full = f"cartpole.cli.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        return None


def _print_version(wanted: bool) -> None:
    if wanted:
        from cartpole import __version__

        print(f"cartpole {__version__}")
        raise typer.Exit


def _about(
    version: Annotated[
        bool,
        typer.Option("--version", help="print the version", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    del version  # its callback has spoken


def main() -> None:
    """Entry point: exit 0 done, 1 failed, 2 bad usage or config with one clear line."""
    from cartpole.errors import CartpoleError, ConfigError, UsageError
    from cartpole.kernel_cache import use_kernel_cache
    from cartpole.shown import shown

    # Before numpy is loaded. Our matrices are small: threads that wait for a share of one cost a
    # fifth of a simulated tick, and a daemon's other processor.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not {"--help", "--version"} & set(sys.argv):
        use_kernel_cache()
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich's help costs twice the rest of the start
        help="Model predictive control of a cart-pole rig, real or simulated.",
    )
    app.callback()(_about)
    for name in COMMAND_MODULES:
        module = _module(name)
        if module is not None:
            module.register(app)
    try:
        app()
    except (ConfigError, UsageError) as error:
        print(f"cartpole: {shown(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except CartpoleError as error:
        print(f"cartpole: {shown(str(error))}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("cartpole: interrupted", file=sys.stderr)
        raise SystemExit(1) from None
