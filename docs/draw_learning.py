"""Draws the picture of learning.md: python docs/draw_learning.py"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from cartpole.config.schema import Config
from cartpole.optimizer.adjoint.gradient import Adjoint, PlanGradient, distance
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.rules.optimizer import problem_from_config

PICTURE = Path(__file__).resolve().parent / "pictures" / "learning_gradient.png"
HOLD = Guess(0.0, 0.0, 1.0, math.pi)
STEPS, STARTS = 50, 60
TOLERANCES = 10.0 ** -np.arange(2.0, 9.0)


class KeptFactor(Adjoint):
    """The factor that the iteration leaves behind: that of the iterate before its last step."""

    def _factorise(self) -> None:
        pass


def errors(tolerance: float) -> list[tuple[float, float, float]]:
    """Of gradients from the kept factor, a fresh one, and a fresh one after one more step."""
    problem = problem_from_config(Config())
    problem = replace(problem, steps_s=np.full(STEPS, 0.02), reference_m=np.full(STEPS + 1, 0.05))
    rng = np.random.default_rng(8)
    found = []
    for _ in range(STARTS):
        p, v, omega = rng.uniform(-0.15, 0.15), rng.uniform(-0.3, 0.3), rng.uniform(-2.0, 2.0)
        state = np.array([p, v, math.pi + rng.uniform(-1.0, 1.0), omega, v])
        seeds = rng.normal(size=(STEPS + 1, 5)), 0.1 * rng.normal(size=STEPS)
        solver = Solver(problem, mu=1e-4, tolerance=tolerance)
        solver.start(state, HOLD)
        solver.solve(400)
        rows, scalars = solver.rows.copy(), solver.scalars.copy()
        kept = KeptFactor(solver, polish=False).gradient(*seeds)
        solver.rows[:], solver.scalars[:] = rows, scalars
        fresh, stepped, _change = Adjoint(solver, polish=False).certified(*seeds)
        exact = Adjoint(solver)
        if exact.flaws:
            continue
        true = exact.gradient(*seeds)
        found.append((off(kept, true), off(fresh, true), off(stepped, true)))
    return found


def off(one: PlanGradient, true: PlanGradient) -> float:
    """Relative error; one that is not finite counts as all wrong."""
    return min(distance(one, true), 1.0) if one.finite else 1.0


def main() -> None:
    table = [np.array(errors(float(tolerance))) for tolerance in TOLERANCES]
    figure, ax = plt.subplots(figsize=(7.0, 3.8))
    names = ("factor that the iteration left", "fresh factor", "one more step, fresh factor")
    for i, name in enumerate(names):
        middle = np.maximum([np.median(one[:, i]) for one in table], 1e-16)
        worst = np.maximum([one[:, i].max() for one in table], 1e-16)
        (line,) = ax.loglog(TOLERANCES, middle, marker="o", label=name)
        ax.loglog(TOLERANCES, worst, linestyle=":", color=line.get_color())
        print(name, " ".join(f"{a:.0e}/{b:.0e}" for a, b in zip(middle, worst, strict=True)))
    ax.set(xlabel="tolerance of the plan", ylabel="error of its gradient (dotted: worst)")
    ax.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=80)


if __name__ == "__main__":
    main()
