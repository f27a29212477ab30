"""Reference pictures for the vision benchmark: brute force, and nothing shared with the simulator.

Every pixel is the mean of 4 x 4 points, each either on the tape or not, over 8 instants of the
exposure, every line at its own time; the points move a little from instant to instant, so that an
upright edge is placed to 1/128 of a pixel; then the optics' Gaussian blur, uneven light,
reflections, Gaussian noise and rounding. Slow (milliseconds) and exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from cartpole.config.schema import Camera

SUB = 4
INSTANTS = 8
SPAN = 65  # instants at which the motion during a picture is tabulated

Motion = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # times [s] -> p [m], theta [rad]


@njit(cache=True, nogil=True)
def _cover(xs, ys, table, box, tape, shutter, rows, out):
    """Mean coverage of every pixel of the box by the tape."""
    top, bottom, left, right = box
    first, step = shutter[2], shutter[3]
    for row in range(top, bottom + 1):
        line = shutter[0] * (row / (rows - 1.0) - 0.5)
        for k in range(INSTANTS):
            t = line + shutter[1] * ((k + 0.5) / INSTANTS - 0.5)
            at = (t - first) / step
            i = min(max(int(at), 0), table.shape[0] - 2)
            s = at - i
            p = (1.0 - s) * table[i, 0] + s * table[i + 1, 0]
            theta = (1.0 - s) * table[i, 1] + s * table[i + 1, 1]
            sine, cosine = math.sin(theta), math.cos(theta)
            for r in range(SUB * row, SUB * row + SUB):
                right_shift = (SUB * k + r % SUB + 0.5) / (SUB * INSTANTS) - 0.5
                for c in range(SUB * left, SUB * right + SUB):
                    down_shift = (SUB * k + c % SUB + 0.5) / (SUB * INSTANTS) - 0.5
                    # The point's place, moved by parts of a quarter pixel.
                    c1, r1 = min(c, xs.shape[1] - 2), min(r, xs.shape[0] - 2)
                    x = xs[r, c] + right_shift * (xs[r, c1 + 1] - xs[r, c1]) - p
                    x += down_shift * (xs[r1 + 1, c] - xs[r1, c])
                    y = ys[r, c] + right_shift * (ys[r, c1 + 1] - ys[r, c1])
                    y += down_shift * (ys[r1 + 1, c] - ys[r1, c])
                    along = x * sine - y * cosine
                    across = x * cosine + y * sine
                    if tape[0] <= along <= tape[1] and abs(across) <= 0.5 * tape[2]:
                        out[row, c // SUB] += 1.0 / (SUB * SUB * INSTANTS)


@dataclass(frozen=True)
class Look:
    """What the picture looks like apart from the pole."""

    tape_dn: float = 190.0
    ground_dn: float = 14.0
    noise_dn: float = 3.0
    blur_px: float = 0.6
    fall_off: float = 0.2  # light lost across the picture


class ReferenceCamera:
    """Draws pictures with a camera's settings; distortion is inverted by fixed-point iteration."""

    def __init__(self, camera: Camera, look: Look | None = None) -> None:
        self.camera, self.look = camera, look or Look()
        height, width = camera.height_px, camera.width_px
        rows, columns = np.mgrid[0 : SUB * height, 0 : SUB * width]
        u = (columns + 0.5) / SUB - 0.5 - camera.centre_x_px
        v = (rows + 0.5) / SUB - 0.5 - camera.centre_y_px
        a, b = u.copy(), v.copy()
        for _ in range(20 if camera.lens_k1 else 0):
            scale = 1.0 + camera.lens_k1 * (a * a + b * b) / camera.focal_px**2
            a, b = u / scale, v / scale
        inverse = np.linalg.inv(np.array(camera.homography).reshape(3, 3))
        points = np.stack([a + camera.centre_x_px, b + camera.centre_y_px, np.ones_like(a)])
        x, y, w = np.tensordot(inverse, points, axes=1)
        self._xs, self._ys = x / w, y / w
        across = np.linspace(0.0, 1.0, width)[None, :]
        down = np.linspace(0.0, 1.0, height)[:, None]
        self._light = 1.0 - self.look.fall_off * (0.6 * across + 0.4 * down)

    def _box(self, p: np.ndarray, theta: np.ndarray) -> tuple[int, int, int, int]:
        """Rows and columns the tape can touch; generous, the lens bends little."""
        camera = self.camera
        h = np.array(camera.homography).reshape(3, 3)
        ends = []
        for distance in (camera.tape_start_m, camera.tape_end_m):
            x, y = p + distance * np.sin(theta), -distance * np.cos(theta)
            u, v, w = h @ np.stack([x, y, np.ones_like(x)])
            u, v = u / w - camera.centre_x_px, v / w - camera.centre_y_px
            scale = 1.0 + camera.lens_k1 * (u * u + v * v) / camera.focal_px**2
            ends.append((u * scale + camera.centre_x_px, v * scale + camera.centre_y_px))
        columns, rows = np.array(ends).transpose(1, 0, 2).reshape(2, -1)
        margin = 12
        return (
            max(0, int(rows.min()) - margin),
            min(camera.height_px - 1, int(rows.max()) + margin),
            max(0, int(columns.min()) - margin),
            min(camera.width_px - 1, int(columns.max()) + margin),
        )

    def draw(
        self, motion: Motion, rng: np.random.Generator, reflections: np.ndarray | None = None
    ) -> np.ndarray:
        """A picture (height, width) uint8; ``motion`` takes times from the middle line's
        mid-exposure; ``reflections`` (height, width) are grey levels laid over it."""
        camera, look = self.camera, self.look
        half = 0.5 * (camera.readout_s + camera.exposure_s) + 1e-6
        times = np.linspace(-half, half, SPAN)
        p, theta = motion(times)
        cover = np.zeros((camera.height_px, camera.width_px))
        box = self._box(p, theta)
        tape = np.array([camera.tape_start_m, camera.tape_end_m, camera.tape_width_m])
        shutter = np.array([camera.readout_s, camera.exposure_s, -half, times[1] - times[0]])
        table = np.ascontiguousarray(np.stack([p, theta], axis=1))
        _cover(self._xs, self._ys, table, box, tape, shutter, camera.height_px, cover)
        picture = look.ground_dn + cover * (look.tape_dn - look.ground_dn) * self._light
        if reflections is not None:
            picture = np.maximum(picture, reflections)
        picture = cv2.GaussianBlur(picture, (0, 0), look.blur_px)
        picture += look.noise_dn * rng.standard_normal(picture.shape, np.float32)
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def random_reflections(
    shape: tuple[int, int], rng: np.random.Generator, count: int, largest_px: float = 22.0
) -> np.ndarray:
    """Bright ellipses anywhere, many of them larger in area than the strip."""
    picture = np.zeros(shape, np.uint8)
    for _ in range(count):
        centre = (int(rng.uniform(0, shape[1])), int(rng.uniform(0, shape[0])))
        radius = rng.uniform(4.0, largest_px)
        axes = (int(radius), int(radius * rng.uniform(0.6, 1.0)))
        level = int(rng.uniform(110, 255))
        cv2.ellipse(picture, centre, axes, rng.uniform(0, 180), 0, 360, level, -1, cv2.LINE_AA)
    return picture.astype(np.float64)


def steady_motion(p: float, v: float, theta: float, omega: float) -> Motion:
    """Constant rates."""
    return lambda t: (p + v * t, theta + omega * t)
