"""Recordings of a run: one at a time, begun and ended by anyone, whatever the rig is doing.

A recording's file is opened, and closed, in the asker's thread. Between two ticks the control
thread only copies what the core remembers (0.3 ms, after the command is out) and begins to feed the
queue; the recorder's own thread writes it all down.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cartpole.errors import CartpoleError, SessionError, UsageError
from cartpole.messages import NANOSECONDS
from cartpole.rules.control import config_of
from cartpole.session.opening import open_writer
from cartpole.session.recording import FrameLike
from cartpole.session.writer import SessionWriter

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.control.core import ControlCore
    from cartpole.messages import TickRecord, TickTiming
    from cartpole.sim.shutter import State

T = TypeVar("T")
CLOSE_WITHIN_S = 10.0
LOOK_EVERY_S = 0.2


class Loop(Protocol):
    """What a recorder needs of the daemon."""

    @property
    def config(self) -> Config:
        """The settings in force."""

    def between_ticks(self, work: Callable[[ControlCore], T]) -> T:
        """Have something done in the control thread, after a tick."""


class Recorder:
    """Hands what it is given to the recording in force, if there is one; ``put_*`` never wait.

    ``first`` is where the run's own recording goes; later ones, and that too without it, get names
    by date in ``session.folder``.
    """

    def __init__(self, config: Config, first: Path | None = None, git: str | None = None) -> None:
        self._git = git
        self._writer: SessionWriter | None = None
        self._since_ns = 0
        self._asked = threading.Lock()  # one start or stop at a time
        self._looking = threading.Event()
        self._helper: threading.Thread | None = None
        self.paths: list[Path] = []
        if first is not None or config.session.record:
            writer = open_writer(first, config, git=git)
            writer.put_start(None)
            self._take(writer)

    def attach(self, loop: Loop, tell: Callable[[str, str], None]) -> None:
        """From now on the core's state is recorded every now and then, and what goes is told."""
        self._looking.clear()
        self._helper = threading.Thread(
            target=self._look_after, args=(loop, tell), name="recorder-states", daemon=True
        )
        self._helper.start()

    def _look_after(self, loop: Loop, tell: Callable[[str, str], None]) -> None:
        """The helper's thread: states are taken by the control thread, between two ticks."""
        while not self._looking.wait(LOOK_EVERY_S):
            writer = self._writer
            if writer is None:
                continue
            for line in writer.notices():
                tell("recordings", line)
            if writer.wants_state:
                with contextlib.suppress(CartpoleError):  # the loop ends, or a planner cannot tell
                    loop.between_ticks(partial(self._remember, writer))

    def _remember(self, writer: SessionWriter, core: ControlCore) -> None:
        """In the control thread."""
        if writer is self._writer:
            writer.put_state(time.monotonic_ns(), core.state())

    def start(self, loop: Loop) -> str:
        """Begin a recording; answers what is recorded where.

        Raises UsageError if there is one already, SessionError if none can be begun.
        """
        with self._asked:
            if self._writer is not None and self._writer.status().recording:
                raise UsageError(f"recording already: {self._writer.path.name}")
            self._leave()
            writer = open_writer(None, loop.config, git=self._git)
            try:
                loop.between_ticks(lambda core: self._begin(core, writer))
            except BaseException:
                writer.close()
                writer.path.unlink(missing_ok=True)
                raise
            return f"recording {writer.path.name}"

    def stop(self) -> str:
        """End the recording and finish its file; answers what it holds.

        Raises UsageError if there is none, SessionError if it ended before for want of disk.
        """
        with self._asked:
            writer = self._leave()
            if writer is None:
                raise UsageError("not recording")
            status = writer.status()
            if status.error:
                raise SessionError(f"{writer.path.name} ended early: {status.error}")
            lost = f", {status.dropped} items lost" if status.dropped else ""
            return f"recorded {writer.path.name}: {status.bytes / 1e6:.1f} MB{lost}"

    def close(self) -> None:
        """End the recording, if there is one."""
        self._looking.set()
        if self._helper is not None:
            self._helper.join(1.0)
        with contextlib.suppress(SessionError, UsageError):
            self.stop()

    def status(self) -> dict[str, Any] | None:
        """Name, path, seconds and bytes of the recording in force, and why it ended if it did."""
        writer, since_ns = self._writer, self._since_ns
        if writer is None:
            return None
        status = writer.status()
        return {
            "name": writer.path.name,
            "path": str(writer.path),
            "seconds": (time.monotonic_ns() - since_ns) / NANOSECONDS,
            "bytes": status.bytes,
            "dropped": status.dropped,
            "error": status.error,
        }

    @property
    def recording(self) -> bool:
        """Whether anything put is kept."""
        return self._writer is not None

    def put_tick(
        self, record: TickRecord, truth: State | None = None, timing: TickTiming | None = None
    ) -> None:
        """See ``SessionWriter``."""
        writer = self._writer
        if writer is not None:
            writer.put_tick(record, truth, timing)

    def put_raw(self, t_ns: int, link: str, direction: str, data: bytes) -> None:
        """See ``SessionWriter``."""
        writer = self._writer
        if writer is not None:
            writer.put_raw(t_ns, link, direction, data)

    def put_frame(self, frame: FrameLike) -> None:
        """See ``SessionWriter``."""
        writer = self._writer
        if writer is not None:
            writer.put_frame(frame)

    def put_event(self, t_ns: int, name: str, detail: str = "") -> None:
        """See ``SessionWriter``."""
        writer = self._writer
        if writer is not None:
            writer.put_event(t_ns, name, detail)

    def _begin(self, core: ControlCore, writer: SessionWriter) -> None:
        """In the control thread: the next tick is the recording's first."""
        if config_of(core.settings) is not writer.config:
            raise SessionError("the settings changed just now: ask again")
        state = core.state()
        writer.put_start(core.homed)
        writer.put_state(time.monotonic_ns(), state)
        self._take(writer)

    def _take(self, writer: SessionWriter) -> None:
        self.paths.append(writer.path)
        self._since_ns = time.monotonic_ns()
        self._writer = writer

    def _leave(self) -> SessionWriter | None:
        """Feed the recording no more and write down what it was fed."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close(CLOSE_WITHIN_S)
        return writer
