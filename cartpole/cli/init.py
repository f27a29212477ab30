"""`cartpole init FILE`: a few questions, then a commented settings file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cartpole.first_settings import Answers

ARDUINO = "usb:2341:0043"
MOTORS = {"text": "usb:268b:0201", "bridge": ARDUINO}  # a Sabertooth; one board does both


def ask() -> Answers:
    """Talk to a person at the terminal; empty answers take what stands in brackets."""
    from rich.prompt import FloatPrompt, Prompt

    from cartpole.first_settings import BOARDS, Answers

    print("sim: no rig yet. text: an Arduino that answers lines, and a Sabertooth. bridge: our own")
    print("firmware on an ATmega328P (`cartpole flash` puts it there).")
    board = Prompt.ask("which boards", choices=list(BOARDS), default="sim")
    motor = encoder = ""
    camera = "none"
    if board != "sim":
        _ports()
        what = "motor" if board == "text" else "board's"
        motor = Prompt.ask(f"{what} port (path, or usb:vendor:product)", default=MOTORS[board])
        encoder = Prompt.ask("encoder port", default=ARDUINO) if board == "text" else motor
        camera = Prompt.ask("camera (/dev/video0, or none)", default="/dev/video0")
    track = FloatPrompt.ask("travel between the two switches, m", default=0.88)
    pole = FloatPrompt.ask("length of the pole, m", default=0.5)
    return Answers(board, motor, encoder, track, pole, camera)


def _ports() -> None:
    from cartpole.doctor.devices import plugged_in

    found = plugged_in()
    print(f"plugged in: {found.found}")


def init(
    file: Annotated[Path, typer.Argument(help="the settings file to write")],
    board: Annotated[
        str | None, typer.Option(help="sim, text or bridge: answers all questions by defaults")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a file that exists")] = False,
) -> None:
    """Ask a few questions and write a commented settings file."""
    from cartpole.cli.common import writable_folder
    from cartpole.errors import UsageError
    from cartpole.first_settings import BOARDS, Answers, settings_text

    if file.exists() and not force:
        raise UsageError(f"{file} exists: name another file, or say --force")
    if board is not None and board not in BOARDS:
        raise UsageError(f"--board {board}: allowed are {', '.join(BOARDS)}")
    writable_folder(file)
    if board is None:
        answers = ask()
    else:
        answers = Answers(board, MOTORS.get(board, ""), ARDUINO, 0.88, 0.5, "/dev/video0")
    file.write_text(settings_text(answers))
    print(f"wrote {file}")
    print(f"next: cartpole check-config {file}")
    word = "run" if answers.board == "sim" else "doctor"
    print(f"then: cartpole {word} --config {file}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)
