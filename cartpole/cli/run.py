"""`cartpole run`: the daemon in real time, on a rig or on the simulated one."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help="Run the controller in real time; a config with `sim` ports brings its rig.")
    def run(
        config: ConfigOption = None,
        override: SetOption = None,
        duration: Annotated[
            float | None,
            typer.Option(
                help="seconds from the first tick of SWING_UP; default: until stopped", min=0.1
            ),
        ] = None,
        record: Annotated[
            Path | None, typer.Option(help="session file; default: a new one in session.folder")
        ] = None,
        headless: Annotated[bool, typer.Option("--headless", help="no live status line")] = False,
        dashboard: Annotated[bool, typer.Option("--dashboard", help="serve the live page")] = False,
        commands: Annotated[
            bool, typer.Option("--commands", help="the page's buttons and sliders work")
        ] = False,
        json_path: JsonOption = None,
        force: ForceOption = False,
    ) -> None:
        from cartpole.session.outputs import planned

        planned(recording=record, figures=json_path, inputs=[config], force=force)
        overrides = list(override or [])
        if dashboard:
            overrides.append("dashboard.enabled=true")
        if commands:
            overrides.append("dashboard.commands=true")
        settings = load(config, overrides)
        figures = _run(settings, config, overrides, duration, record, headless)
        write_json(json_path, figures)
        stopped = any(f["action"] in ("brake", "off") for f in figures["faults"])
        went_on = settings.sim.recover and figures["upright_at_s"] is not None
        if (
            stopped and not went_on and not _is_service()
        ):  # a service that is stopped has not failed
            raise typer.Exit(1)


def _is_service() -> bool:
    return bool(os.environ.get("NOTIFY_SOCKET"))


def _run(
    config: Config,
    config_path: Path | None,
    overrides: list[str],
    duration_s: float | None,
    record: Path | None,
    headless: bool,
) -> dict[str, Any]:
    from cartpole.cli.progress import announce_compilation
    from cartpole.daemon.assembly import assemble

    announce_compilation()
    gc.disable()  # a start makes no garbage: a twelfth of its time; the daemon collects by itself
    with assemble(config, config_path, overrides, record=record, headless=headless) as rig:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: rig.daemon.stop())
        signal.signal(signal.SIGHUP, lambda _number, _frame: rig.reload())
        rig.daemon.run(duration_s)
    paths = [str(path) for path in rig.recorder.paths if path.exists()]
    figures = rig.summary.result(session=paths[-1] if paths else None)
    if not _is_service():  # drawing hours of recording would hold up a stop
        _tell(figures, paths)
    return {**figures, "sessions": paths}


def _tell(figures: dict[str, Any], sessions: list[str]) -> None:
    """The end of a run, for a person; ``sessions`` are its recordings, the last one is drawn."""
    from rich.console import Console
    from rich.table import Table

    upright, timing, solver = figures["upright_at_s"], figures["timing"], figures["solver"]
    table = Table(title="run", show_header=False)

    def row(name: str, text: str) -> None:
        table.add_row(name, text)

    row("upright", "not at the end" if upright is None else f"for good after {upright:.2f} s")
    row("largest |p|, |u|", f"{figures['max_abs_p_m']:.3f} m, {figures['max_abs_u_m_s']:.2f} m/s")
    row(
        "ticks",
        f"{figures['ticks']}, late {timing['late_ticks']}, fallback {figures['fallback_ticks']}",
    )
    if timing["compute_us_median"] is not None:
        row(
            "compute a tick",
            f"{timing['compute_us_median']:.0f} us median, {timing['compute_us_p99']:.0f} us p99",
        )
        row(
            "jitter",
            f"{timing['jitter_us_median']:.0f} us median, {timing['jitter_us_p99']:.0f} us p99",
        )
    if solver["median_us"] is not None:
        row("solver", f"{solver['median_us']:.0f} us median, {solver['p99_us']:.0f} us p99")
    for fault in figures["faults"]:
        row("fault", f"{fault['name']} ({fault['action']})")
    console = Console()
    console.print(table)
    for path in sessions:
        print(f"session {path}")
    if sessions:
        from cartpole.errors import SessionError
        from cartpole.session.plot import plot_session

        plot = Path(sessions[-1]).with_suffix(".png")
        try:
            plot_session(Path(sessions[-1]), plot)
        except SessionError as error:  # stopped before its first tick
            print(f"no plot: {error}")
        except OSError as error:  # the disk may be full
            plot.unlink(missing_ok=True)
            print(f"no plot: {plot}: {error.strerror}")
        else:
            print(f"plot    {plot}")
