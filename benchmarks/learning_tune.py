"""What tuning is worth on rigs that differ, and whether the gate sees what is spoilt.

    python benchmarks/learning_tune.py [--rigs FIRST:LAST] [--spoilt FIRST:LAST]
        [--left FIRST:LAST] [--log FILE] [--json FILE]

Each rig has its own pole, drive and disturbances, known to the controller; weights are tuned on the
training flights, taken or not by the gate's, and judged on flights that nothing was chosen by: what
is not taken gains nothing and costs nothing. Spoilt are settings of which one weight is off by a
factor of 6 to 30, or the pole's length or the drive's lag; what eight third flights do not find a
tenth worse by two errors of their mean (or falling twice) is not spoilt and is drawn again.
``--left`` says what is there to be gained at all: the index of holding, without the swing-up, by
the filter that knows the disturbances and by the weights of the index itself, which a regulator's
theory names best.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.learning.closed_loop import (
    ANGLE_RAD,
    PLACE_M,
    RATE_M_S2,
    WORSE,
    fly,
    gate,
    indices,
    paired,
    truth,
)
from cartpole.learning.motion import Model
from cartpole.learning.tune import HELD_OUT, tune
from cartpole.messages import FloatArray

JUDGES, THIRD = tuple(range(301, 333)), tuple(range(401, 409))
SPOILT = 1.1  # of the index on third flights, at least, by two errors of their mean
TAKEN = 0.98  # as `cartpole learn tune` asks of its gate


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
    """One rig: what was found, whether the gate takes it, and what other flights say of it."""
    config, model = rig(seed)
    begin = time.process_time()
    found = tune(config, model)
    verdict = gate(config, found.values, model, HELD_OUT, TAKEN)
    line = {
        "seed": seed, "training": found.after / found.before - 1.0,
        "gate": verdict.after / verdict.before - 1.0, "taken": verdict.passed, "why": verdict.why,
        "held_out": 0.0, "values": found.values, "cpu_s": time.process_time() - begin,
    }  # fmt: skip
    if verdict.passed:
        flown = truth(config, model)
        seen = paired(indices(flown, JUDGES), indices(with_values(flown, found.values), JUDGES))
        more = math.inf if seen.fell else (seen.after - seen.before) / seen.before
        line |= {"held_out": more, "error": seen.error / seen.before, "fell": seen.fell}
    return line


def spoilt(seed: int) -> dict[str, Any]:
    """Whether the gate refuses settings of which one is off."""
    rng = np.random.default_rng([19, seed])
    config, model = rig(int(rng.integers(0, 10)))
    flown = truth(config, model)
    first = indices(flown, THIRD)
    while True:
        name = str(rng.choice(["position", "velocity", "rate", "command_rate", "pole", "tau"]))
        by = float(np.exp(rng.choice([-1.0, 1.0]) * rng.uniform(np.log(6.0), np.log(30.0))))
        if name in ("pole", "tau"):
            key = "pole.length_m" if name == "pole" else "motor.tau_s"
            now = config.pole.length_m if name == "pole" else config.motor.tau_s
            values = {key: float(now * by ** (0.25 if name == "pole" else 0.5))}
        else:
            now = getattr(config.controller.weights, name)
            values = {f"controller.weights.{name}": float(now * by)}
        seen = paired(first, indices(with_values(flown, values), THIRD))
        if seen.fell > 1 or seen.after - 2.0 * seen.error > SPOILT * seen.before:
            break
    verdict = gate(config, values, model, HELD_OUT[:16], WORSE)
    return {"seed": seed, "values": values, "refused": not verdict.passed, "why": verdict.why}


def left(seed: int) -> dict[str, Any]:
    """Gains in holding for eight seconds, as shares and their errors."""
    config, model = rig(seed)
    flown, upright = truth(config, model), (0.0, 0.0, math.pi, 0.0)
    told = {
        "estimator.cart_noise_m_s2": model.cart_noise,
        "estimator.pole_noise_rad_s": model.pole_noise,
    }
    limits = config.rig
    own = {
        "position": (limits.position_limit_m * ANGLE_RAD / PLACE_M) ** 2,
        "velocity": 1e-3, "rate": 1e-3, "command": 1e-3,
        "command_rate": (limits.acceleration_limit_m_s2 * ANGLE_RAD / RATE_M_S2) ** 2,
    }  # fmt: skip
    best = told | {f"controller.weights.{name}": value for name, value in own.items()}

    def held(values: dict[str, float]) -> FloatArray:
        new = with_values(flown, values)
        return np.array([fly(new, one, 10.0, 8.0, upright).index for one in JUDGES[:8]])

    before, line = held({}), {"seed": seed}
    for name, values in (("told", told), ("index", best)):
        seen = paired(before, held(values))
        line[name] = seen.after / seen.before - 1.0
        line[f"{name}_error"] = seen.error / seen.before
    return line


def main() -> None:
    """Run, print a line each, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rigs", default="0:10", help="FIRST:LAST of the rigs to tune on")
    parser.add_argument("--spoilt", default="0:50", help="FIRST:LAST of the spoilt settings")
    parser.add_argument("--left", default="0:10", help="FIRST:LAST of the rigs only held")
    parser.add_argument("--log", type=Path, help="keep lines here, and go on behind them")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures: dict[str, list[dict[str, Any]]] = {"tuned": [], "spoilt": [], "left": []}
    if options.log is not None and options.log.exists():
        for text in options.log.read_text().splitlines():
            name, line = json.loads(text)
            figures[name].append(line)
    parts = (
        ("tuned", tuned, options.rigs), ("spoilt", spoilt, options.spoilt),
        ("left", left, options.left),
    )  # fmt: skip
    for name, call, given in parts:
        known = {line["seed"] for line in figures[name]}
        for seed in sorted(set(range(*(int(one) for one in given.split(":")))) - known):
            figures[name].append(call(seed))
            print(json.dumps(figures[name][-1]), flush=True)
            if options.log is not None:
                with options.log.open("a") as file:
                    file.write(json.dumps([name, figures[name][-1]]) + "\n")
    good = sum(one["held_out"] <= -0.08 for one in figures["tuned"])
    taken = sum(one["taken"] for one in figures["tuned"])
    worst = max((one["held_out"] for one in figures["tuned"]), default=0.0)
    refused = sum(one["refused"] for one in figures["spoilt"])
    print(
        f"-8 % or better on {good} of {len(figures['tuned'])} rigs, taken on {taken}, worst "
        f"{100.0 * worst:+.1f} %; refused {refused} of {len(figures['spoilt'])}"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
