"""Between the rig's plane and the picture.

A point (x, y) of the rig's plane [m] (x right, y up, the pivot's track on y = 0) goes through the
homography to undistorted pixels, then through the radial term: with r the distance from the optical
centre in units of the focal length, ``distorted = centre + (undistorted - centre) (1 + k1 r^2)``.
Pixel coordinates are (column, row) with pixel centres on whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from cartpole.config.schema import Camera
from cartpole.messages import FloatArray

# Layout of the vector that kernels take: centre, focal length, k1, then rig plane -> undistorted
# pixels and its inverse, row by row.
CX, CY, FOCAL, K1 = range(4)
TO_PIXEL = 4
TO_RIG = 13
VECTOR_SIZE = 22


@njit(cache=True, nogil=True)
def distort(x: float, y: float, g: FloatArray) -> tuple[float, float]:
    """Where the lens puts an undistorted pixel (x, y)."""
    dx, dy = x - g[CX], y - g[CY]
    scale = 1.0 + g[K1] * (dx * dx + dy * dy) / (g[FOCAL] * g[FOCAL])
    return g[CX] + dx * scale, g[CY] + dy * scale


@njit(cache=True, nogil=True)
def undistort(x: float, y: float, g: FloatArray) -> tuple[float, float]:
    """Inverse of :func:`distort` by Newton's method on the radius; beyond the lens model's own
    turning point the result is its nearest value."""
    dx, dy = x - g[CX], y - g[CY]
    target = math.sqrt(dx * dx + dy * dy) / g[FOCAL]
    if target == 0.0 or g[K1] == 0.0:
        return x, y
    r = target
    for _ in range(4):
        slope = max(0.1, 1.0 + 3.0 * g[K1] * r * r)
        r -= (r + g[K1] * r * r * r - target) / slope
    scale = r / target
    return g[CX] + dx * scale, g[CY] + dy * scale


@njit(cache=True, nogil=True)
def _apply(x: float, y: float, g: FloatArray, at: int) -> tuple[float, float]:
    w = g[at + 6] * x + g[at + 7] * y + g[at + 8]
    return (
        (g[at] * x + g[at + 1] * y + g[at + 2]) / w,
        (g[at + 3] * x + g[at + 4] * y + g[at + 5]) / w,
    )


@njit(cache=True, nogil=True)
def project(x: float, y: float, g: FloatArray) -> tuple[float, float]:
    """Rig plane [m] to picture [px]."""
    u, v = _apply(x, y, g, TO_PIXEL)
    return distort(u, v, g)


@njit(cache=True, nogil=True)
def unproject(x: float, y: float, g: FloatArray) -> tuple[float, float]:
    """Picture [px] to rig plane [m]."""
    u, v = undistort(x, y, g)
    return _apply(u, v, g, TO_RIG)


@njit(cache=True, nogil=True)
def unproject_grid(height: int, width: int, g: FloatArray, xs: FloatArray, ys: FloatArray) -> None:
    """Rig-plane position of every pixel centre, into xs and ys of shape (height, width)."""
    for row in range(height):
        for column in range(width):
            xs[row, column], ys[row, column] = unproject(float(column), float(row), g)


@dataclass(frozen=True, slots=True)
class CameraGeometry:
    """A camera's geometry; ``vector`` (VECTOR_SIZE,) is what the compiled helpers take."""

    width_px: int
    height_px: int
    vector: FloatArray

    @classmethod
    def from_camera(cls, camera: Camera) -> CameraGeometry:
        """From the settings.

        Raises:
            ValueError: the homography cannot be inverted.
        """
        homography = np.array(camera.homography, dtype=np.float64).reshape(3, 3)
        if abs(np.linalg.det(homography)) < 1e-9:
            raise ValueError("camera.homography cannot be inverted")
        vector = np.empty(VECTOR_SIZE)
        vector[CX], vector[CY] = camera.centre_x_px, camera.centre_y_px
        vector[FOCAL], vector[K1] = camera.focal_px, camera.lens_k1
        vector[TO_PIXEL : TO_PIXEL + 9] = homography.ravel()
        vector[TO_RIG : TO_RIG + 9] = np.linalg.inv(homography).ravel()
        return cls(camera.width_px, camera.height_px, vector)

    def project(self, x_m: float, y_m: float) -> tuple[float, float]:
        """Rig plane [m] to picture (column, row) [px]."""
        x, y = project(float(x_m), float(y_m), self.vector)
        return float(x), float(y)

    def unproject(self, x_px: float, y_px: float) -> tuple[float, float]:
        """Picture (column, row) [px] to rig plane [m]."""
        x, y = unproject(float(x_px), float(y_px), self.vector)
        return float(x), float(y)

    def scale_px_m(self) -> float:
        """Pixels per metre about the middle of the track."""
        x0, y0 = self.project(-0.05, -0.05)
        x1, y1 = self.project(0.05, 0.05)
        return math.hypot(x1 - x0, y1 - y0) / (0.1 * math.sqrt(2.0))
