"""Swing-up by energy shaping: the fallback when no plan is there and LQR may not fly.

With E = omega^2 / 2 - c g cos theta the cart's acceleration a changes the energy at the rate
-c a omega cos theta; pushing against the sign of omega cos theta pumps it up to the upright
value c g (Astrom and Furuta, 2000). A spring to the middle of the track is added.
"""

from __future__ import annotations

import math

from cartpole.messages import OMEGA, THETA, FloatArray, P, U, V
from cartpole.model.parameters import ModelParameters


def swing_up_rate(
    state: FloatArray,
    parameters: ModelParameters,
    rate_limit_m_s2: float,
    position_limit_m: float,
) -> float:
    """Input w = du/dt [m/s^2] at a state (5,)."""
    c, g = parameters.coupling_1_m, parameters.gravity_m_s2
    theta, omega = float(state[THETA]), float(state[OMEGA])
    # Aim a little high: friction takes its share on the way up.
    missing = c * g * (1.05 + math.cos(theta)) - 0.5 * omega * omega
    pump = -math.copysign(1.0, omega * math.cos(theta)) * min(max(missing / (c * g), -1.0), 1.0)
    frequency = math.sqrt(c * g)
    centre = (
        -float(state[P]) / position_limit_m * 0.5 * rate_limit_m_s2
        - (float(state[V]) + float(state[U])) * 0.25 * frequency
    )
    wanted = 0.5 * rate_limit_m_s2 * pump + centre
    # The drive lags by tau: ask for the acceleration by leading the present speed.
    rate = wanted + (float(state[V]) + parameters.tau_s * wanted - float(state[U])) / (
        4.0 * parameters.tau_s
    )
    return min(max(rate, -rate_limit_m_s2), rate_limit_m_s2)
