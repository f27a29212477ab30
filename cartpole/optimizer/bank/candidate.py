"""The plans in a planner's bank: how each begins, and what it remembers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cartpole.messages import THETA, FloatArray, PlanStatus
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.solver import Guess, Solver, SolverMemory

FLYABLE = (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)


def upright_above(theta: float) -> float:
    """The smallest odd multiple of pi that is larger than theta."""
    return math.pi * (2.0 * math.floor((theta + math.pi) / (2.0 * math.pi)) + 1.0)


def upright_nearest(theta: float) -> float:
    """The odd multiple of pi nearest to theta."""
    return math.pi * (2.0 * math.floor(theta / (2.0 * math.pi)) + 1.0)


@dataclass(slots=True)
class CandidateMemory:
    """A plan's memory, and for how many ticks it has been alive."""

    solver: SolverMemory
    alive: bool = False
    age: int = 0


class Candidate:
    """A plan in the bank: its solver, its name, how it begins."""

    def __init__(self, name: str, solver: Solver, kick: float, kick_s: float, side: int) -> None:
        self.name = name
        self.solver = solver
        self.kick = kick
        self.kick_s = kick_s
        self.side = side  # 1: the next upright above, -1: below, 0: the nearest
        self.memory = CandidateMemory(solver.memory)

    @property
    def alive(self) -> bool:
        """Whether there is a plan."""
        return self.memory.alive

    @alive.setter
    def alive(self, alive: bool) -> None:
        self.memory.alive = alive

    def begin(self, state: FloatArray) -> None:
        """Start afresh from ``state``."""
        above = upright_above(float(state[THETA]))
        target = above if self.side > 0 else above - 2.0 * math.pi
        if self.side == 0:
            target = upright_nearest(float(state[THETA]))
        self.solver.start(state, Guess(self.kick, self.kick_s, 1.0, target))
        self.solver.status = PlanStatus.BUDGET
        self.alive = True
        self.memory.age = 0

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
