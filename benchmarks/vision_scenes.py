"""Reference pictures for the vision benchmark: brute force, and nothing shared with the simulator.

The light is drawn on a lattice twice as fine as the pixels: a cell is the mean of 2 lines across
the strip, exact in length, over 8 instants of the exposure, every line of the picture at its own
time; uneven light, reflections, the optics' Gaussian blur. Then the pixels' means (optics blur
before pixels integrate: blurred pixels would know where the lattice is, and a strip along it would
seem to move by steps), Gaussian noise and rounding. Slow (milliseconds) and exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from cartpole.config.schema import Camera

FINE = 2  # cells in a pixel, both ways
SUB = 2
INSTANTS = 8
SPAN = 65  # instants at which the motion during a picture is tabulated

Motion = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # times [s] -> p [m], theta [rad]


@njit(cache=True, nogil=True)
def _clip(low, high, value, slope):
    """The part of low <= x <= high where value + slope x <= 0."""
    if slope > 0.0:
        return low, min(high, -value / slope)
    if slope < 0.0:
        return max(low, -value / slope), high
    return low, (high if value <= 0.0 else low)


@njit(cache=True, nogil=True)
def _length(across, along, tape, holes):
    """How much of a line one pixel long lies on the tape; ``across`` and ``along`` (2,) are its
    middle's coordinates and their change along it."""
    narrowing = 0.5 * tape[2] * tape[3] / (tape[1] - tape[0])
    half = 0.5 * tape[2] + narrowing * (along[0] - tape[0])
    low, high = _clip(-0.5, 0.5, across[0] - half, across[1] - narrowing * along[1])
    low, high = _clip(low, high, -across[0] - half, -across[1] - narrowing * along[1])
    low, high = _clip(low, high, tape[0] - along[0], -along[1])
    low, high = _clip(low, high, along[0] - tape[1], along[1])
    length = max(0.0, high - low)
    for hole in range(holes.shape[0]):
        first, last = _clip(low, high, holes[hole, 0] - along[0], -along[1])
        first, last = _clip(first, last, along[0] - holes[hole, 1], along[1])
        length -= max(0.0, last - first)
    return length


@njit(cache=True, nogil=True)
def _cover(xs, ys, table, box, tape, holes, shutter, out):
    """Mean coverage of every cell of the box by the tape, ``holes`` (n, 2) along it left out."""
    top, bottom, left, right = box
    rows, columns = xs.shape
    first, step = shutter[2], shutter[3]
    poses = np.empty((INSTANTS, 3))
    for row in range(top, bottom + 1):
        line = shutter[0] * ((row // FINE) / (rows // FINE - 1.0) - 0.5)
        for k in range(INSTANTS):
            t = line + shutter[1] * ((k + 0.5) / INSTANTS - 0.5)
            at = (t - first) / step
            i = min(max(int(at), 0), table.shape[0] - 2)
            s = at - i
            theta = (1.0 - s) * table[i, 1] + s * table[i + 1, 1]
            poses[k, 0] = (1.0 - s) * table[i, 0] + s * table[i + 1, 0]
            poses[k, 1], poses[k, 2] = math.sin(theta), math.cos(theta)
        moved = abs(poses[-1, 0] - poses[0, 0])
        moved += tape[1] * math.hypot(poses[-1, 1] - poses[0, 1], poses[-1, 2] - poses[0, 2])
        middle = poses[INSTANTS // 2]
        for column in range(left, right + 1):
            r, c = min(max(row, 1), rows - 2), min(max(column, 1), columns - 2)
            x, y = xs[row, column], ys[row, column]
            xc, yc = 0.5 * (xs[r, c + 1] - xs[r, c - 1]), 0.5 * (ys[r, c + 1] - ys[r, c - 1])
            xr, yr = 0.5 * (xs[r + 1, c] - xs[r - 1, c]), 0.5 * (ys[r + 1, c] - ys[r - 1, c])
            reach = tape[2] + moved + 2.0 * (abs(xc) + abs(yc))
            if abs((x - middle[0]) * middle[2] + y * middle[1]) > reach:
                continue
            # Lines across the strip, exact in length; the other way a few of them.
            flat = abs(xr * middle[2] + yr * middle[1]) > abs(xc * middle[2] + yc * middle[1])
            if flat:
                xc, yc, xr, yr = xr, yr, xc, yc
            total = 0.0
            for k in range(INSTANTS):
                p, sine, cosine = poses[k]
                ac, lc = xc * cosine + yc * sine, xc * sine - yc * cosine
                for j in range(SUB):
                    off = (j + 0.5) / SUB - 0.5
                    u, v = x + off * xr - p, y + off * yr
                    across, along = u * cosine + v * sine, u * sine - v * cosine
                    total += _length((across, ac), (along, lc), tape, holes)
            out[row, column] = total / (SUB * INSTANTS)


@dataclass(frozen=True)
class Look:
    """What the picture looks like apart from the pole."""

    tape_dn: float = 190.0
    ground_dn: float = 14.0
    noise_dn: float = 3.0
    blur_px: float = 0.6
    fall_off: float = 0.2  # light lost across the picture


@dataclass(frozen=True)
class Tape:
    """What the tape itself is like beside its settings."""

    holes_m: tuple[tuple[float, float], ...] = ()  # parts that are missing, from the pivot
    taper: float = 0.0  # width at the far end over that at the near one, less 1
    pivot_y_m: float = 0.0  # the pivot beside the track
    light: float = 1.0  # of the tape
    ground_dn: float = 0.0  # on top of the ground


def _fine(pixels: np.ndarray) -> np.ndarray:
    """The same on the lattice of cells."""
    return pixels.repeat(FINE, 0).repeat(FINE, 1)


class ReferenceCamera:
    """Draws pictures with a camera's settings; distortion is inverted by fixed-point iteration."""

    def __init__(self, camera: Camera, look: Look | None = None) -> None:
        self.camera, self.look = camera, look or Look()
        height, width = camera.height_px, camera.width_px
        cells = np.mgrid[0 : FINE * height, 0 : FINE * width].astype(np.float64)
        rows, columns = (cells + 0.5) / FINE - 0.5
        u, v = columns - camera.centre_x_px, rows - camera.centre_y_px
        a, b = u.copy(), v.copy()
        for _ in range(20 if camera.lens_k1 else 0):
            scale = 1.0 + camera.lens_k1 * (a * a + b * b) / camera.focal_px**2
            a, b = u / scale, v / scale
        inverse = np.linalg.inv(np.array(camera.homography).reshape(3, 3))
        points = np.stack([a + camera.centre_x_px, b + camera.centre_y_px, np.ones_like(a)])
        x, y, w = np.tensordot(inverse, points, axes=1)
        self._xs, self._ys = x / w, y / w
        across = np.linspace(0.0, 1.0, FINE * width)[None, :]
        down = np.linspace(0.0, 1.0, FINE * height)[:, None]
        self._light = 1.0 - self.look.fall_off * (0.6 * across + 0.4 * down)

    def _box(self, p: np.ndarray, theta: np.ndarray) -> tuple[int, int, int, int]:
        """Rows and columns of cells the tape can touch; generous, the lens bends little."""
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
            FINE * max(0, int(rows.min()) - margin),
            FINE * min(camera.height_px, int(rows.max()) + margin) - 1,
            FINE * max(0, int(columns.min()) - margin),
            FINE * min(camera.width_px, int(columns.max()) + margin) - 1,
        )

    def clean(
        self,
        motion: Motion,
        tape: Tape = Tape(),
        shade: np.ndarray | None = None,
        reflections: np.ndarray | None = None,
    ) -> np.ndarray:
        """The light of a picture (height, width), without noise; ``motion`` takes times from the
        middle line's mid-exposure, ``shade`` (height, width) is what covers the tape (1: wholly),
        ``reflections`` (height, width) are grey levels laid over it."""
        camera, look = self.camera, self.look
        half = 0.5 * (camera.readout_s + camera.exposure_s) + 1e-6
        times = np.linspace(-half, half, SPAN)
        p, theta = motion(times)
        cover = np.zeros(self._xs.shape)
        box = self._box(p, theta)
        strip = np.array([camera.tape_start_m, camera.tape_end_m, camera.tape_width_m, tape.taper])
        holes = np.array(tape.holes_m, dtype=np.float64).reshape(-1, 2)
        shutter = np.array([camera.readout_s, camera.exposure_s, -half, times[1] - times[0]])
        table = np.ascontiguousarray(np.stack([p, theta], axis=1))
        ys = self._ys - tape.pivot_y_m if tape.pivot_y_m else self._ys
        _cover(self._xs, ys, table, box, strip, holes, shutter, cover)
        if shade is not None:
            cover *= 1.0 - _fine(shade)
        level = (look.tape_dn - look.ground_dn) * tape.light
        picture = look.ground_dn + tape.ground_dn + cover * level * self._light
        if reflections is not None:
            picture = np.maximum(picture, _fine(reflections))
        picture = cv2.GaussianBlur(picture, (0, 0), FINE * look.blur_px)
        return picture.reshape(camera.height_px, FINE, camera.width_px, FINE).mean((1, 3))

    def expose(self, light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A picture (height, width) uint8 of that light, with noise."""
        noise = self.look.noise_dn * rng.standard_normal(light.shape, np.float32)
        return np.clip(np.rint(light + noise), 0, 255).astype(np.uint8)

    def draw(
        self, motion: Motion, rng: np.random.Generator, reflections: np.ndarray | None = None
    ) -> np.ndarray:
        """A picture (height, width) uint8 of the whole tape."""
        return self.expose(self.clean(motion, reflections=reflections), rng)


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
