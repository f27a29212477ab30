"""`cartpole report`: a recording as a page, and as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help="Plots, timing, faults and provenance of a recording in one HTML file.")
    def report(
        session: Annotated[Path, typer.Argument(help="a recording (MCAP)")],
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="default: beside it, .html")
        ] = None,
        video: Annotated[Path | None, typer.Option(help="also write a film (MP4)")] = None,
    ) -> None:
        from cartpole.session.reader import open_session
        from cartpole.session.report import write_report

        page = output if output is not None else session.with_suffix(".html")
        opened = open_session(session)
        write_report(opened, page)
        print(f"report {page}")
        if video is not None:
            from cartpole.session.video import write_video

            pictures = write_video(opened, video)
            print(f"film {video}, {pictures} pictures")
