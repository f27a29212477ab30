"""The process around the controller: start, recordings, service, page."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cartpole.config.schema.fields import HomePath, Section, whole


class Startup(Section):
    """What happens after the start."""

    action: Literal["disarmed", "swing_up"] = Field(
        default="disarmed", description="wait for an operator, or arm, home and swing up by itself"
    )


class Session(Section):
    """Recordings."""

    record: bool = Field(default=True, description="record every run")
    folder: HomePath = Field(default="sessions", max_length=300, description="where recordings go")
    frames: Literal["none", "fault", "all"] = Field(
        default="fault",
        description="keep pictures never, from the minute before a fault, or always",
    )
    frame_every: int = whole(1, 1, 1000, "with frames: all, keep every n-th")
    max_folder_mb: int = whole(4096, 10, 10_000_000, "oldest recordings go beyond this")
    max_file_mb: int = whole(1024, 1, 100_000, "a recording is continued in a new file beyond this")
    max_age_days: int = whole(365, 1, 100_000, "older recordings are removed")
    keep_newest: int = whole(5, 1, 10_000, "so many of the newest recordings are never removed")


class Service(Section):
    """The process."""

    socket: HomePath = Field(
        default="run/cartpole.sock", max_length=100, description="control socket (mode 0660)"
    )
    priority: int = whole(50, 0, 99, "SCHED_FIFO priority; 0 keeps the ordinary scheduler")
    cpu: int = whole(-1, -1, 1023, "processor of the control thread; -1 lets the kernel choose")
    lock_memory: bool = Field(default=True, description="mlockall where allowed")


class Dashboard(Section):
    """The live page."""

    enabled: bool = Field(default=False, description="serve the page with `run`")
    host: str = Field(default="127.0.0.1", max_length=100, description="address to listen on")
    port: int = whole(8080, 1, 65535, "port to listen on")
    commands: bool = Field(default=False, description="allow buttons and sliders")
