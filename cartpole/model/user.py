"""A user's equations of motion: loaded from a file, compiled, linearised.

The file has a function ``accelerations(x, u, q, m)`` of the state x = (p, v, theta, omega), the
held velocity command u, parameters q and a namespace m (sin, cos, exp, sqrt), which returns (vdot,
omegadot); and the numbers ``PARAMETERS``. Theta is zero hanging, pi upright. Only the two are read:
what else the file does when it is run is its author's business, so a file that a recording names is
never run (``cartpole.session.code``).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cartpole.errors import CartpoleError, ConfigError
from cartpole.messages import FloatArray
from cartpole.model.flow import make_expand, make_step
from cartpole.model.programs import compile_flow
from cartpole.model.user_file import load_function

KEY = "optimizer.user_model"
# A file may hold so many numbers.
MOST_PARAMETERS = 32


@dataclass(frozen=True, slots=True)
class UserModel:
    """``parts`` holds rates, slopes, bends, and ``step`` and ``expand`` of ``flow``; q (p,)."""

    parts: Any
    q: tuple[float, ...]

    def step(self, state: FloatArray, u: float, h: float) -> FloatArray:
        """(4,): ``state`` (4,) after a held command."""
        out = np.empty(4)
        scratch = np.empty(2), np.empty(4), np.empty(4), np.empty(1)
        self.parts.step(np.asarray(state, float), u, h, np.array(self.q), out, *scratch)
        return out

    def linear(self, step_s: float) -> tuple[FloatArray, FloatArray]:
        """(A (5, 5), B (5,)) about upright rest, as ``linear.linear_model``."""
        out, jac, hess = np.empty(4), np.empty((4, 5)), np.empty((5, 5))
        upright = np.array([0.0, 0.0, math.pi, 0.0])
        q = np.array(self.q)
        self.parts.expand(upright, 0.0, step_s, q, np.zeros(4), out, jac, hess)
        if not np.abs(out - upright).max() < 1e-9:
            raise ConfigError(f"{KEY}: upright at rest is no equilibrium (moves to {out})")
        held = np.vstack((jac, np.eye(5)[4]))
        return held, held[:, 4] * step_s


@functools.lru_cache(maxsize=4)
def load_user_model(where: str) -> UserModel:
    """The model that ``file.py:function`` names. Runs the file. Raises ConfigError."""
    accelerations, module = load_function(KEY, where)
    q = _parameters(where, getattr(module, "PARAMETERS", ()))
    try:
        flow = compile_flow(accelerations, len(q))
    except ImportError as error:
        raise ConfigError(f"{KEY} needs sympy: pip install 'cartpole[torch]'") from error
    except CartpoleError as error:
        raise ConfigError(f"{KEY} {where!r}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{KEY} {where!r} cannot be traced: {error}") from error
    if not hasattr(flow.parts, "step"):
        flow.parts.step, flow.parts.expand = make_step(flow.parts), make_expand(flow.parts)  # type: ignore[attr-defined]
    model = UserModel(flow.parts, q)
    model.linear(0.02)
    return model


def _parameters(where: str, given: Any) -> tuple[float, ...]:
    try:
        q = tuple(float(value) for value in given)
    except (TypeError, ValueError):
        q = (math.nan,)
    if len(q) > MOST_PARAMETERS or not all(map(math.isfinite, q)):
        raise ConfigError(f"{KEY} {where!r}: PARAMETERS are at most {MOST_PARAMETERS} numbers")
    return q
