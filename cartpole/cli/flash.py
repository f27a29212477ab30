"""`cartpole flash`: build the board's firmware and write it through the Arduino's boot loader."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cartpole.cli.common import ConfigOption, SetOption, load

if TYPE_CHECKING:
    from cartpole.config.schema import Config

CHIP = "atmega328p"
PROGRAMMER = "arduino"
BOOT_LOADER_BAUD = 115200  # Uno; older Nanos have 57600


def firmware_folder() -> Path:
    """The C sources that come with this package."""
    from firmware_bridge import protocol

    return Path(protocol.__file__).parent / "firmware"


def build(folder: Path, baud: int) -> Path:
    """Compile into ``folder`` for a host line of ``baud``; DeviceError if that is not possible."""
    from cartpole.errors import DeviceError

    for tool in ("make", "avr-gcc"):
        if shutil.which(tool) is None:
            raise DeviceError(f"{tool} is missing: apt install make gcc-avr binutils-avr avr-libc")
    command = ["make", "-C", str(firmware_folder()), f"BUILD={folder}", f"BAUD={baud}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["make failed"]
        raise DeviceError(f"the firmware does not compile: {lines[-1]}")
    typer.echo(done.stdout.strip())
    return folder / "firmware.hex"


def avrdude(port: str, baud: int, action: str) -> list[str]:
    """The command line that does one memory action, such as ``flash:w:FILE:i``."""
    return [
        "avrdude",
        "-p",
        CHIP,
        "-c",
        PROGRAMMER,
        "-P",
        port,
        "-b",
        str(baud),
        "-D",
        "-U",
        action,
    ]


def board_port(config: Config, port: str | None) -> str:
    """The port to flash: the given one, or the one the settings name for a bridge board."""
    from cartpole.errors import UsageError
    from firmware_bridge.ports import resolve

    name = port or (config.motor.port if config.motor.protocol == "bridge" else None)
    if name is None:
        raise UsageError("no bridge board in these settings: name its port with --port")
    if name == "sim":
        raise UsageError("motor.port is sim: there is nothing to flash")
    return resolve(name)


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

    settings = load(config, overrides)
    path = board_port(settings, port)
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
            _run(command, path)
    typer.echo("done; see what it says of itself: cartpole doctor board")


def _run(command: list[str], path: str) -> None:
    from cartpole.errors import DeviceError

    if shutil.which(command[0]) is None:
        raise DeviceError("avrdude is missing: apt install avrdude")
    if subprocess.run(command, check=False).returncode != 0:
        raise DeviceError(
            f"avrdude could not talk to the board at {path}: right port, daemon stopped, "
            "--boot-baud 57600 for an old Nano?"
        )


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("flash")(flash)
