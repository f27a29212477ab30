"""Gradients through plans: how exact, how honest, how fast; and what is learned with them.

``gradient_rel_error_max``: random starts, both kinds of input, against sixth-order differences of
plans polished to rounding, along random directions of all parameters. ``certificate_within_2``:
plans stopped at loose tolerances; the share in which the certificate is the true error to a factor
of two. ``sabotaged``: plans cut short, starts beyond limits, weakly active limits, starts beside
the boundary between two ways up; silent is an error of more than 1 % without a flaw.

    python benchmarks/learning.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import runpy
import statistics
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.learning import Flaw, GradientError, MPCLayer, recorded
from cartpole.learning.imitation import commands, imitate, make_solver
from cartpole.messages import FloatArray
from cartpole.model.programs import compile_program
from cartpole.optimizer.adjoint.gradient import Adjoint, distance
from cartpole.optimizer.adjoint.kernels import SCALAR_GRADIENTS, differentiate
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.problem import InputKind, Limits, Problem, StageWeights
from cartpole.rules.optimizer import problem_from_config

HOLD = Guess(0.0, 0.0, 1.0, np.pi)
BOTH_WAYS = (Guess(1.0, 0.2, 1.0, np.pi), Guess(-1.0, 0.2, 1.0, -np.pi))
MU = 1e-4
SILENT = 0.01
EXPERTS, IMITATED = 50, 20  # plans, steps of each
PLANS = 12  # from which weights are found


def make_problem(n: int, kind: InputKind) -> Problem:
    """The rig's problem over two seconds at most, or the shared one with an acceleration input."""
    rig = problem_from_config(Config())
    rig = replace(rig, steps_s=np.full(n, min(0.02, 2.0 / n)), reference_m=np.full(n + 1, 0.05))
    if kind is InputKind.VELOCITY:
        return rig
    return replace(
        rig,
        kind=kind,
        weights=StageWeights(2.0, 0.1, 5.0, 0.1, 0.01),
        terminal=np.diag([40.0, 2.0, 100.0, 2.0, 0.0]),
        limits=Limits(position_m=0.4, command=12.0, lead=1.5),
    )


def random_start(rng: np.random.Generator) -> FloatArray:
    """On its way up: limits on the command and its rate are active."""
    p, v, omega = rng.uniform(-0.15, 0.15), rng.uniform(-0.3, 0.3), rng.uniform(-2.0, 2.0)
    return np.array([p, v, np.pi + rng.uniform(-1.0, 1.0), omega, v])


def solve(
    problem: Problem, state: FloatArray, mu: float = MU, tolerance: float = 1e-9, budget: int = 400
) -> Solver:
    """A plan from the same first motion every time."""
    solver = Solver(problem, mu=mu, tolerance=tolerance)
    solver.start(state, HOLD)
    solver.solve(budget)
    return solver


def moved(problem: Problem, state: FloatArray, direction: FloatArray, by: float) -> Any:
    """Problem and state, all parameters ``by`` along a direction (relative to their sizes)."""
    d = by * direction
    m, w, c = problem.model, problem.weights, problem.limits
    model = replace(
        m,
        length_m=m.length_m * (1 + d[0]),
        damping_1_s=m.damping_1_s * (1 + d[1]),
        gravity_m_s2=m.gravity_m_s2 * (1 + d[2]),
        tau_s=m.tau_s * (1 + d[3]),
    )
    weights = StageWeights(
        w.position * (1 + d[4]), w.velocity * (1 + d[5]), w.angle * (1 + d[6]),
        w.rate_of_angle * (1 + d[7]), w.command * (1 + d[8]), w.rate * (1 + d[9]),
    )  # fmt: skip
    limits = replace(
        c, position_m=c.position_m * (1 + d[10]), lead=c.lead * (1 + d[11]),
        command=c.command * (1 + d[12]), rate=c.rate * (1 + d[13]),
    )  # fmt: skip
    reference = problem.reference_m + d[14]
    changed = replace(
        problem, model=model, weights=weights, limits=limits, reference_m=reference,
        terminal=problem.terminal * (1 + d[15]),
    )  # fmt: skip
    return changed, state + d[16:21]


def along(problem: Problem, gradient: Any, direction: FloatArray) -> float:
    """The gradient's component along a direction of ``moved``."""
    m, w, c, d = problem.model, problem.weights, problem.limits, direction
    sizes = np.array([m.length_m, m.damping_1_s, m.gravity_m_s2, m.tau_s])
    total = float(gradient.model @ (sizes * d[:4]))
    sizes = np.array([w.position, w.velocity, w.angle, w.rate_of_angle, w.command, w.rate])
    total += float(gradient.weights @ (sizes * d[4:10]))
    sizes = np.array([c.position_m, c.lead, c.command, c.rate])
    sizes[~np.isfinite(sizes)] = 0.0
    total += float(gradient.limits @ (sizes * d[10:14]))
    total += float(gradient.reference.sum() * d[14])
    total += float((gradient.terminal * problem.terminal).sum() * d[15])
    return total + float(gradient.state @ d[16:21])


def gradient_error(problem: Problem, state: FloatArray, rng: np.random.Generator) -> float | None:
    """Relative error along a random direction; ``None`` where the plan jumps or has flaws."""
    n = problem.horizon
    seeds_x, seeds_w = rng.normal(size=(n + 1, 5)), 0.1 * rng.normal(size=n)
    if problem.kind is InputKind.ACCELERATION:
        seeds_x[:, 4] = 0.0
    exact = Adjoint(solve(problem, state))
    if exact.flaws:
        return None
    base = exact.solver.solution().states
    rows, scalars = exact.solver.rows.copy(), exact.solver.scalars.copy()
    direction = rng.normal(size=21)
    if problem.kind is InputKind.ACCELERATION:
        direction[[3, 9, 13, 20]] = 0.0
    component = along(problem, exact.gradient(seeds_x, seeds_w), direction)

    def loss(by: float) -> float:
        near, start = moved(problem, state, direction, by)
        solver = Solver(near, mu=MU, tolerance=1e-9)
        solver.rows[:], solver.scalars[:] = rows, scalars  # from the plan itself: the same basin
        solver.update(near)
        solver.step(start, 0, 400)
        plan = Adjoint(solver).solver.solution()
        if np.abs(plan.states[:, :4] - base[:, :4]).max() > 0.02:
            return float("nan")
        return float((seeds_x * plan.states).sum() + seeds_w @ plan.inputs)

    estimates = []
    for h in (2e-4, 1e-4, 5e-5, 2e-5, 1e-5, 5e-6, 2e-6):
        terms = ((45, 1), (-9, 2), (1, 3))
        estimates.append(sum(c * (loss(j * h) - loss(-j * h)) for c, j in terms) / (60.0 * h))
    # Where two neighbouring steps agree best, truncation and rounding are both small.
    gaps = [abs(a - b) for a, b in pairwise(estimates)]
    if not np.isfinite(gaps).any():
        return None
    i = int(np.nanargmin(gaps))
    return min(abs(component - estimates[i]), abs(component - estimates[i + 1])) / abs(component)


def gradients(starts: int) -> dict[str, Any]:
    """Worst and median relative error over horizons and kinds of input."""
    rng = np.random.default_rng(3)
    errors = []
    for n in (20, 75, 100):
        for kind in InputKind:
            for _ in range(starts):
                found = gradient_error(make_problem(n, kind), random_start(rng), rng)
                if found is not None:
                    errors.append(found)
    return {
        "gradient_rel_error_max": max(errors),
        "gradient_rel_error_median": statistics.median(errors),
        "gradient_cases": len(errors),
    }


def certificate(cases: int) -> dict[str, Any]:
    """Share of loose plans whose certificate is within a factor of two of the true error."""
    rng = np.random.default_rng(4)
    good = seen = 0
    while seen < cases:
        problem = make_problem(int(rng.choice([20, 50, 75])), InputKind.VELOCITY)
        state, n = random_start(rng), problem.horizon
        seeds = rng.normal(size=(n + 1, 5)), 0.1 * rng.normal(size=n)
        loose = solve(problem, state, tolerance=10.0 ** rng.uniform(-6, -4))
        first = Adjoint(loose, polish=False)
        if first.flaws:
            continue
        before, _after, change = first.certified(*seeds)
        exact = Adjoint(loose).gradient(*seeds)
        error = distance(before, exact)
        if error < 1e-9:  # converged beyond what rounding lets a certificate see
            continue
        seen += 1
        good += 0.5 * error <= change <= 2.0 * error
    return {"certificate_within_2": good / cases, "certificate_cases": cases}


def sabotaged(each: int) -> dict[str, Any]:
    """Four ways to make a gradient wrong: how often it is wrong and nothing is said."""
    rng = np.random.default_rng(5)
    silent = 0
    flagged = 0
    for case in range(4 * each):
        way = case % 4
        n = 40 if way == 3 else 20
        problem = replace(make_problem(n, InputKind.VELOCITY), steps_s=np.full(n, 0.04))
        state = random_start(rng)
        options: dict[str, Any] = {"mu": MU, "guesses": (HOLD,)}
        if way == 0:
            options |= {"polish": False, "budget": int(rng.integers(2, 16)), "tolerance": 1e-4}
        elif way == 1:
            state[0] = rng.uniform(0.36, 0.42)
            state[1] = state[4] = rng.uniform(0.2, 0.8)
        elif way == 2:
            problem = replace(
                problem,
                limits=replace(problem.limits, command=touching(problem, state, rng)),
            )
        else:
            state = np.concatenate((rng.normal(0.0, 1e-3, 4), [0.0]))
            options["guesses"] = BOTH_WAYS
        layer = MPCLayer(problem, **options)
        found = torch.tensor(state[None], requires_grad=True)
        seeds = torch.from_numpy(rng.normal(size=(1, n + 1, 5)))
        try:
            (layer(found)[0] * seeds).sum().backward()
        except GradientError:
            flagged += 1
            continue
        assert found.grad is not None
        truth = true_state_gradient(layer, state, seeds[0].numpy())
        error = np.abs(found.grad[0].numpy() - truth).max() / np.abs(truth).max()
        silent += bool(not error <= SILENT)
    return {"sabotaged": {"cases": 4 * each, "silent": silent, "flagged": flagged}}


def touching(problem: Problem, state: FloatArray, rng: np.random.Generator) -> float:
    """A limit on the command that the plan without it would just touch."""
    free = replace(problem, limits=replace(problem.limits, command=10.0))
    most = float(np.abs(solve(free, state, 1e-7).solution().states[1:, 4]).max())
    return max(most, 1.2 * abs(float(state[4])), 0.2) * rng.uniform(0.98, 1.02)


def true_state_gradient(layer: MPCLayer, state: FloatArray, seeds: FloatArray) -> FloatArray:
    """By differences of the layer's own plans, solved to rounding."""

    def loss(x: FloatArray) -> float:
        with torch.no_grad():
            exact = MPCLayer(layer.problem, mu=layer.mu, guesses=layer.guesses)
            return float((exact(torch.from_numpy(x[None]))[0][0].numpy() * seeds).sum())

    slopes = []
    for i in range(5):
        e = np.eye(5)[i] * 1e-5
        slopes.append((loss(state + e) - loss(state - e)) / 2e-5)
    return np.array(slopes)


def median_us(call: Any, repeats: int) -> float:
    """Median time of a call [us]."""
    taken = []
    for _ in range(repeats + 3):
        begin = time.perf_counter_ns()
        call()
        taken.append(1e-3 * (time.perf_counter_ns() - begin))
    return statistics.median(taken[3:])


def times(repeats: int) -> dict[str, Any]:
    """A Newton step and a backward pass with all gradients, in turns."""
    backward: dict[str, float] = {}
    ratios = []
    rng = np.random.default_rng(6)
    for n in (20, 50, 75, 100):
        problem = make_problem(n, InputKind.VELOCITY)
        solver = Solver(problem, mu=1e-6, tolerance=0.0)
        solver.start(random_start(rng), HOLD)
        solver.solve(2)
        rows, scalars = solver.rows.copy(), solver.scalars.copy()
        done = solve(problem, random_start(rng))
        Adjoint(done)
        seeds_x, seeds_w, out = rng.normal(size=(n + 1, 5)), np.zeros(n), np.empty(SCALAR_GRADIENTS)

        def newton(budget: int, s: Solver = solver, r: Any = rows, c: Any = scalars) -> None:
            s.rows[:] = r
            s.scalars[:] = c
            s.solve(budget)

        def back(
            many: int, s: Solver = done, x: Any = seeds_x, w: Any = seeds_w, o: Any = out
        ) -> None:
            for _ in range(many):
                differentiate(s.rows, s.scalars, x, w, s.horizon, s.kind, o)

        step, took = [], []
        for _ in range(repeats):
            step.append((median_us(lambda: newton(6), 3) - median_us(lambda: newton(1), 3)) / 5.0)
            took.append((median_us(lambda: back(11), 3) - median_us(lambda: back(1), 3)) / 10.0)
        backward[f"N{n}"] = statistics.median(took)
        ratios.append(statistics.median(b / a for a, b in zip(step, took, strict=True)))
    many = [solve(make_problem(20, InputKind.VELOCITY), random_start(rng)) for _ in range(128)]
    seeds_x, seeds_w, out = rng.normal(size=(21, 5)), np.zeros(20), np.empty(SCALAR_GRADIENTS)

    def batch() -> None:
        for s in many:
            differentiate(s.rows, s.scalars, seeds_x, seeds_w, 20, s.kind, out)

    def step_batch() -> None:
        for s in many:
            s.solve(1)

    backward["B128_N20"] = median_us(batch, repeats)
    backward["step_B128_N20"] = median_us(step_batch, repeats)
    layer = MPCLayer(make_problem(75, InputKind.VELOCITY), mu=MU, allow=~Flaw.NONE)
    state = torch.tensor(random_start(rng)[None], requires_grad=True)
    took = []
    for _ in range(repeats):
        total = layer(state)[0].sum()
        begin = time.perf_counter_ns()
        total.backward()
        took.append(1e-3 * (time.perf_counter_ns() - begin))
    backward["autograd_N75"] = statistics.median(took)
    return {"backward_us": backward, "backward_over_newton": max(ratios)}


def imitation(seeds: int) -> dict[str, Any]:
    """The force-driven cart: four parameters from the commands of 50 experts, started ×/÷ 4.5."""
    text = Path(__file__).resolve().parent.parent / "examples" / "force_cart.py"
    example = runpy.run_path(str(text))
    program = compile_program(example["dynamics"], example["cost"], 4, 1, 4)
    plan, truth = make_solver(program), np.array(example["TRUTH"])
    converged, worst, cpu = 0, 0.0, 0.0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        starts = rng.uniform(-1.0, 1.0, (EXPERTS, 4)) * [0.5, 0.5, 0.8, 1.0]
        expert, _du, _residual = commands(plan, starts, truth, np.zeros((EXPERTS, IMITATED)))
        first = truth * np.exp(rng.uniform(-1.0, 1.0, 4) * np.log(4.5))
        begin = time.process_time()
        found = imitate(plan, starts, expert, first, rng)
        cpu = max(cpu, time.process_time() - begin if seed > 0 else 0.0)
        error = float(np.abs(found.parameters / truth - 1.0).max())
        converged += error <= 1e-8
        worst = max(worst, error)
    return {
        "imitation_cartpole": {
            "seeds_converged": converged,
            "seeds": seeds,
            "worst_param_error": worst,
            "cpu_s_max": cpu,
        }
    }


def weights(seeds: int) -> dict[str, Any]:
    """Weights of plans near upright from their commands, started ×/÷ 4.5; terminal cost included.

    The scale of all weights is no part of a command: the angle's is given.
    """
    keys, config = recorded.COST, Config()
    flat = recorded.flattened(config, keys)
    converged, worst, cpu = 0, 0.0, 0.0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        states = []
        for _ in range(PLANS):
            p, v, theta = rng.normal(0.0, 0.1), rng.normal(0.0, 0.1), np.pi + rng.normal(0.0, 0.2)
            states.append(np.array([p, v, theta, rng.normal(), 0.0]))
        shown = recorded.planned(config, states, 0.02)
        factors = np.exp(rng.uniform(-1.0, 1.0, len(keys)) * np.log(4.5))
        wrong = {key: flat[key] * by for key, by in zip(keys, factors.tolist(), strict=True)}
        begin = time.process_time()
        found = recorded.imitate(with_values(config, wrong), shown, keys, starts=3, seed=seed)
        cpu = max(cpu, time.process_time() - begin if seed > 0 else 0.0)
        error = max(abs(found.values[key] / flat[key] - 1.0) for key in keys)
        converged += error < 1e-3
        worst = max(worst, error)
    return {
        "weights": {
            "seeds_converged": converged, "seeds": seeds, "worst_error": worst, "cpu_s_max": cpu
        }
    }  # fmt: skip


def counted() -> int:
    """Factorisations that a gradient takes beyond those of the plan."""
    rng = np.random.default_rng(7)
    layer = MPCLayer(make_problem(20, InputKind.VELOCITY), mu=MU, allow=Flaw.SMOOTHED)
    layer(torch.tensor(random_start(rng)[None], requires_grad=True))[0].sum().backward()
    return layer.factorisations


def main() -> None:
    """Run, print, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    quick = options.quick
    results: dict[str, Any] = {}
    results |= gradients(3 if quick else 30)
    results |= certificate(40 if quick else 200)
    results |= sabotaged(15 if quick else 50)
    results["extra_factorisations"] = counted()
    results |= times(15 if quick else 100)
    results |= imitation(20)
    results |= weights(2 if quick else 20)
    print(json.dumps(results, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
