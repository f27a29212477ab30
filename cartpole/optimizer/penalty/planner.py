"""The penalty method as a planner: one plan, four Newton steps a tick."""

from __future__ import annotations

import numpy as np

from cartpole.messages import NANOSECONDS, THETA, FloatArray, Plan, PlanStatus, U
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.bank.candidate import upright_above, upright_nearest
from cartpole.optimizer.compiled.solver import FEASIBLE_DEFECT, Guess, Solver
from cartpole.optimizer.penalty.solver import STEPS_PER_TICK, PenaltySolver
from cartpole.optimizer.problem import PlannerRules, for_model, regulator, rig_problem

# Closer than this to upright no kick is needed.
NEAR_RAD = 0.5
# Ticks without a usable plan after which it starts afresh.
PATIENCE = 10


class PenaltyPlanner:
    """One plan, four Newton steps a tick; see ``planner.Planner`` for the calls."""

    def __init__(self, rules: PlannerRules) -> None:
        self.problem = rig_problem(rules)
        self._solver = PenaltySolver(self.problem)
        self._told = rules.model
        self._tolerance = rules.tolerance
        self._period_ns = round(rules.step_s * NANOSECONDS)
        self._gain = regulator(self.problem.model, self.problem.weights, rules.step_s)[0]
        self._times = np.concatenate(([0.0], np.cumsum(self.problem.steps_s)))[:-1]
        self._alive = False
        self._bad = 0
        self._last_ns = 0

    def reset(self) -> None:
        """See ``Planner``."""
        self._alive = False
        self._bad = 0

    def update(self, rules: PlannerRules) -> None:
        """See ``Planner``."""
        self.problem = rig_problem(rules)
        self._solver.update(self.problem)
        self._told = rules.model

    def believe(self, model: ModelParameters) -> None:
        """See ``Planner``."""
        if model != self._told:
            self._told = model
            self._solver.update(for_model(self.problem, model))

    def prepare(self) -> None:
        """See ``Planner``."""
        if self._alive:
            self._solver.shift()
            self._last_ns += self._period_ns

    def plan(
        self,
        state: FloatArray,
        reference: FloatArray,
        newton_budget: int,
        start_ns: int,
        model: ModelParameters | None = None,
    ) -> Plan:
        """See ``Planner``; at most STEPS_PER_TICK Newton steps once there is a plan."""
        solver = self._solver
        if not (np.isfinite(state).all() and np.isfinite(reference).all()):
            self.reset()
            return self._record(PlanStatus.NOT_FINITE, np.nan_to_num(state), start_ns, 0)
        if model is not None:
            self.believe(model)
        solver.reference = reference.copy()
        shifts = round((start_ns - self._last_ns) / self._period_ns)
        if self._bad > PATIENCE or not 0 <= shifts <= self.problem.horizon // 2:
            self._alive = False
        budget = newton_budget if not self._alive else min(newton_budget, STEPS_PER_TICK)
        if not self._alive:
            self._begin(state)
            shifts = 0
        for _shift in range(shifts):
            solver.shift()
        self._last_ns = start_ns
        solver.first = state.copy()
        used = 0
        while used < budget:
            steps = solver.newton(min(STEPS_PER_TICK, budget - used))
            solver.lift()
            used += max(1, steps)
        status = self._status(budget)
        if not solver.finite:
            self.reset()
            self._begin(state)
            status = PlanStatus.NOT_FINITE
        self._bad = 0 if status in (PlanStatus.CONVERGED, PlanStatus.FEASIBLE) else self._bad + 1
        return self._record(status, state, start_ns, min(used, max(0, budget)))

    def _begin(self, state: FloatArray) -> None:
        """A plan from the motion that the compiled planner begins with, too."""
        theta = float(state[THETA])
        near = abs(theta - upright_nearest(theta)) < NEAR_RAD
        target = upright_nearest(theta) if near else upright_above(theta)
        kick_s = 0.0 if near else self.problem.model.characteristic_time_s
        rollout = Solver(self._solver.problem, gain=self._gain)
        rollout.start(state, Guess(0.0 if near else 1.0, kick_s, 1.0, target))
        self._solver.start(state, rollout.solution().states, target)
        self._alive = True
        self._bad = 0

    def _status(self, budget: int) -> PlanStatus:
        if budget <= 0:
            return PlanStatus.NO_BUDGET
        solver = self._solver
        if max(solver.residual, solver.defect) <= self._tolerance:
            return PlanStatus.CONVERGED
        return PlanStatus.FEASIBLE if solver.defect <= FEASIBLE_DEFECT else PlanStatus.BUDGET

    def _record(self, status: PlanStatus, state: FloatArray, start_ns: int, used: int) -> Plan:
        solver, limits = self._solver, self._solver.problem.limits
        states = np.vstack((state, solver.y))
        # The barrier is soft, the command is not.
        states[1:, U] = np.clip(states[1:, U], -limits.command, limits.command)
        return Plan(
            start_ns=start_ns,
            status=status,
            newton_steps=used,
            kkt_residual=max(solver.residual, solver.defect),
            cost=solver.cost,
            candidate="penalty",
            times_s=self._times,
            states=states,
            inputs=np.diff(states[:, U]) / self.problem.steps_s,
        )
