"""How well the controller swings up: the nominal rig, rigs nobody tuned for, plans from cold.

``nominal``: the whole loop on the simulated rig in virtual time, sensors and delays included.
``random_rigs``: random length, speed, acceleration, track and lag; the true pole differs by up to
10 % in length, the true lag by 30 %; the planner flies them with perfect state and default weights,
and is held against the time-optimal swing-up of the true rig (interior point, to exact rest). Rigs
that cannot swing up in 4 s at all are left out. ``cold``: plans from hanging and from random states
to a KKT residual of 1e-6, against IPOPT on the same problem from the same first guess.

    python benchmarks/control.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rig_oracles import RigIpopt, TimeOptimal

from cartpole.config.schema import Config, Motor, Pole, Rig, Sim
from cartpole.messages import OMEGA, THETA, P, V
from cartpole.model.dynamics import rig_step
from cartpole.optimizer.backends import make_planner
from cartpole.optimizer.bank.candidate import STARTS
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.problem import regulator
from cartpole.rules.model import true_model
from cartpole.rules.optimizer import planner_rules, problem_from_config

CONFIG = Path(__file__).resolve().parent.parent / "config" / "sim.yaml"
UPRIGHT_RAD = 0.1
FIRST_BUDGET = 300
KKT = 1e-6


def nominal(seeds: int) -> dict[str, float]:
    """Swing-up times of the whole simulated loop."""
    from cartpole.config.load import load_config
    from cartpole.daemon.virtual import run_virtual
    from cartpole.session.summary import SummaryBuilder

    times = []
    for seed in range(seeds):
        config = load_config(CONFIG, [f"sim.seed={seed}"])
        summary = SummaryBuilder(config)
        run_virtual(config, 6.0, summary, None, lambda _s: None)
        upright = summary.result(session=None)["upright_at_s"]
        times.append(99.0 if upright is None else float(upright))
    return {
        "seeds": seeds,
        "upright_s_median": float(np.median(times)),
        "upright_s_max": float(np.max(times)),
    }


def random_rig(seed: int) -> Config:
    """A rig from the ranges in the description, and a truth that differs from its model."""
    r = np.random.default_rng(seed)
    length, tau = r.uniform(0.3, 0.8), 0.0
    speed, rate, track = r.uniform(0.8, 2.0), r.uniform(6.0, 15.0), r.uniform(0.3, 0.5)
    tau = r.uniform(0.02, 0.08)
    return Config(
        rig=Rig(
            track_length_m=2.0 * track + 0.16,
            position_limit_m=track,
            velocity_limit_m_s=speed,
            acceleration_limit_m_s2=rate,
        ),
        pole=Pole(length_m=length),
        motor=Motor(tau_s=tau, acceleration_m_s2=1.2 * rate),
        sim=Sim(length_m=length * r.uniform(0.9, 1.1), tau_s=tau * r.uniform(0.7, 1.3)),
    )


def swing_up(config: Config, duration_s: float) -> float | None:
    """Time after which the pole stays within 0.1 rad of upright, planner on the true plant."""
    planner = make_planner(planner_rules(config))
    truth = true_model(config)
    period, n = config.controller.period_s, planner.problem.horizon
    state, reference = np.zeros(5), np.zeros(n + 1)
    upright = None
    for tick in range(round(duration_s / period)):
        budget = FIRST_BUDGET if tick == 0 else config.optimizer.newton_steps
        plan = planner.plan(state, reference, budget, round(tick * period * 1e9))
        planner.prepare()
        u = float(plan.states[1, 4])
        x = tuple(state[:4])
        for _ in range(5):
            x = rig_step(x, u, period / 5, truth.coefficients)
        state = np.array([*x, u])
        if abs(state[THETA] % (2.0 * np.pi) - np.pi) > UPRIGHT_RAD:
            upright = None
        elif upright is None:
            upright = (tick + 1) * period
    return upright


def random_rigs(runs: int, deadline: float) -> dict[str, float]:
    """Share of feasible random rigs swung up within three times the bound; the worst ratio."""
    bound = TimeOptimal()
    done, good, worst = 0, 0, 0.0
    seed = 0
    while done < runs and (time.monotonic() < deadline or done == 0):
        config = random_rig(seed)
        seed += 1
        least = bound.solve(config)
        if least is None or least > 4.0:
            continue
        took = swing_up(config, 3.0 * least + 1.0)
        done += 1
        ratio = took / least if took is not None else float("inf")
        good += ratio <= 3.0
        worst = max(worst, min(ratio, 99.0))
    return {
        "runs": done,
        "success_rate": good / done,
        "worst_ratio_to_time_optimal": worst,
    }


def solve_cold(solver: Solver, state: np.ndarray, starts: int) -> tuple[bool, float]:
    """Best converged plan over the first starts of the bank: (any converged, cost)."""
    best = float("inf")
    pole_time = solver.problem.model.characteristic_time_s
    base = np.pi * (2.0 * np.floor((state[THETA] + np.pi) / (2.0 * np.pi)) + 1.0)
    for _name, kick, times, side in STARTS[1 : 1 + starts]:
        target = base if side > 0 else base - 2.0 * np.pi
        solver.start(state, Guess(kick, times * pole_time, 1.0, target))
        solver.solve(400)
        if solver.solution().residual <= KKT:
            best = min(best, solver.cost)
    return bool(np.isfinite(best)), best


def cold(states: int, ipopt_runs: int, folder: Path) -> dict[str, float]:
    """Plans from cold against IPOPT; both begin with the same guess from hanging."""
    config = Config()
    problem = problem_from_config(config)
    gain, _ = regulator(problem.model, problem.weights, config.optimizer.step_s)
    solver = Solver(problem, gain=gain, mu=1e-7, tolerance=KKT)
    hanging = np.zeros(5)
    guess = Guess(1.0, problem.model.characteristic_time_s, 1.0, np.pi)
    solver.start(hanging, guess)
    first = solver.solution()
    oracle = RigIpopt(problem, folder)
    times, others = [], []
    for i in range(20):
        begin = time.perf_counter()
        solver.start(hanging, guess)
        solver.solve(500)
        times.append(1e6 * (time.perf_counter() - begin))
        if i < ipopt_runs:
            begin = time.perf_counter()
            oracle.solve(hanging, first.states, first.inputs, np.pi)
            others.append(1e6 * (time.perf_counter() - begin))
    r = np.random.default_rng(7)
    limits = problem.limits
    converged = 0
    for _ in range(states):
        state = np.zeros(5)
        state[P] = r.uniform(-0.6, 0.6) * limits.position_m
        state[V] = state[4] = r.uniform(-0.5, 0.5) * limits.command
        state[THETA] = r.uniform(-np.pi, np.pi)
        state[OMEGA] = r.uniform(-8.0, 8.0)
        converged += solve_cold(solver, state, 4)[0]
    return {
        "median_us": float(np.median(times)),
        "ipopt_median_us": float(np.median(others)),
        "converged_rate": converged / states,
    }


def main() -> None:
    """Run, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer seeds, rigs and states")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    quick = options.quick
    begin = time.monotonic()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        here = Path.cwd()
        os.chdir(folder)
        results["cold"] = cold(60 if quick else 1000, 2 if quick else 10, Path(folder))
        os.chdir(here)
    results["nominal"] = nominal(6 if quick else 200)
    deadline = begin + 34.0 if quick else float("inf")
    results["random_rigs"] = random_rigs(10 if quick else 500, deadline)
    print(json.dumps(results, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
