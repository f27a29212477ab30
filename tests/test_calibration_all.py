"""From settings that are wrong everywhere to ones by which the rig flies as with the truth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from calibration.run import calibrate_rig
from calibration.simulated import SimulatedLead, pinned
from cartpole.config.load import load_config, with_values
from cartpole.config.schema import Config
from cartpole.daemon.virtual import run_virtual
from cartpole.session.summary import SummaryBuilder

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 2)


def wrong(truth: Config, factor: float) -> Config:
    """Every number off by a factor or its inverse, every sign reversed, the camera elsewhere."""
    pole, motor, encoder, camera = truth.pole, truth.motor, truth.encoder, truth.camera
    scale = camera.homography[0] * factor
    return with_values(
        truth,
        {
            "pole.length_m": pole.length_m * factor,
            "pole.damping_1_s": pole.damping_1_s * factor,
            "motor.counts_per_m_s": motor.counts_per_m_s / factor,
            "motor.dead_band_counts": motor.dead_band_counts * factor,
            "motor.tau_s": motor.tau_s * factor,
            "motor.delay_s": motor.delay_s * factor,
            "motor.acceleration_m_s2": motor.acceleration_m_s2 / factor,
            "motor.sign": -motor.sign,
            "encoder.cart_counts_per_m": encoder.cart_counts_per_m * factor,
            "encoder.cart_sign": -encoder.cart_sign,
            "encoder.pole_counts_per_turn": encoder.pole_counts_per_turn * factor,
            "encoder.pole_sign": -encoder.pole_sign,
            "camera.latency_s": camera.latency_s / factor,
            "camera.readout_s": camera.readout_s * factor,
            "camera.lens_k1": camera.lens_k1 * factor,
            "camera.threshold": round(camera.threshold * factor),
            "camera.exposure": round(camera.exposure * factor),
            "camera.homography": (scale, 0.0, 150.0, 0.0, -scale, 130.0, 0.0, 0.0, 1.0),
        },
    )


def upright_at(config: Config, seed: int) -> float | None:
    """None: never, or beyond the limit of places."""
    seeded = with_values(config, {"sim.seed": seed, "sim.pictures": "rendered"})
    summary = SummaryBuilder(seeded, "", "")
    run_virtual(seeded, 6.0, summary)
    figures = summary.result(None)
    found = figures["upright_at_s"]
    inside = figures["max_abs_p_m"] < config.rig.position_limit_m
    return float(found) if found is not None and inside else None


@pytest.mark.parametrize("factor", [1.2, 1 / 1.2])
def test_wrong_everywhere_ends_as_good_as_the_truth(factor: float) -> None:
    truth = pinned(load_config(ROOT / "config" / "sim.yaml"))
    config = wrong(truth, factor)
    assert any(upright_at(config, seed) is None for seed in SEEDS)
    for found in calibrate_rig("all", config, SimulatedLead(3)):
        assert not found.refused
        config = with_values(config, found.settings())
    before = [upright_at(truth, seed) or math.inf for seed in SEEDS]
    after = [upright_at(config, seed) or math.inf for seed in SEEDS]
    assert math.isfinite(max(before + after)), (before, after)
    assert np.median(after) == pytest.approx(np.median(before), abs=0.15), (before, after)
    assert max(after) < 2.1  # with the truth, over 200 seeds: 2.14
