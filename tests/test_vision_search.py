"""Another strip in the picture, as bright as the tape, and nothing known of where the pole is."""

import math

import cv2
import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, Detection, DetectionStatus
from cartpole.sim.render import Renderer
from cartpole.vision import slices
from cartpole.vision.swing import swing
from cartpole.vision.tracker import Tracker

T0 = NANOSECONDS


def beside_another(theta: float, centre: tuple[int, int], angle: float, half: int) -> Detection:
    """What is found beside a strip of twice ``half`` px there."""
    frame = Renderer(Camera(), seed=1).render((0.0, 0.0, theta, 0.0))
    strip = np.zeros_like(frame)
    reach = (round(half * math.cos(angle)), round(half * math.sin(angle)))
    first = (centre[0] - reach[0], centre[1] - reach[1])
    last = (centre[0] + reach[0], centre[1] + reach[1])
    cv2.line(strip, first, last, 180, 6, cv2.LINE_AA)
    return Tracker(Camera()).detect(np.maximum(frame, cv2.blur(strip, (2, 2))), T0, T0, 0)


@pytest.mark.parametrize(
    ("centre", "angle"), [((60, 166), 1.5), ((250, 164), 1.7), ((230, 74), 1.6)]
)
def test_a_shorter_strip_is_not_the_pole(centre: tuple[int, int], angle: float) -> None:
    found = beside_another(0.4, centre, angle, 25)
    assert found.status is DetectionStatus.OK
    assert abs(found.theta_rad - 0.4) < 1e-3


def test_a_pole_that_may_point_either_way_is_not_given_up_for_another_strip() -> None:
    """Level, its ends cannot be told apart; the other strip hangs where the pole could."""
    found = beside_another(math.pi / 2.0, (60, 166), math.pi / 2.0, 25)
    assert found.status is DetectionStatus.AMBIGUOUS


def searched(theta: float, omega: float, p: float = 0.0, above_m: float = 0.0) -> Detection:
    """What is found without a hint by a camera that was pushed since it was calibrated."""
    camera = Camera()
    scale, height = camera.homography[0], list(camera.homography)
    height[5] += above_m * scale
    seen = camera.model_copy(update={"homography": tuple(height)})
    frame = Renderer(seen, seed=1).render((p, 0.0, theta, omega))
    return Tracker(camera).detect(frame, T0, T0, 0)


@pytest.mark.parametrize("omega", [9.0, -9.0])
@pytest.mark.parametrize("theta", [0.5 * math.pi + 0.025, 0.5 * math.pi - 0.025])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_level_pole_that_turns_is_softer_at_its_far_end(
    side: float, theta: float, omega: float
) -> None:
    found = searched(side * theta, omega)
    late = (found.t_ns - T0) / NANOSECONDS
    assert found.status is DetectionStatus.OK
    assert abs(math.remainder(found.theta_rad - side * theta - omega * late, 2.0 * math.pi)) < 1e-3


@pytest.mark.parametrize("low", [0.025, -0.025])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_level_pole_at_rest_may_point_either_way(side: float, low: float) -> None:
    found = searched(side * (0.5 * math.pi - low), 0.0)
    assert found.status is DetectionStatus.AMBIGUOUS


@pytest.mark.parametrize("turned", [0.003, 0.0045, -0.003, -0.0045])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.75])
def test_pixels_make_one_end_softer_than_the_other(phase: float, turned: float) -> None:
    """Along them a strip at rest passes from one pixel to the next once."""
    scale, fine = 258.0, 8
    camera = Camera(
        tape_start_m=0.0,
        tape_width_m=8.0 / scale,
        homography=(scale, 0.0, 100.0, 0.0, -scale, 120.0, 0.0, 0.0, 1.0),
    )
    y, x = (np.mgrid[: 240 * fine, : 320 * fine] + 0.5) / fine - 0.5
    across = y - 120.0 - phase - (x - 160.0) * turned
    inside = (np.abs(across) < 4.0) & (x > 100.0) & (x < 100.0 + scale * camera.tape_end_m)
    light = cv2.resize(inside.astype(np.float64), (320, 240), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(1).normal(0.0, 3.0, light.shape)
    frame = np.rint(14.0 + 170.0 * cv2.GaussianBlur(light, (0, 0), 0.6) + noise)
    found = Tracker(camera).detect(frame.clip(0, 255).astype(np.uint8), T0, T0, 0)
    assert found.status is DetectionStatus.AMBIGUOUS


@pytest.mark.parametrize(
    ("place", "value"), [(slices.START_SEEN, 0.0), (slices.STOP_SEEN, 0.0), (slices.LIGHT, 250.0)]
)
def test_edges_of_a_part_or_of_light_cut_off_tell_no_end(place: int, value: float) -> None:
    frame = Renderer(Camera(), seed=1).render((0.0, 0.0, 0.5 * math.pi, 9.0))
    tracker = Tracker(Camera())
    tracker.detect(frame, T0, T0, 0)
    report, prior = tracker._report, tracker._prior
    scratch = np.zeros(3 * max(frame.shape))
    assert math.isfinite(swing(frame, report, prior, scratch)[1])
    report[place] = value
    assert not math.isfinite(swing(frame, report, prior, scratch)[1])


@pytest.mark.parametrize("above_m", [0.02, -0.02])
@pytest.mark.parametrize("low", [0.03, 0.045, 0.06, -0.03, -0.045, -0.06])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_pushed_camera_turns_no_pole_round(side: float, low: float, above_m: float) -> None:
    """The other end of a pole at rest may lie on the track as it seems to be, and nearer to its
    middle: that is not enough."""
    theta = side * (0.5 * math.pi - low)
    found = searched(theta, 0.0, p=-0.5 * side, above_m=above_m)
    wrong = abs(math.remainder(found.theta_rad - theta, 2.0 * math.pi)) > 0.5
    assert found.status is not DetectionStatus.OK or not wrong
