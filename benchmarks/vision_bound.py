"""How exactly a picture can tell the pole at all: the Cramér–Rao bound of the reference renderer.

The derivatives of the noise-free picture by angle, pivot (x and y), the tape's light and the
ground's, and where a rolling shutter shows them the pole's rate and the cart's speed; the noise is
white, of a known deviation, and the twelfth of rounding. Nothing is known before but the speed,
which turns the axis as an angle does: that as well as the estimator's hint tells it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from vision_scenes import ReferenceCamera, Tape, steady_motion

Pose = tuple[float, float, float, float]  # p, v, theta, omega

# Large enough that the renderer's own steps (1/128 px) do not count.
STEP_RAD, STEP_M, TURN_RAD = 2e-3, 8e-4, 0.02
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
        look = replace(
            tape,
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
        return artist.clean(motion, look, shade)

    steps = {"theta": STEP_RAD, "p": STEP_M, "y": STEP_M, "light": 0.05, "ground": 1.0}
    if artist.camera.readout_s > 0.0:
        # By as much from the first line to the last: farther, a bend is not what it is at first,
        # and what is left of it beside a turn and a shift seems to tell more than it does.
        steps["omega"] = TURN_RAD / artist.camera.readout_s
        steps["v"] = 2.0 * STEP_M / artist.camera.readout_s
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
        information[-1, -1] += 1.0 / (SPEED_SIGMA * scale[-1]) ** 2
    covariance = np.linalg.inv(information) / np.outer(scale, scale)
    angle, rate = float(covariance[0, 0]), math.inf
    if "omega" in steps and covariance[5, 5] < UNSEEN**2:
        rate = float(covariance[5, 5])
        angle -= float(covariance[0, 5]) ** 2 / rate
    return Bound(angle, float(covariance[1, 1]), rate)
