"""Fits recover what is known, refuse what the data cannot show, and survive garbage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.calibrations import a_swing_then_rest, pushed_back, recorded

from calibration import procedures
from calibration.fit import Parameter, fit, implausible, unidentified
from calibration.motor import calibrate_motor
from calibration.pole import fit_pole, smoothed
from calibration.pole_report import calibrate_pole
from calibration.recording import HOST_CLOCK_S, Motion, Recording
from calibration.result import CalibrationResult, Estimate, merged, rounded
from calibration.run import calibrate_rig, fit_one, moves
from calibration.simulated import SimulatedLead, pinned
from calibration.spline import RunSpline
from calibration.tables import load_table
from cartpole.config.load import load_config
from cartpole.config.schema import Config
from cartpole.errors import IdentificationError, SessionError
from cartpole.messages import FloatArray

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data" / "physical_cartpole"


def line(values: FloatArray) -> FloatArray:
    x = np.linspace(0.0, 1.0, 200)
    noise = np.random.default_rng(0).normal(size=200)
    noise[::25] += 40.0
    return np.asarray((values[0] + values[1] * x - (1.0 + 2.0 * x)) / 0.1 + noise)


def test_outliers_do_not_move_the_fit() -> None:
    parameters = [Parameter("a", "", 0.0, -9.0, 9.0, 1.0), Parameter("b", "", 0.0, -9.0, 9.0, 1.0)]
    result = fit(line, parameters)
    assert result.value("a") == pytest.approx(1.0, abs=0.06)
    assert result.value("b") == pytest.approx(2.0, abs=0.1)
    low, high = result.estimate("b").ci95
    assert low < 2.0 < high
    assert high - low < 0.3


def test_weak_directions_are_refused_by_name() -> None:
    def residual(values: FloatArray) -> FloatArray:
        x = np.linspace(0.0, 1.0, 50)
        noise = np.random.default_rng(2).normal(0.0, 0.1, 50)
        return np.asarray((values[0] + values[1]) * x + values[2] * (1.0 - x) - 1.0 + noise) / 0.1

    parameters = [
        Parameter("a", "m", 0.4, -9.0, 9.0, 1.0, 0.1, "turn it"),
        Parameter("b", "m", 0.4, -9.0, 9.0, 1.0, 0.1, "turn it"),
        Parameter("c", "m", 0.4, -9.0, 9.0, 1.0, 0.1, "turn it"),
    ]
    refused = unidentified(fit(residual, parameters))
    assert set(refused) == {"a", "b"}
    assert "turn it" in refused["a"]


def test_a_parameter_that_nothing_depends_on_is_refused() -> None:
    def residual(values: FloatArray) -> FloatArray:
        return np.asarray(values[0] - 1.0 + np.random.default_rng(3).normal(0.0, 1.0, 60))

    seen = Parameter("seen", "m", 0.0, -9.0, 9.0, 1.0, 1.0, "turn it")
    blind = Parameter("blind", "m", 0.0, -9.0, 9.0, 1.0, 1.0, "turn it")
    result = fit(residual, [seen, blind])
    assert set(unidentified(result)) == {"blind"}
    assert result.value("seen") == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize(
    ("value", "word"), [(500.0, "×1000"), (0.0005, "÷1000"), (5.0, "×10"), (29.0, "degrees")]
)
def test_unit_slips_are_named(value: float, word: str) -> None:
    why = implausible("pole.length_m", value, 0.06, 2.5, 0.5)
    assert why is not None
    assert word in why
    assert implausible("pole.length_m", 0.4, 0.06, 2.5, 0.5) is None


def test_spline_follows_a_sine_and_its_slope() -> None:
    x = np.sort(np.random.default_rng(1).uniform(0.0, 6.0, 300))
    spline = RunSpline(x, np.sin(x))
    at = np.linspace(0.5, 5.5, 57)
    assert np.abs(spline.value(at) - np.sin(at)).max() < 1e-4
    assert np.abs(spline.slope(at) - np.cos(at)).max() < 5e-3


@pytest.fixture(scope="module")
def swung() -> tuple[Config, Recording]:
    return a_swing_then_rest()


def test_pole_of_a_simulated_rig(swung: tuple[Config, Recording]) -> None:
    result = calibrate_pole(swung[1])
    length = result.estimates["pole.length_m"]
    assert length.value == pytest.approx(0.42, rel=0.003)
    assert length.ci95[0] - 0.001 < 0.42 < length.ci95[1] + 0.001
    assert result.estimates["pole.damping_1_s"].value == pytest.approx(0.09, abs=0.03)
    assert 0.7 < result.chi2_dof < 1.4


def test_smoother_beats_the_encoder(swung: tuple[Config, Recording]) -> None:
    motion = swung[1].motion
    assert motion is not None
    track = smoothed(fit_pole(motion))
    step = motion.theta_step_rad
    off = motion.theta_rad - track[:, 0]
    assert np.std(off) < step  # stays with the counts
    rates = np.gradient(track[:, 0], motion.t_s)
    assert np.abs(rates - track[:, 1])[5:-5].max() < 0.5


def test_friction_that_cannot_be_told_apart_is_one_number(
    swung: tuple[Config, Recording],
) -> None:
    motion = swung[1].motion
    assert motion is not None
    keep = motion.t_s < motion.t_s[0] + 1.2
    short = replace(
        motion, t_s=motion.t_s[keep], p_m=motion.p_m[keep], theta_rad=motion.theta_rad[keep]
    )
    result = calibrate_pole(Recording("short", "", motion=short))
    assert "pole.coulomb_rad_s2" in result.refused
    assert "30 s" in result.refused["pole.coulomb_rad_s2"]
    assert result.estimates["pole.length_m"].value == pytest.approx(0.42, rel=0.05)


def test_standing_pole_is_refused() -> None:
    t = np.arange(0.0, 5.0, 0.01)
    still = Motion(t, np.zeros_like(t), np.zeros_like(t))
    with pytest.raises(IdentificationError, match="hardly moves"):
        calibrate_pole(Recording("still", "", motion=still))
    with pytest.raises(IdentificationError, match="encoders on"):
        calibrate_pole(Recording("empty", ""))


def test_a_random_walk_is_no_pole(swung: tuple[Config, Recording]) -> None:
    motion = swung[1].motion
    assert motion is not None
    rng = np.random.default_rng(0)
    motion = motion.part(0, 1000)
    noise = replace(motion, theta_rad=np.cumsum(rng.normal(0.0, 0.5, 1000)))
    with pytest.raises(IdentificationError, match="random pushes"):
        calibrate_pole(Recording("noise", "", motion=noise))


@pytest.mark.parametrize(("height", "turns"), [(1.94, False), (2.6, True)])
def test_a_pole_without_friction_turns_on_and_on_only_where_it_is_to(
    height: float, turns: bool
) -> None:
    """Nobody knows its length yet, so it came over the top; turning one way a delay is a zero."""
    free = ["sim.length_m=0.6", "sim.damping_1_s=0.002", "sim.coulomb_rad_s2=0"]
    config = pinned(load_config(None, free))
    motion = recorded(config, 3, procedures.swing_then_rest(config, height, 14.0)).motion
    assert motion is not None
    last = motion.theta_rad[motion.t_s > motion.t_s[-1] - 6.0]
    assert np.ptp(last) > 0.5 * np.pi
    assert (np.ptp(last) > 6.0 * np.pi) == turns


TRUE_MOTOR = {
    "motor.counts_per_m_s": 1380.0,
    "motor.dead_band_counts": 70.0,
    "motor.tau_s": 0.035,
    "motor.delay_s": 0.014,
    "motor.acceleration_m_s2": 9.0,
}


def motor_rig() -> Config:
    return load_config(None, [f"sim.{k.split('.')[1]}={v}" for k, v in TRUE_MOTOR.items()])


def test_motor_of_a_simulated_rig() -> None:
    (result,) = calibrate_rig("motor", pinned(motor_rig()), SimulatedLead(0))
    allowed = (0.015, 6.0, 0.0012, 0.0008, 0.04)
    for (name, truth), tolerance in zip(TRUE_MOTOR.items(), allowed, strict=True):
        relative = name.endswith(("_m_s", "_m_s2"))
        limit = tolerance * truth if relative else tolerance
        assert result.estimates[name].value == pytest.approx(truth, abs=limit), name
    assert not result.refused
    assert "symmetric" in result.notes[0]


def test_a_limit_that_was_never_reached_is_refused() -> None:
    config = pinned(load_config(None, ["sim.acceleration_m_s2=40", "sim.tau_s=0.08"]))
    recording = recorded(config, 2, procedures.hold(0.2), procedures.chirp(config, 5.0))
    result = fit_one("motor", recording, config)
    assert set(result.refused) == {"motor.acceleration_m_s2"}
    assert "rig.acceleration_limit_m_s2" in result.refused["motor.acceleration_m_s2"]
    assert result.estimates["motor.tau_s"].value == pytest.approx(0.08, abs=0.002)
    stamped = fit_one("motor", replace(recording, clock_sigma_s=HOST_CLOCK_S), config)
    sure, wide = (one.estimates["motor.delay_s"] for one in (result, stamped))
    assert wide.ci95[1] - wide.value > max(1.96 * HOST_CLOCK_S, sure.ci95[1] - sure.value)


def test_motor_gain_in_wrong_units_is_named() -> None:
    config = motor_rig()
    recording = recorded(config, 2, procedures.hold(0.2), procedures.chirp(config, 4.0))
    assert recording.motion is not None
    thousand = replace(recording.motion, p_m=recording.motion.p_m * 10.0)
    with pytest.raises(IdentificationError, match="÷10"):
        calibrate_motor(replace(recording, motion=thousand), config.motor)
    with pytest.raises(IdentificationError, match="no commands"):
        calibrate_motor(replace(recording, commands=None), config.motor)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_a_drive_that_its_pole_pushes_back_says_so_and_gives_its_own_lag(share: float) -> None:
    config = load_config(None, ["rig.acceleration_limit_m_s2=50", "camera.source=none"])
    recording = recorded(config, 2, *moves("motor", config))
    result = calibrate_motor(pushed_back(config, recording, share), config.motor)
    assert not result.refused
    tau = result.estimates["motor.tau_s"].value
    assert tau == pytest.approx(config.motor.tau_s, abs=0.0015)  # taken for a strong one: 0.044
    says = [note for note in result.notes if "weak drive" in note]
    assert bool(says) == (share > 0.0)
    assert result.flags == (("weak",) if says else ())
    if says:
        assert f"({share * 0.25:.3f} " in says[0]


def test_residuals_that_know_nothing_accuse_nothing() -> None:
    for seed in (3, 4, 5):
        config = load_config(None, ["rig.acceleration_limit_m_s2=50", "camera.source=none"])
        result = calibrate_motor(recorded(config, seed, *moves("motor", config)), config.motor)
        assert not result.refused
        assert not result.flags


def test_json_and_settings_of_a_result() -> None:
    result = CalibrationResult(
        {
            "pole.length_m": Estimate(0.392961, (0.3919, 0.394), "m"),
            "pole.coulomb_rad_s2": Estimate(-0.01, (-0.1, 0.08), "rad/s^2"),
        },
        1.1,
        {"motor.tau_s": "no commands"},
    )
    out = merged([result])
    assert out["pole.length_m"] == {"value": 0.392961, "ci95": [0.3919, 0.394], "unit": "m"}
    assert out["fit"] == {"chi2_dof": 1.1}
    assert out["refused"] == {"motor.tau_s": "no commands"}
    assert result.settings() == {"pole.length_m": 0.393, "pole.coulomb_rad_s2": 0.0}
    assert rounded(1491.2345, (1483.0, 1499.0)) == 1491.2


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside the project")
def test_real_recordings_give_their_owners_length() -> None:
    lengths, friction = [], []
    for path in sorted(REAL.glob("*.csv"))[::6]:
        result = calibrate_pole(load_table(path))
        lengths.append(result.estimates["pole.length_m"].value)
        friction.append(result.estimates["pole.damping_1_s"].value)
    assert np.median(lengths) == pytest.approx(0.395, rel=0.015)
    assert 0.0 < np.median(friction) < 0.2


def test_a_length_by_sensors_that_nobody_scaled_is_no_surer_than_a_rig_is_the_same(
    swung: tuple[Config, Recording],
) -> None:
    """With the scales known the same motion gives a length many times as sure."""
    _, recording = swung
    assert recording.motion is not None
    unscaled = replace(recording, motion=replace(recording.motion, scale_sigma=0.05))
    by_board, by_table = (
        calibrate_pole(one).estimates["pole.length_m"] for one in (recording, unscaled)
    )
    assert by_board.ci95[1] - by_board.value < 0.0015 * by_board.value
    assert by_table.ci95[1] - by_table.value == pytest.approx(0.003 * by_table.value, rel=1e-6)


GARBAGE = {
    "empty": b"",
    "blank": b"\n\n\n",
    "binary": bytes(range(256)) * 40,
    "zeros": b"\0" * 5000,
    "header only": b"time,angle,position\n",
    "other columns": b"a,b\n1,2\n" * 30,
    "twice": b"t_s,t_s,p_m,theta_rad\n" + b"1,2,3,4\n" * 30,
    "text": b"t_s,p_m,theta_rad\n" + b"x,y,z\n" * 30,
    "nan": b"t_s,p_m,theta_rad\n" + b"nan,nan,nan\n" * 30,
    "no time": b"t_s,p_m,theta_rad\n" + b"1,0,0\n" * 50,
    "short": b"t_s,p_m,theta_rad\n0,0,0\n1,0,0\n",
    "huge": b"t_s,p_m,theta_rad\n" + b"".join(b"%d,1e300,1e300\n" % k for k in range(40)),
    "long line": b"t_s," + b"x" * 200_000,
    "quote": b't_s,p_m,theta_rad\n"0,0,0\n' + b"1,0,0\n" * 30,
}


@pytest.mark.parametrize("name", list(GARBAGE))
def test_garbage_gives_a_typed_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "session.csv"
    path.write_bytes(GARBAGE[name])
    with pytest.raises((SessionError, IdentificationError)) as caught:
        calibrate_pole(load_table(path))
    assert "\n" not in str(caught.value)


def test_cut_recording_still_reads(tmp_path: Path, swung: tuple[Config, Recording]) -> None:
    motion = swung[1].motion
    assert motion is not None
    rows = zip(motion.t_s, motion.p_m, motion.theta_rad, strict=True)
    text = "t_s,p_m,theta_rad\n" + "".join(f"{t},{p},{a}\n" for t, p, a in rows)
    path = tmp_path / "cut.csv"
    path.write_text(text[: int(0.6 * len(text))])
    result = calibrate_pole(load_table(path))
    assert result.estimates["pole.length_m"].value == pytest.approx(0.42, rel=0.01)


def test_missing_file_is_typed(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="cannot be read"):
        load_table(tmp_path / "none.csv")
