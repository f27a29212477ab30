"""This build against another tree of the project: tick, Newton step, peers' problem, campaign.

Each tree is served by a process of its own that imports it once; the driver asks them in turn for
one repetition after the other, so that whatever else the machine does meets both alike. Ratios are
medians over the repetitions of ours over theirs. ``not learning`` is this build with
``estimator.learn: false``; ``parts`` are sums over a tick, measured apart since measuring costs;
the campaign's tick is processor time in any case.

    python benchmarks/against.py TREE [--rounds 15] [--busy] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
SECONDS, SEED, FIRST_TICK = 5.0, 1, 30  # the first ticks are a rig that waits
MORE = 11
CAMPAIGN_SEEDS = (700_000, 700_004)
PARTS = {
    "filter": ("cartpole.estimation.filter", "StateFilter"),
    "learner": ("cartpole.estimation.learner", "Learner"),
    "watch": ("cartpole.control.watch", "Watch"),
}


def _fly(learn: bool) -> list[Any]:
    """The timed ticks of a swing-up and hold in virtual time."""
    from cartpole.config.load import load_config
    from cartpole.sim.run import VirtualRun

    config = load_config(None, [] if learn else ["estimator.learn=false"])
    ticks = VirtualRun(config, SEED).ticks()
    return list(itertools.islice(ticks, round(SECONDS / config.controller.period_s)))[FIRST_TICK:]


def tick(learn: bool = True) -> dict[str, float]:
    """A tick of the core, its plan, and what is left [us]."""
    flown = [t.timing for t in _fly(learn)]
    whole = [1e-3 * t.compute_ns for t in flown]
    plans = [1e-3 * max(t.solver_ns, 0) for t in flown]
    rest = [a - b for a, b in zip(whole, plans, strict=True)]
    return {
        "tick": statistics.median(whole),
        "tick p99": statistics.quantiles(whole, n=100)[-1],
        "plan": statistics.median(plans),
        "tick less plan": statistics.median(rest),
    }


def parts() -> dict[str, float]:
    """Mean time in each part's own calls, a tick [us]."""
    sums = dict.fromkeys(PARTS, 0)
    kept: list[tuple[Any, str, Any]] = []

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        inside = False

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            if inside:
                return function(*args, **kwargs)
            inside = True
            begin = time.perf_counter_ns()
            try:
                return function(*args, **kwargs)
            finally:
                sums[name] += time.perf_counter_ns() - begin
                inside = False

        return call

    for name, (module, kind) in PARTS.items():
        try:
            owner = getattr(importlib.import_module(module), kind)
        except ImportError:
            continue
        for key, value in list(vars(owner).items()):
            if callable(value) and not key.startswith("_"):
                kept.append((owner, key, value))
                setattr(owner, key, timed(name, value))
    try:
        count = len(_fly(True)) + FIRST_TICK
    finally:
        for owner, key, value in kept:
            setattr(owner, key, value)
    return {name: 1e-3 * total / count for name, total in sums.items()}


def _first(*names: str) -> Any:
    """The first of some modules that a tree has: older trees have other rooms."""
    for name in names[:-1]:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return importlib.import_module(names[-1])


def _problem(horizon: int) -> tuple[Any, Any, Any]:
    """The rig's problem, its regulator's gain and the module of the compiled solver."""
    from cartpole.config.schema import Config, Optimizer

    problem_module = importlib.import_module("cartpole.optimizer.problem")
    rules = _first("cartpole.rules.optimizer", "cartpole.optimizer.problem")
    solver_module = _first("cartpole.optimizer.compiled.solver", "cartpole.optimizer.solver")
    if not hasattr(rules, "problem_from_config"):
        rules = problem_module
    problem = rules.problem_from_config(Config(optimizer=Optimizer(horizon_steps=horizon)))
    return problem, problem_module.regulator(problem.model, problem.weights, 0.02)[0], solver_module


def newton() -> dict[str, float]:
    """A Newton step at N = 100, the overhead of the call taken off [us]."""
    import numpy as np

    problem, gain, module = _problem(100)
    solver = module.Solver(problem, gain=gain, mu=1e-6, tolerance=0.0)
    solver.start(np.zeros(5), module.Guess(1.0, 0.15, 1.0, np.pi))
    solver.solve(3)
    rows, scalars = solver.rows.copy(), solver.scalars.copy()
    taken: dict[int, list[float]] = {1: [], MORE: []}
    for _ in range(300):
        for budget, times in taken.items():
            solver.rows[:], solver.scalars[:] = rows, scalars
            begin = time.perf_counter_ns()
            solver.solve(budget)
            times.append(1e-3 * (time.perf_counter_ns() - begin))
    steps = [(b - a) / (MORE - 1) for a, b in zip(taken[1], taken[MORE], strict=True)]
    return {"Newton step": statistics.median(steps)}


def peers() -> dict[str, float]:
    """A step on the peers' problem, N = 75, from hanging to the hold [us]."""
    bench = importlib.import_module("peers")
    loop = bench.Loop(bench.peers.CompiledSolver(75))
    for _ in range(bench.TICKS):
        loop.tick()
    return {"peers' problem": statistics.median(loop.times_us[1:])}


def campaign() -> dict[str, float]:
    """Processor time of a simulated tick, over two of the campaign's runs [us]."""
    from cartpole.campaign.many import fly_seed
    from cartpole.campaign.strikes import chosen
    from cartpole.config.load import load_config

    base, faults = load_config(None), chosen(())
    begin = time.process_time()
    flown = [fly_seed(base, seed, faults) for seed in CAMPAIGN_SEEDS]
    spent = time.process_time() - begin
    ticks = sum(run.simulated_s for run in flown) / base.controller.period_s
    return {"campaign's tick": 1e6 * spent / ticks}


def bits() -> dict[str, str]:
    """Fingerprint of 100 cold plans from random states: their states, statuses and steps."""
    import numpy as np

    problem, gain, module = _problem(60)
    rng, found = np.random.default_rng(0), hashlib.sha256()
    for _ in range(100):
        solver = module.Solver(problem, gain=gain, mu=1e-4, tolerance=1e-3)
        start = rng.uniform(-1.0, 1.0, 5) * [0.3, 0.8, np.pi, 8.0, 0.8]
        solver.start(start, module.Guess(1.0, 0.15, 1.0, np.pi))
        status = solver.solve(80)
        found.update(f"{status.name} {solver.steps}".encode() + solver.solution().states.tobytes())
    return {"bits": found.hexdigest()}


JOBS: dict[str, Callable[[], dict[str, Any]]] = {
    "tick": tick,
    "not learning": lambda: tick(learn=False),
    "newton": newton,
    "peers": peers,
    "parts": parts,
    "campaign": campaign,
    "bits": bits,
}


def serve(processor_time: bool) -> None:
    """Do what the driver asks, one job a line; the first of each loads its kernels."""
    if processor_time:
        time.perf_counter_ns = time.thread_time_ns
    answers = sys.stdout
    sys.stdout = sys.stderr
    gc.disable()
    for line in sys.stdin:
        gc.collect()
        print(json.dumps(JOBS[line.strip()]()), file=answers, flush=True)


class Tree:
    """A tree and the process that serves it."""

    def __init__(self, root: Path, processor_time: bool) -> None:
        own = root / ".venv/bin/python"
        code = (
            f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'benchmarks')!r}]; "
            "from cartpole.kernel_cache import use_kernel_cache; use_kernel_cache(); "
            "import importlib.util as u; "
            f"s = u.spec_from_file_location('against', {str(Path(__file__).resolve())!r}); "
            f"m = u.module_from_spec(s); s.loader.exec_module(m); m.serve({processor_time})"
        )
        self._process = subprocess.Popen(
            [str(own if own.exists() else sys.executable), "-c", code],
            cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, job: str) -> dict[str, Any]:
        """One repetition."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(job + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(ours: Tree, theirs: Tree, rounds: int) -> dict[str, Any]:
    """Ours, theirs and the median of the ratios, by figure."""
    samples: dict[str, tuple[list[float], list[float]]] = {}
    jobs = [(job, job, "") for job in ("tick", "newton", "peers", "parts", "campaign")]
    jobs.insert(1, ("not learning", "tick", "not learning: "))
    for turn in range(rounds + 1):
        for mine, other, prefix in jobs:
            if turn % 2:
                found, against = ours.ask(mine), theirs.ask(other)
            else:
                against, found = theirs.ask(other), ours.ask(mine)
            if turn == 0:
                continue  # kernels are loaded, caches filled
            for key, value in found.items():
                a, b = samples.setdefault(prefix + key, ([], []))
                a.append(value)
                b.append(against.get(key, 0.0))
    out: dict[str, Any] = {"bits": ours.ask("bits") == theirs.ask("bits")}
    for key, (a, b) in samples.items():
        ratios = sorted(x / y for x, y in zip(a, b, strict=True) if y > 0.0)
        out[key] = {
            "ours_us": statistics.median(a),
            "theirs_us": statistics.median(b),
            "ratio": statistics.median(ratios) if ratios else None,
            "ratios": [ratios[0], ratios[-1]] if ratios else None,
        }
    return out


def main() -> None:
    """Ask both trees in turn, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path, help="root of the other tree")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--busy", action="store_true", help="the machine is busy: count processor time"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    ours, theirs = (Tree(t, options.busy) for t in (HERE, options.tree.resolve()))
    try:
        found = compare(ours, theirs, options.rounds)
    finally:
        ours.close()
        theirs.close()
    same = found.pop("bits")
    print(f"100 cold plans {'equal' if same else 'NOT equal'} bit for bit")
    for key, row in found.items():
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
        spread = " .. ".join(f"{value:.3f}" for value in row["ratios"] or ())
        print(f"{key:32s} {row['ours_us']:9.2f} {row['theirs_us']:9.2f} us  {ratio} ({spread})")
    if options.json is not None:
        found["bits"] = same
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
