"""Homing on random rigs: how long from power-on to READY, and who is refused.

Rigs as in ``mismatch.py``, with its mismatch, and besides: the cart anywhere between the switches
or on one of them, the pole anywhere at up to 8 rad/s, viscous friction from none to .3 1/s, dry
friction from none to 2 rad/s², every sign of motor and encoders, switches that read high or low.
``late`` are those that took more than 12 s from the request, ``refused`` those that were not let
in (with why).

    python benchmarks/homing.py [--quick] [--runs N] [--seed FIRST] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import fresh_kernels  # noqa: F401  before numba is imported
import numpy as np
from mismatch import random_rig

from cartpole.config.load import with_values
from cartpole.messages import NANOSECONDS, Mode
from cartpole.sim.run import QUIET_S, START_NS, VirtualRun

WITHIN_S = 12.0
GIVE_UP_S = 40.0
STREAM = 13


def home(seed: int) -> dict[str, Any]:
    """One rig, homed; its time counts from the request."""
    r = np.random.default_rng([seed, STREAM])
    rig = random_rig(seed, 1.0, homing=True)
    signs = r.choice((-1, 1), 3)
    values = {
        "motor.sign": int(signs[0]),
        "encoder.cart_sign": int(signs[1]),
        "encoder.pole_sign": int(signs[2]),
        "encoder.switch_active": str(r.choice(("high", "low"))),
        "pole.damping_1_s": float(r.choice((0.0, r.uniform(0.0, 0.3)))),
        "pole.coulomb_rad_s2": float(r.choice((0.0, r.uniform(0.0, 2.0)))),
        "sim.damping_1_s": None,
    }
    config = with_values(rig, values)
    half = 0.5 * config.rig.track_length_m
    start = (
        float(r.choice((r.uniform(-half, half), half, -half), p=(0.8, 0.1, 0.1))),
        0.0,
        float(r.uniform(-np.pi, np.pi)),
        float(r.uniform(-8.0, 8.0)),
    )
    begun_ns = START_NS + round(QUIET_S * NANOSECONDS)
    for tick in VirtualRun(config, seed, start=start).ticks():
        record = tick.record
        spent_s = (record.input.now_ns - begun_ns) / NANOSECONDS
        if record.mode in (Mode.READY, Mode.SWING_UP):
            return {"seed": seed, "s": spent_s, "why": "", "start": start}
        if record.mode is Mode.FAULT or spent_s > GIVE_UP_S:
            why = record.faults[0].meaning if record.faults else "never ends"
            return {"seed": seed, "s": None, "why": why, "start": start}
    raise AssertionError("a run's ticks never end")


def main() -> None:
    """Home, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 rigs")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    count = 60 if args.quick else args.runs
    with ProcessPoolExecutor(args.workers) as pool:
        runs = list(pool.map(home, range(args.seed, args.seed + count), chunksize=4))
    times = np.array([run["s"] for run in runs if run["s"] is not None])
    result = {
        "runs": count,
        "homed": len(times),
        "s_median": float(np.median(times)),
        "s_max": float(times.max()),
        "late": [run["seed"] for run in runs if run["s"] is not None and run["s"] > WITHIN_S],
        "refused": {run["seed"]: run["why"] for run in runs if run["s"] is None},
    }
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps({**result, "each": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
