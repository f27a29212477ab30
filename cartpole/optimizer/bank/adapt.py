"""The planner's own correction of the model in flight: the pole's coupling, the drive's lag.

Each tick tells how much the cart's speed and the pole's rate changed; the model says how much they
should have. Coupling c and lag tau are fitted by recursive least squares with the configured values
as prior. They learn only from motion (near upright nothing can be told) and forget slowly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cartpole.messages import OMEGA, THETA, FloatArray, P, U, V
from cartpole.model.dynamics import rig_step
from cartpole.model.parameters import ModelParameters
from cartpole.recall import require

# Weights of the priors, in squares of rad/s and m/s; a second of swinging brings about ten and one.
COUPLING_PRIOR = 0.5
LAG_PRIOR = 0.05
# Surprises beyond this [rad/s] in one step are pushes, not physics.
GATE_RAD_S = 0.6
# Share forgotten per step at full sensitivity [rad/s, m/s].
FORGET = 0.03
FULL_RAD_S = 0.2
FULL_M_S = 0.3
# The corrections stay within these shares.
MOST_COUPLING = 0.2
MOST_LAG = 0.5


@dataclass(frozen=True, slots=True)
class TrackerState:
    """The tracker's memory: sums of its two regressions, and the model they make."""

    rate: tuple[float, ...]
    lag: tuple[float, ...]
    model: ModelParameters


class ModelTracker:
    """Running estimate of the model, from the configured one."""

    def __init__(self, model: ModelParameters) -> None:
        self.reset(model)

    def reset(self, model: ModelParameters) -> None:
        """Back to ``model``."""
        self._prior = model
        self.model = model
        self._rate = [0.0, 0.0]
        self._lag = [0.0, 0.0]

    def state(self) -> TrackerState:
        """All that is remembered."""
        return TrackerState(tuple(self._rate), tuple(self._lag), self.model)

    def restore(self, state: TrackerState) -> None:
        """Go on from a state of a tracker with the same prior; SessionError if it is none."""
        require(len(state.rate) == len(state.lag) == 2, "the model's sums")
        self._rate, self._lag = list(state.rate), list(state.lag)
        self.model = state.model

    def observe(self, before: FloatArray, after: FloatArray, step_s: float) -> None:
        """Take in one step between two states (5,), in which the command was ``after[U]``."""
        error = float(before[V] - after[U])
        left = float(after[V] - after[U])
        keep = 1.0 - FORGET * min(1.0, abs(error) / FULL_M_S)
        prior = self._prior
        decay = math.exp(-step_s / prior.tau_s)
        if math.isfinite(error + left) and abs(left - decay * error) < 0.5 * FULL_M_S:
            self._lag[0] = keep * self._lag[0] + error * (left - decay * error)
            self._lag[1] = keep * self._lag[1] + error * error
        decay += self._lag[0] / (self._lag[1] + LAG_PRIOR)
        tau = -step_s / math.log(min(max(decay, 1e-6), 1.0 - 1e-6))
        low, high = (1.0 - MOST_LAG) * prior.tau_s, (1.0 + MOST_LAG) * prior.tau_s
        tau = max(low, min(high, tau))
        c = prior.coupling_1_m

        def rate(coupling: float) -> float:
            return float(
                rig_step(
                    float(before[P]), float(before[V]), float(before[THETA]),
                    float(before[OMEGA]), float(after[U]), step_s, coupling,
                    prior.gravity_m_s2, prior.damping_1_s, prior.coulomb_rad_s2, tau,
                    prior.motor_acceleration_m_s2,
                )[3]
            )  # fmt: skip

        expected = rate(c)
        sensitivity = (rate(1.01 * c) - expected) / 0.01
        surprise = float(after[OMEGA]) - expected
        if math.isfinite(surprise + sensitivity) and abs(surprise) < GATE_RAD_S:
            keep = 1.0 - FORGET * min(1.0, abs(sensitivity) / FULL_RAD_S)
            self._rate[0] = keep * self._rate[0] + sensitivity * surprise
            self._rate[1] = keep * self._rate[1] + sensitivity * sensitivity
        share = self._rate[0] / (self._rate[1] + COUPLING_PRIOR)
        factor = 1.0 + max(-MOST_COUPLING, min(MOST_COUPLING, share))
        self.model = replace(prior, length_m=prior.length_m / factor, tau_s=tau)
