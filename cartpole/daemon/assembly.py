"""Puts a daemon together from its config: rig or simulated rig, links, camera, recorder.

Everything that is opened here is closed in the reverse order, whatever happens; the links' own
close sends zero.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole import devices, realtime
from cartpole.config.load import config_sha256
from cartpole.daemon.daemon import Daemon, Devices, Listener
from cartpole.daemon.notify import Herald, Notifier, watchdog_period_ns
from cartpole.daemon.recorder import Recorder
from cartpole.daemon.reload import SettingsWatch
from cartpole.daemon.requests import Desk
from cartpole.daemon.settings import SettingsKeeper
from cartpole.daemon.status_line import StatusLine
from cartpole.messages import TickRecord, TickTiming
from cartpole.remote.socket import ControlSocket, free_path
from cartpole.session.provenance import git_revision
from cartpole.session.summary import SummaryBuilder

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.sim.shutter import State
    from cartpole.vision.process import CameraProcess

WARM_TICKS = 60


class SummaryListener:
    """Feeds the summary."""

    def __init__(self, summary: SummaryBuilder) -> None:
        self._summary = summary

    def put_tick(
        self, record: TickRecord, truth: State | None = None, timing: TickTiming | None = None
    ) -> None:
        """See ``Listener``."""
        self._summary.add(record, truth, timing)


@dataclass(frozen=True, slots=True)
class Assembly:
    """A daemon that is ready to run, and what gathers its results."""

    daemon: Daemon
    summary: SummaryBuilder
    settings: SettingsKeeper
    recorder: Recorder
    camera: CameraProcess | None
    reload: Callable[[], None]


@contextlib.contextmanager
def assemble(
    config: Config,
    config_path: Path | None = None,
    overrides: list[str] | None = None,
    *,
    record: Path | None = None,
    headless: bool = False,
) -> Iterator[Assembly]:
    """Open everything, yield, close everything. Raises DeviceError, ConfigError, SessionError."""
    with contextlib.ExitStack() as stack:
        # Before anything is opened or written that belongs to the daemon that may serve there.
        free_path(Path(config.service.socket))
        notifier = Notifier()
        notifier.send(STATUS="starting")
        rig = devices.simulated_rig(config, stack)
        camera = devices.camera_process(config, rig, stack)
        # Both processes import and warm their kernels while this one does.
        if camera is not None:
            camera.start()
        if rig is not None:
            rig.start()
        warm_up(config)
        if rig is not None:
            rig.wait_ready()
        if camera is not None:
            camera.wait_ready(devices.CAMERA_READY_S)
        if config.dashboard.enabled:
            # Before real-time priority is taken, which a child would inherit.
            from cartpole.dashboard.process import PageProcess

            page = PageProcess(config, camera.pictures if camera is not None else None)
            stack.enter_context(page)
        git = git_revision()
        recorder = Recorder(config, record, git)
        stack.callback(recorder.close)
        stack.callback(realtime.release)  # after the links' close, which sends zero
        links = devices.rig_links(config, rig, stack, recorder.put_raw)
        for line in realtime.enter(config.service):
            print(f"real time: {line}", file=sys.stderr)
        # Collecting holds everything up for a twentieth of a second: before anybody reads.
        realtime.freeze_garbage()
        stack.callback(realtime.thaw_garbage)
        links.start()
        summary = SummaryBuilder(config, git, config_sha256(config))
        listeners: list[Listener] = [
            SummaryListener(summary),
            Herald(notifier, config, watchdog_period_ns()),
            recorder,
        ]
        if camera is not None and config.session.frames != "none":
            from cartpole.daemon.pictures import PictureTap

            stack.enter_context(PictureTap(camera.pictures, recorder))
        truth = rig.truth if rig is not None else None
        push = rig.push if rig is not None else None
        held_up = rig.held_up if rig is not None else None
        daemon = Daemon(config, Devices(links, camera, truth, push, held_up), tuple(listeners))
        stack.enter_context(StatusLine(daemon, events_only=headless))
        settings = SettingsKeeper(
            config_path, overrides or [], lambda: daemon.config, daemon.ask, lambda: daemon.mode
        )
        tell = _teller(daemon, recorder)
        recorder.attach(daemon, tell)
        watch = SettingsWatch(
            config_path, settings, tell, notifier.reloading, lambda: notifier.send(READY=1)
        )
        stack.enter_context(watch)
        desk = Desk(daemon, settings, recorder)
        stack.enter_context(ControlSocket(Path(config.service.socket), desk.answer))
        realtime.lift_helpers(config.service)
        stack.callback(notifier.close)
        yield Assembly(daemon, summary, settings, recorder, camera, watch.ask)


def _teller(daemon: Daemon, recorder: Recorder) -> Callable[[str, str], None]:
    """Events that belong to no tick: to the terminal and, if there is one, into a recording."""

    def tell(name: str, detail: str) -> None:
        daemon.events.put(f"{name}: {detail}")
        recorder.put_event(time.monotonic_ns(), name, detail)

    return tell


def warm_up(config: Config) -> None:
    """Run every kernel of a tick once, in virtual time, so that the first real tick is like any."""
    from cartpole.sim.run import VirtualRun

    quick = config.model_copy(
        update={
            "sim": config.sim.model_copy(update={"homed": True, "pictures": "measured"}),
            "encoder": config.encoder.model_copy(update={"protocol": "arduino_ascii"}),
            "motor": config.motor.model_copy(update={"protocol": "sabertooth_text"}),
        }
    )
    run = VirtualRun(quick, 0)
    for count, tick in enumerate(run.ticks()):
        run.core.hint(tick.record.input.now_ns)
        if count >= WARM_TICKS:
            return
