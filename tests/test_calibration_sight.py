"""Camera and encoders together: delay, readout, lens, upright, and by how much they may be off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from support.calibrations import TRUE_POLE, a_swing_then_rest, recorded

from calibration import procedures
from calibration.camera import calibrate_camera
from calibration.latency import calibrate_latency, drift_rad, effective_row, fit_times, hermite
from calibration.pole import fit_pole, smoothed
from calibration.recording import HOST_CLOCK_S, Motion, Recording, assemble
from calibration.run import calibrate_rig
from calibration.sight import Sight
from calibration.simulated import SimulatedLead, pinned
from cartpole.config.load import load_config, with_values
from cartpole.config.schema import Config
from cartpole.errors import IdentificationError
from cartpole.messages import EncoderSample


@pytest.fixture(scope="module")
def swung() -> tuple[Config, Recording]:
    return a_swing_then_rest()


def seen_through_a_camera(
    config: Config,
    recording: Recording,
    delay: float,
    readout: float,
    offset: float,
    *,
    jitter_s: float = 0.0,
    astray: int = 97,
) -> Recording:
    """What a camera whose times are off by these would say of the motion.

    ``jitter_s``: by how much each time is off beside; one frame in ``astray`` shows something else.
    """
    motion = recording.motion
    assert motion is not None
    track = smoothed(fit_pole(motion))
    time = np.arange(motion.t_s[0] + 0.2, motion.t_s[-1] - 0.2, 1.0 / 150.0)
    theta = hermite(motion.t_s, track, time)
    p = np.interp(time, motion.t_s, motion.p_m)
    rng = np.random.default_rng(4)
    late = -delay + readout * effective_row(config, p, theta)
    late += jitter_s * np.random.default_rng(5).normal(size=len(time))
    seen = hermite(motion.t_s, track, time + late) + offset + rng.normal(0.0, 1e-3, len(time))
    seen[::astray] += 0.3
    sight = Sight(time, np.unwrap(np.angle(np.exp(1j * seen))), p, np.full(len(time), 1e-3))
    return replace(recording, sight=sight)


def seen_moving(swung: tuple[Config, Recording]) -> tuple[Config, Recording, Motion]:
    """The settings, the recording as a camera sees it that is 2 ms late, and its motion."""
    config, recording = swung
    seen = seen_through_a_camera(config, recording, 2e-3, 1e-3, 0.02)
    assert seen.motion is not None
    return config, seen, seen.motion


def test_delay_and_readout_together(swung: tuple[Config, Recording]) -> None:
    config, recording = swung
    result = calibrate_latency(seen_through_a_camera(config, recording, 2e-3, 1e-3, 0.02), config)
    camera = config.camera
    found = result.estimates
    assert found["camera.latency_s"].value == pytest.approx(camera.latency_s + 2e-3, abs=5e-5)
    assert found["camera.readout_s"].value == pytest.approx(camera.readout_s + 1e-3, abs=1e-4)
    assert found["pole.upright_offset_rad"].value == pytest.approx(0.02, abs=1e-3)


def test_what_a_hosts_clock_stamped_is_known_no_better_than_it(
    swung: tuple[Config, Recording],
) -> None:
    config, recording = swung
    seen = seen_through_a_camera(config, recording, 2e-3, 1e-3, 0.02)
    sure = calibrate_latency(seen, config).estimates
    wide = calibrate_latency(replace(seen, clock_sigma_s=HOST_CLOCK_S), config).estimates
    for name in ("camera.latency_s", "camera.readout_s"):
        assert sure[name].ci95[1] - sure[name].value < 1.5e-4
        assert wide[name].ci95[1] - wide[name].value > 1.96 * HOST_CLOCK_S


def test_an_encoder_that_loses_counts_leaves_upright_no_better_known_than_it_drifted(
    swung: tuple[Config, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two counts on the way: the pole's fit and the camera's average over other moments."""
    config, seen, motion = seen_moving(swung)
    lost = 2e-3 * np.floor(3.0 * np.arange(len(motion.t_s)) / len(motion.t_s))
    worn = replace(seen, motion=replace(motion, theta_rad=motion.theta_rad - lost))
    name = "pole.upright_offset_rad"
    found = [calibrate_latency(one, config).estimates[name] for one in (seen, worn)]
    halves = [one.ci95[1] - one.value for one in found]
    assert halves[0] < 1.5e-3
    assert worn.motion is not None
    assert worn.sight is not None
    drift = drift_rad(fit_times(worn.motion, worn.sight, config))
    assert drift > 8e-4
    monkeypatch.setattr("calibration.latency.drift_rad", lambda _times: 0.0)
    without = calibrate_latency(worn, config).estimates[name]
    assert halves[1] == pytest.approx(np.hypot(without.ci95[1] - without.value, 1.96 * drift))


@pytest.mark.parametrize(("late_ns", "sigma_s"), [(0, 0.0), (3_000, HOST_CLOCK_S)])
def test_ticks_that_were_late_show_a_hosts_clock(late_ns: int, sigma_s: float) -> None:
    samples = [EncoderSample(1 + 5_000_000 * k, 2 + 5_000_000 * k, 0, k) for k in range(40)]
    ticks = [(20_000_000 * k + (late_ns if k == 4 else 0), 0.0) for k in range(9)]
    made = assemble(samples, ticks, [], load_config(None), "x")
    assert made.clock_sigma_s == sigma_s


@pytest.mark.parametrize(("late_ns", "sigma_s"), [(1_300_000, 0.0), (4_900_000, 1.96e-3)])
def test_answers_that_come_late_say_when_they_were_true_no_better(
    late_ns: int, sigma_s: float
) -> None:
    """An adapter that gathers bytes for 6 ms made a camera's delay wrong by 1 ms, +- .02 said."""
    times = [1 + 5_000_000 * k for k in range(40)]
    samples = [EncoderSample(t, t + late_ns, 0, k) for k, t in enumerate(times)]
    made = assemble(samples, [], [], load_config(None), "x")
    assert made.clock_sigma_s == pytest.approx(sigma_s, abs=1e-5)


def test_delay_alone_where_the_readout_does_not_show() -> None:
    config = pinned(load_config(None, TRUE_POLE))
    small = recorded(config, 5, procedures.swing_then_rest(config, 0.08, 14.0)).at_rest()
    result = calibrate_latency(seen_through_a_camera(config, small, 2e-3, 1e-3, 0.0), config)
    assert set(result.refused) == {"camera.readout_s"}
    delay = result.estimates["camera.latency_s"]
    truth = config.camera.latency_s + 2e-3
    assert delay.ci95[0] < truth < delay.ci95[1]
    assert delay.ci95[1] - delay.ci95[0] < 4e-3


def test_a_camera_whose_times_cannot_be_relied_on_is_doubted(
    swung: tuple[Config, Recording],
) -> None:
    config, recording = swung
    seen = seen_through_a_camera(config, recording, 2e-3, 1e-3, 0.02, jitter_s=1e-3)
    result = calibrate_latency(seen, config)
    assert not result.estimates
    assert "camera and encoder differ by" in result.refused["camera.latency_s"]


def test_errors_that_are_slow_leave_the_lens_less_known(
    swung: tuple[Config, Recording],
) -> None:
    """Of the same size; half a second of them tells hardly more than one."""
    config, seen, motion = seen_moving(swung)
    assert seen.sight is not None
    driven = replace(motion, p_m=motion.p_m + 0.02 * motion.t_s)
    white = np.random.default_rng(6).normal(0.0, 3e-3, len(seen.sight.t_s))
    slow = gaussian_filter1d(white, 0.15 * 150.0)
    slow *= np.std(white) / np.std(slow)
    halves = []
    for error in (white, slow):
        theta = seen.sight.theta_rad + error
        sight = replace(seen.sight, theta_rad=theta, p_m=seen.sight.p_m + 0.02 * seen.sight.t_s)
        result = calibrate_camera(replace(seen, motion=driven, sight=sight), config)
        lens = result.estimates["camera.lens_k1"]
        halves.append(lens.ci95[1] - lens.value)
    assert halves[1] > 3.0 * halves[0]


def test_pictures_that_show_the_pole_elsewhere_are_counted(swung: tuple[Config, Recording]) -> None:
    config, recording = swung
    seen = seen_through_a_camera(config, recording, 2e-3, 1e-3, 0.02, astray=7)
    result = calibrate_latency(seen, config)
    assert not result.estimates
    assert result.refused["camera.latency_s"].startswith("14 % of the pictures")


def test_frames_behind_the_part_that_is_fitted_are_left_out(
    swung: tuple[Config, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a longer recording the pole's fit takes the first minute; a cart drives in it, too."""
    config, seen, motion = seen_moving(swung)
    driven = replace(motion, p_m=motion.p_m + np.linspace(0.0, 0.3, len(motion.t_s)))
    most = int(0.7 * len(motion.t_s))
    monkeypatch.setattr("calibration.pole.MAX_STEPS", most)
    assert seen.sight is not None
    times = fit_times(motion, seen.sight, config)
    assert times.sight.t_s[-1] < motion.t_s[most]
    assert times.fit.value("camera.latency_s") == pytest.approx(2e-3, abs=1e-4)
    result = calibrate_camera(replace(seen, motion=driven), config)
    assert result.residuals is not None
    assert result.residuals[0][-1] < motion.t_s[most]


def test_latency_needs_both_sensors(swung: tuple[Config, Recording]) -> None:
    with pytest.raises(IdentificationError, match="encoder and camera together"):
        calibrate_latency(swung[1], swung[0])


def test_a_track_that_was_measured_wrong_does_not_bend_the_lens() -> None:
    """Its metres are not the tape's: a tracker that believes both tells the pivot beside it."""
    plain = load_config(None)
    factor = 1.08  # so much longer than it was measured
    told = {
        "sim.track_length_m": factor * plain.rig.track_length_m,
        "encoder.cart_counts_per_m": factor * plain.encoder.cart_counts_per_m,
        "motor.counts_per_m_s": factor * plain.motor.counts_per_m_s,
        "sim.cart_counts_per_m": plain.encoder.cart_counts_per_m,
        "sim.counts_per_m_s": plain.motor.counts_per_m_s,
    }
    config = pinned(with_values(plain, told))
    (result,) = calibrate_rig("camera", config, SimulatedLead(0))
    low, high = result.estimates["camera.lens_k1"].ci95
    assert low < plain.camera.lens_k1 < high
    assert high - low < 0.02
    assert any("the tape is 0.9" in note for note in result.notes)
