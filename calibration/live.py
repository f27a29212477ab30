"""A rig in real time under a calibration's guide: its own links and camera, paced by the clock.

A simulated rig can be led this way too (a rehearsal): its process stands behind pseudo-terminals.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from calibration.bench import Keep, Progress, quiet
from calibration.guide import Guide, led
from calibration.run import WITH_PICTURES
from cartpole import realtime
from cartpole.devices import CAMERA_READY_S, blind, camera_process, rig_links, simulated_rig
from cartpole.messages import Command, Measurement
from cartpole.pacing import Pacer

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.sim.process import SimulatedRig
    from cartpole.vision.frame import Frame
    from cartpole.vision.process import CameraProcess
    from firmware_bridge.rig_links import RigLinks

PLUGGED_S = 0.3  # after which a simulated rig's ports are new


class LiveBench:
    """See ``calibration.bench.Bench``, for started links and an optional camera."""

    def __init__(self, config: Config, links: RigLinks, camera: CameraProcess | None) -> None:
        self._links, self._camera = links, camera
        self._pacer = Pacer(config.controller.period_s)
        self._shown = -1

    def wait(self) -> tuple[int, tuple[Measurement, ...]]:
        """See ``Bench``."""
        now_ns = self._pacer.wait().now_ns
        found: list[Measurement] = list(self._links.poll())
        if self._camera is not None:
            found.extend(self._camera.poll())
        return now_ns, tuple(found)

    def send(self, command: Command) -> None:
        """See ``Bench``."""
        self._links.send(command)

    def frames(self) -> list[Frame]:
        """See ``Bench``."""
        if self._camera is None:
            return []
        new = self._camera.frames_since(self._shown)
        if new:
            self._shown = new[-1].sequence
        return new


class LiveLead:
    """See ``calibration.run.Lead``: opens the configured links anew for every part.

    A simulated rig (a rehearsal) stays as each part leaves it, until this is closed; it is the rig
    of the first settings. ``seeing``: pictures are wanted of it. ``keep(config, part)`` opens the
    recording of a part.
    """

    def __init__(
        self, progress: Progress = quiet, keep: Keep | None = None, *, seeing: bool = True
    ) -> None:
        self._progress, self._keep, self._seeing = progress, keep, seeing
        self._stack = contextlib.ExitStack()
        self._rig: SimulatedRig | None = None

    def __enter__(self) -> LiveLead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End a simulated rig."""
        self._stack.close()
        self._rig = None

    @contextlib.contextmanager
    def __call__(self, config: Config, part: str) -> Iterator[Guide]:
        """Lead a part; raises DeviceError if a device does not answer."""
        wanted = part in WITH_PICTURES
        if self._rig is None:
            self._start(config if self._seeing else blind(config))
        else:
            self._plug_anew(self._rig, config)
        if self._rig is not None and self._rig.ring is not None:
            self._rig.order("plug" if wanted else "unplug", "camera")
        if not wanted:
            config = blind(config)
        with contextlib.ExitStack() as stack:
            camera = camera_process(config, self._rig, stack)
            if camera is not None:
                camera.start()
                camera.wait_ready(CAMERA_READY_S)
            realtime.enter(config.service)
            stack.callback(realtime.leave)
            links = rig_links(config, self._rig, stack)
            links.start()
            bench = LiveBench(config, links, camera)
            yield stack.enter_context(led(config, bench, part, self._progress, self._keep))

    @staticmethod
    def _plug_anew(rig: SimulatedRig, config: Config) -> None:
        # A pseudo-terminal takes a port's parity only once: opening it again needs a new one.
        ports = ("encoder", "motor") if config.encoder.protocol == "arduino_ascii" else ("motor",)
        for port in ports:
            rig.order("unplug", port)
            rig.order("plug", port)
        time.sleep(PLUGGED_S)

    def _start(self, config: Config) -> None:
        if config.motor.port != "sim":
            return
        self._rig = simulated_rig(config, self._stack)
        if self._rig is not None:
            self._rig.start()
            self._rig.wait_ready()
