"""From one event to the next, compiled: state, covariance and what a delay error does to them.

Process noise enters where the disturbances do: white noise on the cart's acceleration reaches the
pole through the pivot as ``-c cos(theta)``, and a second one acts on the pole alone.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.estimation import layout as at
from cartpole.messages import OMEGA, THETA, P, V
from cartpole.model.dynamics import coefficients
from cartpole.model.jacobian import rig_step_jacobian

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@njit(cache=True, nogil=True, inline="always")
def _transform(
    cov: Floats,
    pv: float,
    vv: float,
    tv: float,
    tt: float,
    to: float,
    ov: float,
    ot: float,
    oo: float,
) -> None:
    """cov <- F cov F^T in place, F as :func:`rig_step_jacobian` gives it; the offsets stay."""
    for j in range(at.STATES):
        v, t, o = cov[V, j], cov[THETA, j], cov[OMEGA, j]
        cov[P, j] += pv * v
        cov[V, j] = vv * v
        cov[THETA, j] = tv * v + tt * t + to * o
        cov[OMEGA, j] = ov * v + ot * t + oo * o
    for i in range(at.STATES):
        v, t, o = cov[i, V], cov[i, THETA], cov[i, OMEGA]
        cov[i, P] += pv * v
        cov[i, V] = vv * v
        cov[i, THETA] = tv * v + tt * t + to * o
        cov[i, OMEGA] = ov * v + ot * t + oo * o


@njit(cache=True, nogil=True, inline="always")
def _add_noise(cov: Floats, start: tuple[float, ...], end: tuple[float, ...], power: float) -> None:
    """Add a white disturbance whose effect at the step's end runs linearly from start to end.

    ``start`` is the effect of a kick at the step's end, ``end`` of one at its beginning; the
    integral of the outer product of a linear function is exact in their products.
    """
    third = power / 3.0
    for i in range(4):
        for j in range(i + 1):
            cross = 0.5 * (start[i] * end[j] + end[i] * start[j])
            value = cov[i, j] + third * (start[i] * start[j] + cross + end[i] * end[j])
            cov[i, j] = value
            cov[j, i] = value


@njit(cache=True, nogil=True, inline="always")
def restless(row: Floats) -> float:
    """How many times the cart's disturbance is what the settings say, by how its counts come in."""
    over = max(0.0, row[at.NIS + at.ENCODER_P] - at.RESTLESS)
    return float(1.0 + at.MORE * over * over)


@njit(cache=True, nogil=True)
def _step(row: Floats, step: float, par: Floats) -> None:
    """One step of state, covariance and delay slope."""
    cov = row[at.COV : at.COV + at.STATES * at.STATES].reshape((at.STATES, at.STATES))
    reach = -par[at.COUPLING] * math.cos(row[at.X + THETA])
    p, v, theta, omega, pv, vv, tv, tt, to, ov, ot, oo = rig_step_jacobian(
        (row[at.X + P], row[at.X + V], row[at.X + THETA], row[at.X + OMEGA]),
        par[at.GAIN] * row[at.INPUT],
        step,
        coefficients(par),
    )
    row[at.X + P], row[at.X + V], row[at.X + THETA], row[at.X + OMEGA] = p, v, theta, omega
    _transform(cov, pv, vv, tv, tt, to, ov, ot, oo)
    _add_noise(
        cov,
        (0.0, 1.0, 0.0, -par[at.COUPLING] * math.cos(theta)),
        (pv, vv, tv + to * reach, ov + oo * reach),
        restless(row) * par[at.CART_POWER] * step,
    )
    _add_noise(cov, (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, to, oo), par[at.POLE_POWER] * step)
    cov[at.OFFSET, at.OFFSET] += par[at.OFFSET_POWER] * step
    v, theta, omega = row[at.SLOPE + V], row[at.SLOPE + THETA], row[at.SLOPE + OMEGA]
    row[at.SLOPE + P] += pv * v
    row[at.SLOPE + V] = vv * v
    row[at.SLOPE + THETA] = tv * v + tt * theta + to * omega
    row[at.SLOPE + OMEGA] = ov * v + ot * theta + oo * omega


@njit(cache=True, nogil=True)
def propagate(row: Floats, stamp: Whole, t_ns: int, par: Floats) -> None:
    """Carry a snapshot forward to ``t_ns`` under the command in force."""
    span = (t_ns - stamp[at.TIME]) * 1e-9
    stamp[at.TIME] = t_ns
    if span <= 0.0:
        return
    pieces = math.ceil(span / at.MAX_STEP_S)
    step = span / pieces
    for _ in range(pieces):
        _step(row, step, par)
