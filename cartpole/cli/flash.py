"""`cartpole flash`: build the board's firmware and write it through the Arduino's boot loader."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cartpole.cli.common import ConfigOption, SetOption, load

BOOT_LOADER_BAUD = 115200  # Uno; older Nanos have 57600


def flash(
    config: ConfigOption = None,
    overrides: SetOption = None,
    port: Annotated[str | None, typer.Option(help="path or usb:VID:PID[:SERIAL]")] = None,
    hex_file: Annotated[
        Path | None, typer.Option("--hex", help="write this file instead of building one")
    ] = None,
    boot_baud: Annotated[int, typer.Option(help="the boot loader's speed")] = BOOT_LOADER_BAUD,
    keep: Annotated[
        Path | None, typer.Option(help="first save the program that is on the board here")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="build, show, write nothing")] = False,
) -> None:
    """Build the firmware and write it to the board (ATmega328P with the Arduino boot loader)."""
    from cartpole.errors import UsageError
    from firmware_bridge.bridge_link import bridge_baud
    from firmware_bridge.flashing import avrdude, board_port, build, write

    settings = load(config, overrides)
    path = board_port(settings.motor, port)
    if hex_file is not None and not hex_file.is_file():
        raise UsageError(f"{hex_file} does not exist")
    bridge = settings.motor.protocol == "bridge"
    baud = bridge_baud(settings.encoder, settings.motor) if bridge else settings.encoder.baud
    with tempfile.TemporaryDirectory(prefix="cartpole-firmware-") as folder:
        image = hex_file or build(Path(folder), baud)
        commands = [avrdude(path, boot_baud, f"flash:w:{image}:i")]
        if keep is not None:
            commands.insert(0, avrdude(path, boot_baud, f"flash:r:{keep}:i"))
        if dry_run:
            for command in commands:
                typer.echo(" ".join(command))
            return
        question = f"This replaces the program of the board at {path}. Is the motor's supply off?"
        if not yes and not typer.confirm(question):
            typer.echo("nothing written")
            return
        for command in commands:
            write(command, path)
    typer.echo("done; see what it says of itself: cartpole doctor board")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("flash")(flash)
