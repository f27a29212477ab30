"""How exactly and how fast the pole is seen.

    python benchmarks/vision.py [--quick] [--seed N] [--json FILE]

``detectors``: random poses (strip of 8 x 116 px, noise 3 grey levels, 3 ms exposure, up to 15
rad/s) against the reference renderer of ``vision_scenes.py``, which shares nothing with the
simulator's; ``bound_deg`` is the least error that such pictures allow (``vision_bound.py``),
``normalised_error`` the rms of error over sigma, ``coverage95`` how often 1.96 sigmas hold it.
``reference_us`` is Otsu's threshold on the whole picture, its largest contour and minAreaRect,
timed in turn with the detector on the same pictures. ``torn`` and ``half`` pictures: shares
refused, and accepted though off by more than .3 degrees, or by more than 1 and four sigmas.
``camera_only``: full pictures (rolling shutter, lens, reflections) of a swing and of balancing,
through the tracker and the estimator, no encoder.
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
from oracles.streams import CommandSent, Sensors, Stream, make_stream
from vision_bound import Bound, bound
from vision_pictures import SCENES, STRIP, Pose, random_pose, torn_light
from vision_scenes import ReferenceCamera, random_reflections, steady_motion

from cartpole.config.schema import Camera, Config
from cartpole.estimation.filter import StateFilter
from cartpole.messages import NANOSECONDS, Detection, DetectionHint, DetectionStatus
from cartpole.rules.estimation import filter_rules
from cartpole.vision.tracker import Tracker

FAILED_DEG, TORN_DEG = 1.0, 0.3
INSIDE = 1.96  # sigmas that hold 95 % of what is normal
MEDIAN = 0.6745  # of what is normal, in sigmas


@dataclass
class Tally:
    """Errors and times of one detector on one kind of scene."""

    errors: list[tuple[float, ...]] = field(default_factory=list)  # rad, m, rad/s and their sigmas
    failures: int = 0
    times_s: list[float] = field(default_factory=list)
    reference_s: list[float] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)

    def add(self, error: tuple[float, ...] | None) -> None:
        if error is None:
            self.failures += 1
        else:
            self.errors.append(error)

    def summary(self) -> dict[str, float]:
        errors = np.array(self.errors or [(math.nan,) * 6])
        angle = np.degrees(np.abs(errors[:, 0]))
        wrong = int(np.sum(angle > FAILED_DEG))
        fair = angle[angle <= FAILED_DEG]
        total = max(1, self.failures + len(self.errors))
        row = {
            "rms_deg": _rms(fair),
            "max_deg": float(np.max(fair, initial=0.0)),
            "fail_rate": (self.failures + wrong) / total,
            "wrong_rate": wrong / total,
            "median_us": float(np.median(self.times_s) * 1e6),
            "reference_us": float(np.median(self.reference_s) * 1e6),
        }
        if np.isfinite(errors[:, 3]).all():
            sigmas = errors[:, 0] / errors[:, 3]
            row["normalised_error"] = _rms(sigmas)
            row["coverage95"] = float(np.mean(np.abs(sigmas) < INSIDE))
            row["p_mm_rms"] = 1e3 * _rms(errors[:, 1])
            row["p_mm_max"] = 1e3 * float(np.max(np.abs(errors[:, 1])))
            row["p_normalised_error"] = _rms(errors[:, 1] / errors[:, 4])
        if self.bounds:
            row["bound_deg"] = math.degrees(_rms(np.sqrt([b.angle_rad2 for b in self.bounds])))
            rates = np.array([b.rate_rad2_s2 for b in self.bounds])
            if np.isfinite(rates).any():
                row.update(self._rates(errors, rates[np.isfinite(rates)]))
        return row

    def _rates(self, errors: np.ndarray, bounds: np.ndarray) -> dict[str, float]:
        """Of pictures that show the rate; medians, since a pole across the lines hardly does."""
        seen = errors[np.isfinite(errors[:, 5])]
        return {
            "rate_median": float(np.median(np.abs(seen[:, 2]))) / MEDIAN,
            "rate_bound_median": float(np.median(np.sqrt(bounds))),
            "rate_normalised_error": _rms(seen[:, 2] / seen[:, 5]),
        }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def reference(frame: np.ndarray) -> object:
    """The classical detector."""
    _, mask = cv2.threshold(frame, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.minAreaRect(max(contours, key=cv2.contourArea))


def reference_angle(frame: np.ndarray) -> float:
    """Its axis against the vertical, modulo pi."""
    (_, _), (w, h), angle = reference(frame)
    return 0.5 * math.pi - math.radians(angle if w >= h else angle + 90.0)


# (seconds, errors and sigmas of angle, pivot, rate) or (seconds, None)
Run = Callable[[np.ndarray, Pose, np.random.Generator], tuple[float, tuple[float, ...] | None]]


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


def tracked(camera: Camera, hinted: bool) -> Run:
    """Detector: the tracker, with a prediction or from nothing."""
    tracker = Tracker(camera)

    def run(
        frame: np.ndarray, pose: Pose, rng: np.random.Generator
    ) -> tuple[float, tuple[float, ...] | None]:
        hint = hint_for(pose, rng) if hinted else None
        tracker.reset()
        start = time.perf_counter()
        found = tracker.detect(frame, NANOSECONDS, NANOSECONDS, 0, hint)
        spent = time.perf_counter() - start
        if found.status is not DetectionStatus.OK:
            return spent, None
        late = (found.t_ns - NANOSECONDS) / NANOSECONDS
        return spent, (
            math.remainder(found.theta_rad - pose[2] - pose[3] * late, 2.0 * math.pi),
            found.p_m - pose[0] - pose[1] * late,
            found.omega_rad_s - pose[3],
            found.sigma_theta_rad,
            found.sigma_p_m,
            found.sigma_omega_rad_s,
        )

    return run


def classical(
    frame: np.ndarray, pose: Pose, _rng: np.random.Generator
) -> tuple[float, tuple[float, ...]]:
    """Detector: Otsu, largest contour, minAreaRect."""
    start = time.perf_counter()
    angle = reference_angle(frame)
    spent = time.perf_counter() - start
    error = math.remainder(angle - pose[2], math.pi)
    return spent, (error, math.nan, math.nan, math.inf, math.inf, math.inf)


def timed(run: Run, frame: np.ndarray, pose: Pose, rng: np.random.Generator, tally: Tally) -> None:
    """Run a detector and the reference after it, each right after itself: picture, code and tables
    are in the caches."""
    run(frame, pose, rng)
    spent, error = run(frame, pose, rng)
    reference(frame)
    start = time.perf_counter()
    reference(frame)
    tally.reference_s.append(time.perf_counter() - start)
    tally.times_s.append(spent)
    tally.add(error)


def detectors(poses: int, shots: int, seed: int) -> dict[str, dict[str, float]]:
    """Every detector on its scenes: some pictures of each pose, each with its own noise."""
    rectangle = tracked(STRIP.model_copy(update={"method": "min_area_rect"}), True)
    others: dict[str, dict[str, Run]] = {
        "nominal": {"min_area_rect": rectangle, "classical": classical},
        "distractors": {"classical_distractors": classical},
    }
    results: dict[str, dict[str, float]] = {}
    artists: dict[str, ReferenceCamera] = {}
    for index, (name, scene) in enumerate(SCENES.items()):
        rng = np.random.default_rng((seed, index))
        key = scene.camera.model_dump_json()
        artist = artists.setdefault(key, ReferenceCamera(scene.camera))
        tallies = {run: Tally() for run in (name, *others.get(name, {}))}
        for _ in range(poses):
            # Another tape, another tracker: it remembers how wide and sharp the strip is.
            runs = {name: tracked(scene.camera, scene.hinted), **others.get(name, {})}
            pose = random_pose(rng, scene)
            dress = scene.dress(scene.camera, pose, rng)
            light = artist.clean(steady_motion(*pose), dress.tape, dress.shade, dress.reflections)
            if scene.bounded and scene.hinted:
                tallies[name].bounds.append(bound(artist, pose, dress.tape, dress.shade))
            for _ in range(shots):
                frame = artist.expose(light, rng)
                for run, detector in runs.items():
                    timed(detector, frame, pose, rng, tallies[run])
        results.update({run: tally.summary() for run, tally in tallies.items()})
    return results


def broken(pictures: int, seed: int) -> dict[str, dict[str, float]]:
    """Torn and half pictures, with a prediction: refused, or at least not far off and sure."""
    results = {}
    artist, run = ReferenceCamera(STRIP), tracked(STRIP, True)
    for half, name in enumerate(("torn", "half")):
        rng = np.random.default_rng((seed, 100 + half))
        errors = []
        for _ in range(pictures):
            pose = random_pose(rng, SCENES["nominal"])
            frame = artist.expose(torn_light(artist, pose, bool(half), rng), rng)
            found = run(frame, pose, rng)[1]
            errors.append((math.nan, math.nan) if found is None else (found[0], found[3]))
        off, sigma = np.abs(np.array(errors)).T
        results[name] = {
            "refused": float(np.mean(np.isnan(off))),
            "accepted_wrong": float(np.mean(np.degrees(off) > TORN_DEG)),
            "accepted_far_and_sure": float(
                np.mean((np.degrees(off) > FAILED_DEG) & (off > 4.0 * sigma))
            ),
        }
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


def told(row: dict[str, float]) -> str:
    """One line of the table."""
    text = f"rms {row['rms_deg']:.4f} max {row['max_deg']:.4f} deg"
    if "bound_deg" in row:
        text += f" bound {row['bound_deg']:.4f} x{row['rms_deg'] / row['bound_deg']:.2f}"
    if "normalised_error" in row:
        text += f" z {row['normalised_error']:.2f} in {100 * row['coverage95']:.0f} %"
        text += (
            f" p {row['p_mm_rms']:.3f}/{row['p_mm_max']:.2f} mm z {row['p_normalised_error']:.2f}"
        )
    if "rate_median" in row:
        text += f" rate {row['rate_median']:.3f}/{row['rate_bound_median']:.3f} rad/s"
        text += f" z {row['rate_normalised_error']:.2f}"
    text += f", fails {100 * row['fail_rate']:.2f} %, {row['median_us']:.1f} us"
    return f"{text} (reference {row['reference_us']:.1f})"


def main() -> None:
    """Run, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less than 50 s")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    found = detectors(*((30, 5) if options.quick else (300, 7)), options.seed)
    for name, row in found.items():
        print(f"{name:22} {told(row)}", flush=True)
    torn = broken(60 if options.quick else 600, options.seed)
    for name, row in torn.items():
        print(f"{name:22}", {key: round(value, 4) for key, value in row.items()})
    figures: dict[str, dict] = {"detectors": found | torn}
    figures["camera_only"] = camera_only(3.5 if options.quick else 20.0, options.seed)
    print("camera only", {k: round(v, 4) for k, v in figures["camera_only"].items()})
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
