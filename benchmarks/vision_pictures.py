"""What the pictures of the vision benchmark show: poses, what is in the way, what is broken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from vision_scenes import ReferenceCamera, Tape, random_reflections, steady_motion

from cartpole.config.schema import Camera

SCALE = 116.0 / 0.45  # px/m: the tape's 0.45 m are 116 px
STRIP = Camera(
    tape_start_m=0.0,
    tape_end_m=0.45,
    tape_width_m=8.0 / SCALE,
    homography=(SCALE, 0.0, 160.0, 0.0, -SCALE, 120.0, 0.0, 0.0, 1.0),
    lens_k1=0.0,
    readout_s=0.0,
    exposure_s=0.003,
    pixel_format="GREY",
)
LENS = STRIP.model_copy(update={"lens_k1": -0.08})
ROLLING = STRIP.model_copy(update={"readout_s": 0.0053})
WEBCAM = STRIP.model_copy(update={"readout_s": 0.030, "rate_hz": 30.0})
MOVING = STRIP.model_copy(update={"lens_k1": -0.08, "readout_s": 0.0053})
BLURRED = STRIP.model_copy(update={"exposure_s": 0.005})
TORN_APART_S = 1.0 / 150.0  # the picture before

Pose = tuple[float, float, float, float]  # p, v, theta, omega
Random = np.random.Generator


@dataclass(frozen=True)
class Dress:
    """How a pose is shown: what the tape is like, what covers it (height, width), what shines."""

    tape: Tape = field(default_factory=Tape)
    shade: np.ndarray | None = None
    reflections: np.ndarray | None = None


@dataclass(frozen=True)
class Scene:
    """A kind of picture; ``bounded``: nothing but noise limits what it can tell."""

    camera: Camera
    dress: Callable[[Camera, Pose, Random], Dress] = lambda camera, pose, rng: Dress()
    share: tuple[float, float] = (1.0, 1.0)  # of the tape in the picture
    most_rate: float = 15.0
    bounded: bool = True
    hinted: bool = True


def random_pose(rng: Random, scene: Scene) -> Pose:
    """A pose with the wanted share of the tape in the picture."""
    camera, whole = scene.camera, scene.share[0] == 1.0
    while True:
        p, theta = rng.uniform(-0.6, 0.6), rng.uniform(-math.pi, math.pi)
        distance = np.linspace(camera.tape_start_m, camera.tape_end_m, 200)
        column, row = place(camera, (p, 0.0, theta, 0.0), distance)
        margin = 8.0 if whole else 0.0
        inside = (column > margin) & (column < camera.width_px - 1 - margin)
        seen = np.mean(inside & (row > 0) & (row < camera.height_px - 1))
        if scene.share[0] <= seen <= scene.share[1]:
            most = scene.most_rate
            speed = 1.0 if most > 0.0 else 0.0
            return p, rng.uniform(-speed, speed), theta, rng.uniform(-most, most)


def place(camera: Camera, pose: Pose, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of points so far along the pole, without the lens."""
    p, _, theta, _ = pose
    h = np.array(camera.homography)
    return (
        h[0] * (p + distance * np.sin(theta)) + h[2],
        -h[4] * distance * np.cos(theta) + h[5],
    )


def covered(camera: Camera, pose: Pose, rng: Random) -> Dress:
    """Something dark before the middle of the tape: it is seen in two parts."""
    shade = np.zeros((camera.height_px, camera.width_px))
    at = np.array([rng.uniform(0.35, 0.65) * camera.tape_end_m])
    column, row = place(camera, pose, at)
    wide, tilt = rng.uniform(14.0, 30.0), pose[2] + rng.uniform(-0.4, 0.4)
    y, x = np.mgrid[0 : camera.height_px, 0 : camera.width_px]
    along = (x - column) * math.sin(tilt) + (y - row) * math.cos(tilt)
    shade[:] = np.clip(0.5 + 0.5 * wide - np.abs(along), 0.0, 1.0)
    return Dress(shade=shade)


def gap(_camera: Camera, _pose: Pose, rng: Random) -> Dress:
    """Two pieces of tape, a few centimetres apart."""
    start = rng.uniform(0.15, 0.28)
    return Dress(Tape(holes_m=((start, start + rng.uniform(0.02, 0.05)),)))


def peeled(camera: Camera, _pose: Pose, rng: Random) -> Dress:
    """The tape has come off at its far end."""
    off = rng.uniform(0.1, 0.3) * camera.tape_end_m
    return Dress(Tape(holes_m=((camera.tape_end_m - off, camera.tape_end_m),)))


def taper(_camera: Camera, _pose: Pose, rng: Random) -> Dress:
    """One end of the tape is wider than the other."""
    return Dress(Tape(taper=float(rng.uniform(-0.3, 0.3))))


def distractors(camera: Camera, _pose: Pose, rng: Random) -> Dress:
    """One to three reflections anywhere."""
    shape = (camera.height_px, camera.width_px)
    return Dress(reflections=random_reflections(shape, rng, int(rng.integers(1, 4))))


def hand(camera: Camera, pose: Pose, rng: Random) -> Dress:
    """A bright hand beside the pole, its fingers over the tape."""
    light = np.zeros((camera.height_px, camera.width_px), np.uint8)
    at = np.array([rng.uniform(0.3, 0.9) * camera.tape_end_m])
    column, row = place(camera, pose, at)
    side = rng.choice((-1.0, 1.0))
    aside = (math.cos(pose[2]) * side, math.sin(pose[2]) * -side)
    level = int(rng.uniform(60, 170))
    palm = (int(column[0] + 26.0 * aside[0]), int(row[0] + 26.0 * aside[1]))
    cv2.ellipse(light, palm, (22, 16), math.degrees(pose[2]), 0, 360, level, -1, cv2.LINE_AA)
    for finger in range(3):
        start = (palm[0] + 7 * (finger - 1), palm[1] + 3 * (finger - 1))
        stop = (int(start[0] - 22.0 * aside[0]), int(start[1] - 22.0 * aside[1]))
        cv2.line(light, start, stop, level, 5, cv2.LINE_AA)
    return Dress(reflections=cv2.GaussianBlur(light.astype(np.float64), (0, 0), 1.0))


def second_strip(camera: Camera, pose: Pose, rng: Random) -> Dress:
    """Another strip, shorter than the tape and as bright."""
    light = np.zeros((camera.height_px, camera.width_px), np.uint8)
    while True:
        centre = rng.uniform((30, 30), (camera.width_px - 30, camera.height_px - 30))
        column, row = place(camera, pose, np.linspace(0.0, camera.tape_end_m, 40))
        if np.min(np.hypot(column - centre[0], row - centre[1])) > 60.0:
            break
    angle, half = rng.uniform(0, math.pi), rng.uniform(15.0, 40.0)
    reach = half * np.array((math.cos(angle), math.sin(angle)))
    start, stop = np.rint(centre - reach).astype(int), np.rint(centre + reach).astype(int)
    cv2.line(light, tuple(start.tolist()), tuple(stop.tolist()), 180, 8, cv2.LINE_AA)
    return Dress(reflections=light.astype(np.float64))


SCENES = {
    "nominal": Scene(STRIP),
    "static": Scene(STRIP, most_rate=0.0),
    "truncated": Scene(STRIP, share=(0.35, 0.8)),
    "occluded": Scene(STRIP, covered),
    "gap": Scene(STRIP, gap),
    "peeled": Scene(STRIP, peeled),
    "taper": Scene(STRIP, taper),
    "blur5": Scene(BLURRED),
    "k1": Scene(LENS),
    "rolling": Scene(ROLLING),
    "webcam": Scene(WEBCAM, most_rate=3.0),
    "rolling_shutter": Scene(MOVING),
    "distractors": Scene(STRIP, distractors, bounded=False),
    "hand": Scene(STRIP, hand, bounded=False),
    "second_strip": Scene(STRIP, second_strip, bounded=False),
    "search": Scene(STRIP, hinted=False),
    "distractors_search": Scene(STRIP, distractors, bounded=False, hinted=False),
    "second_strip_search": Scene(STRIP, second_strip, bounded=False, hinted=False),
}


def torn_light(artist: ReferenceCamera, pose: Pose, half: bool, rng: Random) -> np.ndarray:
    """The light of a picture that a line within the tape cuts: below or above it is the picture
    before, or (``half``) nothing."""
    p, v, theta, omega = pose
    new = artist.clean(steady_motion(*pose))
    old = artist.clean(steady_motion(p - v * TORN_APART_S, v, theta - omega * TORN_APART_S, omega))
    lit = np.nonzero((new > 0.5 * artist.look.tape_dn).any(axis=1))[0]
    row = int(lit[0] + rng.uniform(0.1, 0.9) * (lit[-1] - lit[0]))
    if half:
        new[row:] = rng.choice((0.0, artist.look.ground_dn, 128.0))
        return new
    upper, lower = (old, new) if rng.random() < 0.5 else (new, old)
    return np.vstack([upper[:row], lower[row:]])
