"""Gradients of a loss on a plan, by everything that the plan depends on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Flag, auto

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray
from cartpole.optimizer.adjoint.kernels import *
from cartpole.optimizer.compiled.kkt import measure, start
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.solver import Solver

# Residual of the barrier's problem to which a plan is polished before it is differentiated.
POLISHED = 1e-10
POLISH_STEPS = 12


class Flaw(Flag):
    """Why a gradient may be wrong or mean nothing."""

    NONE = 0
    UNCONVERGED = auto()  # the residual is too large for the gradient that was asked for
    RELAXED = auto()  # the start broke a limit, which gave way: its gradient is not the limit's
    INDEFINITE = auto()  # the plan is no minimum
    INACCURATE = auto()  # one more Newton step moves the gradient by more than its tolerance
    SMOOTHED = auto()  # a weakly active limit: mu has a hand in the plan
    JUMPED = auto()  # another plan costs as much: a small change leads to it


INDEFINITE = Flaw.INDEFINITE.value  # of a flag's own arithmetic, which is slow


@dataclass(frozen=True, slots=True)
class PlanGradient:
    """dl by the problem's data; shapes and order as in ``Problem``; SI.

    ``model`` is by (length, damping, gravity, tau), ``weights`` (6,) as ``StageWeights``,
    ``limits`` by (position, lead, command, rate), ``state`` (5,) by the measured state;
    ``finite``: whether all of it is.
    """

    model: FloatArray
    weights: FloatArray
    terminal: FloatArray
    limits: FloatArray
    reference: FloatArray
    state: FloatArray
    mu: float
    finite: bool

    def vector(self) -> FloatArray:
        """All of it in one row; the terminal cost by its upper triangle."""
        upper = self.terminal + self.terminal.T - np.diag(np.diag(self.terminal))
        return np.concatenate(
            (
                self.model, self.weights, upper[np.triu_indices(5)], self.limits,
                self.reference, self.state, [self.mu],
            )
        )  # fmt: skip


class Adjoint:
    """A polished plan with a factor of its own; any number of losses. Counts its factorisations.

    The factor that the iteration leaves behind belongs to the iterate *before* its last step: at a
    tolerance of 1e-6 gradients from it are wrong by 3 %. ``polish=False`` takes the plan as it is.
    """

    def __init__(self, solver: Solver, *, polish: bool = True, tolerance: float = POLISHED) -> None:
        self.solver = solver
        self.factorisations = 0
        self.flaws = Flaw.NONE
        self._tolerance = tolerance
        if polish:
            self._polish()
        else:
            self._measure()
        if solver.scalars[RELAXED] != 0.0:
            self.flaws |= Flaw.RELAXED
        self._factorise()

    @property
    def residual(self) -> float:
        """Of the barrier's problem: largest entry of its gradient, largest defect."""
        return float(self.solver.scalars[BARRIER_RESIDUAL])

    def _arguments(self) -> tuple[FloatArray, FloatArray, int, int]:
        solver = self.solver
        return solver.rows, solver.scalars, solver.horizon, solver.kind

    def _measure(self) -> None:
        arguments = self._arguments()
        start(*arguments)
        centre(*arguments)
        measure(*arguments)

    def _polish(self) -> None:
        best = np.inf
        for _step in range(POLISH_STEPS):
            self._measure()
            if self.residual <= 0.01 * self._tolerance or self.residual >= best:
                break  # rounding allows no more
            best = max(self.residual, self._tolerance * self._size())
            self.solver.solve(1)
        self._measure()
        if not self.residual <= self._tolerance * self._size():
            self.flaws |= Flaw.UNCONVERGED

    def _size(self) -> float:
        """Of the terms that cancel in a residual: what rounding is a share of."""
        multipliers = self.solver.rows.reshape(-1, STRIDE)[LP : LE + 1, : self.solver.horizon + 1]
        return max(1.0, float(np.abs(multipliers).max()))

    def _factorise(self) -> None:
        self.factorisations += 1
        if not factorise_exactly(*self._arguments()):
            self.flaws |= Flaw.INDEFINITE

    def gradient(self, states: FloatArray, inputs: FloatArray) -> PlanGradient:
        """For a loss with the derivatives ``states`` (N + 1, 5) and ``inputs`` (N,)."""
        ws, sc, n, kind = self._arguments()
        if states.shape != (n + 1, 5) or inputs.shape != (n,):
            raise UsageError(f"a loss on a plan of {n} steps is by ({n + 1}, 5) and ({n},)")
        out = np.empty(GATHERED + n + 1)
        problem = self.solver.problem
        good = not self.flaws.value & INDEFINITE and gathered(
            ws, sc, states, inputs, problem.terminal, problem.model.length_m, n, kind, out
        )
        if not good:
            self.flaws |= Flaw.INDEFINITE
            out[:] = np.nan
        after = G_REFERENCE + n + 1
        return PlanGradient(
            out[:G_WEIGHTS],
            out[G_WEIGHTS:G_TERMINAL],
            out[G_TERMINAL:G_LIMITS].reshape(5, 5),
            out[G_LIMITS:G_REFERENCE],
            out[G_REFERENCE:after],
            out[after : after + 5],
            float(out[after + 5]),
            good,
        )

    def certified(
        self, states: FloatArray, inputs: FloatArray
    ) -> tuple[PlanGradient, PlanGradient, float]:
        """(gradient here, gradient one Newton step on, largest relative change between them).

        The change is the error of the first to a few percent, where a step converges quadratically;
        the second is wrong by about its square. Takes that step, and a factorisation for it.
        """
        before = self.gradient(states, inputs)
        self.solver.solve(1)
        self._measure()
        self._factorise()
        after = self.gradient(states, inputs)
        return before, after, distance(before, after)


def distance(one: PlanGradient, other: PlanGradient) -> float:
    """Largest difference of any entry, as a share of the largest entry of its kind."""
    worst = 0.0
    for name in ("model", "weights", "terminal", "limits", "reference", "state"):
        a, b = getattr(one, name), getattr(other, name)
        size = float(np.abs(b).max())
        if size > 0.0 or not np.isfinite(size):
            worst = max(worst, float(np.abs(a - b).max()) / size)
    return worst


def smoothing(gradient: PlanGradient, loss_scale: float, mu: float) -> float:
    """How much of a loss of this size is the barrier's doing: mu |dl/dmu| as a share of it."""
    return mu * abs(gradient.mu) / max(loss_scale, sys.float_info.min)
