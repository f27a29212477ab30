"""``cartpole calibrate``: from a recording, or from motions of the simulated rig, to numbers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, load, write_json
from cartpole.cli.exchange import DelimiterOption, FormatOption, MapOption

if TYPE_CHECKING:
    from calibration.result import CalibrationResult
    from calibration.run import Lead
    from cartpole.cli.progress import Advance
    from cartpole.config.schema import Config
    from cartpole.errors import CartpoleError
    from cartpole.session.columns import Layout

WARNING = (
    "The cart and the pole will move fast. Put the cart in the middle, let the pole hang still, "
    "keep clear of both, and a hand on the switch that cuts the motor's power."
)


class What(StrEnum):
    """What to calibrate."""

    CAMERA = "camera"
    ENCODER = "encoder"
    LATENCY = "latency"
    MOTOR = "motor"
    POLE = "pole"
    ALL = "all"


def calibrate(
    what: Annotated[What, typer.Argument(help="which numbers")],
    session: Annotated[
        list[Path] | None,
        typer.Option("--session", help="use this recording (MCAP or a table); repeatable"),
    ] = None,
    form: FormatOption = "auto",
    mapping: MapOption = None,
    delimiter: DelimiterOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    json_file: JsonOption = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="put the numbers into the settings file (keeps a backup)"),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="draw the residuals into this PNG")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before a real rig moves")] = False,
    seed: Annotated[int, typer.Option("--seed", help="of the simulated rig", min=0)] = 0,
    real_time: Annotated[
        bool,
        typer.Option(
            "--real-time", help="lead a simulated rig over its ports by the clock, as a real one"
        ),
    ] = False,
) -> None:
    """Find the rig's numbers from --session, or by moving the rig (simulated: virtual time)."""
    from cartpole.errors import UsageError
    from cartpole.session.columns import choose
    from cartpole.session.outputs import planned

    read = [config, *(session or [])]
    planned(picture=plot, figures=json_file, inputs=read)
    if plot is not None:
        planned(picture=_light_beside(plot), figures=json_file, inputs=read)
    if write and config is None:
        raise UsageError("--write needs --config FILE: the settings that the numbers go into")
    settings = load(config, overrides)
    found = Found()
    try:
        if session:
            reading = Reading(choose(form, mapping), delimiter)
            _fit_sessions(what.value, session, settings, reading, found)
        else:
            _move(what.value, settings, seed, real_time, yes, found)
    finally:  # what was found before something went wrong is worth keeping
        _tell(found, config if write else None, json_file, plot)
    if not any(result.settings() for result in found.results):
        raise _nothing(found.results)


@dataclass(slots=True)
class Found:
    """The results so far."""

    results: list[CalibrationResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a table is meant; None: by its columns."""

    layout: Layout | None = None
    delimiter: str | None = None


def _light_beside(plot: Path) -> Path:
    """Where the picture of the light goes."""
    return plot.with_name(f"{plot.stem}-light{plot.suffix}")


def _tell(found: Found, config: Path | None, json_file: Path | None, plot: Path | None) -> None:
    """Show the results, and keep them where that is wanted."""
    from calibration.result import merged

    results = found.results
    if not results:
        return
    for result in results:
        _show(result)
    write_json(json_file, merged(results))
    if plot is not None:
        from calibration.plot import plot_residuals
        from cartpole.session.outputs import PDF, PNG, begins_with, written

        with written(plot, ours=begins_with(PNG, PDF), force=None) as beside:
            plot_residuals(results, beside)
            for result in results:
                if result.draw is not None:
                    result.draw(_light_beside(beside))
    values = {key: value for result in results for key, value in result.settings().items()}
    if values and config is not None:
        from cartpole.config.edit import write_values

        sources = ", ".join(dict.fromkeys(one.source for one in results if one.source))
        backup = write_values(config, values, f"calibrated from {sources or 'a simulated rig'}")
        typer.echo(f"written to {config}; the settings before are in {backup.name}")


def _nothing(results: list[CalibrationResult]) -> CartpoleError:
    """That nothing was identified, with the first reason."""
    from cartpole.errors import IdentificationError

    reasons = [why for result in results for why in result.refused.values()]
    return IdentificationError(reasons[0] if reasons else "nothing could be identified")


def _fit_sessions(
    what: str, paths: list[Path], settings: Config, reading: Reading, found: Found
) -> None:
    """Fits of one recording, or the medians of several."""
    from calibration.result import CalibrationResult, combined
    from calibration.run import calibrate_recording
    from calibration.sessions import load_recording
    from cartpole.cli.progress import progress
    from cartpole.errors import IdentificationError, UsageError

    if len(paths) > 1 and what == "all":
        raise UsageError("several recordings are fitted for one part at a time, not for all")
    results: list[CalibrationResult] = []
    with progress("fitting", len(paths)) as advance:
        for number, path in enumerate(paths):
            recording, used = load_recording(path, settings, reading.layout, reading.delimiter)
            for line in recording.told:
                typer.echo(line)
            try:
                results += calibrate_recording(what, recording, used)
            except IdentificationError as error:
                results.append(CalibrationResult({}, 0.0, {what: str(error)}, source=path.name))
            advance(number + 1, path.name)
    if len(paths) == 1:
        found.results = results
        return
    for result in results:
        said = ", ".join(f"{name} {one.value:.5g}" for name, one in result.estimates.items())
        typer.echo(f"{result.source.split(' ')[0]:30s} {said or 'nothing'}")
    found.results = [combined(results)]


def _move(what: str, settings: Config, seed: int, real_time: bool, yes: bool, found: Found) -> None:
    """Lead the rig of these settings through its motions, and record them."""
    from calibration.kept import part_recording
    from calibration.run import WITH_PICTURES, calibrate_rig, parts_of
    from calibration.simulated import SimulatedLead, pinned
    from cartpole.cli.progress import announce_compilation, progress
    from cartpole.config.load import with_values

    parts = parts_of(what, settings)
    announce_compilation()
    simulated = settings.motor.port == "sim"
    real_time |= not simulated
    if simulated:
        settings = with_values(pinned(settings), {"sim.seed": seed})
    else:
        typer.echo(WARNING)
        if not yes:
            typer.confirm("Is all of this so?", abort=True)
    keep = partial(part_recording, datetime.now(), real_time) if settings.session.record else None
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress(f"calibrate {what}", len(parts)))
        teller = Teller(bar, parts, settings)
        if real_time:
            from calibration.live import LiveLead

            seeing = any(part in WITH_PICTURES for part in parts)
            lead: Lead = stack.enter_context(LiveLead(teller.motion, keep, seeing=seeing))
        else:
            lead = SimulatedLead(seed, teller.motion, keep)
        for result in calibrate_rig(what, settings, lead, teller.part):
            found.results.append(result)


class Teller:
    """Turns motions into a bar's progress: parts done and the share of the one that goes on."""

    def __init__(self, bar: Advance, parts: tuple[str, ...], config: Config) -> None:
        from calibration.run import moves

        self._bar, self._parts = bar, parts
        self._about_s = [sum(move.about_s for move in moves(one, config)) for one in parts]
        self._done, self._before_s, self._last_s = 0, 0.0, 0.0

    def motion(self, name: str, seconds: float) -> None:
        """A motion goes on."""
        if seconds < self._last_s:
            self._before_s += self._last_s
        self._last_s = seconds
        share = min(0.95, (self._before_s + seconds) / self._about_s[self._done])
        self._bar(self._done + share, f"{self._parts[self._done]}: {name}")

    def part(self, done: float) -> None:
        """So many parts are done."""
        self._done, self._before_s, self._last_s = int(done), 0.0, 0.0
        self._bar(done)


def _show(result: CalibrationResult) -> None:
    for name, one in result.estimates.items():
        half = 0.5 * (one.ci95[1] - one.ci95[0])
        within = f" ± {half:.2g} {one.unit}" if half > 0.0 else ""
        typer.echo(f"{name:28s} {one.value:12.6g}{within}")
    if result.homography is not None:
        typer.echo(
            "camera.homography            " + " ".join(f"{h:.5g}" for h in result.homography)
        )
    for why in dict.fromkeys(result.refused.values()):  # one reason is said once
        names = ", ".join(name for name, one in result.refused.items() if one == why)
        typer.echo(f"{names:28s} refused: {why}")
    for note in result.notes:
        typer.echo(f"  {note}")
    if result.source:
        typer.echo(f"  from {result.source}")
    typer.echo(f"  fit: chi2/dof {result.chi2_dof:.2f} (1: the noise explains the rest)")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("calibrate")(calibrate)
