"""The lens, and where the rig stands in the picture, from a swinging pole and a moving cart.

The lens term comes from how the measured angle depends on angle and place, with delay and readout.
For the homography the tracker's measurement is put back into the picture as two points of the
pole's axis, by the settings it was made with; the fit moves homography and times until the encoders
put them there too. Only the distance across the strip counts, since along it the tracker knows
less. A tracker with a wrong lens bends its own line, so after a change the pictures should be
measured again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from calibration.fit import Fit, Parameter, fit, unidentified
from calibration.latency import (
    effective_row,
    fit_times,
    hermite,
    line_radii,
    matched_turns,
    moved,
    widened,
)
from calibration.pole import smoothed
from calibration.recording import Recording
from calibration.result import CalibrationResult
from calibration.sight import Sight
from calibration.spline import RunSpline
from cartpole.config.schema import Config
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray
from cartpole.vision.geometry import K1, TO_PIXEL, CameraGeometry, project

CORRELATION_S = 0.4  # the pole's smoothed track errs as slowly
MIN_TRAVEL_M = 0.25
SIGMA_PX = 0.1
LENS = "camera.lens_k1"
TRACKER_BIAS = 1.5e-3  # of the lens term, by what the tracker errs with angle and place
WORST_PX = 0.15
# Relative: a tape that looks as long as this is as long as it should; beyond this it was covered.
SAME_TAPE, OTHER_TAPE = 0.004, 0.25
RECORD = "let the pole swing far while the cart moves over the track, camera and encoders on"


@njit(cache=True, nogil=True)
def _ends(
    p: FloatArray, theta: FloatArray, near: float, far: float, g: FloatArray, out: FloatArray
) -> None:
    """Pixels of the axis at two radii, (n, 4): x0, y0, x1, y1."""
    for k in range(len(p)):
        sine, cosine = math.sin(theta[k]), math.cos(theta[k])
        out[k, 0], out[k, 1] = project(p[k] + near * sine, -near * cosine, g)
        out[k, 2], out[k, 3] = project(p[k] + far * sine, -far * cosine, g)


@dataclass(frozen=True, slots=True)
class _Frames:
    """Per frame (n,): believed time, two points of the axis (n, 4), normal (n, 2), row share."""

    time: FloatArray
    ends: FloatArray
    normal: FloatArray
    lead: FloatArray


def calibrate_camera(recording: Recording, config: Config) -> CalibrationResult:
    """Lens term and, if the cart moved far enough, the homography.

    Raises IdentificationError without both sensors.
    """
    motion, sight = recording.motion, recording.sight
    if motion is None or sight is None or len(sight.t_s) < 100:
        raise IdentificationError(f"{recording.name}: needs encoder and camera together; {RECORD}")
    found = fit_times(motion, sight, config)
    pole, sight, times = found.pole, found.sight, found.fit
    lens = moved(times.estimate(LENS), config.camera.lens_k1)
    refused = {name: why for name, why in unidentified(times).items() if name == LENS}
    estimates = {} if refused else {LENS: lens}
    if float(np.ptp(motion.p_m)) < MIN_TRAVEL_M:
        refused["camera.homography"] = f"the cart moved less than {MIN_TRAVEL_M} m; {RECORD}"
        used = (sight.t_s, times.residuals[: len(sight.t_s)])
        return CalibrationResult(estimates, times.chi2_dof, refused, residuals=used)
    track = smoothed(pole)
    time = motion.t_s[: len(track)]  # of a longer recording the pole's fit takes the first minute
    seen = matched_turns(sight.theta_rad, hermite(time, track, sight.t_s))
    frames = _frames(config, sight.t_s, seen, sight.p_m)
    cart = RunSpline(motion.t_s, motion.p_m)
    result = _fit(config, lens.value, frames, time, track, cart)
    refused = {name: why for name, why in unidentified(result).items() if name == LENS}
    estimates = {} if refused else {LENS: widened(result.estimate(LENS), TRACKER_BIAS)}
    unit = 1.4826 * float(np.median(np.abs(result.residuals)))
    spread = unit * SIGMA_PX
    plane = tuple(_homography(config, result.values).tolist())
    homography: tuple[float, ...] | None = plane
    if spread > WORST_PX:
        homography = None
        refused["camera.homography"] = (
            f"encoders and picture disagree by {spread:.2f} px; calibrate the lens first; {RECORD}"
        )
    return CalibrationResult(
        estimates,
        result.chi2_dof / unit**2,
        refused,
        (f"the encoders and the picture agree within {spread:.3f} px",),
        homography,
        residuals=(np.repeat(sight.t_s, 2), result.residuals / unit),
        aside={"camera.homography": plane, **_times(config, result), **_tape(config, sight)},
    )


def _tape(config: Config, sight: Sight) -> dict[str, float]:
    """Where the tape begins and ends in the metres by which the cart goes, for the next pass.

    A track or a tape that was measured wrong makes them two kinds of metres, and a tracker that
    takes the ends for a measurement of the pivot bends its lines.
    """
    camera = config.camera
    factor = sight.tape_m / (camera.tape_end_m - camera.tape_start_m)
    if abs(factor - 1.0) < SAME_TAPE or abs(factor - 1.0) > OTHER_TAPE:
        return {}
    return {
        "camera.tape_start_m": factor * camera.tape_start_m,
        "camera.tape_end_m": factor * camera.tape_end_m,
    }


def _times(config: Config, result: Fit) -> dict[str, Any]:
    """Latency and readout: with wrong ones the tracker's line is sheared."""
    camera = config.camera
    return {
        "camera.latency_s": min(max(camera.latency_s + result.value("delay"), 0.0), 0.2),
        "camera.readout_s": min(max(camera.readout_s + result.value("readout"), 0.0), 0.05),
    }


def _frames(config: Config, time: FloatArray, theta: FloatArray, p: FloatArray) -> _Frames:
    camera = config.camera
    vector = CameraGeometry.from_camera(camera).vector
    ends = np.empty((len(time), 4))
    _ends(p, theta, *line_radii(camera), vector, ends)
    along = ends[:, 2:] - ends[:, :2]
    length = np.hypot(along[:, 0], along[:, 1])
    normal = np.stack([-along[:, 1] / length, along[:, 0] / length], axis=1)
    return _Frames(time, ends, normal, effective_row(config, p, theta))


def _homography(config: Config, values: FloatArray) -> FloatArray:
    """The configured one with the fitted changes, last element 1, (9,)."""
    base = np.array(config.camera.homography)
    base = base / base[8]
    return np.asarray(base + np.append(values[4:12], 0.0))


def _fit(
    config: Config,
    k1: float,
    frames: _Frames,
    motion_time: FloatArray,
    track: FloatArray,
    cart: RunSpline,
) -> Fit:
    near, far = line_radii(config.camera)
    base = CameraGeometry.from_camera(config.camera).vector.copy()
    scales = (5.0, 5.0, 1.0, 5.0, 5.0, 1.0, 0.01, 0.01)
    parameters = [
        Parameter("delay", "s", 0.0, -0.1, 0.1, 1e-3),
        Parameter("readout", "s", 0.0, -0.05, 0.05, 1e-3),
        Parameter("turn", "rad", 0.0, -0.3, 0.3, 0.01),
        Parameter(LENS, "1", k1, -0.5, 0.5, 0.01, 0.02, RECORD),
        *(Parameter(f"h{i}", "px", 0.0, -200.0 * s, 200.0 * s, s) for i, s in enumerate(scales)),
    ]
    ends = np.empty_like(frames.ends)

    def residual(values: FloatArray) -> FloatArray:
        delay, readout, turn, base[K1] = values[:4].tolist()
        at = frames.time - delay + readout * frames.lead
        base[TO_PIXEL : TO_PIXEL + 9] = _homography(config, values)
        _ends(cart.value(at), hermite(motion_time, track, at) + turn, near, far, base, ends)
        off = (ends - frames.ends).reshape(-1, 2, 2)
        across = np.einsum("kij,kj->ki", off, frames.normal)
        return np.asarray(across.ravel() / SIGMA_PX)

    lags = 2 * round(CORRELATION_S / float(np.median(np.diff(frames.time))))
    return fit(residual, parameters, lags)
