"""The true rig by a user's equations of motion (``optimizer.user_model``)."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.user import load_user_model

Figures = tuple[float, float, float, float]


@functools.lru_cache(maxsize=4)
def make_advance(parts: Any) -> Any:
    """``advance``: as ``plant._advance`` over the user's step and its parameters q.

    Disturbances are changes of speed: that of the cart reaches the pole through the configured
    pole's coupling, and so does a hard stop.
    """

    def advance(
        state: Any, command: float, steps: int, step_s: float, noise: Any, used: int,
        cart_noise: float, pole_noise: float, coupling: float, q: Any, stop_m: float,
    ) -> Figures:  # fmt: skip
        root = math.sqrt(step_s)
        f, z, s, c = np.empty(2), np.empty(4), np.empty(4), np.empty(1)
        out = np.empty(4)
        for k in range(steps):
            parts.step(state, command, step_s, q, out, f, z, s, c)
            push = cart_noise * root * noise[used + 2 * k]
            out[1] += push
            out[3] += pole_noise * root * noise[used + 2 * k + 1]
            out[3] -= coupling * math.cos(out[2]) * push
            if abs(out[0]) > stop_m:
                out[3] += coupling * math.cos(out[2]) * out[1]
                out[0], out[1] = math.copysign(stop_m, out[0]), 0.0
            state[:] = out
        return state[0], state[1], state[2], state[3]

    return njit(cache=True, nogil=True, error_model="numpy")(advance)


class Foreign:
    """A user's truth; ``advance`` takes what the plant's own does."""

    def __init__(self, where: str, coupling_1_m: float) -> None:
        user = load_user_model(where)
        self._run, self._q = make_advance(user.parts), np.array(user.q)
        self._coupling = coupling_1_m

    def advance(
        self, state: FloatArray, command: float, steps: int, step_s: float, noise: FloatArray,
        used: int, disturbance: tuple[float, float], stop_m: float,
    ) -> Figures:  # fmt: skip
        """Advance ``state`` (4,) in place."""
        figures: Figures = self._run(
            state, command, steps, step_s, noise, used, *disturbance, self._coupling, self._q,
            stop_m,
        )  # fmt: skip
        return figures
