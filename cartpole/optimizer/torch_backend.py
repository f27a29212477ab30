"""The planner with cost and dynamics written in PyTorch (``optimizer.backend: torch``).

The iteration is ``newton``'s, step by step: the same barrier, line search, merit and rules for mu,
with the same kernels for limits and trial points. Only cost, dynamics and their derivatives come
from ``torch_model``, and the direction from ``dense``, which asks nothing of the cost's form.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray, Plan, PlanStatus
from cartpole.optimizer import layout as _
from cartpole.optimizer.bank import STARTS, Candidate
from cartpole.optimizer.dense import dense_backward
from cartpole.optimizer.newton import (
    ARMIJO,
    BACKTRACKS,
    BUDGET,
    CONVERGED,
    FACTORISATION,
    NOT_FINITE,
    SPREAD,
    STALLED,
    TO_BOUNDARY,
    residuals,
)
from cartpole.optimizer.planner import MU_SHARE, Planner
from cartpole.optimizer.problem import InputKind, Problem, regulator, rows
from cartpole.optimizer.riccati import forward
from cartpole.optimizer.solver import Solver
from cartpole.optimizer.stages import (
    accept,
    assemble,
    cost_and_defect,
    directions,
    log_slack_change,
    move,
    new_multipliers,
)
from cartpole.optimizer.torch_model import (
    Program,
    TorchModel,
    UserModel,
    convex,
    in_y,
    load_user_model,
)
from cartpole.optimizer.warm import enter, shift

if TYPE_CHECKING:
    from cartpole.config.schema import Config

# Newton steps a tick that one thread of PyTorch affords at 50 Hz.
TICK_STEPS = 3
# Plans kept: hold, right, left.
PLANS = 3
# Rows that the dynamics' derivatives fill: F11, F12, G1, F21, F22, G2.
JACOBIAN_ROWS = (_.F11, _.F12, _.G1, _.F21, _.F22, _.G2)


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
        if program is None:
            program = Program(problem.horizon, problem.periodic, UserModel())
        self._model = TorchModel(problem, program)
        self._without_cost()

    def update(self, problem: Problem, gain: FloatArray | None = None) -> None:
        """See ``Solver``."""
        super().update(problem, gain)
        self._model.update(problem)
        self._without_cost()

    def _without_cost(self) -> None:
        """No weights in the workspace: its kernels then add nothing but the limits."""
        self.scalars[_.WEIGHT_P : _.WEIGHT_W + 1] = 0.0
        self.scalars[_.TERMINAL : _.TERMINAL + 15] = 0.0

    def solve(self, budget: int) -> PlanStatus:
        """See ``Solver``."""
        return self._note(self._newton(budget))

    def step(self, state: FloatArray, shifts: int, budget: int) -> PlanStatus:
        """See ``Solver``."""
        if not np.isfinite(state).all():
            return self._note(NOT_FINITE)
        for _i in range(shifts):
            shift(self.rows, self.horizon, self.kind)
        enter(self.rows, self.scalars, self.horizon, self.kind, state)
        return self._note(self._newton(budget))

    def _newton(self, budget: int) -> int:
        """``newton.newton``."""
        sc = self.scalars
        sc[_.STEPS] = 0.0
        if not self._start():
            return NOT_FINITE
        floor, tolerance = sc[_.MU_MIN], sc[_.TOLERANCE]
        for i in range(budget):
            status = self._step()
            sc[_.STEPS] = i + 1.0
            if status != CONVERGED:
                self._start()
                self._measure()
                return status
            self._measure()
            if sc[_.MU] <= floor and sc[_.BARRIER_RESIDUAL] <= tolerance:
                return CONVERGED
            while sc[_.MU] > floor and sc[_.BARRIER_RESIDUAL] < 10.0 * sc[_.MU]:
                sc[_.MU] = max(floor, min(0.2 * sc[_.MU], sc[_.MU] ** 1.5))
                sc[_.NU] = 0.0
                self._measure()
        return BUDGET

    def _start(self) -> bool:
        """``newton.start``."""
        ws, sc, last = self.rows, self.scalars, self.horizon + 2
        for offset in range(6):
            rows(ws, _.TP + offset)[:last] = rows(ws, _.P + offset)[:last]
        rows(ws, _.TLTH)[:last] = rows(ws, _.LTH)[:last]
        rows(ws, _.TLOM)[:last] = rows(ws, _.LOM)[:last]
        sc[_.COST], sc[_.SUM_DEFECT] = self._cost_and_defect()
        if not math.isfinite(sc[_.COST] + sc[_.SUM_DEFECT]):
            return False
        self._differentiate()
        return True

    def _cost_and_defect(self) -> tuple[float, float]:
        """Cost and sum of the absolute defects at the trial."""
        cost = self._model.evaluate(self.rows, self.scalars)
        _none, defect = cost_and_defect(self.rows, self.scalars, self.horizon, self.kind)
        return cost, float(defect)

    def _differentiate(self) -> None:
        """Derivatives at the trial, which is about to be, or is, the iterate."""
        n = self.horizon
        d = self._model.derivatives
        for column, row in enumerate(JACOBIAN_ROWS):
            rows(self.rows, row)[:n] = d.jacobian[:, column // 3, column % 3]
        self._gradient, self._hessian = in_y(d.gradient, d.hessian)
        self._last_gradient, self._last_hessian = in_y(d.last_gradient, d.last_hessian)
        self._curvature = d.curvature

    def _factorise(self) -> bool:
        """``newton.factorise``: exact curvature, else that of the cost alone, made convex."""
        ws, sc, n = self.rows, self.scalars, self.horizon
        sc[_.CURVATURE] = 0.0
        assemble(ws, sc, n, self.kind)
        for column in range(6):
            rows(ws, _.QP + column)[:n] += self._gradient[:, column]
        exact = self._hessian.copy()
        exact[:, 2:5, 2:5] += self._curvature
        if dense_backward(ws, n, exact, self._last_hessian, self._last_gradient):
            return True
        stages, last = convex(self._hessian), convex(self._last_hessian)
        return bool(dense_backward(ws, n, stages, last, self._last_gradient))

    def _step(self) -> int:
        """``newton.step``."""
        ws, sc, n, kind = self.rows, self.scalars, self.horizon, self.kind
        if not self._factorise():
            return FACTORISATION
        if not forward(ws, n, kind):
            return NOT_FINITE
        new_multipliers(ws, n, kind)
        primal, dual, slope = directions(ws, sc, n, kind)
        at = np.arange(_.ROWS) * _.STRIDE + n
        end = ws[at[[_.DP, _.DV, _.DTH, _.DOM, _.RATIO]]]
        own = ws[at[_.S0 : _.S4 + 1]]
        own[0] -= ws[at[_.QP]]
        own[1] -= ws[at[_.QV]]
        slope += float(own @ end)
        mu, cost, defect, nu = sc[_.MU], sc[_.COST], sc[_.SUM_DEFECT], sc[_.NU]
        if defect > 1e-14:
            nu = max(nu, 2.0 * slope / defect)
        sc[_.NU] = nu
        fall = slope - nu * defect
        alpha = min(1.0, TO_BOUNDARY / primal) if primal > 0.0 else 1.0
        dual = min(1.0, TO_BOUNDARY / dual) if dual > 0.0 else 1.0
        slack = 1e-12 * (abs(cost) + nu * defect) + 1e-14
        for _trial in range(BACKTRACKS):
            move(ws, n, kind, alpha)
            new_cost, new_defect = self._cost_and_defect()
            change = new_cost - cost + nu * (new_defect - defect)
            change -= mu * log_slack_change(ws, sc, n, kind)
            if change <= ARMIJO * alpha * min(fall, 0.0) + slack:
                sc[_.COST], sc[_.SUM_DEFECT], sc[_.LAST_ALPHA] = new_cost, new_defect, alpha
                self._differentiate()
                accept(ws, sc, n, kind, alpha, dual, SPREAD)
                return CONVERGED
            alpha *= 0.5
        sc[_.LAST_ALPHA] = 0.0
        return STALLED

    def _measure(self) -> None:
        """``newton.measure``, its stationarity with the cost's gradient from PyTorch."""
        sc = self.scalars
        _zero, defect, product = residuals(self.rows, sc, self.horizon, self.kind)
        worst = max(self._stationarity(), float(defect))
        sc[_.DEFECT] = defect
        sc[_.RESIDUAL] = max(worst, product)
        sc[_.BARRIER_RESIDUAL] = max(worst, product - sc[_.MU])

    def _stationarity(self) -> float:
        """Largest entry of the Lagrangian's gradient, over (y, w) and the last y."""
        ws, sc, n = self.rows, self.scalars, self.horizon
        table = ws.reshape(-1, _.STRIDE)
        lam = table[_.LP : _.LE + 1, : n + 1]
        ahead = lam[:, 1:]
        z = table[_.ZPL : _.ZWU + 1, : n + 1]
        pull_p, pull_g, pull_u, pull_w = z[1] - z[0], z[3] - z[2], z[5] - z[4], z[7] - z[6]
        h, c2, e1, d = (table[row, :n] for row in (_.H, _.C2, _.E1, _.D))
        f11, f12, g1, f21, f22, g2 = (table[row, :n] for row in JACOBIAN_ROWS)
        g = self._gradient.T.copy()
        g[0] += pull_p[:n] + sc[_.LEAD_P] * pull_g[:n] + ahead[0]
        g[1] += sc[_.LEAD_V] * pull_g[:n] + pull_u[:n] + h * ahead[0] + ahead[1]
        g[2] += f11 * ahead[2] + f21 * ahead[3]
        g[3] += f12 * ahead[2] + f22 * ahead[3]
        g[4] += pull_u[:n] + c2 * ahead[0] + e1 * ahead[1] + g1 * ahead[2] + g2 * ahead[3]
        g[4] += d * ahead[4]
        g[5] += pull_w[:n] + h * g[4]
        g[:5] -= lam[:, :n]
        last = self._last_gradient - lam[:, n]
        last[0] += pull_p[n] + sc[_.LEAD_P] * pull_g[n]
        last[1] += sc[_.LEAD_V] * pull_g[n]
        # The first state is measured: only its rate is free.
        return float(max(np.abs(g[:, 1:]).max(), abs(g[5, 0]), np.abs(last).max()))


class TorchPlanner(Planner):
    """The bank of plans with fewer of them, and as many Newton steps as a tick affords."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        program = Program(
            self.problem.horizon,
            self.problem.periodic,
            load_user_model(config.optimizer.user_cost),
        )
        gain = regulator(self.problem.model, self.problem.weights, config.optimizer.step_s)[0]
        tolerance = config.optimizer.tolerance
        time_s = self.problem.model.characteristic_time_s
        self._bank = [
            Candidate(
                name,
                TorchSolver(
                    self.problem,
                    gain=gain,
                    mu=MU_SHARE * tolerance,
                    tolerance=tolerance,
                    program=program,
                ),
                kick,
                pole_times * time_s,
                side,
            )
            for name, kick, pole_times, side in STARTS[:PLANS]
        ]

    def plan(
        self, state: FloatArray, reference: FloatArray, newton_budget: int, start_ns: int
    ) -> Plan:
        """See ``Planner``; at most TICK_STEPS Newton steps."""
        return super().plan(state, reference, min(newton_budget, TICK_STEPS), start_ns)
