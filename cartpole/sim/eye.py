"""Rendered pictures seen by the real tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cartpole.messages import Detection, DetectionHint
from cartpole.sim.render import Renderer
from cartpole.sim.shutter import Shot
from cartpole.vision.frame import Frame
from cartpole.vision.tracker import Tracker

if TYPE_CHECKING:
    from cartpole.sim.rules import RigRules


class Eye:
    """Draws a shot with the true camera and measures it with the configured one."""

    def __init__(self, rules: RigRules, seed: int) -> None:
        sim = rules.sim
        self._renderer = Renderer(
            rules.true.camera,
            seed=seed,
            pixel_noise=sim.pixel_noise,
            distractors=sim.distractors,
            light=sim.light,
        )
        self._tracker = Tracker(rules.told.camera)
        self._offset = rules.tape_angle_rad

    def draw(self, shot: Shot) -> Frame:
        """The picture of a shot; a turned camera is a turned pole."""
        p, v, theta, omega = shot.state
        data = self._renderer.render((p, v, theta + self._offset, omega))
        return Frame(np.ascontiguousarray(data), shot.stamp_ns, shot.arrival_ns, shot.sequence)

    def see(self, shot: Shot, hint: DetectionHint | None) -> tuple[Frame, Detection]:
        """Picture and measurement."""
        frame = self.draw(shot)
        detection = self._tracker.detect(
            frame.data, frame.t_ns, frame.arrival_ns, frame.sequence, hint
        )
        return frame, detection
