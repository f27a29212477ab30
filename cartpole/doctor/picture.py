"""What the camera gives and what the tracker makes of it, for `cartpole doctor camera`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole import devices
from cartpole.errors import UsageError
from cartpole.kernel_cache import use_kernel_cache

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.alignment import AlignmentReport


def watch_camera(config: Config, folder: Path, seconds: float) -> tuple[str, AlignmentReport]:
    """What the device says of itself, and the report; pictures go into ``folder``.

    Raises UsageError without a camera or where the folder cannot be written, DeviceError.
    """
    if config.camera.source == "none":
        raise UsageError("camera.source is none: there is nothing to look at")
    use_kernel_cache()
    from cartpole.vision.alignment import watch
    from cartpole.vision.sources import make_source
    from cartpole.vision.tracker import Tracker
    from cartpole.vision.warm_up import warm_up

    tracker = Tracker(config.camera)
    warm_up(tracker, config.camera)
    with ExitStack() as stack:
        rig = devices.simulated_rig(config, stack)
        if rig is not None:
            rig.start()
        source = make_source(config.camera, rig.ring if rig else None)
        stack.callback(source.close)
        try:
            return source.open(), watch(source, tracker, config.camera, folder, seconds)
        except OSError as error:
            raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from None
