"""The simulated rig as a Gymnasium environment, ``cartpole/SwingUp-v0``.

``import gymnasium, cartpole`` (in this order; else ``cartpole.register_envs()``) registers it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from cartpole.api.rig import Rig
from cartpole.messages import Estimate

Observation = npt.NDArray[np.float32]
MOST_RATE_RAD_S = 60.0
PICTURE = (240, 320)


class SwingUp(gymnasium.Env[Observation, Observation]):
    """Swing the pole up and hold it, seen through the rig's own noisy sensors and filter.

    Action (1,) in [-1, 1]: the cart velocity asked for, as a share of ``rig.velocity_limit_m_s``;
    the governor stands behind it. Observation (6,) float32: p / limit, v / limit, cos theta,
    sin theta (theta 0 hanging), omega [rad/s], last command / limit. Reward a tick, in [-2, 1]:
    -cos theta (1 upright) less .5 (p / limit)^2 less .01 (omega / 10)^2 and a little for commands.
    An episode is cut after 500 ticks (10 s) and ends where the cart meets a switch.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 50,
    }

    def __init__(
        self,
        settings: str | None = None,
        changes: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._rig = Rig(settings, changes=changes)
        self.render_mode = render_mode
        rig = self._rig.config.rig
        self._p, self._v = rig.position_limit_m, rig.velocity_limit_m_s
        self._switch_m = rig.track_length_m / 2
        low = np.array([-4.0, -4.0, -1.0, -1.0, -MOST_RATE_RAD_S, -1.0], dtype=np.float32)
        self.observation_space = gymnasium.spaces.Box(low, -low, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Hanging near the middle; ``options={"start": (p, v, theta, omega)}`` elsewhere."""
        super().reset(seed=seed)
        start = (options or {}).get("start")
        estimate = self._rig.reset(int(self.np_random.integers(2**31)), start)
        return self._seen(estimate), self._told()

    def step(self, action: Observation) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One tick of 20 ms."""
        share = float(np.clip(np.asarray(action, dtype=np.float64).reshape(-1)[0], -1.0, 1.0))
        estimate = self._rig.step(share * self._v)
        p, _, theta, omega = self._rig.state
        reward = -math.cos(theta) - 0.5 * (p / self._p) ** 2 - 1e-4 * omega**2 - 0.01 * share**2
        over = abs(p) >= self._switch_m
        return self._seen(estimate), max(-2.0, reward), over, False, self._told()

    def render(self) -> npt.NDArray[np.uint8] | None:
        """The rig from the side, (240, 320, 3); ``None`` without ``render_mode``."""
        if self.render_mode != "rgb_array":
            return None
        import cv2

        height, width = PICTURE
        picture = np.full((height, width, 3), 250, dtype=np.uint8)
        p, _, theta, _ = self._rig.state
        scale = 0.45 * width / self._switch_m
        x, y = width / 2 + scale * p, height / 2
        length = 0.4 * height
        tip = (round(x + length * math.sin(theta)), round(y + length * math.cos(theta)))
        cv2.line(picture, (0, round(y)), (width, round(y)), (170, 170, 170), 2)
        cv2.rectangle(
            picture, (round(x) - 16, round(y) - 8), (round(x) + 16, round(y) + 8), (60, 60, 60), -1
        )
        cv2.line(picture, (round(x), round(y)), tip, (200, 80, 30), 5, cv2.LINE_AA)
        return picture

    def _seen(self, estimate: Estimate) -> Observation:
        p, v, theta, omega = estimate.state
        return np.clip(
            np.array(
                [
                    p / self._p,
                    v / self._v,
                    math.cos(theta),
                    math.sin(theta),
                    omega,
                    self._rig.command_m_s / self._v,
                ],
                dtype=np.float32,
            ),
            self.observation_space.low,  # type: ignore[attr-defined]
            self.observation_space.high,  # type: ignore[attr-defined]
        )

    def _told(self) -> dict[str, Any]:
        return {"state": self._rig.state, "command_m_s": self._rig.command_m_s}
