"""The rig about upright rest: one held step as a linear map, exactly."""

from __future__ import annotations

import numpy as np

from cartpole.messages import OMEGA, THETA, FloatArray, P, U, V
from cartpole.model.parameters import ModelParameters


def linear_model(model: ModelParameters, step_s: float) -> tuple[FloatArray, FloatArray]:
    """(A (5, 5), B (5,)): a step of (p, v, theta - pi, omega, u) with input w = du/dt.

    Discretised by the matrix exponential; the command changes first, u + step w, then is held.
    """
    from scipy.linalg import expm

    c, g, b, tau = model.coupling_1_m, model.gravity_m_s2, model.damping_1_s, model.tau_s
    a = np.zeros((5, 5))
    a[P, V] = 1.0
    a[V, V], a[V, U] = -1.0 / tau, 1.0 / tau
    a[THETA, OMEGA] = 1.0
    # omegadot = -c (g sin theta + vdot cos theta) - b omega about theta = pi.
    a[OMEGA] = (0.0, -c / tau, c * g, -b, c / tau)
    held = expm(a * step_s)
    return held, held[:, U] * step_s
