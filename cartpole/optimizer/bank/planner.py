"""Several plans alive in every tick; the best one is flown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cartpole.messages import NANOSECONDS, OMEGA, THETA, FloatArray, P, Plan, PlanStatus, U
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.bank.candidate import (
    STARTS,
    Candidate,
    CandidateMemory,
    upright_nearest,
)
from cartpole.optimizer.compiled.solver import Solver
from cartpole.optimizer.problem import (
    PESSIMISM,
    PlannerRules,
    Problem,
    finite,
    for_model,
    regulator,
    rig_problem,
)
from cartpole.recall import require

# Barrier parameter of a running plan, as a share of the tolerance.
MU_SHARE = 0.5
# Another plan is flown when it is better by this share (and this much).
HYSTERESIS = 0.05
# A start further outside the position limit than this [m] is called infeasible.
OUTSIDE_M = 0.02
# Newton steps that the flown plan takes before the others get any.
FIRST_STEPS = 4
# More that it takes if it has not converged by then.
MORE_STEPS = 8
# And once more where it may not be flown by then: a pole that fell short asks for thirty or fifty.
LAST_STEPS = 48
# A first plan with fewer steps than this is not worth sharing them.
FEW_STEPS = 20
# A change of the drive's lag by this share is worth telling the plans.
LAG_STEP = 0.03
# So is one of the gain by this, of the pole's damping by this [1/s].
GAIN_STEP = 0.005
DAMPING_STEP_1_S = 0.01
# Ticks after which a candidate that lost is started afresh.
RENEW_TICKS = 10
# Within this of upright and at less than this share of sqrt(c g) one plan is enough.
CALM_RAD = 0.35
CALM_RATE = 1.0


@dataclass(slots=True)
class PlannerMemory:
    """The bank's memory; ``flown`` is the flown candidate's place or -1, ``told`` the model of its
    plans but for the pole's length, which is ``length_m``; ``prepared``: they were moved ahead."""

    candidates: tuple[CandidateMemory, ...]
    told: ModelParameters
    length_m: float
    flown: int = -1
    turn: int = 0
    last_ns: int = 0
    prepared: bool = False

    def check(self, own: PlannerMemory) -> None:
        """SessionError for a plan that is not in the bank."""
        require(-1 <= self.flown < len(own.candidates), "the plan flown")


class Planner:
    """The bank of plans of a rig. Deterministic: the same calls give the same bytes."""

    def __init__(
        self, rules: PlannerRules, plans: int | None = None, solver: Callable[..., Solver] = Solver
    ) -> None:
        """``plans`` of the bank, else as many as the rules say; each has its ``solver``."""
        plans = plans or max(3, rules.candidates)
        self.problem, gain = self._problem(rules)
        time = self.problem.model.characteristic_time_s
        tolerance = rules.tolerance
        self._period_ns = round(rules.step_s * NANOSECONDS)
        self._bank = [
            Candidate(
                name,
                solver(self.problem, gain=gain, mu=MU_SHARE * tolerance, tolerance=tolerance),
                kick,
                pole_times * time,
                side,
            )
            for name, kick, pole_times, side in STARTS[:plans]
        ]
        self._times = np.concatenate(([0.0], np.cumsum(self.problem.steps_s)))[:-1]
        plans_kept = tuple(candidate.memory for candidate in self._bank)
        self.memory = PlannerMemory(plans_kept, rules.model, rules.model.length_m)

    def _problem(self, rules: PlannerRules) -> tuple[Problem, FloatArray]:
        """The rig's problem, and the gain of its regulator for first guesses."""
        problem = rig_problem(rules)
        return problem, regulator(problem.model, problem.weights, rules.step_s)[0]

    @property
    def _flown(self) -> Candidate | None:
        return None if self.memory.flown < 0 else self._bank[self.memory.flown]

    @_flown.setter
    def _flown(self, candidate: Candidate | None) -> None:
        self.memory.flown = -1 if candidate is None else self._bank.index(candidate)

    def reset(self) -> None:
        """Forget all plans."""
        for candidate in self._bank:
            candidate.alive = False
        self._flown = None
        self.memory.turn = 0

    def update(self, rules: PlannerRules) -> None:
        """Take over live weights; horizon, step and number of candidates stay."""
        problem, gain = self._problem(rules)
        self.problem = problem
        for candidate in self._bank:
            candidate.solver.update(problem, gain)
        self.memory.told = rules.model
        self.memory.length_m = rules.model.length_m

    def prepare(self) -> None:
        """Move all plans one step ahead, before the next measurement is there."""
        if self._flown is None or self.memory.prepared:
            return
        for candidate in self._bank:
            if candidate.alive:
                candidate.solver.shift()
        self.memory.last_ns += self._period_ns
        self.memory.prepared = True

    def expect(self, kept: PlannerMemory) -> None:
        """Believe what the plans of a memory believe that is about to be put in place."""
        self._tell(kept.told)
        self._couple(kept.length_m)

    def plan(
        self,
        state: FloatArray,
        reference: FloatArray,
        newton_budget: int,
        start_ns: int,
        model: ModelParameters | None = None,
    ) -> Plan:
        """The plan to fly from ``state`` (5,) at ``start_ns``; ``reference`` (N + 1,) for the cart.

        ``model`` is the rig as it is known by now; without one it is as it was.

        Never takes more than ``newton_budget`` Newton steps, over all candidates together.
        """
        if not (finite(state) and finite(reference)):
            return self._hollow(PlanStatus.NOT_FINITE, state, start_ns)
        if start_ns != self.memory.last_ns:
            self.prepare()  # where nobody did, as in a replay: under the model of before
        shifts = self._shifts(start_ns)
        self.memory.prepared = False
        if model is not None:
            shifts = self._move(shifts)
            self.believe(model)
        for candidate in self._bank:
            candidate.solver.set_reference(reference)
        if newton_budget <= 0:
            return self._without_budget(state, shifts, start_ns)
        self.memory.last_ns = start_ns
        left = newton_budget
        if self._flown is None or not self._flown.alive:
            self._flown = self._first(state)
            left -= self._advance(self._flown, state, 0, self._first_share(state, left))
        else:
            left -= self._advance(self._flown, state, shifts, min(left, FIRST_STEPS))
            if self._flown.solver.status in (PlanStatus.BUDGET, PlanStatus.FEASIBLE):
                more = left if self._calm(state) else min(left, MORE_STEPS)
                left -= self._advance(self._flown, state, 0, more)
            if not self._flown.flyable:  # any other plan costs a whole swing more
                left -= self._advance(self._flown, state, 0, min(left, LAST_STEPS))
        left -= self._others(state, shifts, left)
        chosen = self._choose(state)
        return self._record(chosen, start_ns, newton_budget - left, self._status(chosen, state))

    def _move(self, shifts: int) -> int:
        """Move all plans ahead by so many steps; none is left."""
        for candidate in self._bank:
            if candidate.alive:
                for _ in range(shifts):
                    candidate.solver.shift()
        return 0

    def believe(self, model: ModelParameters) -> None:
        """Plan for this model; all but the length only when it changed by some percent."""
        told = self.memory.told
        changed = (
            abs(model.tau_s - told.tau_s) > LAG_STEP * told.tau_s
            or abs(model.gain - told.gain) > GAIN_STEP
            or abs(model.damping_1_s - told.damping_1_s) > DAMPING_STEP_1_S
            or model.motor_acceleration_m_s2 != told.motor_acceleration_m_s2
        )
        if changed:
            self._tell(model)
        self._couple(model.length_m)

    def _tell(self, model: ModelParameters) -> None:
        """Hand a model to all plans; their commands are the cart's own speeds."""
        if model == self.memory.told:
            return
        self.memory.told = model
        first, *others = (candidate.solver for candidate in self._bank)
        first.update(for_model(self.problem, model))
        for solver in others:
            solver.share(first)

    def _couple(self, length_m: float) -> None:
        self.memory.length_m = length_m
        for candidate in self._bank:
            candidate.solver.set_coupling(1.5 / (PESSIMISM * length_m))

    def _shifts(self, start_ns: int) -> int:
        """Steps since the last plan; too many make the bank start afresh.

        Commands that are found to act sooner make the next plan begin less than a step later.
        """
        if self._flown is None:
            return 0
        shifts = round((start_ns - self.memory.last_ns) / self._period_ns)
        if not -1 <= shifts <= self.problem.horizon // 2:
            self.reset()
            return 0
        return max(shifts, 0)

    def _calm(self, state: FloatArray) -> bool:
        """Whether the pole is about upright, so that one plan is enough."""
        theta, rate = float(state[THETA]), abs(float(state[OMEGA]))
        off = abs(theta - upright_nearest(theta))
        return off < CALM_RAD and rate * self.problem.model.characteristic_time_s < CALM_RATE

    def _first(self, state: FloatArray) -> Candidate:
        candidate = self._bank[0] if self._calm(state) else self._bank[1]
        candidate.begin(state)
        return candidate

    def _first_share(self, state: FloatArray, budget: int) -> int:
        """Newton steps of the first plan of all; the others get as many if there are enough."""
        share = budget // len(self._bank)
        return budget if self._calm(state) or share < FEW_STEPS else share

    def _advance(self, candidate: Candidate, state: FloatArray, shifts: int, budget: int) -> int:
        """Newton steps of one candidate; returns how many."""
        if budget <= 0:
            return 0
        status = candidate.solver.step(state, shifts, budget)
        candidate.memory.age += 1
        used = candidate.solver.steps
        if status in (PlanStatus.NOT_FINITE, PlanStatus.FACTORISATION):
            candidate.begin(state)
            if used < budget:
                candidate.solver.solve(budget - used)
                used += candidate.solver.steps
        return used

    def _others(self, state: FloatArray, shifts: int, budget: int) -> int:
        """Spend what is left of the budget on the other candidates, in turn."""
        others = [c for c in self._bank if c is not self._flown]
        if self._calm(state):
            for candidate in others:
                candidate.alive = False
            return 0
        used = 0
        for i in range(len(others)):
            candidate = others[(self.memory.turn + i) % len(others)]
            fresh = not candidate.alive
            if fresh:
                if used >= budget:
                    continue
                candidate.begin(state)
            share = max(0, min(budget - used, max(3, budget // len(others))))
            if share == 0:
                if not fresh:
                    candidate.solver.step(state, shifts, 0)
                continue
            used += self._advance(candidate, state, 0 if fresh else shifts, share)
        self.memory.turn = (self.memory.turn + 1) % len(others)
        return used

    def _choose(self, state: FloatArray) -> Candidate:
        flown = self._flown
        assert flown is not None
        of_flown = flown.solver.score
        best, least = flown, of_flown
        others = [(c, c.solver.score) for c in self._bank if c is not flown and c.alive]
        for candidate, score in others:
            if not candidate.flyable:
                continue
            limit = least
            if best is flown and flown.flyable:
                limit -= HYSTERESIS * abs(limit)
            if not best.flyable or score < limit:
                best, least = candidate, score
        for candidate, score in ((flown, of_flown), *others):
            lost = candidate is not best and candidate.alive and candidate.memory.age >= RENEW_TICKS
            if lost and (
                not candidate.flyable or score > 1.5 * least or abs(score - least) < 1e-3 * least
            ):
                candidate.alive = False
        self._flown = best
        return best

    def _status(self, candidate: Candidate, state: FloatArray) -> PlanStatus:
        limits = self.problem.limits
        if (
            abs(state[P]) > limits.position_m + OUTSIDE_M
            or abs(state[U]) > 1.1 * self.memory.told.gain * limits.command + 1e-9
        ):
            return PlanStatus.INFEASIBLE_START
        return candidate.solver.status

    def _record(self, candidate: Candidate, start_ns: int, steps: int, status: PlanStatus) -> Plan:
        solution = candidate.solver.solution()
        if not (finite(solution.states) and finite(solution.inputs)):
            status = PlanStatus.NOT_FINITE
        return Plan(
            start_ns=start_ns,
            status=status,
            newton_steps=steps,
            kkt_residual=solution.residual,
            cost=solution.cost,
            candidate=candidate.name,
            times_s=self._times,
            states=solution.states,
            inputs=solution.inputs,
        )

    def _without_budget(self, state: FloatArray, shifts: int, start_ns: int) -> Plan:
        """The flown plan shifted, or a standstill if there is none."""
        if self._flown is None:
            return self._hollow(PlanStatus.NO_BUDGET, state, start_ns)
        for candidate in self._bank:
            if candidate.alive:
                candidate.solver.step(state, shifts, 0)
        self.memory.last_ns = start_ns
        return self._record(self._flown, start_ns, 0, PlanStatus.NO_BUDGET)

    def _hollow(self, status: PlanStatus, state: FloatArray, start_ns: int) -> Plan:
        """A plan that only slows the command down to zero."""
        n = self.problem.horizon
        limits = self.problem.limits
        states = np.zeros((n + 1, 5))
        states[0] = np.nan_to_num(state, nan=0.0, posinf=0.0, neginf=0.0)
        inputs = np.zeros(n)
        u = float(np.clip(states[0, U], -limits.command, limits.command))
        states[0, U] = u
        for k, h in enumerate(self.problem.steps_s):
            inputs[k] = np.clip(-u / h, -limits.rate, limits.rate)
            u += h * inputs[k]
            states[k + 1] = (states[0, P], 0.0, states[0, THETA], 0.0, u)
        return Plan(
            start_ns=start_ns,
            status=status,
            newton_steps=0,
            kkt_residual=math.inf,
            cost=math.inf,
            candidate="stop",
            times_s=self._times,
            states=states,
            inputs=inputs,
        )
