"""The camera's geometry."""

import math

import pytest

from cartpole.config.schema import Camera
from cartpole.vision.geometry import CameraGeometry

TILTED = Camera(
    homography=(175.0, 8.0, 165.0, -5.0, -182.0, 118.0, 0.02, -0.03, 1.0), lens_k1=-0.12
)


@pytest.mark.parametrize("camera", [Camera(), TILTED, Camera(lens_k1=0.1)])
def test_unproject_inverts_project(camera: Camera) -> None:
    geometry = CameraGeometry.from_camera(camera)
    for x in (-0.7, -0.2, 0.0, 0.5):
        for y in (-0.5, 0.0, 0.4):
            back = geometry.unproject(*geometry.project(x, y))
            assert back == pytest.approx((x, y), abs=1e-9)


def test_radial_term_is_measured_in_focal_lengths_from_the_optical_centre() -> None:
    camera = Camera(lens_k1=-0.08, focal_px=200.0, centre_x_px=150.0, centre_y_px=100.0)
    geometry = CameraGeometry.from_camera(camera)
    # 180 px/m: x = 0.5 lies 100 px right of the optical centre (160 + 90 = 250), 20 px below it.
    x, y = geometry.project(0.5, 0.0)
    scale = 1.0 - 0.08 * (100.0**2 + 20.0**2) / 200.0**2
    assert (x, y) == pytest.approx((150.0 + 100.0 * scale, 100.0 + 20.0 * scale))


def test_up_in_the_rig_is_up_in_the_picture() -> None:
    geometry = CameraGeometry.from_camera(Camera())
    assert geometry.project(0.0, 0.3)[1] < geometry.project(0.0, -0.3)[1]
    assert geometry.scale_px_m() == pytest.approx(180.0, rel=0.01)


def test_a_flat_homography_is_refused() -> None:
    camera = Camera(homography=(1.0, 2.0, 0.0, 2.0, 4.0, 0.0, 0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="homography"):
        CameraGeometry.from_camera(camera)


def test_distortion_is_undone_far_outside_the_lens_models_range() -> None:
    geometry = CameraGeometry.from_camera(Camera(lens_k1=-0.5, focal_px=100.0))
    assert all(math.isfinite(value) for value in geometry.unproject(319.0, 239.0))
