"""When the camera's measurements were true, and how far its upright is off.

The encoder's smoothed angle is the clock. A frame's line at row share rho (-0.5 top, 0.5 bottom) is
read ``readout * rho`` after the middle one, so delay and readout are fitted together; a fit of the
delay alone is wrong by milliseconds. With a wrong readout the tracker's line is also sheared: a
line fitted over the radii r0 to r1 turns as if it had been seen at the row of radius r0 + r1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibration.fit import NORMAL_95, Fit, Parameter, fit, implausible, unidentified
from calibration.judge import WORST_CHI2, judge
from calibration.pole import PoleFit, fit_pole, smoothed
from calibration.recording import Motion, Recording
from calibration.result import CalibrationResult, Estimate
from calibration.sight import Sight
from cartpole.config.schema import Camera, Config
from cartpole.errors import IdentificationError
from cartpole.messages import FloatArray
from cartpole.vision.geometry import CameraGeometry

NAMES = ("camera.latency_s", "camera.readout_s", "pole.upright_offset_rad")
LEAST_READOUT_SIGMA_S = 1e-3
USEFUL_S, USEFUL_ALONE_S = 1e-3, 2e-3  # of a delay, and of one beside a readout that is assumed
CORRELATION_S = 0.3
# A tenth of a milliradian that the tracker errs by with the angle, at the rates of a swing.
TRACKER_BIAS_S = 2.5e-5
ENCODER_CLOCK_S = 7e-6  # how well the running minimum of arrivals tells the latch
# Slow errors that the tracker's sigma does not hold: of the smoothed encoder, the lens, the tape.
SLOW_RAD = 1e-3
WORST_SIGMA = 5.0  # what lies beyond counts as no more
OUTLIER = 8.0  # robust deviations: a frame that shows something else
MOST_OUTLIERS = 0.1
TENTHS = 10  # of a recording, in which slow drifts show
HELD_SIGMAS = (0.02, 0.02, 0.01, 0.01)  # gain, lens term, stretch, shear: as well as they are set
RECORD = "record a free swing of at least 150 degrees for 10 s with encoder and camera on"


@dataclass(frozen=True, slots=True)
class Times:
    """The pole's own fit, the frames that were used, the share of those that were not, and changes
    of delay, readout, offset, gain, lens and what a plane seen askew adds."""

    pole: PoleFit
    sight: Sight
    outliers: float
    fit: Fit


def calibrate_latency(recording: Recording, config: Config) -> CalibrationResult:
    """Delay and readout [s] and the camera's upright offset [rad].

    Raises IdentificationError without both sensors or if the numbers cannot be right.
    """
    motion, sight = recording.motion, recording.sight
    if motion is None or sight is None or len(sight.t_s) < 50:
        raise IdentificationError(f"{recording.name}: needs encoder and camera together; {RECORD}")
    times = fit_times(motion, sight, config)
    unseen = _readout_unseen(motion, times.fit)
    if unseen:  # the delay alone, as far as the setting of the readout is good
        times = fit_times(motion, sight, config, readout_sigma_s(config.camera))
    sight = times.sight
    verdict = judge(times.fit, samples=len(sight.t_s), correlated=True)
    result = verdict.fit
    if every := [*verdict.doubts, *_too_far_apart(times)]:
        doubts = "; ".join(every)
        refused = dict.fromkeys(NAMES, doubts)
        return CalibrationResult({}, result.chi2_dof, refused, aside=_next_try(config, result))
    latency, readout = config.camera.latency_s, config.camera.readout_s
    host_s = recording.clock_sigma_s
    offset = result.estimate("pole.upright_offset_rad")
    half = NORMAL_95 * math.hypot(
        result.sigma("pole.upright_offset_rad"), times.pole.fit.sigma("offset"), drift_rad(times)
    )
    estimates = {
        "camera.latency_s": widened(
            moved(result.estimate("camera.latency_s"), latency),
            math.hypot(ENCODER_CLOCK_S, host_s),
        ),
        "camera.readout_s": widened(
            moved(result.estimate("camera.readout_s"), readout),
            math.hypot(TRACKER_BIAS_S, host_s),
        ),
        "pole.upright_offset_rad": Estimate(
            offset.value, (offset.value - half, offset.value + half), "rad"
        ),
    }
    refused = unidentified(result)
    refused.pop("camera.lens_k1", None)
    if unseen:
        refused["camera.readout_s"] = unseen
    gain = result.estimate("gain")
    for name, low, high, expected in (
        ("camera.latency_s", -0.005, 0.2, max(latency, 0.005)),
        ("camera.readout_s", -0.001, 0.05, max(readout, 0.002)),
    ):
        why = implausible(name, estimates[name].value, low, high, expected)
        if why and name not in refused:
            raise IdentificationError(why)
    spread = gain.value - gain.ci95[0]
    note = f"angle of the camera over angle of the encoder {gain.value:.5f} ± {spread:.5f}"
    return CalibrationResult(
        {name: one for name, one in estimates.items() if name not in refused},
        result.chi2_dof,
        refused,
        (note,),
        residuals=(sight.t_s, result.residuals[: len(sight.t_s)]),
    )


def _too_far_apart(times: Times) -> list[str]:
    """Doubts where camera and encoder differ by more than what is known to part them explains.

    The residuals' unit was taken from themselves, so the angles must be asked.
    """
    apart = _apart_rad(times)
    believed = np.hypot(times.sight.sigma_rad, SLOW_RAD)
    chi2 = float(np.mean(np.minimum((apart / believed) ** 2, WORST_SIGMA**2)))
    doubts = []
    if chi2 > WORST_CHI2:
        spread = 1e3 * core_spread(apart)
        doubts.append(
            f"camera and encoder differ by {spread:.2g} mrad after the fit (chi2/dof {chi2:.3g})"
        )
    if times.outliers > MOST_OUTLIERS:
        doubts.append(f"{100 * times.outliers:.0f} % of the pictures show the pole elsewhere")
    return doubts


def drift_rad(times: Times) -> float:
    """How far camera and encoder drift from each other: the deviation of their mean differences in
    the recording's tenths.

    An encoder that loses counts has another zero at the end than at the beginning, and the pole's
    fit asks other moments for it than the camera's.
    """
    tenths = np.array_split(_apart_rad(times), TENTHS)
    return float(np.std([np.median(one) for one in tenths if len(one)]))


def _apart_rad(times: Times) -> FloatArray:
    """What is left between camera and encoder [rad], (n,)."""
    fitted, count = times.fit, len(times.sight.t_s)
    unit_rad = fitted.parameters[2].scale / np.abs(fitted.slopes[:count, 2])  # by offset's slope
    return np.asarray(fitted.residuals[:count] * unit_rad)


def _next_try(config: Config, result: Fit) -> dict[str, float]:
    """Settings to measure the pictures with again: wrong times shear the tracker's line, and that
    alone may spoil the fit. They are never written."""
    camera = config.camera
    latency = camera.latency_s + result.value("camera.latency_s")
    readout = camera.readout_s + result.value("camera.readout_s")
    return {
        "camera.latency_s": min(max(latency, 0.0), 0.2),
        "camera.readout_s": min(max(readout, 0.0), 0.05),
    }


def _readout_unseen(motion: Motion, result: Fit) -> str:
    """Why the readout cannot be told here; empty if it can."""
    if float(np.ptp(motion.theta_rad)) < math.radians(60.0):
        return f"the swing is too small to show it; {RECORD}"
    return unidentified(result).get("camera.readout_s", "")


def readout_sigma_s(camera: Camera) -> float:
    """How well the setting of a readout that was never measured may be known."""
    return max(LEAST_READOUT_SIGMA_S, 0.3 * camera.readout_s)


def fit_times(
    motion: Motion, sight: Sight, config: Config, readout_sigma: float = math.inf
) -> Times:
    """When the frames were seen; those far off the rest are left out.

    ``readout_sigma`` [s]: how well the readout in the settings is known beforehand.
    """
    pole = fit_pole(motion)
    track = smoothed(pole)
    end_s = motion.t_s[len(track) - 1]  # the pole's fit ends after a minute
    inside = (sight.t_s > motion.t_s[0] + 0.1) & (sight.t_s < end_s - 0.1)
    every = used = sight.where(inside)
    for last in (False, False, True):
        p = np.interp(used.t_s, motion.t_s, motion.p_m)
        lead = effective_row(config, p, used.theta_rad)
        bend = lens_effect(config, p, used.theta_rad)
        found = _fit(used, motion.t_s[: len(track)], track, lead, bend, readout_sigma)
        size = np.abs(found.residuals[: len(used.t_s)])
        near = size <= OUTLIER * 1.4826 * max(float(np.median(size)), 1e-12)
        if last or np.all(near):
            break
        used = used.where(near)
    return Times(pole, used, 1.0 - len(used.t_s) / max(1, len(every.t_s)), found)


def effective_row(config: Config, p_m: FloatArray, theta_rad: FloatArray) -> FloatArray:
    """Row share, -0.5 to 0.5, whose time counts for a line fitted over the whole tape, (n,)."""
    camera = config.camera
    geometry = CameraGeometry.from_camera(camera)
    middle = 0.5 * (camera.tape_start_m + camera.tape_end_m)
    rows = np.empty((len(p_m), 2))
    for k, (p, theta) in enumerate(zip(p_m.tolist(), theta_rad.tolist(), strict=True)):
        for i, radius in enumerate((0.9 * middle, 1.1 * middle)):
            rows[k, i] = geometry.project(p + radius * math.sin(theta), -radius * math.cos(theta))[
                1
            ]
    share = rows / max(1, camera.height_px - 1) - 0.5
    slope = (share[:, 1] - share[:, 0]) / (0.2 * middle)
    return np.asarray(0.5 * (share[:, 0] + share[:, 1]) + slope * middle)


def line_radii(camera: Camera) -> tuple[float, float]:
    """Radii [m] at which a line through all of a cubically bent tape's points meets the tape."""
    middle = 0.5 * (camera.tape_start_m + camera.tape_end_m)
    half = math.sqrt(0.6) * 0.5 * (camera.tape_end_m - camera.tape_start_m)
    return middle - half, middle + half


def lens_effect(config: Config, p_m: FloatArray, theta_rad: FloatArray) -> FloatArray:
    """How far the measured angle moves for an error of the lens term of one, (n,)."""
    camera = config.camera
    step = 1e-3
    seen = CameraGeometry.from_camera(camera)
    true = CameraGeometry.from_camera(camera.model_copy(update={"lens_k1": camera.lens_k1 + step}))
    out = np.empty(len(p_m))
    for k, (p, theta) in enumerate(zip(p_m.tolist(), theta_rad.tolist(), strict=True)):
        ends = []
        for radius in line_radii(camera):
            x, y = p + radius * math.sin(theta), -radius * math.cos(theta)
            ends.append(seen.unproject(*true.project(x, y)))
        turned = math.atan2(ends[1][0] - ends[0][0], ends[0][1] - ends[1][1])
        out[k] = math.remainder(turned - theta, 2.0 * math.pi) / step
    return out


def widened(one: Estimate, sigma: float) -> Estimate:
    """With an error beside the fit's own, of this standard deviation."""
    half = math.hypot(one.value - one.ci95[0], NORMAL_95 * sigma)
    return Estimate(one.value, (one.value - half, one.value + half), one.unit)


def moved(one: Estimate, by: float) -> Estimate:
    return Estimate(one.value + by, (one.ci95[0] + by, one.ci95[1] + by), one.unit)


def _fit(
    sight: Sight,
    time: FloatArray,
    track: FloatArray,
    lead: FloatArray,
    bend: FloatArray,
    readout_sigma: float,
) -> Fit:
    seen = matched_turns(sight.theta_rad, hermite(time, track, sight.t_s))
    useful = USEFUL_S if math.isinf(readout_sigma) else USEFUL_ALONE_S
    parameters = [
        Parameter("camera.latency_s", "s", 0.0, -0.1, 0.1, 1e-3, useful, RECORD),
        Parameter("camera.readout_s", "s", 0.0, -0.05, 0.05, 1e-3, 1e-3, RECORD),
        Parameter("pole.upright_offset_rad", "rad", 0.0, -0.3, 0.3, 0.01, 0.01, RECORD),
        Parameter("gain", "", 1.0, 0.5, 2.0, 0.01),
        Parameter("camera.lens_k1", "1", 0.0, -0.5, 0.5, 0.01, 0.02, RECORD),
        Parameter("stretch", "rad", 0.0, -0.2, 0.2, 1e-3),
        Parameter("shear", "rad", 0.0, -0.2, 0.2, 1e-3),
    ]
    scale = np.maximum(sight.sigma_rad, 1e-4)
    lags = round(CORRELATION_S / float(np.median(np.diff(sight.t_s))))

    # Where the readout does not show, neither does what else bends the angle over a far swing.
    held = HELD_SIGMAS if math.isfinite(readout_sigma) else (math.inf,) * len(HELD_SIGMAS)
    sigmas = np.array([readout_sigma, *held])

    def residual(values: FloatArray) -> FloatArray:
        delay, readout, offset, gain, lens, stretch, shear = values.tolist()
        truth = hermite(time, track, sight.t_s - delay + readout * lead)
        # A plane seen a little askew turns directions by its second harmonics; none at upright.
        askew = stretch * np.sin(2.0 * seen) + shear * (1.0 - np.cos(2.0 * seen))
        off = (seen - offset - gain * truth - lens * bend - askew) / scale
        priors = [readout, gain - 1.0, lens, stretch, shear] / sigmas
        return np.append(off, priors)

    first = fit(residual, parameters, lags)
    # Smoothing errors and the lens add to the tracker's own noise: take the spread that is there.
    # Whether so much may be left at all is ``_too_far_apart``'s to say.
    scale = scale * max(1e-3, core_spread(first.residuals[: len(seen)]))
    return fit(residual, parameters, lags)


def core_spread(values: FloatArray) -> float:
    """Root mean square of what lies within OUTLIER robust deviations of zero."""
    size = np.abs(values)
    inside = size[size <= OUTLIER * 1.4826 * float(np.median(size))]
    return math.sqrt(float(np.mean(inside**2))) if len(inside) else 0.0


def matched_turns(seen: FloatArray, known: FloatArray) -> FloatArray:
    """Angles with the whole turns that bring them nearest to the known ones, (n,)."""
    turn = 2.0 * math.pi
    return np.asarray(seen + turn * np.round((known - seen) / turn))


def hermite(time: FloatArray, track: FloatArray, at: FloatArray) -> FloatArray:
    """The angle between samples from angles and rates at them, (len(at),)."""
    k = np.clip(np.searchsorted(time, at) - 1, 0, len(time) - 2)
    h = time[k + 1] - time[k]
    s = (at - time[k]) / h
    a, b = track[k, 0], track[k + 1, 0]
    u, v = track[k, 1] * h, track[k + 1, 1] * h
    return np.asarray(
        a + s * u + s * s * (3.0 * (b - a) - 2.0 * u - v) + s * s * s * (2.0 * (a - b) + u + v)
    )
