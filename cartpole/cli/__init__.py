"""The console script: each module registers its commands; heavy imports wait inside them."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

# Modules with a `register(app)` function, in the order of the help page.
COMMAND_MODULES = (
    "run",
    "simulate",
    "replay",
    "report",
    "sessions",
    "exchange",
    "calibrate",
    "operate",
    "dashboard",
    "service",
    "doctor",
    "flash",
    "settings",
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


def main() -> None:
    """Entry point: exit 0 done, 1 failed, 2 bad usage or config with one clear line."""
    import typer

    from cartpole.errors import CartpoleError, ConfigError, UsageError
    from cartpole.kernel_cache import use_kernel_cache

    use_kernel_cache()
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Model predictive control of a cart-pole rig, real or simulated.",
    )
    for name in COMMAND_MODULES:
        module = _module(name)
        if module is not None:
            module.register(app)
    try:
        app()
    except (ConfigError, UsageError) as error:
        print(f"cartpole: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except CartpoleError as error:
        print(f"cartpole: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("cartpole: interrupted", file=sys.stderr)
        raise SystemExit(1) from None
