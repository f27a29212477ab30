"""Encoder scales and signs from a sweep between the limit switches, zero of the pole by gravity."""

from __future__ import annotations

import math

import numpy as np

from calibration.fit import implausible
from calibration.recording import Counts, Recording
from calibration.result import CalibrationResult, Estimate
from cartpole.config.schema import Config
from cartpole.errors import IdentificationError

RECORD = "record a homing move: slowly to the left switch, then to the right one"
SWITCH_SIGMA_M = 0.0003  # how well a lever switch repeats


def calibrate_encoder(recording: Recording, config: Config) -> CalibrationResult:
    """Counts per metre from the travel that the settings state, sign of the cart's counts.

    Raises IdentificationError without both switches or if the scale cannot be right.
    """
    counts = recording.counts
    if counts is None:
        raise IdentificationError(f"{recording.name}: no encoder counts; {RECORD}")
    low, high = _edges(counts)
    travel = high[0] - low[0]
    if abs(travel) < 10.0:
        raise IdentificationError(f"{recording.name}: counts hardly change; is the encoder wired?")
    length = config.rig.track_length_m
    scale = abs(travel) / length
    sigma = math.hypot(low[1], high[1]) + scale * SWITCH_SIGMA_M * math.sqrt(2.0)
    half = 1.96 * sigma / length
    why = implausible(
        "encoder.cart_counts_per_m",
        scale,
        config.encoder.cart_counts_per_m / 3.0,
        config.encoder.cart_counts_per_m * 3.0,
        config.encoder.cart_counts_per_m,
    )
    if why:
        raise IdentificationError(why + " Check rig.track_length_m")
    estimates = {
        "encoder.cart_counts_per_m": Estimate(scale, (scale - half, scale + half), "1/m"),
    }
    sign = 1 if travel > 0.0 else -1
    notes = [
        f"travel {abs(travel):.0f} counts on {length:.3f} m; moving right the counts "
        + ("rise: encoder.cart_sign 1" if sign > 0 else "fall: encoder.cart_sign -1"),
        f"middle of the track at count {0.5 * (low[0] + high[0]):.0f}",
    ]
    if sign != config.encoder.cart_sign:
        notes.append("the settings say otherwise: change encoder.cart_sign by hand")
    still = counts.pole[: max(5, len(counts.pole) // 50)]
    notes.append(
        f"hanging at count {float(np.median(still)):.1f}, spread {float(np.ptp(still)):.0f}"
    )
    return CalibrationResult(estimates, 1.0, {}, tuple(notes))


def _edges(counts: Counts) -> tuple[tuple[float, float], tuple[float, float]]:
    """Counts, with their sigma, at which the left and the right switch close."""
    out = []
    for name, pressed in (("left", counts.limit_low), ("right", counts.limit_high)):
        rising = np.flatnonzero(np.diff(pressed.astype(np.int8)) > 0)
        if len(rising) == 0:
            raise IdentificationError(
                f"the {name} limit switch is never pressed in this recording; {RECORD}"
            )
        before, after = counts.cart[rising], counts.cart[rising + 1]
        out.append(
            (
                float(np.mean(0.5 * (before + after))),
                float(np.mean(np.abs(after - before)) / math.sqrt(12.0 * len(rising))),
            )
        )
    return out[0], out[1]
