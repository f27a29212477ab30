"""What the camera of a simulated rig sees: infrared pictures of a bright strip on a dark ground.

The strip is drawn in closed form: its soft-edged profile is averaged over the exposure by
differences of the profile's integral, every line at its own time (rolling shutter), every pixel
looked up in the rig's plane through the inverse of the lens. Noise is one tile of Gaussian noise,
laid at a random offset under every frame. The same seed and the same calls give the same pictures.

All levels go with light, exposure and gain, the noise with gain alone; the levels below are those
of the default settings. Black is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.config.schema import Camera
from cartpole.messages import FloatArray
from cartpole.vision.exposure import brightness, gain_factor
from cartpole.vision.geometry import CameraGeometry, project, unproject_grid

GROUND_DN = 12.0  # dark ground in the middle of the picture
TAPE_DN = 205.0
VIGNETTE = 0.25  # loss of light from the middle to the corners
SOFT_EDGE_PX = 1.1  # half width of the lens's and the pixel's blur, a triangle
MAX_SWEEP_STEPS = 9

_UInt8 = npt.NDArray[np.uint8]
_Int16 = npt.NDArray[np.int16]


@njit(cache=True, nogil=True, inline="always")
def _soft_integral(x: float) -> float:
    """Second integral of a triangle of half width 1 and area 1: a ramp with a rounded foot."""
    if x <= -1.0:
        return 0.0
    if x >= 1.0:
        return x
    if x < 0.0:
        return (1.0 + x) ** 3 / 6.0
    return x + (1.0 - x) ** 3 / 6.0


@njit(cache=True, nogil=True, inline="always")
def _soft_step(x: float) -> float:
    """Integral of that triangle: 0 below -1, 1 above 1."""
    if x <= -1.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x < 0.0:
        return 0.5 * (1.0 + x) * (1.0 + x)
    return 1.0 - 0.5 * (1.0 - x) * (1.0 - x)


@njit(cache=True, nogil=True, inline="always")
def _smeared_step(x: float, smear: float) -> float:
    """Soft step averaged over a motion from x - smear/2 to x + smear/2."""
    if smear < 1e-3:
        return _soft_step(x)
    return (_soft_integral(x + 0.5 * smear) - _soft_integral(x - 0.5 * smear)) / smear


@njit(cache=True, nogil=True)
def _ground(base: _Int16, tile: _Int16, row0: int, column0: int, out: _UInt8) -> None:
    height, width = out.shape
    low, high = np.int16(0), np.int16(255)
    for row in range(height):
        ground, noise, line = base[row], tile[row0 + row, column0 : column0 + width], out[row]
        for column in range(width):
            level = np.int16(ground[column] + noise[column])
            line[column] = np.uint8(min(max(level, low), high))


@njit(cache=True, nogil=True)
def _box(
    state: FloatArray, tape: FloatArray, g: FloatArray, time: float, height: int, width: int
) -> tuple[int, int, int, int]:
    """First and last row and column that the strip can touch within ``time`` of the middle line."""
    left, right, top, bottom = 1e9, -1e9, 1e9, -1e9
    for step in range(MAX_SWEEP_STEPS):
        t = time * (step - MAX_SWEEP_STEPS // 2) / (MAX_SWEEP_STEPS // 2)
        angle = state[2] + state[3] * t + 0.5 * state[4] * t * t
        for end in range(2):
            x = state[0] + state[1] * t + tape[end] * math.sin(angle)
            u, v = project(x, -tape[end] * math.cos(angle), g)
            left, right = min(left, u), max(right, u)
            top, bottom = min(top, v), max(bottom, v)
    # Half the strip's width, the blur, and the sag of its image through the lens.
    margin = 0.5 * tape[2] * tape[3] + SOFT_EDGE_PX + 4.0
    return (
        max(0, int(top - margin)),
        min(height - 1, int(bottom + margin) + 1),
        max(0, int(left - margin)),
        min(width - 1, int(right + margin) + 1),
    )


@njit(cache=True, nogil=True)
def _strip(
    state: FloatArray,
    tape: FloatArray,
    g: FloatArray,
    shutter: FloatArray,
    light: FloatArray,
    base: FloatArray,
    xs: FloatArray,
    ys: FloatArray,
    tile: _Int16,
    row0: int,
    column0: int,
    out: _UInt8,
) -> None:
    """Draw the strip over the ground.

    state (5,): p, v, theta, omega, alpha at mid-exposure of the middle line; tape (4,): start,
    end, width [m], pixels per metre; shutter (2,): readout, exposure [s]; light (H, W): the
    strip's brightness.
    """
    height, width = out.shape
    readout, exposure = shutter[0], shutter[1]
    top, bottom, left, right = _box(state, tape, g, 0.5 * (readout + exposure), height, width)
    per_m = tape[3] / SOFT_EDGE_PX  # metres to units of the soft edge
    half = 0.5 * tape[2] * per_m
    start, end = tape[0] * per_m, tape[1] * per_m
    for row in range(top, bottom + 1):
        t = readout * (row / max(1, height - 1) - 0.5)
        angle = state[2] + state[3] * t + 0.5 * state[4] * t * t
        rate = state[3] + state[4] * t
        pivot = state[0] + state[1] * t
        sine, cosine = math.sin(angle), math.cos(angle)
        for column in range(left, right + 1):
            x, y = (xs[row, column] - pivot) * per_m, ys[row, column] * per_m
            across = x * cosine + y * sine
            along = x * sine - y * cosine
            smear = abs(rate * along + state[1] * cosine * per_m) * exposure
            if abs(across) > half + 1.0 + 0.5 * smear or along < start - 1.5 or along > end + 1.5:
                continue
            cover = _smeared_step(across + half, smear) - _smeared_step(across - half, smear)
            cover *= _soft_step(along - start) - _soft_step(along - end)
            ground = base[row, column]
            level = max(ground, ground + cover * (light[row, column] - ground))
            level += tile[row0 + row, column0 + column]
            out[row, column] = np.uint8(min(max(level + 0.5, 0.0), 255.0))


class Renderer:
    """Pictures of a rig with these (true) camera settings.

    Args:
        camera: true optics, shutter and tape; what the tracker believes may differ.
        seed: of the noise and of where the reflections stand.
        pixel_noise: standard deviation, grey levels.
        distractors: bright round reflections, standing still in the picture.
        light: the ring light's, 1 is usual.
    """

    def __init__(
        self,
        camera: Camera,
        seed: int = 0,
        pixel_noise: float = 3.0,
        distractors: int = 0,
        light: float = 1.0,
    ) -> None:
        self._geometry = CameraGeometry.from_camera(camera)
        self._random = np.random.default_rng(seed)
        height, width = camera.height_px, camera.width_px
        self.shape = (height, width)
        scale = self._geometry.scale_px_m()
        self._tape = np.array([camera.tape_start_m, camera.tape_end_m, camera.tape_width_m, scale])
        self._shutter = np.array([camera.readout_s, camera.exposure_s])
        self._xs, self._ys = np.empty(self.shape), np.empty(self.shape)
        unproject_grid(height, width, self._geometry.vector, self._xs, self._ys)
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
        reach = np.hypot(rows - height / 2, columns - width / 2) / math.hypot(height / 2, width / 2)
        falloff = 1.0 - VIGNETTE * reach**2
        bright = light * brightness(camera)
        self._light = TAPE_DN * falloff * bright
        self._base = GROUND_DN * falloff * bright
        self._add_distractors(distractors, rows, columns, bright)
        self._ground = np.rint(np.minimum(self._base, 9999.0)).astype(np.int16)
        amplified = gain_factor(camera.gain) / gain_factor(Camera().gain)
        tile = self._random.normal(0.0, 1.0, (height + 97, width + 131)) * pixel_noise * amplified
        self._tile = np.rint(tile).astype(np.int16)

    def _add_distractors(
        self, count: int, rows: FloatArray, columns: FloatArray, bright: float
    ) -> None:
        height, width = self.shape
        for _ in range(count):
            row = self._random.uniform(0.05, 0.95) * height
            column = self._random.uniform(0.05, 0.95) * width
            radius = self._random.uniform(3.0, 8.0)
            level = self._random.uniform(120.0, 255.0) * bright
            distance = np.hypot(rows - row, columns - column)
            cover = np.clip((radius + 1.0 - distance) / 2.0, 0.0, 1.0)
            self._base = np.maximum(self._base, cover * level)

    def render(
        self, state: Sequence[float] | FloatArray, alpha: float = 0.0, out: _UInt8 | None = None
    ) -> _UInt8:
        """The picture, (height, width) uint8.

        Args:
            state: p, v, theta, omega at mid-exposure of the middle line (more is ignored).
            alpha: angular acceleration of the pole [rad/s^2].
            out: written and returned if given (any strides).
        """
        picture = np.empty(self.shape, np.uint8) if out is None else out
        full = np.array([state[0], state[1], state[2], state[3], alpha], dtype=np.float64)
        row0, column0 = int(self._random.integers(97)), int(self._random.integers(131))
        _ground(self._ground, self._tile, row0, column0, picture)
        _strip(
            full,
            self._tape,
            self._geometry.vector,
            self._shutter,
            self._light,
            self._base,
            self._xs,
            self._ys,
            self._tile,
            row0,
            column0,
            picture,
        )
        return picture
