"""A rig in real time under a calibration's guide: its own links and camera, paced by the clock.

A simulated rig can be led this way too (a rehearsal): its process stands behind pseudo-terminals.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from calibration.guide import Guide, Keep, Progress, led, quiet
from calibration.run import WITH_PICTURES
from cartpole import realtime
from cartpole.devices import CAMERA_READY_S, blind, camera_process, rig_links, simulated_rig
from cartpole.messages import Command, Measurement
from cartpole.pacing import Pacer

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.frame import Frame
    from cartpole.vision.process import CameraProcess
    from firmware_bridge.rig_links import RigLinks


class LiveBench:
    """See ``calibration.guide.Bench``, for started links and an optional camera."""

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
    """See ``calibration.run.Lead``: opens the configured devices anew for every part.

    ``keep(config, part)`` opens the recording of a part.
    """

    def __init__(self, progress: Progress = quiet, keep: Keep | None = None) -> None:
        self._progress, self._keep = progress, keep

    @contextlib.contextmanager
    def __call__(self, config: Config, part: str) -> Iterator[Guide]:
        """Lead a part; raises DeviceError if a device does not answer."""
        if part not in WITH_PICTURES:
            config = blind(config)
        with contextlib.ExitStack() as stack:
            rig = simulated_rig(config, stack)
            if rig is not None:
                rig.start()
                rig.wait_ready()
            camera = camera_process(config, rig, stack)
            if camera is not None:
                camera.start()
                camera.wait_ready(CAMERA_READY_S)
            realtime.enter(config.service)
            stack.callback(realtime.leave)
            links = rig_links(config, rig, stack)
            links.start()
            bench = LiveBench(config, links, camera)
            yield stack.enter_context(led(config, bench, part, self._progress, self._keep))
