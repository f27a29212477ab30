"""How well calibration recovers random simulated rigs: errors and what the 95 % intervals cover.

Each rig is led through ``cartpole calibrate all``, starting from settings that know none of its
numbers: lengths, lags, delays, dead bands, lens, offset, light, scales and signs are drawn wide. It
is one rig from the first part to the last and stands anywhere on its track. ``--blind`` leaves the
camera out; ``--moderate`` gives it half of the imperfections of a campaign's run; ``--rough`` adds
one that no fit knows (cogging of 1 cm/s, or backlash of 2 mm); ``--adverse`` measures the track
10 % wrong, takes each of the eight signs in turn and, from every second pole, its friction.

``--log FILE`` appends a line for each rig and passes over those that are in it already, so that a
campaign can be flown in pieces; the table is of all that FILE holds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.pop(0)  # this file has the name of the package it measures

from calibration.run import calibrate_rig
from calibration.simulated import SimulatedBench, SimulatedLead, pinned
from cartpole.campaign.draw import Times, draw
from cartpole.config.load import load_config, with_values
from cartpole.config.schema import Config
from cartpole.errors import DeviceError, IdentificationError
from cartpole.messages import Command
from cartpole.rules.model import true_model

QUICK_RIGS, RIGS = 6, 50
QUICK_SECONDS = 38.0
FEW_LEFT = 3.0  # aims, or half widths: an adverse rig's number that is off by more is wrong
OF_A_DRAW = ("rig", "length", "friction", "lag", "gain", "delay", "camera angle", "homing")
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
SIM_NAMES = {"camera.latency_s": "camera_latency_s", "motor.sign": "motor_sign"}
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
    values = {f"sim.{SIM_NAMES.get(k, k.split('.')[1])}": v for k, v in truth.items()}
    values["sim.light"] = float(np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    values["camera.tape_end_m"] = min(0.48, truth["pole.length_m"] - 0.02)
    return pinned(with_values(load_config(None), values)), truth


def rough(config: Config, truth: dict[str, float], seed: int) -> Config:
    """With one imperfection of the drive that no fit knows."""
    kinds: tuple[dict[str, float], ...] = (
        # Cogging makes a drive of this lag uneven by 1 cm/s.
        {"sim.drive_cogging_m_s2": 0.01 / truth["motor.tau_s"]},
        {"sim.belt_backlash_m": 0.002},
    )
    return with_values(config, kinds[seed % len(kinds)])


def moderate(config: Config, truth: dict[str, float], seed: int) -> tuple[Config, dict[str, float]]:
    """With half of the imperfections of a campaign's run, at moderate size.

    A heavy hub is a longer pole, a bent one shows its tape turned, commands that wait for a burst
    come half of it later, and a drive behind a ramp speeds up no faster than the ramp: that is the
    truth then.
    """
    tree = config.model_dump()
    values: dict[str, Any] = {}
    for part in draw(seed, ()).ingredients:
        if part.name in OF_A_DRAW:
            continue
        for key, value in part.overrides.items():
            values[key] = value.of(tree) if isinstance(value, Times) else value
    config = with_values(config, values)
    sim = config.sim
    told = {
        "pole.length_m": true_model(config).length_m,
        "pole.upright_offset_rad": truth["pole.upright_offset_rad"] + sim.pole_bend_rad,
        "motor.delay_s": truth["motor.delay_s"] + 0.5 * sim.commands_burst_s,
        "motor.acceleration_m_s2": min(
            truth["motor.acceleration_m_s2"], sim.drive_ramp_m_s2 or math.inf
        ),
    }
    return config, {**truth, **told}


def adverse(config: Config, truth: dict[str, float], seed: int) -> tuple[Config, dict[str, float]]:
    """The track measured up to 10 % wrong, the signs in turn, every second pole without friction.

    All metres are by the track that was told: the truth is told in them.
    """
    factor = float(np.random.default_rng([seed, 2]).uniform(0.9, 1.1))
    signs = {name: 1 - 2 * (seed >> k & 1) for k, name in enumerate(SIGNS)}
    told = {
        **truth,
        **signs,
        "encoder.cart_counts_per_m": truth["encoder.cart_counts_per_m"] * factor,
        "motor.counts_per_m_s": truth["motor.counts_per_m_s"] * factor,
        "motor.acceleration_m_s2": truth["motor.acceleration_m_s2"] / factor,
    }
    values = {
        "sim.track_length_m": config.rig.track_length_m * factor,
        **{f"sim.{SIM_NAMES.get(k, k.split('.')[1])}": v for k, v in signs.items()},
    }
    if seed % 2:
        free = {"pole.damping_1_s": 0.002, "pole.coulomb_rad_s2": 0.0}
        told |= free
        values |= {f"sim.{k.split('.')[1]}": v for k, v in free.items()}
    return with_values(config, values), told


class Watched(SimulatedBench):
    """Notes where a switch was reached by a motion that is no homing, or a hard stop by any."""

    touched = False

    def send(self, command: Command) -> None:
        """See ``calibration.bench.Bench``: a command every tick."""
        plant = self.plant
        switch = any(plant.limits(plant.t_ns)) and not command.homing and command.enable
        type(self).touched |= switch or plant.at_stop
        super().send(command)


def calibrate(config: Config, truth: dict[str, float], seed: int) -> dict[str, Any]:
    """As ``cartpole calibrate all`` does it; what came of it, as a line of the log."""
    place = np.random.default_rng([seed, 1]).uniform(-0.95, 0.95) * config.rig.track_length_m / 2
    Watched.touched = False
    lead = SimulatedLead(10 * seed, start=(float(place), 0.0, 0.0, 0.0), bench=Watched)
    out: dict[str, Any] = {
        "seed": seed, "numbers": {}, "signs": {}, "refused": {}, "flags": [], "failed": ""
    }  # fmt: skip
    begun = time.process_time()
    try:
        for result in calibrate_rig("all", config, lead):
            out["refused"] |= result.refused
            out["flags"] += result.flags
            out["signs"] |= {n: result.estimates[n].value == truth[n] for n in SIGNS
                             if n in result.estimates}  # fmt: skip
            for name, one in result.estimates.items():
                if name in TABLE:
                    error = TABLE[name][2](one.value, truth[name], config)
                    half = TABLE[name][2](one.ci95[1], one.value, config)
                    held = one.ci95[0] <= truth[name] <= one.ci95[1]
                    out["numbers"][name] = [error, half, held]
    except (IdentificationError, DeviceError) as error:
        out["failed"] = str(error)
    assert lead.plant is not None
    took = {"rig_s": lead.plant.t_ns * 1e-9, "processor_s": time.process_time() - begun}
    return out | took | {"touched": Watched.touched}


def is_right(line: dict[str, Any]) -> bool:
    """Whether a rig came to its end, nothing refused and no number far off."""
    near = all(
        abs(error) <= FEW_LEFT * max(half, TABLE[name][1])
        for name, (error, half, _) in line["numbers"].items()
    )
    signs = len(line["signs"]) == len(SIGNS) and all(line["signs"].values())
    return near and signs and not line["failed"] and not line["refused"] and not line["touched"]


def table(lines: list[dict[str, Any]]) -> dict[str, dict[str, object]]:
    """Print what came of all rigs; the figures by parameter."""
    ended = [one for one in lines if not one["failed"]]
    missed = [any(not held for *_, held in one["numbers"].values()) for one in ended]
    flagged = [bool(one["refused"] or one["flags"]) for one in ended]
    wrong = sum(not right for one in lines for right in one["signs"].values())
    print(
        f"{len(lines)} rigs: {len(ended)} to the end, {sum(map(is_right, lines))} of them right, "
        f"{wrong} wrong signs, {sum(one['touched'] for one in lines)} touched what they must not; "
        f"longest {max(one['rig_s'] for one in lines):.0f} s of the rig's time"
    )
    silent = sum(m and not f for m, f in zip(missed, flagged, strict=True))
    print(
        f"something refused or flagged in {sum(flagged)}; all intervals right in "
        f"{len(ended) - sum(missed)}; one wrong and nothing said in {silent}"
    )
    for one in lines:
        if not is_right(one):
            off = {
                name: f"{error:.3g} ± {half:.2g}"
                for name, (error, half, held) in one["numbers"].items()
                if not held
            }
            why = "; ".join(text[:100] for text in dict.fromkeys(one["refused"].values()))
            print(f"  rig {one['seed']}: {one['failed']} {off or ''} {one['flags'] or ''} {why}")
    print(f"{'parameter':26s} {'median':>9s} {'worst':>9s} {'aim':>8s}       covered    n")
    figures: dict[str, dict[str, object]] = {}
    for name, (unit, target, _) in TABLE.items():
        found = [one["numbers"][name] for one in lines if name in one["numbers"]]
        if not found:
            continue
        size = [abs(error) for error, _, _ in found]
        coverage = float(np.mean([held for *_, held in found]))
        figures[name] = {
            "median_abs_error": float(np.median(size)),
            "unit": unit,
            "coverage_95": coverage,
            "target": target,
            "rigs": len(size),
        }
        print(
            f"{name:26s} {np.median(size):9.4f} {max(size):9.4f} {target:8g} {unit:8s} "
            f"{coverage:5.0%} {len(size):4d}"
        )
    return figures


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few rigs, at most 50 s")
    parser.add_argument("--first", type=int, default=0, help="seed of the first rig")
    parser.add_argument("--rigs", type=int, default=0)
    parser.add_argument("--blind", action="store_true", help="without a camera")
    kinds = parser.add_mutually_exclusive_group()
    for kind in ("rough", "moderate", "adverse"):
        kinds.add_argument(f"--{kind}", action="store_true")
    parser.add_argument("--log", type=Path, help="go on with the campaign of this file")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    count = options.rigs or (QUICK_RIGS if options.quick else RIGS)
    start, lines = time.perf_counter(), []
    if options.log and options.log.exists():
        lines = [json.loads(line) for line in options.log.read_text().splitlines()]
    known = {line["seed"] for line in lines}
    for seed in range(options.first, options.first + count):
        if seed in known:
            continue
        if options.quick and len(lines) >= 2 and time.perf_counter() - start > QUICK_SECONDS:
            break
        config, truth = random_rig(seed)
        if options.blind:
            config = with_values(config, {"camera.source": "none"})
        if options.rough:
            config = rough(config, truth, seed)
        if options.moderate:
            config, truth = moderate(config, truth, seed)
        if options.adverse:
            config, truth = adverse(config, truth, seed)
        lines.append(calibrate(config, truth, seed))
        if options.log:
            with options.log.open("a") as log:
                log.write(json.dumps(lines[-1]) + "\n")
    figures = table(lines)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
