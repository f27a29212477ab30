"""`cartpole sessions`, `diff`, `check`, `recover`: looking after recordings."""

from __future__ import annotations

from collections import Counter
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
from cartpole.shown import shown

if TYPE_CHECKING:
    from cartpole.session.invariants import Violation

SHOWN = 20  # violations printed one by one


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command(help="List the recordings of a folder: date, length, outcome, size.")
    def sessions(
        folder: Annotated[
            Path | None, typer.Argument(help="folder of recordings; default: session.folder")
        ] = None,
        config: ConfigOption = None,
        override: SetOption = None,
        json_path: JsonOption = None,
        quick: Annotated[
            bool, typer.Option("--quick", help="trust what is at the end of each file")
        ] = False,
    ) -> None:
        _sessions(folder or Path(load(config, override).session.folder), json_path, quick)

    @app.command(help="Show in which settings, versions and figures two recordings differ.")
    def diff(
        first: Annotated[Path, typer.Argument(help="a recording")],
        second: Annotated[Path, typer.Argument(help="another one")],
        json_path: JsonOption = None,
    ) -> None:
        _diff(first, second, json_path)

    @app.command(help="Hold a recording against the invariants; exit 1 if one is violated.")
    def check(
        session: Annotated[Path, typer.Argument(help="a recording")],
        json_path: JsonOption = None,
    ) -> None:
        _check(session, json_path)

    @app.command(help="Save all that is whole in a broken recording, before and behind damages.")
    def recover(
        broken: Annotated[Path, typer.Argument(help="a cut off or damaged recording")],
        output: Annotated[Path, typer.Option("--output", "-o", help="where the rest goes")],
        json_path: JsonOption = None,
        force: ForceOption = False,
    ) -> None:
        _recover(broken, output, json_path, force)


def _sessions(folder: Path, json_path: Path | None, quick: bool) -> None:
    from cartpole.errors import SessionError
    from cartpole.session.listing import list_sessions

    if not folder.is_dir():
        raise SessionError(f"no folder {folder}: name one, as in `cartpole sessions FOLDER`")
    entries = list_sessions(folder, quick)
    for entry in entries:
        print(shown(entry.line()))
    if not entries:
        print(f"no recordings in {folder}")
    write_json(json_path, {"sessions": [entry.figures() for entry in entries]})


def _diff(first: Path, second: Path, json_path: Path | None) -> None:
    from cartpole.session.listing import compare
    from cartpole.session.reader import open_session

    one_session, other_session = open_session(first), open_session(second)
    found = compare(one_session, other_session)
    for path, session in ((first, one_session), (second, other_session)):
        for line in session.told():
            print(shown(f"{path}: {line}"))
    groups = {
        "settings": found.settings,
        "provenance": found.provenance,
        "figures": found.figures,
    }
    for title, pairs in groups.items():
        print(f"{title}: " + ("the same" if not pairs else ""))
        for name, (one, other) in pairs.items():
            print(shown(f"  {name:36} {_show(one):>24}  {_show(other)}"))
    write_json(json_path, groups)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def _check(path: Path, json_path: Path | None) -> None:
    from cartpole.errors import SessionError
    from cartpole.session.invariants import INVARIANTS, held_against, wire_of
    from cartpole.session.reader import open_session

    session = open_session(path)
    worst: list[Violation] = []
    counts: Counter[str] = Counter()
    for found in held_against(session, wire_of(open_session(path))):
        for violation in found:
            counts[violation.invariant] += 1
            if len(worst) < SHOWN:
                worst.append(violation)
    for violation in worst:
        print(shown(f"{violation.invariant} tick {violation.tick}: {violation.why}"))
    if counts.total() > SHOWN:
        print(f"... and {counts.total() - SHOWN} more")
    for line in session.told():
        print(shown(line))
    table = {name: counts[name] for name in INVARIANTS}
    ticks = session.account.whole
    print(f"{ticks} ticks: " + ", ".join(f"{name} {count}" for name, count in table.items()))
    figures = {"ticks": ticks, "violations": table, "whole": session.whole}
    write_json(json_path, {**figures, "missing": session.account.missing, "told": session.told()})
    if ticks == 0:
        raise SessionError(f"{path} holds no whole tick: nothing was checked")
    if counts.total() or not session.whole:
        raise typer.Exit(1)


def _recover(broken: Path, output: Path, json_path: Path | None, force: bool) -> None:
    import dataclasses

    from cartpole.session.recover import recover

    found = recover(broken, output, force)
    print(
        f"{found.ticks} ticks, {found.messages} messages from {found.saved_bytes} of "
        f"{found.total_bytes} bytes saved to {shown(str(output))}"
    )
    for line in found.damage:
        print(shown(line))
    write_json(json_path, dataclasses.asdict(found))
