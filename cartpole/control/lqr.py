"""LQR about the upright pole, and the region in which it may fly.

State x = (p - target, v, theta - pi, omega, u), input w = du/dt: the optimizer's own state. It is
the optimizer's own regulator, too, from the user's weights, so that the hand-over is smooth. The
region is a level set of the cost-to-go x' P x inside the room of the cart and the speed limit,
shrunk until the limited nonlinear closed loop converges from all over it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from cartpole.messages import OMEGA, THETA, FloatArray, P, U
from cartpole.model.dynamics import rig_step
from cartpole.model.parameters import Coefficients, ModelParameters
from cartpole.optimizer.problem import StageWeights, regulator

SAMPLES = 1024
SHELLS = (1.0, 0.85, 0.7, 0.5)  # samples stand on these shares of the level set's radius
SETTLE_S = 4.0
REST_RAD, REST_RAD_S = 0.02, 0.1  # a pole that came to rest
SETTLED_SHARE = 0.25  # of the largest level on which no limit binds
# The search begins at so many times the level that just fits between the limits, and shrinks it.
BEGIN = 20.0
SHRINK = 0.9
TRIALS = 80
SAFE_SHARE = 0.8  # of the level that the samples allow: there are points between them


@dataclass(frozen=True, slots=True)
class FeedbackRules:
    """What the regulator and its region are made of; SI."""

    model: ModelParameters
    weights: StageWeights
    period_s: float
    target_m: float
    position_limit_m: float
    velocity_limit_m_s: float
    acceleration_limit_m_s2: float


@dataclass(frozen=True, slots=True)
class LqrDesign:
    """Gain (5,), cost-to-go (5, 5), and the region from which it may fly.

    Inside it x' P x <= ``level``, the cart is within ``room_m`` of its target and inside the track,
    and the command within the speed limit.
    """

    gain: FloatArray
    cost_to_go: FloatArray
    level: float
    rate_limit_m_s2: float
    velocity_limit_m_s: float
    room_m: float
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
        """Whether LQR may fly from here."""
        x = self.deviation(state, target_m)
        return bool(
            x @ self.cost_to_go @ x <= self.level
            and abs(x[P]) <= self.room_m
            and abs(x[U]) <= self.velocity_limit_m_s
            and abs(float(state[P])) <= self.position_limit_m
        )


@functools.lru_cache(maxsize=4)
def design(rules: FeedbackRules) -> LqrDesign:
    """Gain and region; some tenths of a second, so the last few are kept.

    Whoever changes settings asks for the new design before the tick that takes it over does.
    """
    gain, cost_to_go = regulator(rules.model, rules.weights, rules.period_s)
    room = max(rules.position_limit_m - abs(rules.target_m), 0.02)
    level = _checked_level(gain, cost_to_go, room, rules)
    return LqrDesign(
        gain,
        cost_to_go,
        level,
        rules.acceleration_limit_m_s2,
        rules.velocity_limit_m_s,
        room,
        rules.position_limit_m,
    )


def _checked_level(
    gain: FloatArray, cost_to_go: FloatArray, room: float, rules: FeedbackRules
) -> float:
    """The largest level from all over which the limited nonlinear closed loop converges.

    Starts are samples of the level set, its boundary and inside it, as far as they keep room and
    speed limit: the set may be longer than these are wide.
    """
    inverse = np.linalg.inv(cost_to_go)
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((SAMPLES, 5))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    directions *= np.resize(SHELLS, SAMPLES)[:, None]
    samples = directions @ np.linalg.cholesky(inverse).T
    level = BEGIN * min(room**2 / inverse[P, P], rules.velocity_limit_m_s**2 / inverse[U, U])
    steps = round(SETTLE_S / rules.period_s)
    model = rules.model.coefficients._replace(coulomb=0.0)
    order = np.arange(SAMPLES)
    settled = _settled_level(gain, np.asarray(inverse, dtype=np.float64), room, rules)
    for _ in range(TRIALS):
        starts = samples[order] * math.sqrt(level)
        inside = (abs(starts[:, P]) <= room) & (abs(starts[:, U]) <= rules.velocity_limit_m_s)
        failed = _first_astray(
            np.ascontiguousarray(starts[inside]),
            gain,
            steps,
            rules.period_s,
            rules.velocity_limit_m_s,
            rules.acceleration_limit_m_s2,
            room,
            model,
            cost_to_go,
            settled,
        )
        if failed < 0:
            break
        # What failed at this level most likely fails at the next: it is tried first there.
        place = int(np.flatnonzero(inside)[failed])
        order = np.concatenate((order[place:], order[:place]))
        level *= SHRINK
    return float(SAFE_SHARE * level)


def _settled_level(
    gain: FloatArray, inverse: FloatArray, room: float, rules: FeedbackRules
) -> float:
    """The level below which no limit binds any more and the pole is at rest as far as is asked.

    The loop is linear there, and the cost-to-go only falls: nothing is left to be seen.
    """
    room_of = (room, rules.velocity_limit_m_s, REST_RAD, REST_RAD_S)
    fits = [room_of[k] ** 2 / inverse[place, place] for k, place in enumerate((P, U, THETA, OMEGA))]
    fits.append(rules.acceleration_limit_m_s2**2 / float(gain @ inverse @ gain))
    return SETTLED_SHARE * float(min(fits))


@njit(cache=True, nogil=True)
def _first_astray(
    starts: FloatArray,
    gain: FloatArray,
    steps: int,
    period: float,
    speed_limit: float,
    rate_limit: float,
    position_limit: float,
    model: Coefficients,
    cost_to_go: FloatArray,
    settled: float,
) -> int:
    """The first of the starts (n, 5) that leaves the track or does not come to rest; -1: none."""
    for row in range(starts.shape[0]):
        p, v, angle, omega, u = starts[row]
        for _ in range(steps):
            w = -(gain[0] * p + gain[1] * v + gain[2] * angle + gain[3] * omega + gain[4] * u)
            w = min(max(w, -rate_limit), rate_limit)
            u = min(max(u + w * period, -speed_limit), speed_limit)
            p, v, theta, omega = rig_step((p, v, angle + math.pi, omega), u, period, model)
            angle = theta - math.pi
            if abs(p) > position_limit or abs(angle) > 1.0:
                return row
            x, left = (p, v, angle, omega, u), 0.0
            for i in range(5):
                for j in range(5):
                    left += x[i] * cost_to_go[i, j] * x[j]
            if left <= settled:
                break
        if abs(angle) > REST_RAD or abs(omega) > REST_RAD_S:
            return row
    return -1
