"""`cartpole report`: a recording as a page, and as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cartpole.cli.common import ForceOption
from cartpole.shown import shown


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help="Plots, timing, faults and provenance of a recording in one HTML file.")
    def report(
        session: Annotated[Path, typer.Argument(help="a recording (MCAP)")],
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="default: beside it, .html")
        ] = None,
        video: Annotated[Path | None, typer.Option(help="also write a film (MP4)")] = None,
        force: ForceOption = False,
    ) -> None:
        from cartpole.session.code import code_told
        from cartpole.session.outputs import begins_with, check_output, written
        from cartpole.session.reader import open_session
        from cartpole.session.report import PAGE_BEGINS, write_report

        page = output if output is not None else session.with_suffix(".html")
        opened = open_session(session)
        ours = begins_with(PAGE_BEGINS.encode())
        if video is not None:
            check_output(video, inputs=opened.parts, force=force)
        with written(page, inputs=opened.parts, ours=ours, force=force) as beside:
            write_report(opened, beside)
        for line in [*opened.told(), *code_told(opened, opened.config)]:
            print(shown(line))
        print(f"report {page}")
        if video is not None:
            from cartpole.session.video import write_video

            with written(video, inputs=opened.parts, force=force) as beside:
                pictures = write_video(opened, beside)
            print(f"film {video}, {pictures} pictures")
