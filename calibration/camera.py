"""The lens, and where the rig stands in the picture, from a swinging pole and a moving cart.

The tracker's measurement is put back into the picture as the two ends of the tape, by the settings
it was made with; the fit moves lens, homography and times until the encoders put them there too.
Only the distance across the strip counts, since along it the tracker knows less. A tracker with a
wrong lens bends its own line, so after a change the pictures should be measured again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from calibration.fit import Fit, Parameter, fit, unidentified
from calibration.latency import effective_row, hermite, matched_turns
from calibration.pole import fit_pole, smoothed
from calibration.recording import Recording
from calibration.result import CalibrationResult
from calibration.spline import CubicSpline
from cartpole.config.schema import Config
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray
from cartpole.vision.geometry import K1, TO_PIXEL, CameraGeometry, project

CORRELATION_S = 0.1
MIN_TRAVEL_M = 0.25
RECORD = "let the pole swing far while the cart moves over the track, camera and encoders on"


@njit(cache=True, nogil=True)
def _ends(
    p: FloatArray, theta: FloatArray, near: float, far: float, g: FloatArray, out: FloatArray
) -> None:
    """Pixels of the tape's two ends, (n, 4): x0, y0, x1, y1."""
    for k in range(len(p)):
        sine, cosine = math.sin(theta[k]), math.cos(theta[k])
        out[k, 0], out[k, 1] = project(p[k] + near * sine, -near * cosine, g)
        out[k, 2], out[k, 3] = project(p[k] + far * sine, -far * cosine, g)


@dataclass(frozen=True, slots=True)
class _Frames:
    """Per frame (n,): believed time, seen tape ends (n, 4), their normal (n, 2), row share."""

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
    pole = fit_pole(motion)
    track = smoothed(pole)
    cart = CubicSpline(motion.t_s, motion.p_m)
    inside = (sight.t_s > motion.t_s[0] + 0.1) & (sight.t_s < motion.t_s[-1] - 0.1)
    time = sight.t_s[inside]
    seen = matched_turns(sight.theta_rad[inside], hermite(motion.t_s, track, time))
    frames = _frames(config, time, seen, sight.p_m[inside])
    whole = float(np.ptp(motion.p_m)) > MIN_TRAVEL_M
    result = _fit(config, frames, motion.t_s, track, cart, whole)
    refused = {
        name: why for name, why in unidentified(result).items() if name.startswith("camera.lens")
    }
    estimates = {}
    if "camera.lens_k1" not in refused:
        estimates["camera.lens_k1"] = result.estimate("camera.lens_k1")
    homography = None
    if whole:
        homography = tuple(_homography(config, result.values).tolist())
    else:
        refused["camera.homography"] = f"the cart moved less than {MIN_TRAVEL_M} m; {RECORD}"
    spread = 1.4826 * float(np.median(np.abs(result.residuals))) * SIGMA_PX
    note = f"the encoders and the picture agree within {spread:.3f} px"
    return CalibrationResult(
        estimates,
        result.chi2_dof,
        refused,
        (note,),
        homography,
        residuals=(np.repeat(frames.time, 2), result.residuals),
    )


SIGMA_PX = 0.1


def _frames(config: Config, time: FloatArray, theta: FloatArray, p: FloatArray) -> _Frames:
    camera = config.camera
    vector = CameraGeometry.from_camera(camera).vector
    ends = np.empty((len(time), 4))
    _ends(p, theta, camera.tape_start_m, camera.tape_end_m, vector, ends)
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
    frames: _Frames,
    motion_time: FloatArray,
    track: FloatArray,
    cart: CubicSpline,
    whole: bool,
) -> Fit:
    camera = config.camera
    base = CameraGeometry.from_camera(camera).vector
    parameters = [
        Parameter("camera.lens_k1", "1", camera.lens_k1, -0.5, 0.5, 0.02, 0.02, RECORD),
        Parameter("delay", "s", 0.0, -0.1, 0.1, 1e-3),
        Parameter("readout", "s", 0.0, -0.05, 0.05, 1e-3),
        Parameter("turn", "rad", 0.0, -0.3, 0.3, 0.01),
    ]
    if whole:
        scales = (5.0, 5.0, 1.0, 5.0, 5.0, 1.0, 0.01, 0.01)
        parameters += [
            Parameter(f"h{i}", "px", 0.0, -200.0 * s, 200.0 * s, s) for i, s in enumerate(scales)
        ]
    ends = np.empty_like(frames.ends)

    def residual(values: FloatArray) -> FloatArray:
        k1, delay, readout, turn = values[:4].tolist()
        at = frames.time - delay + readout * frames.lead
        vector = base.copy()
        vector[K1] = k1
        if whole:
            vector[TO_PIXEL : TO_PIXEL + 9] = _homography(config, values)
        theta = hermite(motion_time, track, at) + turn
        _ends(cart.value(at), theta, camera.tape_start_m, camera.tape_end_m, vector, ends)
        off = (ends - frames.ends).reshape(-1, 2, 2)
        across = np.einsum("kij,kj->ki", off, frames.normal)
        return np.asarray(across.ravel() / SIGMA_PX)

    lags = 2 * round(CORRELATION_S / float(np.median(np.diff(frames.time))))
    return fit(residual, parameters, lags)
