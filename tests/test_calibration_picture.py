"""Threshold, exposure and gain from rendered pictures, judged by the real tracker."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from calibration.picture import Picture, draw_levels, levels_from_pictures, settled
from calibration.result import CalibrationResult
from cartpole.config.load import with_values
from cartpole.config.schema import Camera, Config
from cartpole.errors import IdentificationError
from cartpole.messages import Detection, DetectionStatus
from cartpole.sim.render import Renderer
from cartpole.vision.exposure import (
    brightness,
    exposure_limit,
    fastest_tip_m_s,
    gain_factor,
)
from cartpole.vision.levels import measure_levels
from cartpole.vision.tracker import Tracker

SHOTS = 40
STEP_S = 0.02
State = tuple[float, float, float, float]


def swing(t: float, height_rad: float = 2.8, reach_m: float = 0.15) -> State:
    """The pole to and fro, up to 11 rad/s, while the cart drives."""
    rate = 2.0 * math.pi / 1.6
    return (
        reach_m * math.sin(2.0 * t),
        2.0 * reach_m * math.cos(2.0 * t),
        height_rad * math.sin(rate * t),
        rate * height_rad * math.cos(rate * t),
    )


def look(
    camera: Camera, move: Callable[[float], State] = swing, seed: int = 3, **scene: Any
) -> tuple[list[Picture], float]:
    """Pictures with what the tracker says, and the share in which it is right."""
    renderer, tracker = Renderer(camera, seed, **scene), Tracker(camera)
    pictures: list[Picture] = []
    right = 0
    for index in range(SHOTS):
        state = move(index * STEP_S)
        picture = renderer.render(state)
        t_ns = round((1.0 + index * STEP_S) * 1e9)
        found = tracker.detect(picture, t_ns, t_ns, index)
        off = math.remainder(found.theta_rad - state[2], 2.0 * math.pi)
        right += found.status is DetectionStatus.OK and abs(off) < 0.3
        pictures.append((picture, found))
    return pictures, right / SHOTS


def applied(camera: Camera, result: CalibrationResult) -> Camera:
    """Through the settings' own door: bounds and whole numbers are checked there."""
    config = Config(camera=camera)
    return with_values(config, result.settings()).camera


def tune(camera: Camera, **scene: Any) -> tuple[Camera, float, float]:
    """At most three proposals; then the settings, the tape's level and the share found."""
    for _ in range(3):
        result = levels_from_pictures(look(camera, **scene)[0], camera)
        assert not result.refused
        done = settled(result, camera)
        camera = applied(camera, result)
        if done:
            break
    pictures, share = look(camera, **scene)
    return camera, measure_levels([one for one, _ in pictures]).tape_dn, share


@pytest.mark.parametrize("light", [0.2, 0.45, 1.0, 1.6, 4.0])
@pytest.mark.parametrize(("noise", "distractors"), [(1.0, 2), (3.0, 0), (8.0, 2)])
def test_three_proposals_make_the_tape_good_and_found(
    light: float, noise: float, distractors: int
) -> None:
    threshold = {1.0: 250, 3.0: 2, 8.0: 60}[noise]
    scene = {"light": light, "pixel_noise": noise, "distractors": distractors}
    camera, tape, share = tune(Camera(threshold=threshold), **scene)
    assert 180.0 <= tape <= 225.0
    assert share >= 0.99
    true = 205.0 * light * brightness(camera)
    assert 180.0 <= true <= 230.0


@pytest.mark.parametrize("threshold", [1, 10, 230, 254])
def test_wrong_thresholds_are_mended_in_one_look(threshold: int) -> None:
    camera = Camera(threshold=threshold)
    pictures, before = look(camera, distractors=3)
    result = levels_from_pictures(pictures, camera)
    after = applied(camera, result)
    assert before < 0.5
    assert look(after, distractors=3)[1] >= 0.99
    assert after.exposure == camera.exposure, "the tape's level was good"
    assert settled(result, camera)
    low, high = result.estimates["camera.threshold"].ci95
    assert low < after.threshold < high


@pytest.mark.parametrize("end", [0, 1])
def test_both_ends_of_the_interval_find_the_same(end: int) -> None:
    camera = Camera()
    result = levels_from_pictures(look(camera)[0], camera)
    at_end = round(result.estimates["camera.threshold"].ci95[end])
    assert look(camera.model_copy(update={"threshold": at_end}), seed=8)[1] >= 0.95


def test_the_threshold_belongs_to_the_proposed_exposure() -> None:
    camera = Camera(exposure=50, exposure_s=0.00125, threshold=60)
    result = levels_from_pictures(look(camera)[0], camera)
    better = applied(camera, result)
    assert better.exposure == pytest.approx(120, abs=8)
    assert better.exposure_s == pytest.approx(0.00125 * better.exposure / 50, rel=0.02)
    pictures, share = look(better)
    assert share == 1.0
    again = levels_from_pictures(pictures, better)
    assert again.settings()["camera.threshold"] == pytest.approx(better.threshold, abs=8)
    low, high = result.estimates["camera.exposure"].ci95
    assert low <= 120 <= high


def test_exposure_stops_where_a_fast_pole_smears_and_gain_goes_on() -> None:
    camera = Camera()
    pictures, _ = look(camera, light=0.2)
    limit = exposure_limit(camera)
    smear_m = fastest_tip_m_s(camera) * camera.exposure_s * limit / camera.exposure
    assert 0.95 * camera.tape_width_m < smear_m <= camera.tape_width_m
    result = levels_from_pictures(pictures, camera)
    after = applied(camera, result)
    assert 0.9 * limit <= after.exposure <= limit
    assert gain_factor(after.gain) > 2.0 * gain_factor(camera.gain)
    assert any("smears" in note for note in result.notes)
    slow = levels_from_pictures(pictures, camera, 2.0 * fastest_tip_m_s(camera))
    assert applied(camera, slow).exposure == pytest.approx(limit / 2, abs=2)


@pytest.mark.parametrize(("light", "exposure"), [(1.25, 60), (4.0, 30)])
def test_a_saturated_tape_is_halved_and_looked_at_again(light: float, exposure: int) -> None:
    camera = Camera()
    result = levels_from_pictures(look(camera, light=light)[0], camera)
    assert result.settings()["camera.exposure"] == exposure
    assert "camera.gain" not in result.estimates
    assert any("run again" in note for note in result.notes)
    assert "% of the tape saturated" in result.notes[0]
    assert not settled(result, camera)


def test_what_cannot_be_reached_is_said() -> None:
    camera = Camera(threshold=10)
    result = levels_from_pictures(look(camera, light=0.09, pixel_noise=1.0)[0], camera, 30.0)
    assert result.settings()["camera.gain"] == 63
    assert any("brighter ring light" in note for note in result.notes)
    shortest = Camera(exposure=1, gain=0)
    result = levels_from_pictures(look(Camera(), light=4.0)[0], shortest)
    assert "dim the ring light" in result.refused["camera.exposure"]
    assert settled(result, shortest)


@pytest.mark.parametrize("distractors", [0, 5])
def test_a_pole_at_rest_is_measured_where_the_tracker_found_it(distractors: int) -> None:
    camera = Camera()
    still = partial(swing, height_rad=0.0, reach_m=0.0)
    pictures, _ = look(camera, lambda _t: (*still(0.0)[:3], 0.0))
    levels = measure_levels([p for p, _ in pictures], [d for _, d in pictures])
    assert 185.0 < levels.tape_dn < 215.0
    assert not levels.reflections
    with pytest.raises(IdentificationError, match="let the pole swing"):
        levels_from_pictures([(picture, None) for picture, _ in pictures], camera)


def test_a_pole_that_hardly_swings_keeps_its_inner_end() -> None:
    """Near the pivot the tape always covers the same pixels: no reflection."""
    camera = Camera(threshold=200)
    pictures, _ = look(camera, lambda t: (0.0, 0.0, 0.15 * math.sin(8.0 * t), 0.0))
    levels = measure_levels([picture for picture, _ in pictures])
    assert not levels.reflections
    assert levels.area_px > 350.0, "81 by 5.4 pixels"


def dark(camera: Camera, level: float, noise: float, count: int = 20) -> list[Picture]:
    rng = np.random.default_rng(1)
    shape = (count, camera.height_px, camera.width_px)
    stack = np.clip(np.rint(rng.normal(level, noise, shape)), 0, 255).astype(np.uint8)
    return [(one, None) for one in stack]


def test_refusals_say_what_to_do() -> None:
    camera = Camera()
    with pytest.raises(IdentificationError, match="no pictures"):
        levels_from_pictures([], camera)
    for level, noise in ((0.0, 0.0), (3.0, 1.0), (12.0, 8.0)):
        with pytest.raises(IdentificationError, match="ring light on, is the lens cap off"):
            levels_from_pictures(dark(camera, level, noise), camera)
    with pytest.raises(IdentificationError, match="ring light"):
        levels_from_pictures(dark(camera, 12.0, 3.0, 1), camera)
    glare = levels_from_pictures(dark(camera, 250.0, 8.0), camera)
    assert glare.settings()["camera.exposure"] == 60
    assert "too bright everywhere" in glare.refused["camera.threshold"]
    hopeless = camera.model_copy(update={"exposure": 1, "gain": 0})
    assert set(levels_from_pictures(dark(camera, 250.0, 8.0), hopeless).refused) == {
        "camera.threshold",
        "camera.exposure",
    }


def test_a_moving_blob_is_no_tape() -> None:
    frames = []
    for index, (picture, _) in enumerate(dark(Camera(), 12.0, 3.0)):
        cv2.circle(picture, (60 + 8 * index, 120), 25, 220, -1)
        frames.append((picture, None))
    with pytest.raises(IdentificationError, match="no strip"):
        levels_from_pictures(frames, Camera())


def test_a_large_reflection_is_named_by_its_place() -> None:
    camera = Camera()
    pictures, _ = look(camera)
    for picture, _ in pictures:
        cv2.rectangle(picture, (20, 30), (27, 110), 240, -1)
    result = levels_from_pictures(pictures, camera)
    assert "camera.threshold" not in result.estimates
    why = result.refused["camera.threshold"]
    assert "cover" in why
    assert "column 24, row 70" in why
    assert result.settings()["camera.exposure"] == camera.exposure


def test_small_reflections_are_notes() -> None:
    camera = Camera()
    pictures, _ = look(camera)
    for picture, _ in pictures:
        cv2.circle(picture, (40, 50), 5, 250, -1)
    result = levels_from_pictures(pictures, camera)
    assert not result.refused
    assert any("column 40, row 50" in note and "cover it" in note for note in result.notes)


def test_a_streams_exposure_is_its_own() -> None:
    camera = Camera(source="stream", exposure=120)
    result = levels_from_pictures(look(camera, light=0.5)[0], camera)
    assert set(result.estimates) == {"camera.threshold"}
    assert look(applied(camera, result), light=0.5)[1] == 1.0
    assert "at the camera" in result.refused["camera.exposure"]


def test_gains_gap_is_bridged_by_exposure() -> None:
    """The control's steps 15 and 16 are 1.94 and 4 times: neither at the longest exposure."""
    camera = Camera(exposure=103, gain=0)
    tuned, tape, share = tune(camera, light=1.18)
    assert tuned.gain == 16
    assert 190.0 <= tape <= 215.0
    assert share == 1.0


def test_light_of_today_is_the_light_of_before() -> None:
    assert brightness(Camera()) == 1.0
    steps = [gain_factor(gain) for gain in range(64)]
    assert steps == sorted(steps)
    assert steps[0] == 1.0
    assert steps[63] == 31.0
    bright, usual = (
        Renderer(Camera(), pixel_noise=0.0, light=light).render((0.0, 0.0, 0.4, 0.0)).max()
        for light in (0.5, 1.0)
    )
    assert bright == pytest.approx(usual / 2, abs=1)


def test_draws_what_was_found(tmp_path: Path) -> None:
    camera = Camera(threshold=200)
    draw_levels(look(camera, light=0.5, distractors=2)[0], camera, tmp_path / "levels.png")
    view = cv2.imread(str(tmp_path / "levels.png"))
    assert view is not None
    assert view.shape[1] > 900
    with pytest.raises(IdentificationError):
        draw_levels([], camera, tmp_path / "none.png")


def test_detections_of_nothing_are_no_obstacle() -> None:
    camera = Camera()
    nothing = Detection(0, 0, 0, DetectionStatus.NO_BLOB)
    pictures = [(picture, nothing) for picture, _ in look(camera)[0]]
    assert levels_from_pictures(pictures, camera).settings()["camera.exposure"] == 120
