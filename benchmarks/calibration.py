"""How well calibration recovers random simulated rigs: errors and what the 95 % intervals cover.

Each rig is led through ``cartpole calibrate all``, starting from settings that know none of its
numbers: lengths, lags, delays, dead bands, lens, offset, light, scales and signs are drawn wide. It
is one rig from the first part to the last and stands anywhere on its track. ``--blind`` leaves the
camera out; ``--rough`` adds one imperfection that no fit knows (cogging of 1 cm/s, or backlash of
2 mm).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.pop(0)  # this file has the name of the package it measures

from calibration.result import CalibrationResult
from calibration.run import calibrate_rig
from calibration.simulated import SimulatedLead, pinned
from cartpole.config.load import load_config, with_values
from cartpole.config.schema import Config
from cartpole.errors import DeviceError, IdentificationError

QUICK_RIGS, RIGS = 6, 50
QUICK_SECONDS = 38.0
ROUGH: tuple[dict[str, float], ...] = (
    {"sim.drive_cogging_m_s2": 0.4},  # with a lag of 25 ms 1 cm/s
    {"sim.belt_backlash_m": 0.002},
)
# Parameter: unit of the error, target for its median, error from (estimate, truth, settings).
Error = Callable[[float, float, Config], float]


def _scaled(factor: float) -> Error:
    return lambda value, truth, _config: factor * (value - truth)


def _percent(value: float, truth: float, _config: Config) -> float:
    return 100.0 * (value / truth - 1.0)


def _speed(value: float, truth: float, config: Config) -> float:
    gain = config.sim.counts_per_m_s or config.motor.counts_per_m_s
    return 1000.0 * (value - truth) / gain


TABLE: dict[str, tuple[str, float, Error]] = {
    "camera.latency_s": ("ms", 0.05, _scaled(1e3)),
    "camera.readout_s": ("ms", 0.1, _scaled(1e3)),
    "motor.tau_s": ("ms", 0.5, _scaled(1e3)),
    "motor.delay_s": ("ms", 0.3, _scaled(1e3)),
    "motor.counts_per_m_s": ("%", 0.5, _percent),
    "motor.dead_band_counts": ("mm/s", 1.5, _speed),
    "motor.acceleration_m_s2": ("%", 2.0, _percent),
    "pole.length_m": ("%", 0.05, _percent),
    "pole.upright_offset_rad": ("deg", 0.05, _scaled(math.degrees(1.0))),
    "pole.damping_1_s": ("1/s", 0.02, _scaled(1.0)),
    "pole.coulomb_rad_s2": ("rad/s^2", 0.1, _scaled(1.0)),
    "camera.lens_k1": ("1", 0.01, _scaled(1.0)),
    "encoder.cart_counts_per_m": ("%", 0.3, _percent),
    "encoder.pole_counts_per_turn": ("%", 0.01, _percent),
}
SIGNS = ("encoder.cart_sign", "encoder.pole_sign", "motor.sign")


def random_rig(seed: int) -> tuple[Config, dict[str, float]]:
    """Settings that know nothing, and the truth they should find."""
    rng = np.random.default_rng(seed)
    gain = 1500.0 * rng.uniform(0.8, 1.2)
    truth = {
        "pole.length_m": rng.uniform(0.3, 0.8),
        "pole.damping_1_s": rng.uniform(0.02, 0.15),
        "pole.coulomb_rad_s2": rng.uniform(0.0, 0.4),
        "pole.upright_offset_rad": math.radians(rng.uniform(-2.0, 2.0)),
        "motor.tau_s": rng.uniform(0.02, 0.08),
        "motor.delay_s": rng.uniform(0.005, 0.025),
        "motor.counts_per_m_s": gain,
        "motor.dead_band_counts": gain * rng.uniform(0.0, 0.08),
        "motor.acceleration_m_s2": rng.uniform(6.0, 15.0),
        "camera.latency_s": rng.uniform(0.005, 0.025),
        "camera.readout_s": rng.uniform(0.003, 0.006),
        "camera.lens_k1": rng.uniform(-0.12, 0.0),
        "encoder.cart_counts_per_m": 20000.0 * rng.uniform(0.6, 1.6),
        "encoder.pole_counts_per_turn": 4.0 * int(rng.integers(150, 1000)),
        "encoder.cart_sign": int(rng.choice([-1, 1])),
        "encoder.pole_sign": int(rng.choice([-1, 1])),
        "motor.sign": int(rng.choice([-1, 1])),
    }
    names = {"camera.latency_s": "camera_latency_s", "motor.sign": "motor_sign"}
    values = {f"sim.{names.get(k, k.split('.')[1])}": v for k, v in truth.items()}
    values["sim.light"] = float(np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    values["camera.tape_end_m"] = min(0.48, truth["pole.length_m"] - 0.02)
    return pinned(with_values(load_config(None), values)), truth


def calibrate(config: Config, seed: int) -> tuple[list[CalibrationResult], float]:
    """As ``cartpole calibrate all`` does it; the results and the rig's own time [s]."""
    place = np.random.default_rng([seed, 1]).uniform(-0.95, 0.95) * config.rig.track_length_m / 2
    lead = SimulatedLead(10 * seed, start=(float(place), 0.0, 0.0, 0.0))
    results = list(calibrate_rig("all", config, lead))
    assert lead.plant is not None
    return results, lead.plant.t_ns * 1e-9


def rough(config: Config, seed: int) -> Config:
    """With an imperfection of the drive that no fit knows."""
    kind = ROUGH[seed % len(ROUGH)]
    return with_values(config, kind)


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few rigs, at most 50 s")
    parser.add_argument("--rigs", type=int, default=0)
    parser.add_argument("--blind", action="store_true", help="without a camera")
    parser.add_argument("--rough", action="store_true", help="an imperfection that no fit knows")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    count = options.rigs or (QUICK_RIGS if options.quick else RIGS)
    errors: dict[str, list[float]] = {name: [] for name in TABLE}
    inside: dict[str, list[bool]] = {name: [] for name in TABLE}
    start, done, refused, wrong_signs = time.perf_counter(), 0, 0, 0
    flags = covered = silent = 0
    longest_s = 0.0
    for seed in range(count):
        if options.quick and done >= 2 and time.perf_counter() - start > QUICK_SECONDS:
            break
        config, truth = random_rig(seed)
        if options.blind:
            config = with_values(config, {"camera.source": "none"})
        if options.rough:
            config = rough(config, seed)
        try:
            results, rig_s = calibrate(config, seed)
        except (IdentificationError, DeviceError) as error:
            print(f"rig {seed}: {error}")
            refused += 1
            continue
        done += 1
        longest_s = max(longest_s, rig_s)
        missed = [
            name
            for result in results
            for name, one in result.estimates.items()
            if name in TABLE and not one.ci95[0] <= truth[name] <= one.ci95[1]
        ]
        flagged = any("motor.tau_s" in result.refused for result in results)
        flags += flagged
        covered += not missed
        silent += bool(missed) and not flagged
        for result in results:
            wrong_signs += sum(
                result.estimates[name].value != truth[name]
                for name in SIGNS
                if name in result.estimates
            )
            for name, one in result.estimates.items():
                if name in TABLE:
                    errors[name].append(TABLE[name][2](one.value, truth[name], config))
                    inside[name].append(one.ci95[0] <= truth[name] <= one.ci95[1])
    figures: dict[str, dict[str, object]] = {}
    took_s = time.perf_counter() - start
    print(f"{done} rigs, {refused} refused, {wrong_signs} wrong signs, {took_s:.0f} s")
    print(
        f"drive flagged in {flags}, all intervals right in {covered}, one wrong and nothing "
        f"flagged in {silent}; longest {longest_s:.0f} s of the rig's time"
    )
    print(f"{'parameter':26s} {'median':>9s} {'worst':>9s} {'target':>8s}       covered    n")
    for name, (unit, target, _) in TABLE.items():
        size = np.abs(errors[name])
        if len(size) == 0:
            continue
        median, covered = float(np.median(size)), float(np.mean(inside[name]))
        figures[name] = {
            "median_abs_error": median,
            "unit": unit,
            "coverage_95": covered,
            "target": target,
            "rigs": len(size),
        }
        print(
            f"{name:26s} {median:9.4f} {size.max():9.4f} {target:8g} {unit:8s} "
            f"{covered:5.0%} {len(size):4d}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
