"""What tuning is worth on rigs that differ, and whether the gate sees what is spoilt.

    python benchmarks/learning_tune.py [--rigs FIRST:LAST] [--spoilt N] [--json FILE]

Each rig has its own pole, drive and disturbances, known to the controller; weights are tuned on the
training flights and judged on flights that nothing was chosen by. Spoilt are tuned weights of which
one is off by a factor of 6 to 30, and models of which length, lag or delay is off; what third
flights find no worse is not spoilt and is drawn again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.learning.closed_loop import WORSE, fly, gate, index, truth
from cartpole.learning.innovations import Model
from cartpole.learning.tune import HELD_OUT, settings, tune

JUDGES, THIRD = tuple(range(301, 309)), (401,)
SPOILT = 1.1  # of the index on third flights, at least


def rig(seed: int) -> tuple[Config, Model]:
    """Settings that know their rig, and the rig."""
    rng = np.random.default_rng([18, seed])
    model = Model(
        length_m=rng.uniform(0.35, 0.7),
        damping_1_s=rng.uniform(0.02, 0.1),
        tau_s=rng.uniform(0.03, 0.07),
        delay_s=rng.uniform(0.004, 0.015),
        cart_noise=float(np.exp(rng.uniform(np.log(0.02), np.log(0.2)))),
        pole_noise=float(np.exp(rng.uniform(np.log(0.02), np.log(0.2)))),
    )
    told = {
        "pole.length_m": model.length_m, "pole.damping_1_s": model.damping_1_s,
        "motor.tau_s": model.tau_s, "motor.delay_s": model.delay_s,
    }  # fmt: skip
    return with_values(Config(), told), model


def tuned(seed: int) -> dict[str, Any]:
    """One rig: index before and after, where it was tuned and held out."""
    config, model = rig(seed)
    begin = time.process_time()
    found = tune(config, model)
    flown = truth(config, model)
    before = index(flown, JUDGES)
    after = index(with_values(flown, found.values), JUDGES)
    return {
        "rig": seed, "training": found.after / found.before - 1.0, "before": before,
        "held_out": after / before - 1.0, "values": found.values,
        "cpu_s": time.process_time() - begin,
    }  # fmt: skip


def spoilt(seed: int) -> dict[str, Any]:
    """Whether the gate refuses settings of which one is off."""
    rng = np.random.default_rng([19, seed])
    config, model = rig(int(rng.integers(0, 10)))
    flown = truth(config, model)
    first = fly(flown, THIRD[0]).index
    while True:
        name = str(rng.choice(["position", "velocity", "rate", "command_rate", "pole", "tau"]))
        by = float(np.exp(rng.choice([-1.0, 1.0]) * rng.uniform(np.log(6.0), np.log(30.0))))
        if name in ("pole", "tau"):
            key = "pole.length_m" if name == "pole" else "motor.tau_s"
            now = config.pole.length_m if name == "pole" else config.motor.tau_s
            values = {key: float(now * by ** (0.25 if name == "pole" else 0.5))}
        else:
            values = settings({name: getattr(config.controller.weights, name) * by})
        if fly(with_values(flown, values), THIRD[0]).index > SPOILT * first:
            break
    verdict = gate(config, values, model, HELD_OUT[:3], WORSE)
    return {"values": values, "refused": not verdict.passed, "why": verdict.why}


def main() -> None:
    """Run, print a line each, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rigs", default="0:10", help="FIRST:LAST of the rigs to tune on")
    parser.add_argument("--spoilt", default="0:50", help="FIRST:LAST of the spoilt settings")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures: dict[str, list[dict[str, Any]]] = {"tuned": [], "spoilt": []}
    for name, call, given in (("tuned", tuned, options.rigs), ("spoilt", spoilt, options.spoilt)):
        first, last = (int(one) for one in given.split(":"))
        for seed in range(first, last):
            figures[name].append(call(seed))
            print(json.dumps(figures[name][-1]), flush=True)
    good = sum(one["held_out"] <= -0.08 for one in figures["tuned"])
    worst = max((one["held_out"] for one in figures["tuned"]), default=0.0)
    refused = sum(one["refused"] for one in figures["spoilt"])
    print(
        f"-8 % or better on {good} of {len(figures['tuned'])} rigs, worst {100.0 * worst:+.1f} %; "
        f"refused {refused} of {len(figures['spoilt'])}"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
