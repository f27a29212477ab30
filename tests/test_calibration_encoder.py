"""Scales, signs and counts per turn of rigs whose settings are wrong about all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.calibrations import recorded

from calibration import procedures
from calibration.encoder import calibrate_encoder
from calibration.run import calibrate_rig, moves
from calibration.simulated import SimulatedLead, pinned
from calibration.turns import whole_counts
from cartpole.config.load import load_config, with_values
from cartpole.config.schema import Config
from cartpole.errors import IdentificationError, UsageError


def rig(**truth: float) -> Config:
    return with_values(pinned(load_config(None)), {f"sim.{k}": v for k, v in truth.items()})


@pytest.mark.parametrize(
    "truth",
    [
        {"motor_sign": -1, "cart_sign": -1, "pole_sign": -1, "pole_counts_per_turn": 1440.0},
        {"cart_sign": -1, "cart_counts_per_m": 27000.0, "coulomb_rad_s2": 0.3, "length_m": 0.75},
        {"motor_sign": -1, "pole_counts_per_turn": 2400.0, "length_m": 0.32, "damping_1_s": 0.15},
        {"pole_sign": -1, "pole_counts_per_turn": 600.0, "dead_band_counts": 110.0},
    ],
)
def test_nothing_need_be_known(truth: dict[str, float]) -> None:
    config = rig(**truth)
    (result,) = calibrate_rig("encoder", config, SimulatedLead(4))
    found, sim = result.settings(), config.sim
    assert found["motor.sign"] == sim.motor_sign
    assert found["encoder.cart_sign"] == sim.cart_sign
    assert found["encoder.pole_sign"] == sim.pole_sign
    assert found["encoder.pole_counts_per_turn"] == sim.pole_counts_per_turn
    assert found["encoder.cart_counts_per_m"] == pytest.approx(sim.cart_counts_per_m, rel=2e-3)
    assert not result.refused
    assert type(found["motor.sign"]) is int


def test_a_sweep_alone_cannot_count_a_turn() -> None:
    config = rig()
    result = calibrate_encoder(recorded(config, 0, *moves("encoder", config)), config)
    assert "did not turn over" in result.refused["encoder.pole_counts_per_turn"]
    assert result.estimates["encoder.pole_sign"].value == 1.0


def test_a_held_pole_has_no_sign() -> None:
    config = rig()
    recording = recorded(config, 0, *moves("encoder", config))
    assert recording.counts is not None
    noise = np.random.default_rng(0).integers(-1, 2, len(recording.counts.pole))
    held = replace(recording.counts, pole=noise.astype(float))
    result = calibrate_encoder(replace(recording, counts=held), config)
    assert "hardly answers" in result.refused["encoder.pole_sign"]
    assert "encoder.cart_sign" in result.estimates


def test_without_switches_there_is_no_scale() -> None:
    config = rig()
    short = recorded(config, 0, procedures.chirp(config, 1.0))
    with pytest.raises(IdentificationError, match="switch is never pressed"):
        calibrate_encoder(short, config)
    with pytest.raises(IdentificationError, match="no encoder counts"):
        calibrate_encoder(replace(short, counts=None), config)


def test_a_scale_off_by_ten_is_named() -> None:
    config = rig(cart_counts_per_m=200000.0)
    recording = recorded(config, 0, procedures.sweep(config))
    with pytest.raises(IdentificationError, match="×10 of what is plausible"):
        calibrate_encoder(recording, config)


@pytest.mark.parametrize(
    ("value", "sigma", "whole"),
    [
        (1199.2, 0.3, 1200.0),  # the one multiple of four
        (1198.2, 0.3, 1198.2),  # neither a multiple of four nor, within doubt, a whole number
        (1202.0, 0.1, 1202.0),
        (1213.7, 5.0, 1213.7),  # too much doubt to choose
    ],
)
def test_whole_counts(value: float, sigma: float, whole: float) -> None:
    assert whole_counts(value, sigma).value == whole


def test_a_rig_without_encoders_is_refused() -> None:
    config = with_values(load_config(None), {"encoder.protocol": "none"})
    with pytest.raises(UsageError, match=r"encoder\.protocol is none"):
        list(calibrate_rig("pole", config, SimulatedLead(0)))
    blind = with_values(load_config(None), {"camera.source": "none"})
    with pytest.raises(UsageError, match=r"camera\.source is none"):
        list(calibrate_rig("camera", blind, SimulatedLead(0)))
