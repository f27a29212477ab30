"""`cartpole simulate`: the controller and the simulated rig in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cartpole.cli.common import (
    ConfigOption,
    ForceOption,
    JsonOption,
    SetOption,
    load,
    write_json,
)

if TYPE_CHECKING:
    from cartpole.config.schema import Config

PLANT_HELP = (
    "make the true plant differ: pole.length_m=0.55, motor.tau_s=0.07 or a key of the sim section"
)

# Keys of the belief that name a truth of the simulated rig.
PLANT_ALIASES = {
    "pole.length_m": "length_m",
    "pole.damping_1_s": "damping_1_s",
    "pole.coulomb_rad_s2": "coulomb_rad_s2",
    "pole.upright_offset_rad": "upright_offset_rad",
    "motor.tau_s": "tau_s",
    "motor.delay_s": "delay_s",
    "motor.acceleration_m_s2": "acceleration_m_s2",
    "motor.counts_per_m_s": "counts_per_m_s",
    "motor.dead_band_counts": "dead_band_counts",
    "encoder.cart_counts_per_m": "cart_counts_per_m",
    "camera.lens_k1": "lens_k1",
    "camera.readout_s": "readout_s",
    "camera.latency_s": "camera_latency_s",
    "L": "length_m",
    "tau": "tau_s",
}


def plant_overrides(plant: list[str] | None) -> list[str]:
    """``--plant`` as overrides of the ``sim`` section."""
    from cartpole.config.schema import Sim
    from cartpole.errors import UsageError

    overrides = []
    for item in plant or []:
        key, equals, value = item.partition("=")
        name = PLANT_ALIASES.get(key, key.removeprefix("sim."))
        if not equals or name not in Sim.model_fields:
            known = ", ".join(sorted({*PLANT_ALIASES, *Sim.model_fields}))
            raise UsageError(f"--plant {item}: not KEY=VALUE with a known key ({known})")
        overrides.append(f"sim.{name}={value}")
    return overrides


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help="Swing up on the simulated rig in virtual time, deterministic for a seed.")
    def simulate(
        config: ConfigOption = None,
        override: SetOption = None,
        seed: Annotated[int | None, typer.Option(help="random numbers", min=0)] = None,
        duration: Annotated[
            float, typer.Option(help="seconds from the first tick of SWING_UP", min=0.1, max=86400)
        ] = 10.0,
        plant: Annotated[
            list[str] | None, typer.Option("--plant", help=PLANT_HELP, metavar="KEY=VALUE")
        ] = None,
        record: Annotated[Path | None, typer.Option(help="write a session (MCAP)")] = None,
        video: Annotated[Path | None, typer.Option(help="write a video (MP4)")] = None,
        plot: Annotated[Path | None, typer.Option(help="write a plot (PNG)")] = None,
        json_path: JsonOption = None,
        force: ForceOption = False,
    ) -> None:
        from cartpole.session.outputs import planned

        read = [config]
        planned(
            recording=record, film=video, picture=plot, figures=json_path, inputs=read, force=force
        )
        overrides = [*(override or []), *plant_overrides(plant)]
        if seed is not None:
            overrides.append(f"sim.seed={seed}")
        if video is not None:
            overrides += ["sim.pictures=rendered", "session.frames=all"]
        _simulate(load(config, overrides), duration, record, video, plot, json_path)


def _simulate(
    config: Config,
    duration_s: float,
    record: Path | None,
    video: Path | None,
    plot: Path | None,
    json_path: Path | None,
) -> None:
    import contextlib
    import tempfile

    from cartpole.cli.progress import announce_compilation, progress
    from cartpole.session.provenance import git_revision

    announce_compilation()
    from cartpole.config.load import config_sha256
    from cartpole.daemon.virtual import run_virtual
    from cartpole.session.outputs import written
    from cartpole.session.summary import SummaryBuilder

    summary = SummaryBuilder(config, git_revision(), config_sha256(config))
    with contextlib.ExitStack() as stack:
        if record is None and (video is not None or plot is not None):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            kept: Path | None = Path(folder) / "session.mcap"
        else:
            kept = record
        with progress("simulating", duration_s) as advance:
            run_virtual(config, duration_s, summary, kept, advance)
        if video is not None and kept is not None:
            from cartpole.session.video import write_video

            with written(video, force=True) as beside:
                write_video(kept, beside)
        if plot is not None and kept is not None:
            from cartpole.session.plot import plot_session

            with written(plot, force=True) as beside:
                plot_session(kept, beside)
    figures = summary.result(session=str(record) if record is not None else None)
    write_json(json_path, figures)
    _tell(figures, record)


def _tell(figures: dict[str, object], record: Path | None) -> None:
    upright = figures["upright_at_s"]
    print(
        f"upright {'never' if upright is None else f'after {upright:.2f} s'}, "
        f"max |p| {figures['max_abs_p_m']:.3f} m, faults {len(figures['faults'])}"  # type: ignore[arg-type]
    )
    if record is not None:
        print(f"session {record}")
