"""`cartpole replay`: recorded inputs into the same controller, changed or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, write_json
from cartpole.shown import shown

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.session.replay import ReplayResult

SessionArgument = Annotated[Path, typer.Argument(help="a recording (MCAP)")]


def settings_change(
    config: Path | None, overrides: list[str] | None
) -> Callable[[Config], Config] | None:
    """What ``--config`` and ``--set`` make of recorded settings; None when neither is given."""
    if config is None and not overrides:
        return None
    from cartpole.config.load import dump_yaml, load_config, loads_config

    if config is not None:
        replacement = load_config(config, overrides or [])
        return lambda _recorded: replacement
    return lambda recorded: loads_config(dump_yaml(recorded), "recorded settings", overrides)


def named_code(config: Path | None, overrides: list[str] | None) -> dict[str, str]:
    """The code that a user names himself, on the command line or in a file given there."""
    from cartpole.config.load import load_config
    from cartpole.session.code import CODE, code_named

    if config is not None:
        return code_named(load_config(config, overrides or []))
    given = dict(one.split("=", 1) for one in overrides or [] if "=" in one)
    return {key: given[key] for key in CODE if key in given}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help="Feed a recording to the controller: the same bits, or what would differ.")
    def replay(
        session: SessionArgument,
        config: ConfigOption = None,
        override: SetOption = None,
        source: Annotated[
            str,
            typer.Option("--from", help="inputs, or raw: decode serial bytes and pictures anew"),
        ] = "inputs",
        from_time: Annotated[float, typer.Option(help="compare from this second on", min=0)] = 0.0,
        to_time: Annotated[float | None, typer.Option(help="stop after this second", min=0)] = None,
        realtime: Annotated[bool, typer.Option(help="as slowly as it was recorded")] = False,
        plot: Annotated[
            Path | None, typer.Option(help="write recorded against replayed (PNG)")
        ] = None,
        json_path: JsonOption = None,
    ) -> None:
        from cartpole.errors import UsageError
        from cartpole.session.outputs import planned, written

        if source not in ("inputs", "raw"):
            raise UsageError(f"--from {source}: inputs or raw")
        planned(picture=plot, figures=json_path, inputs=[session, config])
        change = settings_change(config, override)
        kind: Literal["inputs", "raw"] = "raw" if source == "raw" else "inputs"
        series = plot is not None
        named = named_code(config, override)
        result, speed = _replay(session, change, kind, from_time, to_time, realtime, series, named)
        if plot is not None:
            from cartpole.session.plot import plot_replay

            with written(plot, force=True) as beside:
                plot_replay(result, beside)
        write_json(json_path, {**result.figures(), "times_real_time": speed})
        _tell(result, speed)
        other = not result.same_build and result.within_tolerance
        if not result.changed and not result.bitwise_equal and not other:
            raise typer.Exit(1)


def _replay(
    path: Path,
    change: Callable[[Config], Config] | None,
    source: Literal["inputs", "raw"],
    from_s: float,
    to_s: float | None,
    realtime: bool,
    keep_series: bool,
    allowed: dict[str, str],
) -> tuple[ReplayResult, float]:
    from cartpole.cli.progress import announce_compilation
    from cartpole.session.code import code_told, refuse_code
    from cartpole.session.parallel import timed_replay
    from cartpole.session.provenance import git_revision
    from cartpole.session.reader import open_session

    session = open_session(path)
    flown = session.config if change is None else change(session.config)
    refuse_code(flown, allowed, str(path))
    for line in code_told(session, flown):
        print(shown(line))
    announce_compilation()
    inputs = None
    if source == "raw":
        from cartpole.session.redecode import RawInputs

        inputs = RawInputs(session, flown)
    return timed_replay(
        session,
        change,
        from_s=from_s,
        to_s=to_s,
        inputs=inputs,
        on_tick=_Pacer() if realtime else None,
        keep_series=keep_series,
        git=git_revision(),
        allowed=allowed,
    )


class _Pacer:
    """Waits until a tick is due and shows where the run is."""

    def __init__(self) -> None:
        self._start: tuple[int, int] | None = None

    def __call__(self, tick: object, record: object) -> None:
        import time

        from cartpole.messages import NANOSECONDS, TickRecord

        assert isinstance(record, TickRecord)
        now_ns = record.input.now_ns
        if self._start is None:
            self._start = (now_ns, time.monotonic_ns())
        due_ns = self._start[1] + now_ns - self._start[0]
        time.sleep(max(0, due_ns - time.monotonic_ns()) / NANOSECONDS)
        if record.index % 25 == 0 and record.estimate is not None:
            p, _, theta, _ = record.estimate.state
            seconds = (now_ns - self._start[0]) / NANOSECONDS
            print(
                f"{seconds:8.1f} s  {record.mode.value:12} p {p:+.3f} m  theta {theta:+.3f} rad  "
                f"u {record.command.velocity_m_s:+.3f} m/s"
            )


def _tell(result: ReplayResult, speed: float) -> None:
    said = f"{result.compared} ticks compared, {result.duration_s:.1f} s, {speed} x real time"
    if result.skipped:
        said += f"; {result.skipped} ticks behind a gap were passed over, up to the next state"
    for line in result.told:
        print(shown(line))
    if result.bitwise_equal:
        far = " as far as it goes" if result.told else ""
        print(f"bit for bit the same{far}: {said}")
        return
    if result.same_build or result.changed:
        print(f"different: {said}")
    elif result.within_tolerance:
        print(f"another build made it: the same within the tolerance between builds: {said}")
    else:
        print(f"another build made it, and this one behaves differently: {said}")
    if result.first is not None:
        print(
            f"first at tick {result.first.tick} ({result.first.t_s:.3f} s): "
            + ", ".join(result.first.signals)
        )
    for name, difference in result.differences.items():
        if difference.largest > 0:
            print(
                f"  {name:14} {difference.largest:.6g} at tick {difference.tick} "
                f"({difference.t_s:.3f} s)"
            )
