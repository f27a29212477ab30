"""The simulator's pictures against brute force."""

import math

import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.sim.render import GROUND_DN, TAPE_DN, Renderer


def brute_force(camera: Camera, state: tuple[float, ...], alpha: float) -> np.ndarray:
    """Share of light (0 to 1) of every pixel: 3 x 3 points, 16 instants; no lens."""
    p, v, theta, omega = state
    h = camera.homography
    rows, columns = np.mgrid[0 : camera.height_px, 0 : camera.width_px].astype(float)
    delay = camera.readout_s * (rows / (camera.height_px - 1) - 0.5)
    share = np.zeros_like(rows)
    for dy in (-1 / 3, 0.0, 1 / 3):
        for dx in (-1 / 3, 0.0, 1 / 3):
            x = (columns + dx - h[2]) / h[0]
            y = (rows + dy - h[5]) / h[4]
            for k in range(16):
                t = delay + camera.exposure_s * ((k + 0.5) / 16 - 0.5)
                angle = theta + omega * t + 0.5 * alpha * t * t
                along = (x - p - v * t) * np.sin(angle) - y * np.cos(angle)
                across = (x - p - v * t) * np.cos(angle) + y * np.sin(angle)
                inside = (along > camera.tape_start_m) & (along < camera.tape_end_m)
                share += (inside & (np.abs(across) < camera.tape_width_m / 2)) / (9.0 * 16.0)
    return np.asarray(share)


@pytest.mark.parametrize(
    ("state", "alpha"),
    [
        ((0.1, 0.8, 2.5, 15.0), 40.0),
        ((0.0, 0.0, 0.3, 0.0), 0.0),
        ((-0.2, -1.0, math.pi / 2, -18.0), -50.0),
    ],
)
def test_light_lies_where_brute_force_puts_it(state: tuple[float, ...], alpha: float) -> None:
    camera = Camera(lens_k1=0.0)
    picture = Renderer(camera, pixel_noise=0.0).render(state, alpha).astype(float)
    share = brute_force(camera, state, alpha)
    light = np.maximum(0.0, picture - GROUND_DN - 1.0)
    rows, columns = np.mgrid[0:240, 0:320]
    for axis in (rows, columns):
        seen = np.sum(axis * light) / np.sum(light)
        expected = np.sum(axis * share) / np.sum(share)
        # The corners are darker, which moves the centre a little.
        assert seen == pytest.approx(expected, abs=1.0)
    inside = share > 0.999
    assert np.mean(picture[inside]) == pytest.approx(TAPE_DN, rel=0.2)
    assert np.max(picture[share == 0.0]) < 0.6 * TAPE_DN


def test_same_seed_same_pictures_other_seed_others() -> None:
    state = (0.0, 0.0, 1.0, 2.0)
    first, again, other = (Renderer(Camera(), seed) for seed in (3, 3, 4))
    for _ in range(3):
        picture = first.render(state)
        assert np.array_equal(picture, again.render(state))
        assert not np.array_equal(picture, other.render(state))


def test_noise_has_the_deviation_asked_for() -> None:
    renderer = Renderer(Camera(), seed=1, pixel_noise=5.0)
    difference = renderer.render((0.0,) * 4).astype(float) - renderer.render((0.0,) * 4)
    assert np.std(difference[5:60]) == pytest.approx(5.0 * math.sqrt(2.0), rel=0.1)


def test_out_is_written_also_as_a_strided_view() -> None:
    buffer = np.zeros((240, 640), np.uint8)
    renderer = Renderer(Camera(), seed=2)
    picture = renderer.render((0.0, 0.0, 0.5, 0.0), out=buffer[:, ::2])
    assert picture.max() > 150
    assert np.array_equal(buffer[:, ::2], picture)
    assert not buffer[:, 1::2].any()


def test_a_pole_out_of_the_picture_leaves_the_ground() -> None:
    assert Renderer(Camera(), pixel_noise=0.0).render((5.0, 0.0, 0.0, 0.0)).max() < 20


def test_reflections_stand_still_and_are_bright() -> None:
    renderer = Renderer(Camera(), seed=5, pixel_noise=0.0, distractors=3)
    here, there = renderer.render((5.0, 0, 0, 0)), renderer.render((-5.0, 0, 0, 0))
    assert np.array_equal(here, there)
    assert here.max() > 100
