"""``cartpole calibrate``: from a recording, or from motions of the simulated rig, to numbers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, load, write_json
from cartpole.cli.progress import progress

if TYPE_CHECKING:
    from calibration.result import CalibrationResult

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
        Path | None, typer.Option("--session", help="use this recording (MCAP or CSV)")
    ] = None,
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
) -> None:
    """Find the rig's numbers from --session, or by moving the rig (simulated: virtual time)."""
    from calibration.result import merged
    from calibration.run import calibrate_recording, calibrate_simulated
    from cartpole.errors import IdentificationError, UsageError

    if write and config is None:
        raise UsageError("--write needs --config FILE: the settings that the numbers go into")
    settings = load(config, overrides)
    if session is not None:
        from cartpole.cli.recordings import load_recording

        recording, recorded = load_recording(session, settings)
        results = calibrate_recording(what.value, recording, recorded)
        source = f"{recording.name} sha256 {recording.sha256[:16]}"
    elif settings.motor.port != "sim":
        from cartpole.cli.live_rig import calibrate_live

        typer.echo(WARNING)
        if not yes:
            typer.confirm("Is all of this so?", abort=True)
        with progress(f"calibrate {what.value}", 5) as done:
            results = calibrate_live(what.value, settings, done)
        source = "the rig"
    else:
        from calibration.run import ALL

        with progress(f"calibrate {what.value}", len(ALL)) as done:
            results = calibrate_simulated(what.value, settings, seed, done)
        source = f"a simulated rig, seed {seed}"
    for result in results:
        _show(result)
    write_json(json_file, merged(results))
    if plot is not None:
        from calibration.plot import plot_residuals

        plot_residuals(results, plot)
    values = {key: value for result in results for key, value in result.settings().items()}
    if not values:
        raise IdentificationError("nothing could be identified; see the reasons above")
    if write and config is not None:
        from cartpole.config.edit import write_values

        backup = write_values(config, values, f"calibrated from {source}")
        typer.echo(f"written to {config}; the settings before are in {backup.name}")


def _show(result: CalibrationResult) -> None:
    for name, one in result.estimates.items():
        half = 0.5 * (one.ci95[1] - one.ci95[0])
        typer.echo(f"{name:28s} {one.value:12.6g} ± {half:.2g} {one.unit}")
    if result.homography is not None:
        typer.echo(
            "camera.homography            " + " ".join(f"{h:.5g}" for h in result.homography)
        )
    for name, why in result.refused.items():
        typer.echo(f"{name:28s} refused: {why}")
    for note in result.notes:
        typer.echo(f"  {note}")
    typer.echo(f"  fit: chi2/dof {result.chi2_dof:.2f} (1: the noise explains the rest)")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("calibrate")(calibrate)
