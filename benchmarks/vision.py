"""How exactly and how fast the pole is seen.

    python benchmarks/vision.py [--quick] [--seed N] [--json FILE]

``detectors``: random poses (strip of 8 x 116 px, noise 3 grey levels, 3 ms exposure, up to 15
rad/s) against the reference renderer of ``vision_scenes.py``, which shares nothing with the
simulator's. ``reference_us`` is Otsu's threshold on the whole picture, its largest contour and
minAreaRect, timed in turn with the detector on the same pictures. ``camera_only``: full pictures
(rolling shutter, lens, reflections) of a swing and of balancing, through the tracker and the
estimator, no encoder.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import fresh_kernels  # noqa: F401  before numba is imported
import numpy as np
from oracles.axis import detect_angle
from oracles.streams import CommandSent, Sensors, Stream, make_stream
from vision_scenes import ReferenceCamera, random_reflections, steady_motion

from cartpole.config.schema import Camera, Config
from cartpole.estimation.filter import StateFilter
from cartpole.messages import NANOSECONDS, Detection, DetectionHint, DetectionStatus
from cartpole.rules.estimation import filter_rules
from cartpole.vision.tracker import Tracker

SCALE = 116.0 / 0.45  # px/m: the tape's 0.45 m are 116 px
FAILED_DEG = 1.0
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
MOVING = STRIP.model_copy(update={"lens_k1": -0.08, "readout_s": 0.0053})


@dataclass
class Tally:
    """Errors and times of one detector on one kind of scene."""

    errors_deg: list[float] = field(default_factory=list)
    failures: int = 0
    times_s: list[float] = field(default_factory=list)
    reference_s: list[float] = field(default_factory=list)

    def add(self, error_rad: float | None) -> None:
        if error_rad is None or abs(math.degrees(error_rad)) > FAILED_DEG:
            self.failures += 1
        else:
            self.errors_deg.append(math.degrees(error_rad))

    def summary(self) -> dict[str, float]:
        errors = np.array(self.errors_deg or [math.nan])
        return {
            "rms_deg": float(np.sqrt(np.mean(errors**2))),
            "max_deg": float(np.max(np.abs(errors))),
            "fail_rate": self.failures / max(1, self.failures + len(self.errors_deg)),
            "median_us": float(np.median(self.times_s) * 1e6),
            "reference_us": float(np.median(self.reference_s) * 1e6),
        }


def reference(frame: np.ndarray) -> object:
    """The classical detector."""
    _, mask = cv2.threshold(frame, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.minAreaRect(max(contours, key=cv2.contourArea))


def reference_angle(frame: np.ndarray) -> float:
    """Its axis against the vertical, modulo pi."""
    (_, _), (w, h), angle = reference(frame)
    return 0.5 * math.pi - math.radians(angle if w >= h else angle + 90.0)


Pose = tuple[float, float, float, float]


def random_pose(rng: np.random.Generator, camera: Camera, kind: str) -> Pose:
    """(p, v, theta, omega); the whole tape in the picture, or half to nine tenths."""
    while True:
        p, theta = rng.uniform(-0.6, 0.6), rng.uniform(-math.pi, math.pi)
        distance = np.linspace(camera.tape_start_m, camera.tape_end_m, 200)
        h = np.array(camera.homography)
        column = h[0] * (p + distance * np.sin(theta)) + h[2]
        row = -h[4] * distance * np.cos(theta) + h[5]
        margin = 0.0 if kind == "truncated" else 8.0
        inside = (column > margin) & (column < camera.width_px - 1 - margin)
        share = np.mean(inside & (row > 0) & (row < camera.height_px - 1))
        wanted = 0.5 <= share <= 0.9 if kind == "truncated" else share == 1.0
        if wanted:
            return p, rng.uniform(-1.0, 1.0), theta, rng.uniform(-15.0, 15.0)


def hint_for(pose: Pose, rng: np.random.Generator) -> DetectionHint:
    """A prediction as the estimator makes it, with its errors."""
    p, v, theta, omega = pose
    return DetectionHint(
        t_ns=NANOSECONDS,
        p_m=p + rng.normal(0.0, 0.002),
        v_m_s=v + rng.normal(0.0, 0.005),
        theta_rad=theta + rng.normal(0.0, 0.02),
        omega_rad_s=omega + rng.normal(0.0, 0.05),
        sigma_p_m=0.002,
        sigma_theta_rad=0.02,
    )


def tracked(
    camera: Camera, hinted: bool
) -> Callable[[np.ndarray, Pose, np.random.Generator], tuple]:
    """Detector: the tracker, with a prediction or from nothing; gives (seconds, error or None)."""
    tracker = Tracker(camera)

    def run(frame: np.ndarray, pose: Pose, rng: np.random.Generator) -> tuple:
        hint = hint_for(pose, rng) if hinted else None
        tracker.reset()
        start = time.perf_counter()
        found = tracker.detect(frame, NANOSECONDS, NANOSECONDS, 0, hint)
        spent = time.perf_counter() - start
        if found.status is not DetectionStatus.OK:
            return spent, None
        truth = pose[2] + pose[3] * (found.t_ns - NANOSECONDS) / NANOSECONDS
        return spent, math.remainder(found.theta_rad - truth, 2.0 * math.pi)

    return run


def unaided(frame: np.ndarray, pose: Pose, _rng: np.random.Generator) -> tuple:
    """Detector: ``detect_angle``, which knows nothing."""
    start = time.perf_counter()
    found = detect_angle(frame)
    spent = time.perf_counter() - start
    if found.status is not DetectionStatus.OK:
        return spent, None
    return spent, math.remainder(found.angle_rad - pose[2], math.pi)


def classical(frame: np.ndarray, pose: Pose, _rng: np.random.Generator) -> tuple:
    """Detector: Otsu, largest contour, minAreaRect."""
    start = time.perf_counter()
    angle = reference_angle(frame)
    return time.perf_counter() - start, math.remainder(angle - pose[2], math.pi)


def detectors(pictures: int, seed: int) -> dict[str, dict[str, float]]:
    """Every detector on its scenes."""
    rectangle = STRIP.model_copy(update={"method": "min_area_rect"})
    scenes = {
        "nominal": (STRIP, {"nominal": tracked(STRIP, True), "unaided": unaided,
                            "min_area_rect": tracked(rectangle, True),
                            "classical": classical}),
        "distractors": (STRIP, {"distractors": tracked(STRIP, True),
                                "unaided_distractors": unaided,
                                "classical_distractors": classical}),
        "truncated": (STRIP, {"truncated": tracked(STRIP, True), "unaided_truncated": unaided}),
        "rolling_shutter": (MOVING, {"rolling_shutter": tracked(MOVING, True)}),
    }  # fmt: skip
    results: dict[str, dict[str, float]] = {}
    for index, (kind, (camera, runs)) in enumerate(scenes.items()):
        rng = np.random.default_rng((seed, index))
        artist = ReferenceCamera(camera)
        tallies = {name: Tally() for name in runs}
        for shot in range(pictures + 3):
            pose = random_pose(rng, camera, kind)
            reflections = None
            if kind == "distractors":
                shape = (camera.height_px, camera.width_px)
                reflections = random_reflections(shape, rng, int(rng.integers(1, 4)))
            frame = artist.draw(steady_motion(*pose), rng, reflections)
            for name, run in runs.items():
                # Each is timed right after itself: picture, code and tables are in the caches.
                run(frame, pose, rng)
                spent, error = run(frame, pose, rng)
                reference(frame)
                start = time.perf_counter()
                reference(frame)
                reference_s = time.perf_counter() - start
                if shot >= 3:  # kernels are loaded by then
                    tallies[name].add(error)
                    tallies[name].times_s.append(spent)
                    tallies[name].reference_s.append(reference_s)
        results.update({name: tally.summary() for name, tally in tallies.items()})
    return results


def motion_about(stream: Stream, t_ns: int) -> Callable[[np.ndarray], tuple]:
    """The stream's motion about a time."""

    def motion(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        states = np.array([stream.state_at(t_ns + round(t * NANOSECONDS)) for t in times])
        return states[:, 0], states[:, 2]

    return motion


def camera_only_run(motion: str, seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n,) of theta [rad] and omega [rad/s] at the ticks after the first second."""
    camera = Camera(pixel_format="GREY")
    estimator = Config().estimator.model_copy(
        update={
            "camera_sigma_rad": 1e-4,  # the tracker's own errors count
            "camera_sigma_m": 1e-4,
            "offset_sigma_rad": 1e-5,  # the camera is calibrated
            "offset_noise_rad": 1e-6,
        }
    )
    encoder = Config().encoder.model_copy(update={"protocol": "none"})
    config = Config(camera=camera, estimator=estimator, encoder=encoder)
    rng = np.random.default_rng((seed, 7))
    artist, tracker = ReferenceCamera(camera), Tracker(camera)
    state = StateFilter(filter_rules(config))
    sensors = Sensors(camera_outliers=0.0, encoder_hz=0.0)
    stream = make_stream(config, motion, seconds, seed, sensors)
    reflections = random_reflections((camera.height_px, camera.width_px), rng, 3, 10.0)
    theta_errors, omega_errors = [], []
    hint = None
    for now_ns, event in stream.arrivals:
        age_s = (now_ns - stream.start_ns) / NANOSECONDS
        if isinstance(event, CommandSent):
            state.add_command(event.t_ns, event.velocity_m_s)
            if state.initialised:
                hint = state.hint(now_ns)
                truth = stream.state_at(now_ns)
                estimate = state.estimate(now_ns).state
                if age_s > 1.0:
                    theta_errors.append(math.remainder(estimate[2] - truth[2], 2.0 * math.pi))
                    omega_errors.append(estimate[3] - truth[3])
        elif isinstance(event, Detection) and event.t_ns - stream.start_ns > 10_000_000:
            frame = artist.draw(motion_about(stream, event.t_ns), rng, reflections)
            state.add_camera(
                tracker.detect(frame, event.t_ns, event.arrival_ns, event.sequence, hint)
            )
    return np.array(theta_errors), np.array(omega_errors)


def camera_only(seconds: float, seed: int) -> dict[str, float]:
    """Swing and balance together."""
    runs = [camera_only_run(motion, seconds, seed) for motion in ("swing", "upright")]
    theta = np.concatenate([run[0] for run in runs]) * 1e3
    omega = np.concatenate([run[1] for run in runs])
    result = {
        "theta_mrad_rms": float(np.sqrt(np.mean(theta**2))),
        "theta_mrad_max": float(np.max(np.abs(theta))),
        "omega_rms": float(np.sqrt(np.mean(omega**2))),
    }
    for name, run in zip(("swing", "upright"), runs, strict=True):
        result[f"{name}_theta_mrad_rms"] = float(np.sqrt(np.mean(run[0] ** 2)) * 1e3)
        result[f"{name}_omega_rms"] = float(np.sqrt(np.mean(run[1] ** 2)))
    return result


def main() -> None:
    """Run, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less than 50 s")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    figures: dict[str, dict] = {
        "detectors": detectors(150 if options.quick else 2000, options.seed)
    }
    for name, row in figures["detectors"].items():
        print(
            f"{name:22} rms {row['rms_deg']:.4f} max {row['max_deg']:.4f} deg, "
            f"fails {100 * row['fail_rate']:.2f} %, {row['median_us']:.1f} us "
            f"(reference {row['reference_us']:.1f})",
            flush=True,
        )
    figures["camera_only"] = camera_only(3.5 if options.quick else 20.0, options.seed)
    print("camera only", {k: round(v, 4) for k, v in figures["camera_only"].items()})
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
