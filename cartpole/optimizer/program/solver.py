"""A plan over a user's equations of motion (``optimizer.user_model``).

The iteration is the compiled one's (``iteration``), run as plain Python over other parts: the same
barrier, line search, merit and rules for mu, the same kernels for limits and multipliers. Steps,
their derivatives and the direction are dense: the cart's step, too, is a constraint with defects,
since what the pole does to it is known only with the pole.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray, PlanStatus
from cartpole.model.user import UserModel
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.compiled.stages import assemble, cost_and_defect
from cartpole.optimizer.compiled.warm import shift
from cartpole.optimizer.compiled.workspace import rows
from cartpole.optimizer.dense import dense_backward, dense_forward
from cartpole.optimizer.iteration import NOT_FINITE, make_newton, make_step
from cartpole.optimizer.problem import InputKind, Problem
from cartpole.optimizer.program.kernels import (
    enter,
    last_model,
    make_defects,
    make_expansion,
    make_motion,
    residuals,
)


class ProgramParts:
    """The parts of an iteration over a user's steps; calls as in ``compiled.kkt``."""

    def __init__(self, user: UserModel, horizon: int) -> None:
        self.q = np.array(user.q)
        self._defects = make_defects(user.parts)
        self._expansion = make_expansion(user.parts)
        self.motion = make_motion(user.parts)
        self._c, self._a = np.zeros((horizon, 5)), np.zeros((horizon, 5, 5))
        self._hess = np.zeros((horizon, 6, 6))
        self._last, self._gradient = np.zeros((5, 5)), np.zeros(5)
        self.step = make_step(self)

    def start(self, ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
        """Evaluate the iterate as it stands; False if it is not finite."""
        for offset in range(6):
            rows(ws, TP + offset)[: n + 2] = rows(ws, P + offset)[: n + 2]
        sc[COST], sc[SUM_DEFECT] = self.trial(ws, sc, n, kind)
        self._expand(ws, sc, n)
        return math.isfinite(sc[COST] + sc[SUM_DEFECT])

    def trial(self, ws: FloatArray, sc: FloatArray, n: int, kind: int) -> tuple[float, float]:
        """Cost and sum of |defects| at the trial point."""
        carts = self._defects(ws, n, self.q, self._c)
        cost, poles = cost_and_defect(ws, sc, n, kind)
        return cost, poles + carts

    def _expand(self, ws: FloatArray, sc: FloatArray, n: int) -> None:
        """Derivatives of the steps and of the terminal cost at the iterate."""
        self._expansion(ws, n, self.q, self._a, self._hess)
        last_model(ws, sc, n, self._last, self._gradient)

    def factorise(self, ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
        """Gains with exact curvature, else with that of the cost alone."""
        sc[CURVATURE] = 0.0
        assemble(ws, sc, n, kind)
        for keep in (1.0, 0.0):
            hess = keep * self._hess
            # ``assemble`` has the cost's curvature of angle and rate; the sweep adds the rest.
            hess[:, 2, 2] += rows(ws, QTT)[:n]
            hess[:, 3, 3] += rows(ws, QOO)[:n]
            arguments = (self._a, self._c, hess, self._last, self._gradient)
            if dense_backward(ws, n, *arguments):
                return True
        return False

    def forward(self, ws: FloatArray, n: int, _kind: int) -> bool:
        """The direction."""
        return bool(dense_forward(ws, n, self._a, self._c))

    def measure(self, ws: FloatArray, sc: FloatArray, n: int, _kind: int) -> None:
        """Derivatives at the new iterate, and its KKT residuals."""
        self._expand(ws, sc, n)
        worst, defect, product = residuals(ws, sc, n, self._a, self._c, self._gradient)
        sc[DEFECT] = defect
        sc[RESIDUAL] = max(worst, defect, product)
        sc[BARRIER_RESIDUAL] = max(worst, defect, product - sc[MU])


class ProgramSolver(Solver):
    """A plan over a user's model; otherwise as ``Solver``."""

    def __init__(
        self,
        problem: Problem,
        *,
        user: UserModel,
        gain: FloatArray | None = None,
        mu: float = 1e-4,
        tolerance: float = 1e-6,
    ) -> None:
        if problem.kind is not InputKind.VELOCITY:
            raise UsageError("a user's model takes velocity commands only")
        super().__init__(problem, gain=gain, mu=mu, tolerance=tolerance)
        self.parts: Any = ProgramParts(user, problem.horizon)
        self._newton = make_newton(self.parts)

    def start(self, state: FloatArray, first: Guess, mu: float = 0.1) -> None:
        """See ``Solver``."""
        self.scalars[MU] = max(mu, self.scalars[MU_MIN])
        self.scalars[THETA_REF] = first.target_rad
        self.parts.motion(
            self.rows, self.scalars, self.parts.q, state, self.horizon,
            first.kick, first.kick_s, first.strength,
        )  # fmt: skip
        enter(self.rows, self.scalars, self.horizon, state)

    def solve(self, budget: int) -> PlanStatus:
        """See ``Solver``."""
        return self._note(self._newton(self.rows, self.scalars, self.horizon, self.kind, budget))

    def step(self, state: FloatArray, shifts: int, budget: int) -> PlanStatus:
        """See ``Solver``."""
        if not np.isfinite(state).all():
            return self._note(NOT_FINITE)
        for _i in range(shifts):
            shift(self.rows, self.horizon, self.kind)
        enter(self.rows, self.scalars, self.horizon, state)
        return self.solve(budget)

    @property
    def score(self) -> float:
        """See ``Solver``; defects of the cart count, too."""
        defect = float(self.scalars[SUM_DEFECT])
        if defect < 1e-6:
            return self.cost
        last = self.horizon + 1
        worth = max(float(np.abs(rows(self.rows, row)[:last]).max()) for row in range(LP, LE + 1))
        return self.cost + worth * defect
