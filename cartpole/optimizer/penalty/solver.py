"""The first author's method, for comparison and for teaching (``optimizer.backend: penalty``).

The dynamics are a penalty with multipliers (augmented Lagrangian), the limits exponential barriers:

    cost + sum lambda . c + rho / 2 sum |c|^2 + sum exp(sharpness (|g| / limit - 1)),
    c_k = (x_{k+1} - f(x_k, u_k)) / h

Unknowns are (p, v, theta, omega)_{k+1}, u_k, stage by stage, so that the Hessian is a band of half
width nine. A tick shifts the last plan, takes four Newton steps with a halving line search, and
moves the multipliers by rho c. The Hessian leaves out the dynamics' curvature (Gauss-Newton), which
keeps it positive. ``docs/optimizer.md`` shows why this needs more steps than a KKT system.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.derivatives import pole_step_derivatives
from cartpole.optimizer.problem import Problem

RHO = 100.0
STEPS_PER_TICK = 4
SHARPNESS = 40.0
# Barriers are soft: they begin this share before the limit.
SHARE = 0.95
BACKTRACKS = 12
WIDTH = 5
LARGEST_EXPONENT = 200.0


@njit(cache=True, nogil=True, error_model="numpy")
def steps_and_jacobians(
    x: FloatArray, u: FloatArray, h: FloatArray, tau: float, c: float, g: float, b: float
) -> tuple[FloatArray, FloatArray]:
    """Ends (N, 4) of steps from x (N, 4) under u (N,), and their Jacobians (N, 4, 5)."""
    n = u.shape[0]
    ends = np.zeros((n, 4))
    jacobians = np.zeros((n, 4, 5))
    for k in range(n):
        decay = math.exp(-h[k] / tau)
        e = u[k] - x[k, 1]
        pole = pole_step_derivatives(
            x[k, 2], x[k, 3], e, 1.0 / tau, math.exp(-0.5 * h[k] / tau), decay, h[k],
            c, g, b, 0.0, 0.0,
        )  # fmt: skip
        c2 = h[k] - tau * (1.0 - decay)
        ends[k] = (x[k, 0] + h[k] * x[k, 1] + c2 * e, u[k] - decay * e, pole[0], pole[1])
        jacobians[k, 0] = (1.0, h[k] - c2, 0.0, 0.0, c2)
        jacobians[k, 1] = (0.0, decay, 0.0, 0.0, 1.0 - decay)
        jacobians[k, 2] = (0.0, -pole[4], pole[2], pole[3], pole[4])
        jacobians[k, 3] = (0.0, -pole[7], pole[5], pole[6], pole[7])
    return ends, jacobians


def barrier(g: FloatArray, limit: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Exponential barrier of |g| <= limit: value, slope, curvature."""
    slope = SHARPNESS / (SHARE * limit)
    high = np.exp(np.minimum(slope * g - SHARPNESS, LARGEST_EXPONENT))
    low = np.exp(np.minimum(-slope * g - SHARPNESS, LARGEST_EXPONENT))
    return high + low, slope * (high - low), slope * slope * (high + low)


class PenaltySolver:
    """One plan: unknowns ``y`` (N, 5), multipliers (N, 4) and the state it starts from."""

    def __init__(self, problem: Problem) -> None:
        self.update(problem)
        n = problem.horizon
        self.y = np.zeros((n, WIDTH))
        self.multipliers = np.zeros((n, 4))
        self.first = np.zeros(WIDTH)
        self.reference = problem.reference_m.copy()
        self.target_rad = math.pi
        self.cost = self.defect = self.residual = math.inf

    def update(self, problem: Problem) -> None:
        """Other weights; the horizon stays."""
        self.problem = problem
        w, h = problem.weights, problem.steps_s
        diagonal = [w.position, w.velocity, w.angle, w.rate_of_angle, w.command]
        self._weights = np.tile(diagonal, (problem.horizon, 1))
        self._weights[:-1, :4] *= h[1:, None]
        self._weights[-1, :4] = 0.0  # the last state has the terminal cost
        self._weights[:, 4] *= h

    def start(self, state: FloatArray, guess: FloatArray, target_rad: float) -> None:
        """Begin with a motion (N + 1, 5)."""
        self.first = state.copy()
        self.y = guess[1:].copy()
        self.multipliers[:] = 0.0
        self.target_rad = target_rad

    def shift(self) -> None:
        """One step ahead in time; the last stage is repeated."""
        self.first = self.y[0].copy()
        self.y[:-1] = self.y[1:]
        self.multipliers[:-1] = self.multipliers[1:]

    def rates(self, y: FloatArray) -> FloatArray:
        """Rate of the command (N,)."""
        return np.diff(y[:, 4], prepend=self.first[4]) / self.problem.steps_s

    def _offset(self, y: FloatArray) -> FloatArray:
        off = y.copy()
        off[:, 0] -= self.reference[1:]
        off[:, 2] -= self.target_rad
        return off

    def _defects(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """c (N, 4) and the steps' Jacobians (N, 4, 5)."""
        model, h = self.problem.model, self.problem.steps_s
        x = np.vstack((self.first[:4], y[:-1, :4]))
        ends, jacobians = steps_and_jacobians(
            x, y[:, 4].copy(), h, model.tau_s, model.coupling_1_m, model.gravity_m_s2,
            model.damping_1_s,
        )  # fmt: skip
        return (y[:, :4] - ends) / h[:, None], jacobians

    def merit(self, y: FloatArray) -> float:
        """The augmented Lagrangian with its barriers; also notes the cost."""
        c, _jacobians = self._defects(y)
        off, rate = self._offset(y), self.rates(y)
        limits, h = self.problem.limits, self.problem.steps_s
        self.cost = float(
            (self._weights * off * off).sum()
            + self.problem.weights.rate * (h * rate * rate).sum()
            + 0.5 * off[-1] @ self.problem.terminal @ off[-1]
        )
        walls = sum(
            float(barrier(g, limit)[0].sum())
            for g, limit in (
                (y[:, 0], limits.position_m), (y[:, 4], limits.command), (rate, limits.rate)
            )
        )  # fmt: skip
        return float(self.cost + (self.multipliers * c).sum() + 0.5 * RHO * (c * c).sum() + walls)

    def band(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(lower band (10, 5 N), gradient (5 N,)) of the merit."""
        n, h, limits = self.problem.horizon, self.problem.steps_s, self.problem.limits
        c, jacobians = self._defects(y)
        off, rate = self._offset(y), self.rates(y)
        # Derivative of c_k by the stages before and after it: (N, 4, 10).
        both = np.zeros((n, 4, 2 * WIDTH))
        both[:, :, :4] = -jacobians[:, :, :4] / h[:, None, None]
        both[:, :, 9] = -jacobians[:, :, 4] / h[:, None]
        both[:, range(4), range(5, 9)] = 1.0 / h[:, None]
        across = np.swapaxes(both, 1, 2)
        blocks = RHO * (across @ both)
        slopes = (across @ (self.multipliers + RHO * c)[:, :, None])[:, :, 0]
        # The command's rate joins two stages, too.
        _value, slope, curvature = barrier(rate, limits.rate)
        slope += 2.0 * self.problem.weights.rate * h * rate
        curvature += 2.0 * self.problem.weights.rate * h
        for i, sign in ((4, -1.0), (9, 1.0)):
            slopes[:, i] += sign * slope / h
            for j, other in ((4, -1.0), (9, 1.0)):
                blocks[:, i, j] += sign * other * curvature / h**2
        slopes[:, WIDTH:] += 2.0 * self._weights * off
        blocks[:, range(5, 10), range(5, 10)] += 2.0 * self._weights
        for i, g, limit in ((5, y[:, 0], limits.position_m), (9, y[:, 4], limits.command)):
            _value, slope, curvature = barrier(g, limit)
            slopes[:, i] += slope
            blocks[:, i, i] += curvature
        slopes[-1, WIDTH:] += self.problem.terminal @ off[-1]
        blocks[-1, WIDTH:, WIDTH:] += self.problem.terminal
        # Columns of the stage before the first are dropped: it is measured.
        band = np.zeros((2 * WIDTH, (n + 1) * WIDTH))
        gradient = np.zeros((n + 1, WIDTH))
        gradient[:-1] += slopes[:, :WIDTH]
        gradient[1:] += slopes[:, WIDTH:]
        for j in range(2 * WIDTH):
            for i in range(j, 2 * WIDTH):
                band[i - j, j : j + n * WIDTH : WIDTH] += blocks[:, i, j]
        return band[:, WIDTH:], gradient[1:].ravel()

    def newton(self, budget: int) -> int:
        """Up to ``budget`` Newton steps; returns how many were taken."""
        from scipy.linalg import LinAlgError, solveh_banded

        value = self.merit(self.y)
        for i in range(budget):
            band, gradient = self.band(self.y)
            self.residual = float(np.abs(gradient).max())
            try:
                direction = solveh_banded(band, -gradient, lower=True, check_finite=False)
            except LinAlgError:
                return i
            slope = float(gradient @ direction)
            alpha = 1.0
            for _trial in range(BACKTRACKS):
                trial = self.y + alpha * direction.reshape(self.y.shape)
                new = self.merit(trial)
                if new <= value + 1e-4 * alpha * slope:
                    self.y, value = trial, new
                    break
                alpha *= 0.5
            else:
                return i + 1
        return budget

    def lift(self) -> None:
        """Move the multipliers by rho c and note the largest defect of a step."""
        c, _jacobians = self._defects(self.y)
        self.multipliers += RHO * c
        self.defect = float(np.abs(c * self.problem.steps_s[:, None]).max())

    @property
    def finite(self) -> bool:
        """Whether the plan is made of numbers."""
        return bool(np.isfinite(self.y).all() and np.isfinite(self.multipliers).all())
