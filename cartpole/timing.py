"""What this machine needs for a Newton step and for a tick (`cartpole bench`)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cartpole.config.schema import Config

HORIZON = 100
UNKNOWNS = 500
HALF_WIDTH = 9
# Newton steps of the long solve; the short one takes one. The difference is free of call overhead.
MORE = 11


def newton_figures(repeats: int) -> dict[str, Any]:
    """A Newton step at N = 100 and scipy's banded Cholesky of 500 unknowns, in turns [us]."""
    import numpy as np
    from scipy.linalg import solveh_banded

    from cartpole.config.schema import Config, Optimizer
    from cartpole.errors import CartpoleError
    from cartpole.optimizer.compiled.solver import Guess, Solver
    from cartpole.optimizer.problem import regulator
    from cartpole.rules.optimizer import problem_from_config

    problem = problem_from_config(Config(optimizer=Optimizer(horizon_steps=HORIZON)))
    gain = regulator(problem.model, problem.weights, 0.02)[0]
    # A plan on its way from hanging: a tolerance it never reaches keeps every step a full one.
    solver = Solver(problem, gain=gain, mu=1e-6, tolerance=0.0)
    solver.start(np.zeros(5), Guess(1.0, 0.15, 1.0, np.pi))
    solver.solve(3)
    rows, scalars = solver.rows.copy(), solver.scalars.copy()

    def solve(budget: int) -> None:
        solver.rows[:] = rows
        solver.scalars[:] = scalars
        solver.solve(budget)
        if solver.steps != budget:
            raise CartpoleError(f"the plan took {solver.steps} Newton steps, not {budget}")

    band = np.zeros((HALF_WIDTH + 1, UNKNOWNS))
    band[:-1] = np.random.default_rng(0).normal(size=(HALF_WIDTH, UNKNOWNS))
    band[-1] = 4.0 * HALF_WIDTH
    right = np.ones(UNKNOWNS)
    jobs: tuple[Callable[[], object], ...] = (
        lambda: solve(1),
        lambda: solve(MORE),
        lambda: solveh_banded(band, right, check_finite=False),
    )
    samples: list[list[float]] = [[], [], []]
    for turn in range(repeats + 5):
        for job, taken in zip(jobs, samples, strict=True):
            begin = time.perf_counter_ns()
            job()
            if turn >= 5:
                taken.append(1e-3 * (time.perf_counter_ns() - begin))
    steps = [(long - short) / (MORE - 1) for short, long in zip(*samples[:2], strict=True)]
    newton, scipy_us = statistics.median(steps), statistics.median(samples[2])
    return {
        "horizon": problem.horizon,
        "newton_step_us": newton,
        "newton_step_p99_us": statistics.quantiles(steps, n=100)[-1],
        "solve_of_one_step_us": statistics.median(samples[0]),
        "solveh_banded_us": scipy_us,
        "solveh_banded_over_newton_step": scipy_us / newton,
    }


def tick_figures(config: Config, duration_s: float) -> dict[str, Any]:
    """Time of the tick (estimate, plan, govern) over a swing-up and a hold in virtual time."""
    from cartpole.daemon.virtual import run_virtual
    from cartpole.session.summary import SummaryBuilder

    ticks: list[float] = []
    plans: list[float] = []

    class Keep(SummaryBuilder):
        def add(self, record: Any, truth: Any = None, timing: Any = None) -> None:
            super().add(record, truth, timing)
            ticks.append(1e-3 * timing.compute_ns)
            if timing.solver_ns >= 0:
                plans.append(1e-3 * timing.solver_ns)

    run_virtual(config, duration_s, Keep(config))
    period_us = 1e6 * config.controller.period_s
    median = statistics.median(ticks)
    return {
        "backend": config.optimizer.backend,
        "period_us": period_us,
        "ticks": len(ticks),
        "tick_us": median,
        "tick_p99_us": statistics.quantiles(ticks, n=100)[-1],
        "tick_max_us": max(ticks),
        "tick_percent_of_period": 100.0 * median / period_us,
        "plan_us": statistics.median(plans) if plans else None,
    }
