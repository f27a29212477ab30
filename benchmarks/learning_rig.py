"""What a recording tells of its rig: learned models against the bound of Cramer and Rao.

    python benchmarks/learning_rig.py [--seeds FIRST:LAST] [--flaws FIRST:LAST] [--log FILE]
        [--json FILE]

Each seed is a swing-up and 20 s in all on the same noisy simulated rig, learned from settings that
are wrong about it. The bound is computed from the recording by the true model, once with the
filter's own samples and once as if every sample's error were independent, which no encoder's are
while the pole stands. Flaws are a drive that cogs, a belt with play, a wrong delay, and none: a
flaw is flagged when a residual is believed, or the delay's interval leaves out the settings'.
``--log`` keeps a line for each seed and flaw, goes on behind them, and counts all of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cartpole.kernel_cache import use_kernel_cache

use_kernel_cache()

import numpy as np  # noqa: E402

from cartpole.config.load import with_values  # noqa: E402
from cartpole.config.schema import Config  # noqa: E402
from cartpole.learning.closed_loop import believed  # noqa: E402
from cartpole.learning.innovations import CART_SLOW, Track, counted, prediction_error  # noqa: E402
from cartpole.learning.motion import Model  # noqa: E402
from cartpole.learning.residual import residuals  # noqa: E402
from cartpole.learning.sysid import UNKNOWN, bound, learn  # noqa: E402
from cartpole.messages import EncoderSample  # noqa: E402
from cartpole.sim.run import VirtualRun  # noqa: E402

SECONDS = 20.0
TRUE = {"length_m": 0.53, "tau_s": 0.06, "damping_1_s": 0.08, "coulomb_rad_s2": 0.1}
FLAWS: dict[str, dict[str, float]] = {
    "none": {},
    "cogging": {"drive_cogging_m_s2": 1.0, "drive_cogging_pitch_m": 0.02},
    "backlash": {"belt_backlash_m": 0.002},
    "delay": {"delay_s": 0.013},
}
# Sigmas beyond which the delay is not what the settings say: .1 % by chance, .7 % of 144 rigs,
# whose intervals of the delay are a tenth too narrow.
SURE = 3.29


def flown(seed: int, config: Config, seconds: float = SECONDS) -> Track:
    """A recording as its encoders and the wire tell it."""
    run = VirtualRun(config, seed)
    samples: list[EncoderSample] = []
    sent = []
    for tick in itertools.islice(run.ticks(), round(seconds / config.controller.period_s)):
        given = tick.record.input.measurements
        samples += [one for one in given if isinstance(one, EncoderSample)]
        sent.append((1e-9 * tick.record.command.t_ns, tick.record.command.velocity_m_s))
    zero, encoder = run.rig.homing, config.encoder
    steps = 1.0 / encoder.cart_counts_per_m, 2.0 * math.pi / encoder.pole_counts_per_turn
    t = np.array([1e-9 * one.t_ns for one in samples])
    p = steps[0] * np.array([one.cart_counts - zero.cart_zero_counts for one in samples])
    theta = steps[1] * np.array([one.pole_counts - zero.pole_zero_counts for one in samples])
    times, commands = np.array(sent).T
    p, p_variance = counted(p, steps[0], CART_SLOW)
    theta, theta_variance = counted(theta, steps[1])
    return Track(f"seed {seed}", t, p, theta, times, commands, p_variance, theta_variance)


def rig(flaw: str = "none") -> tuple[Config, Model]:
    """Settings of which ``sim`` is the true rig, and its model."""
    told = {"sim.homed": True, "sim.pictures": "measured"}
    true = {f"sim.{name}": value for name, value in (TRUE | FLAWS[flaw]).items()}
    config = with_values(Config(), told | true)
    noises = config.sim.cart_disturbance, config.sim.pole_disturbance
    model = replace(believed(config), **TRUE, cart_noise=noises[0], pole_noise=noises[1])
    return config, model


def identified(seed: int) -> dict[str, Any]:
    """Errors, sigmas and bounds of one seed."""
    config, model = rig()
    track = flown(seed, config)
    learned = learn([track], believed(config))
    step_m, step_rad = 1.0 / config.encoder.cart_counts_per_m, 2.0 * math.pi
    step_rad /= config.encoder.pole_counts_per_turn
    every = np.ones(len(track.t_s)) / 12.0
    ideal = replace(track, p_variance=step_m**2 * every, theta_variance=step_rad**2 * every)
    return {
        "seed": seed,
        "error": {n: float(getattr(learned.model, n) - getattr(model, n)) for n in UNKNOWN},
        "sigma": learned.sigma,
        "bound": bound([track], model, UNKNOWN),
        "ideal": bound([ideal], model, UNKNOWN),
    }


def flagged(seed: int, flaw: str) -> dict[str, Any]:
    """Which residuals are believed with a flaw, and what they do to a prediction."""
    config, _model = rig(flaw)
    track, other = flown(10_000 + seed, config), flown(20_000 + seed, config)
    base = learn([track], believed(config))
    wrong = abs(base.model.delay_s - config.motor.delay_s) > SURE * base.sigma["delay_s"]
    model, good, _bad = residuals([track], base.model)
    errors = [prediction_error(other, one)[0] for one in (base.model, model)]
    return {
        "seed": seed, "residuals": [one.name for one in good], "delay": wrong,
        "prediction": errors[1] / errors[0] - 1.0,
    }  # fmt: skip


def summed(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all seeds: rms over bounds and coverage of each parameter."""
    out = {}
    for name in UNKNOWN:
        error, sigma, own, ideal = (
            np.array([line[what][name] for line in lines])
            for what in ("error", "sigma", "bound", "ideal")
        )
        rms = float(np.sqrt(np.mean(error**2)))
        out[name] = {
            "rms": rms,
            "over_bound": rms / float(np.sqrt(np.mean(own**2))),
            "over_ideal": rms / float(np.sqrt(np.mean(ideal**2))),
            "bias": float(np.mean(error)),
            "coverage_95": float(np.mean(np.abs(error) <= 1.96 * sigma)),
        }
    return out


def counted_flags(seen: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one flaw: the share flagged, and what the residuals found take off the prediction."""
    found = [one["prediction"] for one in seen if one["residuals"]]
    return {
        "seeds": len(seen),
        "flagged": float(np.mean([bool(one["residuals"]) or one["delay"] for one in seen])),
        "prediction": float(np.median(found)) if found else 0.0,
        "names": sorted({name for one in seen for name in one["residuals"]}),
    }


def main() -> None:
    """Run, print a line each, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0:20", help="FIRST:LAST of the rigs to learn")
    parser.add_argument("--flaws", default="0:5", help="FIRST:LAST of the seeds with flaws")
    parser.add_argument("--log", type=Path, help="keep lines here, and go on behind them")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    calls: dict[str, Callable[[int], dict[str, Any]]] = {"seeds": identified}
    calls |= {flaw: partial(flagged, flaw=flaw) for flaw in FLAWS}
    lines: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in calls}
    if options.log is not None and options.log.exists():
        for text in options.log.read_text().splitlines():
            kind, line = json.loads(text)
            lines[kind][line["seed"]] = line
    for kind, call in calls.items():
        first, last = (
            int(one) for one in getattr(options, "flaws" if kind in FLAWS else kind).split(":")
        )
        for seed in range(first, last):
            if seed in lines[kind]:
                continue
            lines[kind][seed] = call(seed)
            if options.log is not None:
                with options.log.open("a") as file:
                    file.write(json.dumps([kind, lines[kind][seed]]) + "\n")
    told = list(lines.pop("seeds").values())
    figures = {
        "seeds": len(told),
        "parameters": summed(told) if told else {},
        "flaws": {k: counted_flags(list(seen.values())) for k, seen in lines.items() if seen},
    }
    print(json.dumps(figures, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
