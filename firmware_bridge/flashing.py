"""Our firmware built and written to a board: ``make`` and ``avrdude`` as they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.errors import DeviceError, UsageError
from firmware_bridge.ports import resolve

if TYPE_CHECKING:
    from cartpole.config.schema import Motor

CHIP = "atmega328p"
PROGRAMMER = "arduino"
BOOT_LOADER_BAUD = 115200  # Uno; older Nanos have 57600


def firmware_folder() -> Path:
    """The C sources that come with this package."""
    from firmware_bridge import protocol

    return Path(protocol.__file__).parent / "firmware"


def build(folder: Path, baud: int) -> Path:
    """Compile into ``folder`` for a host line of ``baud``; DeviceError if that is not possible."""
    for tool in ("make", "avr-gcc"):
        if shutil.which(tool) is None:
            raise DeviceError(f"{tool} is missing: apt install make gcc-avr binutils-avr avr-libc")
    command = ["make", "-C", str(firmware_folder()), f"BUILD={folder}", f"BAUD={baud}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["make failed"]
        raise DeviceError(f"the firmware does not compile: {lines[-1]}")
    print(done.stdout.strip())
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


def board_port(motor: Motor, port: str | None) -> str:
    """The port to flash: the given one, or the one the settings name for a bridge board."""
    name = port or (motor.port if motor.protocol == "bridge" else None)
    if name is None:
        raise UsageError("no bridge board in these settings: name its port with --port")
    if name == "sim":
        raise UsageError("motor.port is sim: there is nothing to flash")
    return resolve(name)


def write(command: list[str], path: str) -> None:
    """Run avrdude's command for the board at ``path``; DeviceError if it fails."""
    if shutil.which(command[0]) is None:
        raise DeviceError("avrdude is missing: apt install avrdude")
    if subprocess.run(command, check=False).returncode != 0:
        raise DeviceError(
            f"avrdude could not talk to the board at {path}: right port, daemon stopped, "
            "--boot-baud 57600 for an old Nano?"
        )
