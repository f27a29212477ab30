"""One plan kept alive: a problem, its workspace, its Newton steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cartpole.messages import FloatArray, PlanStatus
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.newton import newton
from cartpole.optimizer.compiled.rollout import copy_plan, guess
from cartpole.optimizer.compiled.warm import advance, enter, shift
from cartpole.optimizer.compiled.workspace import fill, rows, share, workspace
from cartpole.optimizer.problem import Problem
from cartpole.recall import require
from cartpole.record import record

# A plan whose pole keeps its dynamics to this (per step; rad, rad/s) may be flown. Its cart always
# keeps both dynamics and limits.
FEASIBLE_DEFECT = 0.05


@dataclass(frozen=True, slots=True)
class Guess:
    """A first motion: a kick, then pumping, then catching; target is an odd multiple of pi."""

    kick: float
    kick_s: float
    strength: float
    target_rad: float


@record
class Solution:
    """What a solve reached; ``states`` (N + 1, 5), ``inputs`` (N,) as in messages.Plan."""

    status: PlanStatus
    steps: int
    cost: float
    residual: float
    states: FloatArray
    inputs: FloatArray


@dataclass(slots=True)
class SolverMemory:
    """A plan's workspace (see ``layout``), and what its last Newton steps came to."""

    rows: FloatArray
    scalars: FloatArray
    status: PlanStatus = PlanStatus.NO_BUDGET

    def check(self, own: SolverMemory) -> None:
        """SessionError for a plan of other tolerances."""
        fixed = slice(MU_MIN, TOLERANCE + 1)
        require(bool((self.scalars[fixed] == own.scalars[fixed]).all()), "the tolerances of a plan")


class Solver:
    """A plan with its workspace. Not shared between threads; no allocation in ``step``."""

    def __init__(
        self,
        problem: Problem,
        *,
        gain: FloatArray | None = None,
        mu: float = 1e-4,
        tolerance: float = 1e-6,
    ) -> None:
        self.problem = problem
        self.kind = int(problem.kind)
        self.horizon = problem.horizon
        self.rows, self.scalars = workspace(problem)
        self.memory = SolverMemory(self.rows, self.scalars)
        self._reference = rows(self.rows, REF)[: self.horizon + 1]
        self.scalars[MU_MIN] = mu
        self.scalars[TOLERANCE] = tolerance
        if gain is not None:
            self.scalars[GAIN : GAIN + 5] = gain

    @property
    def status(self) -> PlanStatus:
        """What the last Newton steps came to."""
        return self.memory.status

    @status.setter
    def status(self, status: PlanStatus) -> None:
        self.memory.status = status

    def update(self, problem: Problem, gain: FloatArray | None = None) -> None:
        """Other weights or limits for the same horizon; the iterate stays."""
        self.problem = problem
        fill(self.rows, self.scalars, problem)
        if gain is not None:
            self.scalars[GAIN : GAIN + 5] = gain

    def share(self, other: Solver) -> None:
        """The problem that another solver with the same horizon has been given."""
        self.problem = other.problem
        share(self.rows, self.scalars, other.rows, other.scalars, self.horizon)

    def set_reference(self, reference_m: FloatArray) -> None:
        """The cart's target, (N + 1,)."""
        self._reference[:] = reference_m

    def set_coupling(self, coupling_1_m: float) -> None:
        """The pole's coupling c that the plan believes in."""
        self.scalars[COUPLING] = coupling_1_m

    def start(self, state: FloatArray, first: Guess, mu: float = 0.1) -> None:
        """Forget the plan and begin with a feasible motion from ``state`` (5,)."""
        self.scalars[MU] = max(mu, self.scalars[MU_MIN])
        self.scalars[THETA_REF] = first.target_rad
        guess(
            self.rows, self.scalars, state, self.horizon, self.kind,
            first.kick, first.kick_s, first.strength,
        )  # fmt: skip
        enter(self.rows, self.scalars, self.horizon, self.kind, state)

    def shift(self) -> None:
        """Move the plan one step ahead in time."""
        shift(self.rows, self.horizon, self.kind)

    def solve(self, budget: int) -> PlanStatus:
        """Up to ``budget`` Newton steps from where the plan stands."""
        code = newton(self.rows, self.scalars, self.horizon, self.kind, budget)
        return self._note(code)

    def step(self, state: FloatArray, shifts: int, budget: int) -> PlanStatus:
        """A tick: move ``shifts`` steps ahead, take in the measured state (5,), Newton steps."""
        code = advance(self.rows, self.scalars, state, self.horizon, self.kind, shifts, budget)
        return self._note(code)

    def _note(self, code: int) -> PlanStatus:
        status = PlanStatus(code)
        if status is PlanStatus.BUDGET and self.scalars[DEFECT] <= FEASIBLE_DEFECT:
            status = PlanStatus.FEASIBLE
        self.status = status
        return status

    @property
    def cost(self) -> float:
        """Cost of the iterate."""
        return float(self.scalars[COST])

    @property
    def score(self) -> float:
        """Cost, plus what the defects are worth at the plan's own multipliers."""
        defect = float(self.scalars[SUM_DEFECT])
        if defect < 1e-6:
            return self.cost
        multipliers = self.rows.reshape(-1, STRIDE)[LTH : LOM + 1, : self.horizon + 1]
        return self.cost + float(np.abs(multipliers).max()) * defect

    @property
    def steps(self) -> int:
        """Newton steps of the last call."""
        return int(self.scalars[STEPS])

    def solution(self) -> Solution:
        """A copy of the plan."""
        n = self.horizon
        states, inputs = np.empty((n + 1, 5)), np.empty(n)
        copy_plan(self.rows, n, self.kind, states, inputs)
        return Solution(
            self.status, self.steps, self.cost, float(self.scalars[RESIDUAL]), states, inputs
        )
