"""``cartpole bench``: what this machine needs for a Newton step and for a tick."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, load, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help="Time the Newton step and the tick on this machine.")
    def bench(
        config: ConfigOption = None,
        override: SetOption = None,
        repeats: Annotated[int, typer.Option(help="interleaved repetitions", min=10)] = 500,
        duration: Annotated[
            float, typer.Option(help="seconds of the simulated run", min=1.0, max=600.0)
        ] = 8.0,
        json_path: JsonOption = None,
    ) -> None:
        from cartpole.cli.progress import announce_compilation
        from cartpole.timing import newton_figures, tick_figures

        announce_compilation()
        settings = load(config, override)
        figures: dict[str, Any] = newton_figures(repeats) | tick_figures(settings, duration)
        write_json(json_path, figures)
        _tell(figures)


def _tell(figures: dict[str, Any]) -> None:
    from cartpole.timing import HALF_WIDTH, UNKNOWNS

    plan = figures["plan_us"]
    table = (
        (f"Newton step, N = {figures['horizon']}, median", f"{figures['newton_step_us']:10.1f} us"),
        ("  99 of 100 within", f"{figures['newton_step_p99_us']:10.1f} us"),
        (
            f"scipy solveh_banded, {UNKNOWNS} unknowns, half width {HALF_WIDTH}",
            f"{figures['solveh_banded_us']:10.1f} us",
        ),
        ("  times a Newton step", f"{figures['solveh_banded_over_newton_step']:10.2f}"),
        (f"tick (estimate, plan, govern), {figures['backend']}", f"{figures['tick_us']:10.1f} us"),
        ("  share of the period", f"{figures['tick_percent_of_period']:10.2f} %"),
        ("  99 of 100 within", f"{figures['tick_p99_us']:10.1f} us"),
        ("  planning alone", "      none" if plan is None else f"{plan:10.1f} us"),
    )
    for text, value in table:
        print(f"{text:52s} {value}")
