"""A rig's devices, real or simulated, opened in one place; an ``ExitStack`` closes them again.

Nothing here is started: whoever opens several lets their processes start side by side.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.errors import UsageError
from cartpole.rules.firmware_bridge import link_rules
from firmware_bridge.keeper import Tap, no_tap
from firmware_bridge.rig_links import open_links

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.sim.process import SimulatedRig
    from cartpole.vision.process import CameraProcess
    from firmware_bridge.rig_links import RigLinks

CAMERA_READY_S = 180.0  # the first start compiles kernels
HELPERS_BELOW = 10  # the camera's priority below the control loop's


def simulated_rig(config: Config, stack: contextlib.ExitStack) -> SimulatedRig | None:
    """The simulated rig if a device is ``sim``, not started; ``None`` for a real rig.

    UsageError where only some of the devices are simulated.
    """
    if config.motor.port != "sim":
        if config.camera.source == "sim":
            raise UsageError("camera.source is sim but motor.port is not: set both or neither")
        return None
    camera_sim = config.camera.source in ("sim", "none")
    encoder_sim = config.encoder.port == "sim" or config.encoder.protocol not in (
        "arduino_ascii",
        "lines",
    )
    if not (camera_sim and encoder_sim):
        raise UsageError("motor.port is sim, so encoder.port and camera.source must be sim too")
    from cartpole.sim.process import SimulatedRig

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cartpole-rig-"))
    rig = SimulatedRig(config, config.sim.seed, Path(folder))
    stack.callback(rig.close)
    return rig


def blind(config: Config) -> Config:
    """The same settings without a camera."""
    return config.model_copy(update={"camera": config.camera.model_copy(update={"source": "none"})})


def camera_process(
    config: Config, rig: SimulatedRig | None, stack: contextlib.ExitStack
) -> CameraProcess | None:
    """The camera's process, not started; ``None`` where the settings name no camera."""
    if config.camera.source == "none":
        return None
    from cartpole.vision.process import CameraProcess

    camera = CameraProcess(
        config.camera,
        rig.ring if rig is not None else None,
        priority=max(config.service.priority - HELPERS_BELOW, 0),
        avoid_cpu=config.service.cpu,
        lock_memory=config.service.lock_memory,
    )
    stack.callback(camera.close)
    return camera


def rig_links(
    config: Config,
    rig: SimulatedRig | None,
    stack: contextlib.ExitStack,
    tap: Tap = no_tap,
) -> RigLinks:
    """The serial links, not started; ``tap`` sees their raw bytes. Raises DeviceError."""
    links = open_links(
        link_rules(config),
        tap,
        encoder_port=rig.encoder_port if rig is not None else None,
        motor_port=rig.motor_port if rig is not None else None,
    )
    stack.callback(links.close)
    return links
