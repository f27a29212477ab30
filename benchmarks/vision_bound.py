"""How exactly a picture can tell the pole at all: the Cramér–Rao bound of the reference renderer.

The derivatives of the noise-free picture by angle, pivot (x and y), the tape's light and the
ground's, and where a rolling shutter shows them the pole's rate and the cart's speed, with the
tape's width, its taper and the optics' blur, which look like a smear; the noise is white, of a
known deviation, and the twelfth of rounding. Nothing is known before but the speed, which turns the
axis as an angle does: that as well as the estimator's hint tells it.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from vision_scenes import ReferenceCamera, Tape, steady_motion

Pose = tuple[float, float, float, float]  # p, v, theta, omega

# Small against the blur: of a longer step the picture's change is another than of a short one, and
# what differs seems to tell a bend from a turn (the rate seemed known up to 1.5 times as well).
STEP_RAD, STEP_M = 5e-4, 2e-4
WIDTH_M, BLUR_PX, TAPER = 4e-4, 0.02, 0.03
SPEED_SIGMA = 0.005  # m/s, of a hint
UNSEEN = 50.0  # rad/s: a rate with a larger bound is none


@dataclass(frozen=True)
class Bound:
    """Variances that no unbiased estimate of one picture falls below; rate: inf if not seen."""

    angle_rad2: float
    pivot_m2: float
    rate_rad2_s2: float = math.inf


def bound(artist: ReferenceCamera, pose: Pose, tape: Tape, shade: np.ndarray | None) -> Bound:
    """The bound for one pose, at the time at which the angle has nothing to do with the rate."""

    def light(**changed: float) -> np.ndarray:
        p, v, theta, omega = pose
        seen, camera = copy(artist), artist.camera
        seen.look = replace(artist.look, blur_px=artist.look.blur_px + changed.get("blur", 0.0))
        wide = camera.tape_width_m + changed.get("width", 0.0)
        seen.camera = camera.model_copy(update={"tape_width_m": wide})
        look = replace(
            tape,
            taper=tape.taper + changed.get("taper", 0.0),
            pivot_y_m=tape.pivot_y_m + changed.get("y", 0.0),
            light=tape.light + changed.get("light", 0.0),
            ground_dn=tape.ground_dn + changed.get("ground", 0.0),
        )
        motion = steady_motion(
            p + changed.get("p", 0.0),
            v + changed.get("v", 0.0),
            theta + changed.get("theta", 0.0),
            omega + changed.get("omega", 0.0),
        )
        return seen.clean(motion, look, shade)

    steps = {"theta": STEP_RAD, "p": STEP_M, "y": STEP_M, "light": 0.05, "ground": 1.0}
    if artist.camera.readout_s > 0.0:
        # By as much from the first line to the last.
        steps["omega"] = 2.0 * STEP_RAD / artist.camera.readout_s
        steps["v"] = 2.0 * STEP_M / artist.camera.readout_s
        steps.update(width=WIDTH_M, taper=TAPER, blur=BLUR_PX)
    slopes = np.array(
        [
            (light(**{name: step}) - light(**{name: -step})).ravel() / (2.0 * step)
            for name, step in steps.items()
        ]
    )
    variance = artist.look.noise_dn**2 + 1.0 / 12.0
    scale = np.linalg.norm(slopes, axis=1)
    slopes /= scale[:, None]
    information = slopes @ slopes.T / variance
    if "v" in steps:
        v = list(steps).index("v")
        information[v, v] += 1.0 / (SPEED_SIGMA * scale[v]) ** 2
    covariance = np.linalg.inv(information) / np.outer(scale, scale)
    angle, rate = float(covariance[0, 0]), math.inf
    if "omega" in steps and covariance[5, 5] < UNSEEN**2:
        rate = float(covariance[5, 5])
        angle -= float(covariance[0, 5]) ** 2 / rate
    return Bound(angle, float(covariance[1, 1]), rate)
