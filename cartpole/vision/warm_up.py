"""Compile or load the tracker's kernels before the first real picture."""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np

from cartpole.config.schema import Camera
from cartpole.messages import Detection, DetectionHint
from cartpole.vision.frame import Pixels
from cartpole.vision.geometry import CameraGeometry


class FrameTracker(Protocol):
    """What the camera process needs of ``cartpole.vision.tracker.Tracker``."""

    def detect(
        self,
        frame: Pixels,
        t_ns: int,
        arrival_ns: int,
        sequence: int,
        hint: DetectionHint | None,
    ) -> Detection:
        """Measure the pole in one picture."""

    def set_threshold(self, threshold: int) -> None:
        """Change the grey level between ground and tape."""

    def reset(self) -> None:
        """Forget the pictures seen so far."""


def warm_up(tracker: FrameTracker, camera: Camera) -> None:
    """Take ``tracker`` through every way of measuring, on pictures laid out like the camera's.

    A steep and a level pole, found without help, expected, and lost again.
    """
    period_ns = round(1e9 / camera.rate_hz)
    t_ns = 0
    for theta_rad in (0.2, math.pi / 2 - 0.2):
        picture = drawn_pole(camera, theta_rad)
        hint = DetectionHint(t_ns, 0.0, 0.0, theta_rad, 0.0, 0.005, 0.02)
        for guess in (None, None, hint):
            t_ns += period_ns
            tracker.detect(picture, t_ns, t_ns, 0, guess)
        tracker.reset()
        tracker.detect(np.zeros_like(picture, subok=False), t_ns, t_ns, 0, hint)
        tracker.reset()


def drawn_pole(camera: Camera, theta_rad: float) -> Pixels:
    """A plain picture (height, width) of the pole at the middle of the track, in memory like the
    camera's own: every second byte of a buffer for YUYV from a driver."""
    strided = camera.source == "v4l2" and camera.pixel_format == "YUYV"
    step = 2 if strided else 1
    buffer = np.full((camera.height_px, camera.width_px * step), 10, np.uint8)
    picture = buffer[:, ::step]
    geometry = CameraGeometry.from_camera(camera)
    sine, cosine = math.sin(theta_rad), -math.cos(theta_rad)
    ends = [
        geometry.project(distance * sine, distance * cosine)
        for distance in (camera.tape_start_m, camera.tape_end_m)
    ]
    (x0, y0), (x1, y1) = ends
    length, half = math.hypot(x1 - x0, y1 - y0), 0.5 * camera.tape_width_m * geometry.scale_px_m()
    x, y = (x1 - x0) / length, (y1 - y0) / length
    row, column = np.mgrid[: camera.height_px, : camera.width_px]
    along = (column - x0) * x + (row - y0) * y
    across = (column - x0) * y - (row - y0) * x
    inside = np.minimum(half - np.abs(across), np.minimum(along, length - along))
    lit = np.clip(0.5 + inside, 0.0, 1.0)
    picture[:] = np.rint(10.0 + 210.0 * cv2.GaussianBlur(lit, (0, 0), 0.8))  # no lens draws steps
    return picture
