"""The simulated rig's camera: what its frames show.

``pictures: rendered`` draws every frame and runs the real tracker on it; ``measured`` draws the
tracker's answer from its noise, which is what makes virtual time fast.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cartpole.messages import Detection, DetectionHint, DetectionStatus
from cartpole.sim.shutter import Shot, Shutter, State

if TYPE_CHECKING:
    from cartpole.sim.eye import Eye
    from cartpole.sim.rules import RigRules
    from cartpole.vision.frame import Frame

HintSource = Callable[[int], DetectionHint | None]


class VirtualCamera:
    """Camera and tracker in virtual time: call ``expose`` at ``next_ns``, ``arrived`` at a tick."""

    def __init__(
        self,
        rules: RigRules,
        seed: int,
        hint: HintSource,
        t_ns: int = 0,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        self._shutter = Shutter(rules, seed, t_ns)
        self._sim = rules.sim
        self._hint = hint
        self._on_frame = on_frame
        self._offset = rules.tape_angle_rad
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
        self._flying: deque[Shot] = deque()
        self._eye: Eye | None = None
        if rules.sim.pictures == "rendered":
            from cartpole.sim.eye import Eye  # loads OpenCV

            self._eye = Eye(rules, seed)

    @property
    def next_ns(self) -> int:
        """Middle of the next exposure."""
        return self._shutter.next_ns

    def expose(self, state: State) -> None:
        """Take the next frame."""
        shot = self._shutter.expose(state)
        if not shot.lost:
            self._flying.append(shot)

    def arrived(self, now_ns: int) -> list[Detection]:
        """Detections of the frames that arrived by ``now_ns``, in the order of arrival."""
        if not self._flying:
            return []
        ready = [shot for shot in self._flying if shot.arrival_ns <= now_ns]
        self._flying = deque(shot for shot in self._flying if shot.arrival_ns > now_ns)
        ready.sort(key=lambda shot: shot.arrival_ns)
        return [self._look(shot) for shot in ready]

    def _look(self, shot: Shot) -> Detection:
        if self._eye is None:
            return self._measure(shot)
        frame, detection = self._eye.see(shot, self._hint(shot.stamp_ns))
        if self._on_frame is not None:
            self._on_frame(frame)
        return detection

    def _measure(self, shot: Shot) -> Detection:
        sim = self._sim
        angle_noise, place_noise = self._rng.standard_normal(), self._rng.standard_normal()
        theta = shot.state[2] + self._offset + sim.camera_sigma_rad * angle_noise
        if shot.outlier:
            theta += float(self._rng.uniform(-math.pi, math.pi))
        return Detection(
            t_ns=shot.stamp_ns,
            arrival_ns=shot.arrival_ns,
            sequence=shot.sequence,
            status=DetectionStatus.OK,
            theta_rad=math.remainder(theta, 2.0 * math.pi),
            p_m=shot.state[0] + sim.camera_sigma_m * place_noise,
            sigma_theta_rad=sim.camera_sigma_rad,
            sigma_p_m=sim.camera_sigma_m,
            confidence=1.0,
        )
