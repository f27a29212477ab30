"""Drives that do more than lag, delay and limit say: allowed for, and said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.calibrations import recorded

from calibration.drive import GATE, Drive, Noise, drive_from
from calibration.drive_fit import _unlikeliness
from calibration.drive_judge import obedience
from calibration.drive_lost import without_lost
from calibration.loose_kernel import loose_innovations
from calibration.motor import _fit
from calibration.motor_kernel import innovations
from calibration.result import CalibrationResult
from calibration.run import calibrate_rig, moves
from calibration.simulated import SimulatedLead, pinned
from cartpole.config.load import load_config
from cartpole.config.schema import Config
from cartpole.messages import FloatArray


def drive_of(**numbers: float) -> CalibrationResult:
    """What the motor part finds of a drive that differs from the settings by these."""
    config = pinned(load_config(None, [f"sim.{name}={value}" for name, value in numbers.items()]))
    (result,) = calibrate_rig("motor", config, SimulatedLead(0))
    return result


WIDEST = {"counts_per_m_s": 300.0, "tau_s": 0.015, "delay_s": 0.006, "acceleration_m_s2": 2.0}


def holds(result: CalibrationResult, name: str, truth: float) -> bool:
    """Whether the interval of a motor's number holds the truth, and is of use."""
    low, high = result.estimates[f"motor.{name}"].ci95
    return low <= truth <= high and high - low < WIDEST[name]


def true_drive() -> tuple[Drive, FloatArray, Config]:
    """A recorded drive that does as the settings say, and its numbers."""
    config = load_config(None, ["rig.acceleration_limit_m_s2=50", "camera.source=none"])
    recording = recorded(config, 3, *moves("motor", config))
    motion, commands, motor = recording.motion, recording.commands, config.motor
    assert motion is not None
    assert commands is not None
    drive = drive_from(motion, commands, motor)
    values = np.array([motor.counts_per_m_s, motor.dead_band_counts, motor.tau_s,
                       motor.delay_s, motor.acceleration_m_s2, 0.0])  # fmt: skip
    return replace(drive, pushes=np.empty((len(drive.time), 0))), values, config


def test_without_ramp_and_belt_both_filters_say_the_same() -> None:
    drive, values, _ = true_drive()
    rig = (drive.time, drive.position, drive.sent, drive.units, drive.pushes)
    plain, loose = np.empty((2, len(drive.time))), np.empty((2, len(drive.time)))
    noise = (0.05**2, 1e-9)
    innovations(*rig, drive.coefficients(values), *noise, GATE, *plain)
    loose_innovations(*rig, drive.coefficients(values), *noise, 0.0, 0.0, 0.0, GATE, *loose)
    assert np.max(np.abs(plain[0] - loose[0]) / np.sqrt(plain[1])) < 0.2
    assert np.allclose(plain[1][9:], loose[1][9:], rtol=0.02)


def test_commands_that_never_arrived_are_told_one_by_one() -> None:
    """Three commands of the recording were others than what the drive went by."""
    drive, _, config = true_drive()
    found = _fit(drive, config.motor, Noise(0.05**2, 1e-9))
    steady = np.flatnonzero((np.diff(drive.units, prepend=0.0) == 0.0) & (drive.units != 0.0))
    struck = steady[[40, 90, 140]]
    units = drive.units.copy()
    units[struck] *= -1.0
    spoilt = replace(found, drive=replace(found.drive, units=units))
    mended, lost = without_lost(spoilt)
    assert lost == 3
    assert np.array_equal(mended.units, drive.units)
    assert without_lost(found)[1] == 0


def test_a_soft_belt_is_found_and_leaves_the_drives_own_numbers() -> None:
    config = load_config(None)
    result = drive_of(belt_hz=20.0)
    assert result.flags == ("belt",)
    assert any("swings on its belt at 20" in note for note in result.notes)
    for name in ("counts_per_m_s", "tau_s", "delay_s", "acceleration_m_s2"):
        assert holds(result, name, getattr(config.motor, name)), name
    low, high = result.estimates["motor.acceleration_m_s2"].ci95
    assert high - low > 0.006 * config.motor.acceleration_m_s2  # no drive's limit is so constant


def test_a_ramp_of_the_drives_own_is_found_and_no_lag() -> None:
    """Its numbers were wrong by ten intervals, and chi-squared good: random pushes took it up.

    Commands are lost and the supply is uneven, too.
    """
    config = load_config(None)
    result = drive_of(drive_ramp_m_s2=6.0, supply_sag=0.03, commands_lost=0.02)
    assert "ramps" in result.flags
    for name in ("counts_per_m_s", "tau_s", "delay_s"):
        assert holds(result, name, getattr(config.motor, name)), name
    assert holds(result, "acceleration_m_s2", 6.0)  # the drive never asks for more


@pytest.mark.parametrize("strength", [0.2, 0.4])
def test_a_drive_that_cogs_is_told_with_its_pitch_and_gives_its_own_lag(strength: float) -> None:
    result = drive_of(drive_cogging_m_s2=strength, drive_cogging_pitch_m=0.012)
    assert result.flags == ("cogs",)
    (note,) = [one for one in result.notes if "cogs" in one]
    assert "every 12 mm" in note
    assert not result.refused
    config = load_config(None)
    for name, truth in (("tau_s", config.motor.tau_s), ("delay_s", config.motor.delay_s)):
        low, high = result.estimates[f"motor.{name}"].ci95
        assert low - 2e-4 <= truth <= high + 2e-4
        assert high - low < 4e-3


def test_a_drive_without_a_dead_band_is_believed() -> None:
    result = drive_of(dead_band_counts=0.0)
    assert not result.refused
    low, high = result.estimates["motor.dead_band_counts"].ci95
    assert low <= 0.0 <= high < 10.0


def test_a_strong_and_slow_drive_shows_its_limit() -> None:
    assert not drive_of(acceleration_m_s2=15.0, tau_s=0.08).refused


def test_a_drive_that_was_never_asked_for_another_speed_leaves_nothing_to_say() -> None:
    """A recording may be cut off before its first command: what is left goes with no command."""
    drive, _, config = true_drive()
    found = _fit(drive, config.motor, Noise(0.05**2, 1e-9))
    still = replace(found, drive=replace(drive, units=np.zeros(len(drive.units))))
    assert obedience(still.residuals) == 1.0
    assert obedience(found.residuals) > 0.0


def test_numbers_at_which_a_variance_is_lost_to_rounding_are_no_candidates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A spoilt recording led the search there."""
    drive, values, _ = true_drive()
    noise = Noise(0.05**2, 1e-9)
    out, variance = drive.innovations(values, noise)
    lost = np.append(variance[:-1], -1e-18)
    monkeypatch.setattr(Drive, "innovations", lambda *_: (out, lost))
    assert _unlikeliness(drive, values, noise) == math.inf


def test_a_gain_that_wanders_unnoticed_is_known_no_better_than_it_wandered() -> None:
    """Too little for unknowns of its own; a steady drive's interval would exclude the truth."""
    steady, fed = drive_of(), drive_of(supply_sag=0.015)
    halves = [one.estimates["motor.counts_per_m_s"].ci95 for one in (steady, fed)]
    before, after = (high - low for low, high in halves)
    assert "supply" not in fed.flags
    assert after > 1.4 * before
    assert halves[1][0] <= 1500.0 <= halves[1][1]
