"""Rigs whose settings are wrong: how many swing up, how soon, and what is said of them meanwhile.

Random rigs (length .3 to .8 m, speed .8 to 2 m/s, acceleration 6 to 15 m/s², track ±.3 to .5 m,
lag 20 to 80 ms) whose truth differs from their settings: pole ±20 %, friction ×1 to 2, lag ±30 %,
gain of the drive ±8 %, delay of a command ±10 ms, camera's angle ±10 mrad. The whole loop in
virtual time, sensors, delays and noise included. ``up`` is the time after which the pole stays
within .1 rad of upright; ``up_8s`` the share that is up within 8 s and to the end. No fault is
injected, so every one that is raised is false.

    python benchmarks/mismatch.py [--quick] [--runs N] [--true] [--homing] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fresh_kernels  # noqa: F401  before numba is imported
import numpy as np

from cartpole.config.schema import Config, Motor, Pole, Rig, Sim
from cartpole.messages import NANOSECONDS, Mode
from cartpole.session.summary import from_upright
from cartpole.sim.run import VirtualRun

UPRIGHT_RAD = 0.1
WITHIN_S = 8.0
HOMING_S = 90.0


@dataclass(frozen=True, slots=True)
class Case:
    """One run: which rig, how wrong its settings are (a share), how long."""

    seed: int
    wrong: float
    duration_s: float
    homing: bool


def random_rig(seed: int, wrong: float, homing: bool) -> Config:
    """A rig from the ranges above; ``wrong`` 1 for all of the mismatch, 0 for true settings."""
    r = np.random.default_rng(seed)
    length, tau = float(r.uniform(0.3, 0.8)), float(r.uniform(0.02, 0.08))
    speed, rate, track = (float(r.uniform(*span)) for span in ((0.8, 2.0), (6.0, 15.0), (0.3, 0.5)))
    off = {
        name: wrong * float(r.uniform(-1.0, 1.0))
        for name in ("pole", "lag", "gain", "delay", "camera")
    }
    pole = Pole(length_m=length)
    # The driver's numbers end at 2047: its scale must let the speed limit through.
    motor = Motor(tau_s=tau, acceleration_m_s2=1.2 * rate, counts_per_m_s=1700.0 / speed)
    return Config(
        rig=Rig(
            track_length_m=2.0 * track + 0.16,
            position_limit_m=track,
            velocity_limit_m_s=speed,
            acceleration_limit_m_s2=rate,
        ),
        pole=pole,
        motor=motor,
        sim=Sim(
            length_m=length * (1.0 + 0.2 * off["pole"]),
            damping_1_s=pole.damping_1_s * (1.0 + wrong * float(r.uniform(0.0, 1.0))),
            tau_s=tau * (1.0 + 0.3 * off["lag"]),
            counts_per_m_s=motor.counts_per_m_s / (1.0 + 0.08 * off["gain"]),
            delay_s=max(0.0, motor.delay_s + 0.01 * off["delay"]),
            upright_offset_rad=0.01 * off["camera"],
            homed=not homing,
        ),
    )


def fly(case: Case) -> dict[str, Any]:
    """One run from rest; times count from the first tick of the swing-up."""
    config = random_rig(case.seed, case.wrong, case.homing)
    run = VirtualRun(config, case.seed)
    begun_ns, up_s, faults, angles, rate_errors = -1, None, [], [], []
    for tick in run.ticks():
        record, now_ns = tick.record, tick.record.input.now_ns
        faults += [fault.name for fault in record.faults if fault.name not in faults]
        if begun_ns < 0:
            if record.mode is Mode.FAULT or now_ns > HOMING_S * NANOSECONDS:
                break
            if record.mode is not Mode.SWING_UP:
                continue
            begun_ns = now_ns
        time_s = (now_ns - begun_ns) / NANOSECONDS
        angle = from_upright(tick.truth[2])
        if abs(angle) >= UPRIGHT_RAD:
            up_s = None
        elif up_s is None:
            up_s = time_s
        if record.estimate is not None and time_s < 3.0:
            rate_errors.append(record.estimate.state[3] - tick.truth[3])
        if time_s > case.duration_s - 2.0:
            angles.append(angle)
        if time_s >= case.duration_s:
            break
    tail = float(np.sqrt(np.mean(np.square(angles)))) if angles else None
    rate = float(np.sqrt(np.mean(np.square(rate_errors)))) if rate_errors else None
    return {"seed": case.seed, "up_s": up_s, "faults": faults, "tail_rad": tail, "omega_rms": rate}


def figures(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the runs say together."""
    times = np.array([99.0 if run["up_s"] is None else run["up_s"] for run in runs])
    tails = [run["tail_rad"] for run in runs if run["up_s"] is not None]
    rates = [run["omega_rms"] for run in runs if run["omega_rms"] is not None]
    return {
        "runs": len(runs),
        "up_8s": float(np.mean(times <= WITHIN_S)),
        "up_s_median": float(np.median(times)),
        "up_s_p95": float(np.quantile(times, 0.95)),
        "tail_mrad_median": 1e3 * float(np.median(tails)) if tails else None,
        "omega_rms_first_3s": float(np.median(rates)) if rates else None,
        "false_faults": dict(
            Counter(name for run in runs for name in run["faults"] if "differs" not in name)
        ),
        "findings": dict(Counter(n for run in runs for n in run["faults"] if "differs" in n)),
        "not_up": [run["seed"] for run in runs if run["up_s"] is None or run["up_s"] > WITHIN_S],
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few runs, at most 50 s")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--duration", type=float, default=20.0, help="of a flight [s]")
    parser.add_argument("--true", action="store_true", help="rigs whose settings are true")
    parser.add_argument("--homing", action="store_true", help="home first, so that it may teach")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    count, duration_s = (40, 10.0) if args.quick else (args.runs, args.duration)
    wrong = 0.0 if args.true else 1.0
    cases = [Case(args.seed + k, wrong, duration_s, args.homing) for k in range(count)]
    with ProcessPoolExecutor(args.workers) as pool:
        runs = list(pool.map(fly, cases, chunksize=4))
    result = figures(runs)
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps({**result, "each": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
