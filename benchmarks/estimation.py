"""How well and how fast the state filter works on late, lossy, partly wrong measurements.

Streams: white disturbances of 0.05 on cart and pole, a camera at 150 frames/s with 1.5 mrad noise,
12 ± 3 ms late, 5 % lost and 1 % nonsense, a pole encoder of 1200 counts a turn and a cart encoder
of 20,000 counts a metre at 200 Hz. The filter knows its noise from the default config only. Errors
are those of the estimate at moments spread evenly over all phases of the sensors, after the first
second.

    python benchmarks/estimation.py [--quick] [--seed N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import fresh_kernels  # noqa: F401  before numba is imported
import numpy as np
from oracles.reference_filter import ReferenceFilter
from oracles.streams import (
    CommandSent,
    Motion,
    Sensors,
    Stream,
    make_stream,
    to_reading,
)

from cartpole.config.schema import Config
from cartpole.estimation.filter import StateFilter
from cartpole.messages import NANOSECONDS, Detection, FloatArray
from cartpole.rules.estimation import filter_rules

ASK_NS = 7_300_000  # no multiple of any sensor's period
SETTLE_NS = NANOSECONDS
CASES = {
    "both": Sensors(),
    "camera_only": Sensors(encoder_hz=0.0),
    "encoder_only": Sensors(camera_hz=0.0),
}
Filter = StateFilter | ReferenceFilter


def feed(target: Filter, config: Config, event: Any) -> None:
    """Hand one arrival to a filter."""
    if isinstance(event, CommandSent):
        target.add_command(event.t_ns, event.velocity_m_s)
    elif isinstance(event, Detection):
        target.add_camera(event)
    else:
        target.add_encoder(event.t_ns, *to_reading(config, event))


def errors(config: Config, stream: Stream) -> FloatArray:
    """Estimate minus truth, (n, 4)."""
    target = StateFilter(filter_rules(config))
    ask, out = stream.start_ns + SETTLE_NS, []
    for arrival_ns, event in stream.arrivals:
        while ask < min(arrival_ns, stream.end_ns):
            out.append(np.array(target.estimate(ask).state) - stream.state_at(ask))
            ask += ASK_NS
        feed(target, config, event)
    found = np.array(out)
    # A camera alone cannot tell turns.
    found[:, 2] -= 2.0 * math.pi * np.round(found[:, 2] / (2.0 * math.pi))
    return found


def accuracy(
    config: Config, motion: Motion, sensors: Sensors, seeds: range, duration_s: float
) -> dict[str, float]:
    """RMS errors over all seeds, and the worst seed's."""
    runs = [errors(config, make_stream(config, motion, duration_s, s, sensors)) for s in seeds]
    rms = np.sqrt(np.mean(np.concatenate(runs) ** 2, axis=0))
    worst = np.max([np.sqrt(np.mean(run**2, axis=0)) for run in runs], axis=0)
    return {
        "theta_mrad_rms": 1e3 * float(rms[2]),
        "omega_rms": float(rms[3]),
        "p_mm_rms": 1e3 * float(rms[0]),
        "v_mm_s_rms": 1e3 * float(rms[1]),
        "theta_mrad_rms_worst_seed": 1e3 * float(worst[2]),
        "omega_rms_worst_seed": float(worst[3]),
        "theta_mrad_max": 1e3 * max(float(np.max(np.abs(run[:, 2]))) for run in runs),
        "seeds": len(seeds),
    }


def speed(config: Config, seed: int, rounds: int) -> dict[str, float]:
    """Processor time to take in an event and have a current state; both filters in turns."""
    stream = make_stream(config, "swing", rounds + 1.0, seed)
    compiled, plain = StateFilter(filter_rules(config)), ReferenceFilter(config)
    state, sigma = tuple(stream.truth[0].tolist()), (1e-3, 1e-2, 1e-2, 0.1)
    compiled.reset(stream.start_ns, state, sigma)
    plain.reset(stream.start_ns, state, sigma)
    chunks: list[list[Any]] = [[] for _ in range(rounds + 2)]
    for arrival in stream.arrivals:
        chunks[(arrival[0] - stream.start_ns) // NANOSECONDS].append(arrival)
    spent: dict[str, list[float]] = {"compiled": [], "plain": []}
    worst = 0.0
    for chunk in chunks[:rounds]:
        start = time.process_time()
        for arrival_ns, event in chunk:
            feed(compiled, config, event)
            compiled.predict(arrival_ns)
        middle = time.process_time()
        for arrival_ns, event in chunk:
            feed(plain, config, event)
            plain.look(arrival_ns)
        end = time.process_time()
        spent["compiled"].append((middle - start) / len(chunk))
        spent["plain"].append((end - middle) / len(chunk))
        last = chunk[-1][0]
        gap = np.array(compiled.predict(last)) - plain.look(last).state[:4]
        worst = max(worst, float(np.max(np.abs(gap))))
    return {
        "us_per_event": 1e6 * float(np.median(spent["compiled"][1:])),
        "numpy_us_per_event": 1e6 * float(np.median(spent["plain"][1:])),
        "numpy_difference_max": worst,
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most 50 s")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the streams")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    config = Config()
    count, duration_s = (5, 10.0) if args.quick else (20, 20.0)
    result: dict[str, Any] = {}
    for name, sensors in CASES.items():
        seeds = range(args.seed, args.seed + (count if name == "both" else max(2, count // 3)))
        rows = {
            motion: accuracy(config, motion, sensors, seeds, duration_s)
            for motion in ("swing", "upright")
        }
        result.update(rows if name == "both" else {name: rows})
        for motion, row in rows.items():
            print(
                f"{name:13}{motion:8} theta {row['theta_mrad_rms']:.3f} mrad  "
                f"omega {row['omega_rms']:.4f} rad/s  p {row['p_mm_rms']:.4f} mm  "
                f"v {row['v_mm_s_rms']:.2f} mm/s"
            )
    result.update(speed(config, args.seed, 6 if args.quick else 12))
    ratio = result["numpy_us_per_event"] / result["us_per_event"]
    print(
        f"{result['us_per_event']:.1f} us an event, plain NumPy "
        f"{result['numpy_us_per_event']:.0f} us (x{ratio:.0f}), "
        f"largest difference {result['numpy_difference_max']:.1e}"
    )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
