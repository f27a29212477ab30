"""Another strip in the picture, as bright as the tape, and nothing known of where the pole is."""

import math

import cv2
import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, Detection, DetectionStatus
from cartpole.sim.render import Renderer
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
