"""`cartpole doctor`: is this machine, and is this rig, fit to run; what to do if not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, load, write_json

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.doctor.jog import JogLeg
    from cartpole.doctor.machine import Check
    from cartpole.messages import Measurement
    from firmware_bridge.rig_links import RigLinks

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


def _show(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("check", "", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for check in checks:
        colour = COLOURS[check.level.value]
        table.add_row(check.name, f"[{colour}]{check.level.value}[/]", check.found, check.advice)
    Console().print(table)


def doctor(
    context: typer.Context,
    config: ConfigOption = None,
    overrides: SetOption = None,
    json_file: JsonOption = None,
    machine_only: Annotated[
        bool, typer.Option("--machine", help="leave the rig's devices alone")
    ] = False,
) -> None:
    """Check machine and rig; exit 1 if something must be mended. Stop the daemon first."""
    if context.invoked_subcommand is not None:
        return
    from cartpole.doctor.devices import rig_checks
    from cartpole.doctor.machine import figures, machine_checks

    settings = load(config, overrides)
    checks = machine_checks(settings, config)
    if not machine_only:
        checks += rig_checks(settings)
    _show(checks)
    results = figures(checks)
    write_json(json_file, results)
    raise SystemExit(0 if results["ok"] else 1)


def board(
    config: ConfigOption = None,
    overrides: SetOption = None,
    json_file: JsonOption = None,
    seconds: Annotated[float, typer.Option(help="listen, or move, for this long")] = 1.0,
    jog: Annotated[bool, typer.Option("--jog", help="move the cart right and back")] = False,
    speed: Annotated[float, typer.Option(help="speed of the move, m/s")] = 0.05,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before moving")] = False,
    hear: Annotated[
        bool, typer.Option("--listen", help="show what the encoder board says; propose settings")
    ] = False,
) -> None:
    """Show the boards: version, loop time, counters, switches; move a little if asked to."""
    if hear:
        _listen(load(config, overrides), json_file)
    from cartpole.doctor.devices import answers, board_line, listen, opened_links
    from cartpole.doctor.machine import figures

    settings = load(config, overrides)
    with opened_links(settings) as links:
        heard = listen(links, settings, seconds)
        checks = answers(settings, heard, links)
        _show(checks)
        typer.echo(f"board      {board_line(links)}")
        _show_heard(heard)
        _show_statistics(links.statistics())
        results: dict[str, Any] = figures(checks) | {"links": links.statistics()}
        if jog and results["ok"]:
            results["jog"] = _jog(links, settings, speed, seconds, yes)
    write_json(json_file, results)
    raise SystemExit(0 if results["ok"] and not results.get("jog", {}).get("verdict") else 1)


def _listen(config: Config, json_file: Path | None) -> None:
    """Whatever stands at ``encoder.port``: its lines and, if their shape is a common one, YAML."""
    from cartpole.doctor.listening import BAUDS, SHOWN, hear, printable
    from cartpole.errors import UsageError
    from firmware_bridge.ports import SerialPort, resolve

    if config.encoder.port == "sim":
        raise UsageError("encoder.port is sim: name the port to listen at, --set encoder.port=...")
    path = resolve(config.encoder.port)
    bauds = (config.encoder.baud, *(baud for baud in BAUDS if baud != config.encoder.baud))
    heard = hear(lambda baud: SerialPort(path, baud), bauds)
    if heard is None:
        typer.echo(f"{path}: no readable line at any of {', '.join(map(str, bauds))} baud")
        raise SystemExit(1)
    asked = f"asked with {heard.question!r}" if heard.question else "unasked"
    typer.echo(f"{path}: {heard.rate_hz:.0f} lines a second at {heard.baud} baud, {asked}")
    for line in heard.lines[:SHOWN]:
        typer.echo(f"  {printable(line)}")
    if heard.proposal:
        typer.echo(f"encoder:\n  protocol: lines\n  port: {config.encoder.port}")
        typer.echo(f"  baud: {heard.baud}\n  lines:")
        for key, value in heard.proposal.items():
            typer.echo(f"    {key}: '{value}'")
    typer.echo(heard.remark)
    write_json(json_file, {"baud": heard.baud, "proposal": heard.proposal, "remark": heard.remark})
    raise SystemExit(0)


def _show_heard(heard: list[Measurement]) -> None:
    from cartpole.messages import BoardStatus, EncoderSample, LinkEvent

    samples = [message for message in heard if isinstance(message, EncoderSample)]
    states = [message for message in heard if isinstance(message, BoardStatus)]
    if samples:
        last = samples[-1]
        typer.echo(f"counters   cart {last.cart_counts}, pole {last.pole_counts}")
        words = {True: "PRESSED", False: "free"}
        switches = f"left {words[last.limit_low]}, right {words[last.limit_high]}"
        if states:
            switches += f", e-stop {words[states[-1].estop]}"
        typer.echo(f"switches   {switches}")
    for text, count in Counter(
        f"{m.link.value} {m.state.value}: {m.detail}" for m in heard if isinstance(m, LinkEvent)
    ).items():
        typer.echo(f"event      {text}" + (f" ({count} times)" if count > 1 else ""))


def _show_statistics(statistics: dict[str, dict[str, int]]) -> None:
    for name, counters in statistics.items():
        row = ", ".join(f"{key} {value}" for key, value in counters.items())
        typer.echo(f"{name:<10} {row}")


def _jog(
    links: RigLinks, config: Config, speed_m_s: float, duration_s: float, yes: bool
) -> dict[str, Any]:
    from dataclasses import asdict

    from cartpole.doctor.jog import Jog, verdict

    way_mm = 1000 * speed_m_s * duration_s
    question = f"The cart will move {way_mm:.0f} mm to the right and back. Is the track clear?"
    if not yes and not typer.confirm(question):
        typer.echo("nothing moved")
        return {"verdict": "", "legs": []}
    legs: list[JogLeg] = Jog(links, config).run(speed_m_s, duration_s)
    for leg in legs:
        typer.echo(
            f"jog        commanded {leg.commanded_m * 1e3:+.1f} mm, "
            f"seen {leg.seen_m * 1e3:+.1f} mm ({leg.counts:+d} counts)"
        )
    text = verdict(legs)
    typer.echo(f"verdict    {text or 'drive and encoder agree'}")
    return {"verdict": text, "legs": [asdict(leg) for leg in legs]}


def camera(
    config: ConfigOption = None,
    overrides: SetOption = None,
    json_file: JsonOption = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for pictures")] = Path(
        "camera-check"
    ),
    seconds: Annotated[float, typer.Option(help="watch for this long")] = 3.0,
) -> None:
    """Write pictures with the found rectangle, threshold, rate and gaps, to align the camera by."""
    settings = load(config, overrides)
    _watch_camera(settings, output, seconds, json_file)


def _watch_camera(config: Config, folder: Path, seconds: float, json_file: Path | None) -> None:
    from dataclasses import asdict

    from cartpole.doctor.picture import watch_camera
    from cartpole.errors import UsageError

    if not 0.1 <= seconds <= 600.0:
        raise UsageError(f"--seconds {seconds:g} must be from 0.1 to 600")
    device, report = watch_camera(config, folder, seconds)
    typer.echo(f"camera     {device}")
    typer.echo(f"pictures   {report.frames}, {report.rate_hz:.1f} a second, {report.gaps} lost")
    seen = ", ".join(f"{name} {count}" for name, count in sorted(report.found.items()))
    typer.echo(f"tracker    {seen or 'nothing'}")
    typer.echo(
        f"levels     background {report.background}, brightest {report.brightest}, "
        f"tape {'unknown' if report.tape is None else report.tape}, "
        f"threshold {report.threshold}"
    )
    typer.echo(f"advice     {report.advice()}")
    if report.frames:
        typer.echo(f"look at    {folder / 'alignment.png'}, {folder / 'alignment.avi'}")
    write_json(json_file, asdict(report) | {"advice": report.advice()})
    raise SystemExit(0 if report.frames else 1)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(add_completion=False, invoke_without_command=True, help=doctor.__doc__)
    group.callback()(doctor)
    group.command("board")(board)
    group.command("camera")(camera)
    app.add_typer(group, name="doctor")
