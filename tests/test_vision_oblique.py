"""What an oblique slice sees of a strip is not what a slice across it would: the pole turns while
it is exposed, and a tape may be wider at one end."""

import math

import cv2
import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, DetectionHint, DetectionStatus, FloatArray
from cartpole.sim.render import Renderer
from cartpole.vision.tracker import Tracker

T0 = NANOSECONDS
State = tuple[float, float, float, float]  # p, v, theta, omega
FINE = 6  # samples a pixel and axis


def mean_error(camera: Camera, frames: list[np.ndarray], state: State) -> float:
    """Of theta [rad], each picture seen by a tracker of its own."""
    errors = []
    for frame in frames:
        hint = DetectionHint(T0, *state, 0.003, 0.02)
        found = Tracker(camera).detect(frame, T0, T0, 0, hint)
        assert found.status is DetectionStatus.OK
        late_s = (found.t_ns - T0) / NANOSECONDS
        errors.append(found.theta_rad - state[2] - state[3] * late_s)
    return float(np.mean(errors))


@pytest.mark.parametrize("state", [(0.0, 0.0, 0.75, 14.0), (0.0, 0.5, -2.3, -14.0)])
def test_a_swing_while_it_is_exposed_turns_no_pole(state: State) -> None:
    """The tip sweeps over five pixels; uncorrected the angle is off by .23 mrad."""
    camera = Camera(exposure_s=0.005, readout_s=0.0)
    renderer = Renderer(camera, seed=3)
    frames = [renderer.render(state) for _ in range(25)]
    assert abs(mean_error(camera, frames, state)) < 1.3e-4


def tapered(camera: Camera, theta: float) -> FloatArray:
    """Share of each pixel that a tape covers whose half width grows by .02 a metre."""
    shape = (camera.height_px, camera.width_px)
    rows, columns = (np.mgrid[0 : FINE * shape[0], 0 : FINE * shape[1]] + 0.5) / FINE - 0.5
    scale, _, left, _, _, top = camera.homography[:6]
    x, y = (columns - left) / scale, -(rows - top) / scale
    across = x * math.cos(theta) + y * math.sin(theta)
    along = x * math.sin(theta) - y * math.cos(theta)
    middle = 0.5 * (camera.tape_start_m + camera.tape_end_m)
    half = 0.5 * camera.tape_width_m + 0.02 * (along - middle)
    tape = (np.abs(across) < half) & (along > camera.tape_start_m) & (along < camera.tape_end_m)
    covered: FloatArray = tape.reshape(shape[0], FINE, shape[1], FINE).mean(axis=(1, 3))
    return covered


@pytest.mark.parametrize("theta", [-0.8, 2.4])
def test_a_tape_that_widens_turns_no_pole(theta: float) -> None:
    """Uncorrected the angle is off by .36 mrad."""
    camera = Camera(lens_k1=0.0, readout_s=0.0)
    light = 15.0 + 170.0 * cv2.GaussianBlur(tapered(camera, theta), (0, 0), 0.7)
    rng = np.random.default_rng(1)
    frames = [
        np.clip(np.rint(light + rng.normal(0.0, 2.0, light.shape)), 0, 255).astype(np.uint8)
        for _ in range(8)
    ]
    assert abs(mean_error(camera, frames, (0.0, 0.0, theta, 0.0))) < 1.5e-4
