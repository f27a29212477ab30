"""`cartpole service`: lay the systemd service out on this machine, and take it away again."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from cartpole.cli.common import ConfigOption, SetOption, load


def register(app: typer.Typer) -> None:
    """Add the commands."""
    service = typer.Typer(no_args_is_help=True, help="The systemd service: install, uninstall.")
    app.add_typer(service, name="service")

    @service.command(name="install", help="Install unit, user, udev rule and /etc/cartpole.")
    def install_command(
        config: Annotated[
            Path | None, typer.Option("--config", "-c", help="settings to start from")
        ] = None,
        root: Annotated[Path, typer.Option(help="prepare the image below this folder")] = Path("/"),
        dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what it does")] = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    ) -> None:
        from cartpole.service import SETTINGS, USER, Layout, install, layout_for

        layout = layout_for(root, dry_run)
        if layout.live and not yes:
            install(Layout(root, True), config)
            typer.confirm("Do this?", abort=True)
        install(layout, config)
        if layout.live:
            print(
                f"\nedit /{SETTINGS}, then: systemctl enable --now cartpole\n"
                f"watch:    systemctl status cartpole; cartpole status -c /{SETTINGS}\n"
                f"operate:  adduser YOU {USER}, log in again, cartpole arm -c /{SETTINGS}"
            )

    @service.command(name="uninstall", help="Stop the service and remove what install put there.")
    def uninstall_command(
        root: Annotated[Path, typer.Option(help="the image below this folder")] = Path("/"),
        dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what it does")] = False,
        purge: Annotated[
            bool, typer.Option("--purge", help="settings, recordings and the user too")
        ] = False,
    ) -> None:
        from cartpole.service import layout_for, uninstall

        uninstall(layout_for(root, dry_run), purge)

    @service.command(name="wait", help="Wait for the rig's serial ports; the unit does, first.")
    def wait_command(config: ConfigOption = None, override: SetOption = None) -> None:
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
        from cartpole.service import wait_for_ports

        wait_for_ports(lambda: load(config, override))
