"""One swing-up problem, several solvers, one process: time of a step, quality of the closed loop.

State (p, v, theta, omega), input the cart's acceleration; limits on position, speed and
acceleration are hard and hold at the steps. Each solver drives its own pendulum (Runge-Kutta, 1 ms)
from hanging for 8 s at 50 Hz. ``shared``: all solvers step in random order, as a daemon that wakes
up finds its caches cold; ``solo``: one after the other. Times are of one step as seen from Python.
The very first step, a cold start, is not in the statistics.

    python benchmarks/peers.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import peer_solvers as peers
from peer_solvers import FloatArray

from cartpole.model.dynamics import pole_step
from cartpole.model.parameters import ModelParameters

TICKS = 400
PLANT_STEP_S = 0.001
PENDULUM = ModelParameters(
    length_m=peers.LENGTH_M, gravity_m_s2=peers.GRAVITY, damping_1_s=peers.DAMPING
).coefficients


class Stepper(Protocol):
    """One solver with its own memory of the last tick."""

    def step(self, state: FloatArray) -> float:
        """Acceleration [m/s^2] for a measured state (4,)."""


class Loop:
    """A solver, its pendulum, and what came of it."""

    def __init__(self, solver: Stepper) -> None:
        self.solver = solver
        self.state = np.zeros(4)
        self.cost = 0.0
        self.farthest = 0.0
        self.times_us: list[float] = []

    def tick(self) -> None:
        """One period: a timed step, then the plant."""
        begin = time.perf_counter_ns()
        a = self.solver.step(self.state)
        self.times_us.append(1e-3 * (time.perf_counter_ns() - begin))
        off = self.state - peers.TARGET
        self.cost += peers.STEP_S * float(peers.STATE_WEIGHTS @ off**2 + peers.INPUT_WEIGHT * a * a)
        p, v, theta, omega = self.state
        for _ in range(round(peers.STEP_S / PLANT_STEP_S)):
            theta, omega = pole_step(theta, omega, a, a, a, PLANT_STEP_S, PENDULUM)
            p += PLANT_STEP_S * v + 0.5 * PLANT_STEP_S**2 * a
            v += PLANT_STEP_S * a
        self.state = np.array([p, v, theta, omega])
        self.farthest = max(self.farthest, abs(p))


def run_shared(loops: dict[str, Loop], seed: int) -> None:
    """All loops together, in random order within every tick."""
    order = np.random.default_rng(seed)
    names = list(loops)
    for _ in range(TICKS):
        for i in order.permutation(len(names)):
            loops[names[i]].tick()


def solvers(n: int, folder: Path) -> dict[str, Callable[[], Stepper]]:
    """What there is to compare; the expensive ones are built once and reset by a factory."""
    built: dict[str, Any] = {
        "casadi_ipopt": peers.CasadiSolver(n, "ipopt", folder),
        "casadi_fatrop": peers.CasadiSolver(n, "fatrop", folder),
    }

    def again(name: str) -> Callable[[], Stepper]:
        def make() -> Stepper:
            solver: peers.CasadiSolver = built[name]
            solver.reset()
            return solver

        return make

    return {
        "compiled": lambda: peers.CompiledSolver(n),
        "casadi_ipopt": again("casadi_ipopt"),
        "casadi_fatrop": again("casadi_fatrop"),
        "osqp_rti": lambda: peers.OsqpSolver(n, folder),
    }


def figures(shared: Loop, solo: Loop) -> dict[str, float | bool]:
    """One solver's row."""
    row: dict[str, float | bool] = {}
    for name, loop in (("solo", solo), ("shared", shared)):
        times = np.array(loop.times_us[1:])
        row[f"{name}_median_us"] = float(np.median(times))
        row[f"{name}_p99_us"] = float(np.percentile(times, 99))
    row["closed_loop_cost"] = solo.cost
    row["max_abs_p_m"] = solo.farthest
    row["ok"] = bool(abs(solo.state[2] - np.pi) < 0.05 and solo.farthest <= 0.4005)
    return row


def problem(n: int, folder: Path) -> dict[str, dict[str, float | bool]]:
    """All solvers on the problem with n steps."""
    makers = solvers(n, folder)
    gc.collect()
    gc.disable()
    loops = {name: Loop(make()) for name, make in makers.items()}
    run_shared(loops, n)
    rows = {}
    for name, make in makers.items():
        solo = Loop(make())
        for _ in range(TICKS):
            solo.tick()
        rows[name] = figures(loops[name], solo)
    gc.enable()
    return rows


def main() -> None:
    """Run, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="N = 75 only")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    results: dict[str, Any] = {"problems": {}}
    for n in (75,) if options.quick else (50, 75, 150):
        with tempfile.TemporaryDirectory() as folder:
            rows = problem(n, Path(folder))
        results["problems"][str(n)] = rows
        print(f"N = {n}: solo median / p99, shared median / p99 [us], cost, max |p| [m]")
        for name, row in rows.items():
            print(
                f"  {name:14s} {row['solo_median_us']:9.1f} / {row['solo_p99_us']:9.1f} "
                f"{row['shared_median_us']:9.1f} / {row['shared_p99_us']:9.1f} "
                f"{row['closed_loop_cost']:9.3f} {row['max_abs_p_m']:.4f}"
            )
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
