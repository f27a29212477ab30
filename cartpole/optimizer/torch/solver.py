"""A plan with cost and dynamics written in PyTorch (``optimizer.backend: torch``).

The iteration is the compiled one's (``iteration``), run as plain Python over other parts: the same
barrier, line search, merit and rules for mu, the same kernels for limits and trial points. Only
cost, dynamics and their derivatives come from ``program``, and the direction from ``dense``, which
asks nothing of the cost's form.
"""

from __future__ import annotations

import math

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray, PlanStatus
from cartpole.optimizer.compiled.kkt import residuals
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.riccati import forward
from cartpole.optimizer.compiled.solver import Solver
from cartpole.optimizer.compiled.stages import assemble, cost_and_defect
from cartpole.optimizer.compiled.warm import enter, shift
from cartpole.optimizer.compiled.workspace import rows
from cartpole.optimizer.dense import cart_steps, dense_backward
from cartpole.optimizer.iteration import NOT_FINITE, make_newton, make_step
from cartpole.optimizer.problem import InputKind, Problem
from cartpole.optimizer.torch.program import Program, TorchModel, UserModel, convex, in_y

# Rows that the dynamics' derivatives fill.
JACOBIAN_ROWS = (F11, F12, G1, F21, F22, G2)


class TorchParts:
    """The parts of an iteration that PyTorch makes; calls as in ``compiled.kkt``."""

    def __init__(self, model: TorchModel) -> None:
        self.model = model
        self.forward = forward
        self.step = make_step(self)

    def start(self, ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
        """Evaluate the iterate as it stands; False if it is not finite."""
        last = n + 2
        for offset in range(6):
            rows(ws, TP + offset)[:last] = rows(ws, P + offset)[:last]
        rows(ws, TLTH)[:last] = rows(ws, LTH)[:last]
        rows(ws, TLOM)[:last] = rows(ws, LOM)[:last]
        sc[COST], sc[SUM_DEFECT] = self.trial(ws, sc, n, kind)
        return math.isfinite(sc[COST] + sc[SUM_DEFECT])

    def trial(self, ws: FloatArray, sc: FloatArray, n: int, kind: int) -> tuple[float, float]:
        """Evaluate cost, dynamics and derivatives at the trial point; cost, sum of |defects|."""
        cost = self.model.evaluate(ws, sc)
        d = self.model.derivatives
        for column, row in enumerate(JACOBIAN_ROWS):
            rows(ws, row)[:n] = d.jacobian[:, column // 3, column % 3]
        self.gradient, self.hessian = in_y(d.gradient, d.hessian)
        self.last_gradient, self.last_hessian = in_y(d.last_gradient, d.last_hessian)
        self.curvature = d.curvature
        return cost, float(cost_and_defect(ws, sc, n, kind)[1])

    def factorise(self, ws: FloatArray, sc: FloatArray, n: int, kind: int) -> bool:
        """Gains with exact curvature, else with that of the cost alone, made convex."""
        sc[CURVATURE] = 0.0
        assemble(ws, sc, n, kind)
        for column in range(6):
            rows(ws, QP + column)[:n] += self.gradient[:, column]
        exact = self.hessian.copy()
        exact[:, 2:5, 2:5] += self.curvature
        steps, defects = np.zeros((n, 5, 5)), np.zeros((n, 5))
        cart_steps(ws, n, steps, defects)
        if dense_backward(ws, n, steps, defects, exact, self.last_hessian, self.last_gradient):
            return True
        stages, last = convex(self.hessian), convex(self.last_hessian)
        return bool(dense_backward(ws, n, steps, defects, stages, last, self.last_gradient))

    def measure(self, ws: FloatArray, sc: FloatArray, n: int, kind: int) -> None:
        """Note the KKT residuals, their stationarity with the cost's gradient from PyTorch."""
        _zero, defect, product = residuals(ws, sc, n, kind)
        worst = max(self._stationarity(ws, sc, n), float(defect))
        sc[DEFECT] = defect
        sc[RESIDUAL] = max(worst, product)
        sc[BARRIER_RESIDUAL] = max(worst, product - sc[MU])

    def _stationarity(self, ws: FloatArray, sc: FloatArray, n: int) -> float:
        """Largest entry of the Lagrangian's gradient, over (y, w) and the last y."""
        table = ws.reshape(-1, STRIDE)
        lam = table[LP : LE + 1, : n + 1]
        ahead = lam[:, 1:]
        z = table[ZPL : ZWU + 1, : n + 1]
        pull_p, pull_g, pull_u, pull_w = z[1] - z[0], z[3] - z[2], z[5] - z[4], z[7] - z[6]
        h, c2, e1, d = (table[row, :n] for row in (H, C2, E1, D))
        f11, f12, g1, f21, f22, g2 = (table[row, :n] for row in JACOBIAN_ROWS)
        g = self.gradient.T.copy()
        g[0] += pull_p[:n] + sc[LEAD_P] * pull_g[:n] + ahead[0]
        g[1] += sc[LEAD_V] * pull_g[:n] + pull_u[:n] + h * ahead[0] + ahead[1]
        g[2] += f11 * ahead[2] + f21 * ahead[3]
        g[3] += f12 * ahead[2] + f22 * ahead[3]
        g[4] += pull_u[:n] + c2 * ahead[0] + e1 * ahead[1] + g1 * ahead[2] + g2 * ahead[3]
        g[4] += d * ahead[4]
        g[5] += pull_w[:n] + h * g[4]
        g[:5] -= lam[:, :n]
        last = self.last_gradient - lam[:, n]
        last[0] += pull_p[n] + sc[LEAD_P] * pull_g[n]
        last[1] += sc[LEAD_V] * pull_g[n]
        # The first state is measured: only its rate is free.
        return float(max(np.abs(g[:, 1:]).max(), abs(g[5, 0]), np.abs(last).max()))


class TorchSolver(Solver):
    """A plan whose cost and pole come from PyTorch; otherwise as ``Solver``."""

    def __init__(
        self,
        problem: Problem,
        *,
        gain: FloatArray | None = None,
        mu: float = 1e-4,
        tolerance: float = 1e-6,
        program: Program | None = None,
    ) -> None:
        if problem.kind is not InputKind.VELOCITY:
            raise UsageError("the torch backend plans velocity commands only")
        super().__init__(problem, gain=gain, mu=mu, tolerance=tolerance)
        self.parts = TorchParts(
            TorchModel(problem, program or Program(problem.horizon, UserModel()))
        )
        self._newton = make_newton(self.parts)
        self._without_cost()

    def update(self, problem: Problem, gain: FloatArray | None = None) -> None:
        """See ``Solver``."""
        super().update(problem, gain)
        self.parts.model.update(problem)
        self._without_cost()

    def share(self, other: Solver) -> None:
        """See ``Solver``."""
        self.update(other.problem)

    def _without_cost(self) -> None:
        """No weights in the workspace: its kernels then add nothing but the limits."""
        self.scalars[WEIGHT_P : WEIGHT_W + 1] = 0.0
        self.scalars[TERMINAL : TERMINAL + 15] = 0.0

    def solve(self, budget: int) -> PlanStatus:
        """See ``Solver``."""
        return self._note(self._newton(self.rows, self.scalars, self.horizon, self.kind, budget))

    def step(self, state: FloatArray, shifts: int, budget: int) -> PlanStatus:
        """See ``Solver``."""
        if not np.isfinite(state).all():
            return self._note(NOT_FINITE)
        for _i in range(shifts):
            shift(self.rows, self.horizon, self.kind)
        enter(self.rows, self.scalars, self.horizon, self.kind, state)
        return self.solve(budget)
