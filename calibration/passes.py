"""Pictures measured again with what their fit has found, until both agree.

A tracker with a wrong lens bends its own line, and the fit of a small swing answers the bend with a
lens that is as wrong to the other side: the passes swing about the truth and hardly come nearer.
How the last answer changed with what went in (a secant: Aitken's process) tells where they meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from calibration.recording import Recording
from calibration.result import CalibrationResult
from cartpole.config.load import with_values
from cartpole.config.schema import Config

PASSES = 6  # at most
LENS, PLANE = "camera.lens_k1", "camera.homography"
OTHER_TAPE = 0.02  # relative: so much is worth a word
MOVED = 2e-4  # of the lens term: less says nothing about how answers change
SLOPES = (-3.0, 0.8)  # of an answer over what went in; near 1 a secant leads anywhere

Fits = Callable[[Recording, Config], CalibrationResult]


def fit_pictures(calibrate: Fits, recording: Recording, config: Config) -> CalibrationResult:
    """What ``calibrate`` says of a recording whose pictures, where they were kept, are measured
    again with what the pass before has found."""
    if recording.pictures is None:
        return calibrate(recording, config)
    passes: list[tuple[dict[str, Any], dict[str, Any]]] = []  # what went in, what came out
    before: CalibrationResult | None = None
    settings = config
    for _ in range(PASSES):
        seen = replace(recording, sight=recording.pictures.sight(config.camera))
        result = calibrate(seen, config)
        if before is not None and result.agrees(before):
            # A doubt counts only where another measurement would change nothing.
            return _with_tape(result, settings, config)
        found = result.aside | result.settings()
        given = {LENS: config.camera.lens_k1, PLANE: config.camera.homography}
        passes.append((given, found))
        config = with_values(config, found | meeting(passes))
        before = result
    return _with_tape(_unsettled(result, given), settings, config)


def meeting(passes: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Lens term and homography at which the next answer should be what goes in; empty where the
    passes do not tell."""
    if len(passes) < 2 or any(LENS not in found for _, found in passes[-2:]):
        return {}
    (given_before, found_before), (given, found) = passes[-2:]
    moved = given[LENS] - given_before[LENS]
    if abs(moved) < MOVED:
        return {}
    slope = min(max((found[LENS] - found_before[LENS]) / moved, SLOPES[0]), SLOPES[1])
    further = slope / (1.0 - slope)
    out: dict[str, Any] = {LENS: found[LENS] + further * (found[LENS] - given[LENS])}
    if PLANE in found:
        was, now = np.array(given[PLANE]), np.array(found[PLANE])
        was = was * now[8] / was[8]  # a homography is known but for a factor
        out[PLANE] = tuple((now + further * (now - was)).tolist())
    return out


def _with_tape(result: CalibrationResult, before: Config, after: Config) -> CalibrationResult:
    """With a word where the tape does not look as long as it was measured."""
    camera = after.camera
    factor = camera.tape_end_m / before.camera.tape_end_m
    if abs(factor - 1.0) < OTHER_TAPE:
        return result
    note = (
        f"by the cart's metres the tape is {factor:.3f} times as long as by the settings: "
        "rig.track_length_m is measured wrong, or camera.tape_start_m and tape_end_m are (then "
        f"{camera.tape_start_m:.3g} and {camera.tape_end_m:.3g})"
    )
    return replace(result, notes=(*result.notes, note))


def _unsettled(result: CalibrationResult, given: dict[str, Any]) -> CalibrationResult:
    """A lens that the last pass still moved is known no better than by how much."""
    if LENS not in result.estimates:
        return result
    one = result.estimates[LENS]
    half = float(np.hypot(one.ci95[1] - one.value, one.value - given[LENS]))
    wide = replace(one, ci95=(one.value - half, one.value + half))
    return replace(result, estimates=result.estimates | {LENS: wide})
