"""The plans in a planner's bank: how each begins, and what it remembers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cartpole.messages import THETA, FloatArray, PlanStatus
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.recall import refill, require

FLYABLE = (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)


def upright_above(theta: float) -> float:
    """The smallest odd multiple of pi that is larger than theta."""
    return math.pi * (2.0 * math.floor((theta + math.pi) / (2.0 * math.pi)) + 1.0)


def upright_nearest(theta: float) -> float:
    """The odd multiple of pi nearest to theta."""
    return math.pi * (2.0 * math.floor(theta / (2.0 * math.pi)) + 1.0)


@dataclass(frozen=True, slots=True)
class CandidateState:
    """A plan's memory: its solver's workspace (see ``layout``) and the model it believes in."""

    alive: bool
    age: int
    status: PlanStatus
    model: ModelParameters
    rows: FloatArray
    scalars: FloatArray


class Candidate:
    """A plan in the bank: its solver, its name, how it begins."""

    def __init__(self, name: str, solver: Solver, kick: float, kick_s: float, side: int) -> None:
        self.name = name
        self.solver = solver
        self.kick = kick
        self.kick_s = kick_s
        self.side = side  # 1: the next upright above, -1: below, 0: the nearest
        self.alive = False
        self.age = 0

    def begin(self, state: FloatArray) -> None:
        """Start afresh from ``state``."""
        above = upright_above(float(state[THETA]))
        target = above if self.side > 0 else above - 2.0 * math.pi
        if self.side == 0:
            target = upright_nearest(float(state[THETA]))
        self.solver.start(state, Guess(self.kick, self.kick_s, 1.0, target))
        self.solver.status = PlanStatus.BUDGET
        self.alive = True
        self.age = 0

    def state(self) -> CandidateState:
        """All that is remembered, copied."""
        solver = self.solver
        return CandidateState(
            self.alive,
            self.age,
            solver.status,
            solver.problem.model,
            solver.rows.copy(),
            solver.scalars.copy(),
        )

    def restore(self, state: CandidateState) -> None:
        """Go on from a state of the same candidate; SessionError if it is none."""
        solver, fixed = self.solver, slice(MU_MIN, TOLERANCE + 1)
        same = state.scalars.shape == solver.scalars.shape and bool(
            (state.scalars[fixed] == solver.scalars[fixed]).all()
        )
        require(same, "the tolerances of a plan")
        solver.update(replace(solver.problem, model=state.model))
        refill(solver.rows, state.rows, "a plan's rows")
        refill(solver.scalars, state.scalars, "a plan's scalars")
        solver.status = state.status
        self.alive, self.age = state.alive, state.age

    @property
    def flyable(self) -> bool:
        """Whether its plan may be flown."""
        return self.alive and self.solver.status in FLYABLE


# Name, kick (share of the speed limit), its duration in pole times, side.
STARTS = (
    ("hold", 0.0, 0.0, 0),
    ("right", 1.0, 1.0, 1),
    ("left", -1.0, 1.0, -1),
    ("right, the other way round", 1.0, 1.0, -1),
    ("left, the other way round", -1.0, 1.0, 1),
    ("right, one pump more", 1.0, 2.5, 1),
    ("left, one pump more", -1.0, 2.5, -1),
    ("no kick", 0.0, 0.0, 1),
)
