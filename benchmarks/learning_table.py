"""A batch of 128 LQR problems with bounded inputs, plans and gradients, through programs.

The problems of Table 1 of arXiv 2505.01353: 20 steps, 8 states, 4 inputs, random dynamics, other
starts; the gradient is that of the first inputs' sum by all 332 parameters. Limits are loose
(1e4) or tight (1). Each way is timed on one thread and on two. The same problems by other solvers:
``learning_peers.py``.

    python benchmarks/learning_table.py [--repeats N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from cartpole.kernel_cache import use_kernel_cache

use_kernel_cache()

import numpy as np  # noqa: E402

from cartpole.messages import FloatArray  # noqa: E402
from cartpole.model.linear_program import linear_parameters, linear_program  # noqa: E402
from cartpole.optimizer.general.plans import Plans, PlanSolver  # noqa: E402

STATES, INPUTS, STEPS, BATCH = 8, 4, 20, 128
LOOSE, TIGHT = 1e4, 1.0
# Where tight limits just hold, gradients of plans solved to 1e-7 are 3 % off.
MU, TOLERANCE = 1e-8, 1e-10


def problems() -> tuple[FloatArray, FloatArray]:
    """(parameters (p,), starts (B, n)); numbers drawn as the paper's own code draws them."""
    rng, size = np.random.RandomState(42), STATES + INPUTS
    a = np.eye(STATES) + 0.2 * rng.randn(STATES, STATES)
    b, drift = rng.randn(STATES, INPUTS), rng.randn(STATES)
    q = linear_parameters(
        np.hstack((a, b)), drift, 2.0 * np.eye(size), np.zeros(size), 2.0 * np.eye(STATES),
        np.zeros(STATES),
    )  # fmt: skip
    return q, rng.randn(BATCH, STATES)


def now() -> tuple[float, float]:
    """Clock and processors' time [ms]."""
    return 1e3 * time.perf_counter(), 1e3 * time.process_time()


def timed(solver: PlanSolver, limit: float, repeats: int) -> dict[str, Any]:
    """Medians [ms] of both ways, by the clock and by the processors' time."""
    q, starts = problems()
    upper = np.r_[np.full(STATES, np.inf), np.full(INPUTS, limit)]
    seeds = np.zeros((BATCH, STEPS + 1, STATES)), np.zeros((BATCH, STEPS, INPUTS))
    seeds[1][:, 0] = 1.0
    clocks: dict[str, list[tuple[float, float]]] = {"forward": [], "adjoint": []}
    plans: Plans | None = None
    for _ in range(repeats + 2):
        begin = now()
        plans = solver.solve(starts, q, -upper, upper)
        middle = now()
        gradient = solver.gradient(plans, *seeds)
        end = now()
        clocks["forward"].append((middle[0] - begin[0], middle[1] - begin[1]))
        clocks["adjoint"].append((end[0] - middle[0], end[1] - middle[1]))
    assert plans is not None
    assert plans.solved.all()
    assert gradient.good.all()
    out: dict[str, Any] = {
        f"{way}_ms": {
            "clock": statistics.median(one[0] for one in all_[2:]),
            "processors": statistics.median(one[1] for one in all_[2:]),
        }
        for way, all_ in clocks.items()
    }
    held = np.abs(plans.inputs) > 0.999 * limit
    return out | {"newton_steps": float(plans.steps.mean()), "held": float(held.mean())}


def main() -> None:
    """Run, print, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30, help="of each batch")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    program = linear_program(STATES, INPUTS)
    results = {
        f"{name}, {threads} threads": timed(
            PlanSolver(program, STEPS, mu=MU, tolerance=TOLERANCE, threads=threads),
            limit,
            options.repeats,
        )
        for name, limit in (("loose", LOOSE), ("tight", TIGHT))
        for threads in (1, 2)
    }
    print(json.dumps(results, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
