"""A problem's translation into a workspace."""

from __future__ import annotations

import numpy as np

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.problem import InputKind, Problem

UPPER = np.triu_indices(5)


def workspace(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """(rows, scalars) of a solve, with the problem's data filled in and everything else zero."""
    problem.check()
    ws = np.zeros((ROWS + 1) * STRIDE)
    sc = np.zeros(SCALARS)
    for row in (LIMP, LIMG, LIMU, LIMW):
        rows(ws, row)[:] = BIG
    fill(ws, sc, problem)
    return ws, sc


def rows(ws: FloatArray, row: int) -> FloatArray:
    """View of one row of a workspace, (STRIDE,)."""
    return ws[row * STRIDE : (row + 1) * STRIDE]


def share(ws: FloatArray, sc: FloatArray, filled: FloatArray, scalars: FloatArray, n: int) -> None:
    """The data of a problem of ``n`` steps from a workspace that ``fill`` has written it into."""
    table, other = ws.reshape(-1, STRIDE), filled.reshape(-1, STRIDE)
    table[H : LIMW + 1, : n + 1] = other[H : LIMW + 1, : n + 1]
    for part in (slice(THETA_REF), slice(TERMINAL, TERMINAL + 15), slice(BASE_P, RELAXED + 1)):
        sc[part] = scalars[part]


def fill(ws: FloatArray, sc: FloatArray, problem: Problem) -> None:
    """Write the problem's data into a workspace and leave the iterate as it is."""
    n, h, model, limits = problem.horizon, problem.steps_s, problem.model, problem.limits
    velocity = problem.kind is InputKind.VELOCITY
    tau = model.tau_s
    decay = np.exp(-h / tau) if velocity else np.zeros(n)
    rows(ws, H)[:n] = h
    rows(ws, C2)[:n] = h - tau * (1.0 - decay) if velocity else 0.5 * h * h
    rows(ws, E1)[:n] = 1.0 - decay if velocity else h
    rows(ws, D)[:n] = decay
    rows(ws, RM)[:n] = np.exp(-0.5 * h / tau) if velocity else 1.0
    rows(ws, R1)[:n] = decay if velocity else 1.0
    rows(ws, REF)[: n + 1] = problem.reference_m
    rows(ws, LIMP)[1 : n + 1] = limits.position_m
    rows(ws, LIMG)[1 : n + 1] = min(limits.lead, BIG)
    rows(ws, LIMU)[:n] = limits.command
    rows(ws, LIMW)[:n] = min(limits.rate, BIG)
    weights = problem.weights
    sc[SCALE:THETA_REF] = (
        1.0 / tau if velocity else 1.0,
        model.coupling_1_m,
        model.gravity_m_s2,
        model.damping_1_s,
        limits.lead_p,
        limits.lead_v,
        weights.position,
        weights.velocity,
        weights.angle,
        weights.rate_of_angle,
        weights.command,
        weights.rate,
    )
    # u = v + e: the terminal cost over (p, v, theta, omega, e).
    change = np.eye(5)
    change[4, 1] = 1.0 if velocity else 0.0
    form = change.T @ problem.terminal @ change
    sc[TERMINAL : TERMINAL + 15] = form[UPPER]
    sc[BASE_P:RELAXED] = (
        limits.position_m,
        min(limits.lead, BIG),
        limits.command,
        min(limits.rate, BIG),
        tau if velocity else 0.0,
    )
    sc[RELAXED] = 0.0
