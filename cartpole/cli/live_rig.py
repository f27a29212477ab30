"""A rig in real time under a calibration's guide: its own links and camera, paced by the clock.

A simulated rig can be led this way too (a rehearsal): its process stands behind pseudo-terminals.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.guide import Guide, Keep, Progress, led, quiet
from calibration.run import WITH_PICTURES
from cartpole import realtime
from cartpole.messages import Command, Measurement
from cartpole.pacing import Pacer
from firmware_bridge.rig_links import RigLinks, open_links

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.sim.process import SimulatedRig
    from cartpole.vision.frame import Frame
    from cartpole.vision.process import CameraProcess

CAMERA_READY_S = 180.0  # the first start compiles kernels


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
        with contextlib.ExitStack() as stack:
            seeing = part in WITH_PICTURES
            rig = _rehearsal(config, stack, seeing) if config.motor.port == "sim" else None
            camera = _camera(config, rig, stack) if seeing else None
            realtime.enter(config.service)
            stack.callback(realtime.leave)
            links = open_links(
                config,
                encoder_port=rig.encoder_port if rig is not None else None,
                motor_port=rig.motor_port if rig is not None else None,
            )
            stack.callback(links.close)
            links.start()
            bench = LiveBench(config, links, camera)
            yield stack.enter_context(led(config, bench, part, self._progress, self._keep))


def _rehearsal(config: Config, stack: contextlib.ExitStack, seeing: bool) -> SimulatedRig:
    """A simulated rig in a process of its own; it keeps its truth whatever the settings believe."""
    from cartpole.sim.process import SimulatedRig

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cartpole-rig-"))
    if not seeing:
        blind = config.camera.model_copy(update={"source": "none"})
        config = config.model_copy(update={"camera": blind})
    rig = SimulatedRig(config, config.sim.seed, Path(folder))
    stack.callback(rig.close)
    rig.start()
    rig.wait_ready()
    return rig


def _camera(config: Config, rig: SimulatedRig | None, stack: contextlib.ExitStack) -> CameraProcess:
    from cartpole.vision.process import CameraProcess

    camera = CameraProcess(
        config.camera,
        rig.ring if rig is not None else None,
        priority=max(config.service.priority - 10, 0),
        avoid_cpu=config.service.cpu,
    )
    stack.callback(camera.close)
    camera.start()
    camera.wait_ready(CAMERA_READY_S)
    return camera
