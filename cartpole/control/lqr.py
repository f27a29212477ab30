"""LQR about the upright pole, and the region in which it may fly.

State x = (p - target, v, theta - pi, omega, u), input w = du/dt: the optimizer's own state, so that
the hand-over is smooth. The gain comes from the discrete algebraic Riccati equation of the
linearised step; the region is a level set of the cost-to-go x' P x, as large as the limits on p and
u allow, then shrunk until the nonlinear closed loop converges from all over its boundary.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cartpole.messages import OMEGA, THETA, FloatArray, P, U, V
from cartpole.model.dynamics import rig_step
from cartpole.model.parameters import ModelParameters, from_config

if TYPE_CHECKING:
    from cartpole.config.schema import Config

SAMPLES = 512
SETTLE_S = 4.0
SAFE_SHARE = 0.8  # of the level that the samples allow: there are points between them


@dataclass(frozen=True, slots=True)
class LqrDesign:
    """Gain (5,), cost-to-go (5, 5) and the largest x' P x from which it may fly."""

    gain: FloatArray
    cost_to_go: FloatArray
    level: float
    rate_limit_m_s2: float
    position_limit_m: float

    def deviation(self, state: FloatArray, target_m: float) -> FloatArray:
        """(5,) deviation from the nearest upright equilibrium with the cart at ``target_m``."""
        x = np.array(state, dtype=np.float64)
        x[P] -= target_m
        x[THETA] = math.remainder(x[THETA] - math.pi, 2.0 * math.pi)
        return x

    def rate(self, state: FloatArray, target_m: float) -> float:
        """Input w [m/s^2] at a state (5,), inside the rate limit."""
        w = -float(self.gain @ self.deviation(state, target_m))
        return min(max(w, -self.rate_limit_m_s2), self.rate_limit_m_s2)

    def contains(self, state: FloatArray, target_m: float) -> bool:
        """Whether LQR may fly from here: inside the level set and inside the track."""
        x = self.deviation(state, target_m)
        inside = float(x @ self.cost_to_go @ x) <= self.level
        return inside and abs(float(state[P])) <= self.position_limit_m


def linearised_step(parameters: ModelParameters, step_s: float) -> tuple[FloatArray, FloatArray]:
    """(A (5, 5), B (5,)) of one held step about upright rest: exact matrix exponential."""
    from scipy.linalg import expm

    c, g, tau = parameters.coupling_1_m, parameters.gravity_m_s2, parameters.tau_s
    a = np.zeros((5, 5))
    a[P, V] = 1.0
    a[V, V], a[V, U] = -1.0 / tau, 1.0 / tau
    a[THETA, OMEGA] = 1.0
    # cos(pi) = -1: omegadot = c (g dtheta + vdot) - b omega
    a[OMEGA, THETA], a[OMEGA, OMEGA] = c * g, -parameters.damping_1_s
    a[OMEGA, V], a[OMEGA, U] = -c / tau, c / tau
    transition = expm(a * step_s)
    jump = np.zeros(5)
    jump[U] = step_s  # the command changes first, then is held
    return transition, transition @ jump


@functools.lru_cache(maxsize=4)
def design(config: Config) -> LqrDesign:
    """Gain and region for a configuration; a tenth of a second, so the last few are kept.

    Whoever changes settings asks for the new design before the tick that takes it over does.
    """
    from scipy.linalg import solve_discrete_are

    parameters, step = from_config(config), config.controller.period_s
    a, b = linearised_step(parameters, step)
    rig = config.rig
    scale_t = parameters.characteristic_time_s
    # Bryson's rule: each term is one at the size that counts as large; rates are seen in the time
    # the upright pole takes to fall.
    q = np.diag(
        [
            0.65 / rig.position_limit_m**2,
            0.05 / rig.velocity_limit_m_s**2,
            1.0,
            0.6 * scale_t**2,
            0.01 / rig.velocity_limit_m_s**2,
        ]
    )
    r = np.array([[1.0 / rig.acceleration_limit_m_s2**2]])
    cost_to_go = solve_discrete_are(a, b[:, None], q, r)
    gain = (b @ cost_to_go @ a) / (r[0, 0] + b @ cost_to_go @ b)
    inverse = np.linalg.inv(cost_to_go)
    room = rig.position_limit_m - abs(config.controller.target_m)
    level = min(
        max(room, 0.02) ** 2 / inverse[P, P],
        rig.velocity_limit_m_s**2 / inverse[U, U],
    )
    level = _checked_level(level, gain, inverse, config, parameters)
    return LqrDesign(gain, cost_to_go, level, rig.acceleration_limit_m_s2, rig.position_limit_m)


def _checked_level(
    level: float,
    gain: FloatArray,
    inverse: FloatArray,
    config: Config,
    parameters: ModelParameters,
) -> float:
    """Shrink the level set until the limited nonlinear closed loop converges from its boundary."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((SAMPLES, 5))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    boundary = directions @ np.linalg.cholesky(inverse).T
    steps = round(SETTLE_S / config.controller.period_s)
    for _ in range(30):
        starts = boundary * math.sqrt(level)
        if _all_settle(
            starts,
            gain,
            steps,
            config.controller.period_s,
            config.rig.velocity_limit_m_s,
            config.rig.acceleration_limit_m_s2,
            config.rig.position_limit_m,
            parameters.coupling_1_m,
            parameters.gravity_m_s2,
            parameters.damping_1_s,
            parameters.tau_s,
            parameters.motor_acceleration_m_s2,
        ):
            break
        level *= 0.8
    return SAFE_SHARE * level


@njit(cache=True, nogil=True)
def _all_settle(
    starts: FloatArray,
    gain: FloatArray,
    steps: int,
    period: float,
    speed_limit: float,
    rate_limit: float,
    position_limit: float,
    coupling: float,
    gravity: float,
    damping: float,
    tau: float,
    motor_limit: float,
) -> bool:
    """Whether each start (n, 5) comes to rest without leaving the track."""
    for row in range(starts.shape[0]):
        p, v, angle, omega, u = starts[row]
        for _ in range(steps):
            w = -(gain[0] * p + gain[1] * v + gain[2] * angle + gain[3] * omega + gain[4] * u)
            w = min(max(w, -rate_limit), rate_limit)
            u = min(max(u + w * period, -speed_limit), speed_limit)
            p, v, theta, omega = rig_step(
                p, v, angle + math.pi, omega, u, period,
                coupling, gravity, damping, 0.0, tau, motor_limit,
            )  # fmt: skip
            angle = theta - math.pi
            if abs(p) > position_limit or abs(angle) > 1.0:
                return False
        if abs(angle) > 0.02 or abs(omega) > 0.1:
            return False
    return True
