"""`cartpole campaign`: random rigs, mismatch, imperfections and faults, in parallel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, load, write_json

if TYPE_CHECKING:
    from cartpole.campaign.draw import Draw
    from cartpole.campaign.judge import Flown
    from cartpole.config.schema import Config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help="Random rigs that lie and break, against the truth; exit 1 on a failure.")
    def campaign(
        config: ConfigOption = None,
        override: SetOption = None,
        runs: Annotated[int, typer.Option(help="how many", min=1, max=10_000_000)] = 60,
        first: Annotated[int, typer.Option(help="first seed", min=0)] = 0,
        faults: Annotated[
            str | None, typer.Option(help="only these, by name, commas between; none: no faults")
        ] = None,
        backend: Annotated[
            Literal["joblib", "dask"], typer.Option(help="this machine, or a cluster")
        ] = "joblib",
        jobs: Annotated[int | None, typer.Option(help="processes", min=1)] = None,
        resume: Annotated[
            Path | None, typer.Option(help="keep what is finished here, and go on from it")
        ] = None,
        shrink: Annotated[
            int, typer.Option(help="shrink so many failures to the fewest ingredients", min=0)
        ] = 0,
        replay: Annotated[int | None, typer.Option(help="fly this seed again", min=0)] = None,
        keep: Annotated[
            str | None, typer.Option(help="with --replay: these ingredients only, commas between")
        ] = None,
        plot: Annotated[
            Path | None, typer.Option(help="a map; with --replay the run (PNG)")
        ] = None,
        json_path: JsonOption = None,
    ) -> None:
        from cartpole.campaign.draw import draw
        from cartpole.campaign.many import faults_of, fly_campaign, kept_of
        from cartpole.cli.progress import announce_compilation, progress
        from cartpole.session.outputs import planned

        planned(picture=plot, figures=json_path, inputs=[config, resume])
        base, names = load(config, override), faults_of(faults)
        again = [] if config is None else ["--config", str(config)]
        again += [] if faults is None else ["--faults", faults]
        again += [word for item in override or [] for word in ("--set", item)]
        announce_compilation()
        if replay is not None:
            drawn = draw(replay, names)
            if keep is not None:
                drawn = kept_of(drawn, [name for name in keep.split(",") if name])
            _replay(base, drawn, plot, json_path)
            return
        with progress("flying", runs) as advance:
            flown = fly_campaign(
                base, range(first, first + runs), names,
                backend=backend, jobs=jobs, resume=resume, advance=advance,
            )  # fmt: skip
        _tell(base, flown, names, again, shrink, plot, json_path)


def _tell(
    base: Config,
    flown: list[Flown],
    names: tuple[str, ...],
    again: list[str],
    shrinks: int,
    plot: Path | None,
    json_path: Path | None,
) -> None:
    from cartpole.campaign.figures import figures, told
    from cartpole.campaign.many import shrink_failures

    found = figures(flown, again)
    shrink_failures(base, found["failures"][:shrinks], flown, names, again)
    if plot is not None:
        from cartpole.campaign.picture import draw_map
        from cartpole.session.outputs import written

        with written(plot, force=True) as beside:  # looked at before anything flew
            draw_map(flown, beside)
    write_json(json_path, found)
    print("\n".join(told(found)))
    if found["failures"]:
        raise typer.Exit(1)


def _replay(base: Config, drawn: Draw, plot: Path | None, json_path: Path | None) -> None:
    from cartpole.campaign.flight import fly
    from cartpole.messages import TickRecord

    records: list[TickRecord] = []
    run = fly(drawn, base, lambda tick: records.append(tick.record))
    print(f"seed {drawn.seed}: {', '.join(drawn.names) or 'nothing but the rig'}")
    print(f"{run.end}: {run.why or 'as it must be'}")
    if plot is not None:
        from cartpole.session.outputs import written
        from cartpole.session.plot import plot_session

        with written(plot, force=True) as beside:
            plot_session(records, beside, drawn.config(base))
        print(f"drawn to {plot}")
    write_json(json_path, run.plain())
    if run.why:
        raise typer.Exit(1)
