"""Threshold, exposure and gain from pictures of the moving pole.

Exposure changes the levels that the threshold stands between, so both are proposed together: the
threshold is that of the pictures to come. A saturated tape says only that it is too bright, and a
black level or another gain than assumed shows only in the next pictures. Therefore: take pictures,
apply what they propose, take pictures again, until ``settled`` (three times are enough).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.result import CalibrationResult, Estimate
from cartpole.errors import IdentificationError
from cartpole.messages import Detection, DetectionStatus
from cartpole.vision.exposure import (
    KEEP_DN,
    MUCH_WHITE,
    Proposal,
    bounds,
    exposure_limit,
    propose,
    setting_for,
)
from cartpole.vision.frame import Pixels
from cartpole.vision.levels import Levels, Reflection, measure_levels

if TYPE_CHECKING:
    from cartpole.config.schema import Camera

Picture = tuple[Pixels, Detection | None]

THRESHOLD, EXPOSURE, GAIN = "camera.threshold", "camera.exposure", "camera.gain"
EXPOSURE_S = "camera.exposure_s"
GLARE_DN = 150.0  # a median above this, with no tape to be seen, is too much light
NAMED = 5  # reflections that are named


def levels_from_pictures(
    pictures: Sequence[Picture], camera: Camera, fastest_m_s: float | None = None
) -> CalibrationResult:
    """Threshold and exposure, and gain where exposure is at its bound, as whole numbers.

    Args:
        pictures: ((height, width) uint8, what the tracker found in it or None), all taken with
            ``camera``; 20 or more over a swing are enough, more than 32 are thinned out.
        camera: the settings that they were taken with.
        fastest_m_s: speed of the tape's far end that must not smear by more than the tape's width;
            None takes that of a fall from upright.

    Returns:
        ``camera.threshold`` (for the proposed exposure), ``camera.exposure``, and, if they change,
        ``camera.gain`` and ``camera.exposure_s``. What cannot be said is in ``refused``.

    Raises:
        IdentificationError: no tape to be seen; says what to do.
    """
    frames = [one for one, _ in pictures]
    try:
        levels = measure_levels(frames, [one for _, one in pictures])
    except IdentificationError:
        if frames and float(np.median(frames[len(frames) // 2])) >= GLARE_DN:
            return _glare(float(np.median(frames[len(frames) // 2])), camera)
        raise
    proposal = propose(levels, camera, fastest_m_s)
    estimates = _estimates(levels, proposal, camera)
    refused = _refused(levels, proposal, camera)
    notes = _notes(levels, proposal, camera, [one for _, one in pictures])
    kept = {name: one for name, one in estimates.items() if name not in refused}
    return CalibrationResult(kept, 0.0, refused, notes)


def settled(result: CalibrationResult, camera: Camera) -> bool:
    """Whether another look would change nothing but the threshold: ``result`` keeps ``camera``'s
    exposure and gain, or says that it cannot help."""
    wanted = result.settings()
    return bool(
        wanted.get(EXPOSURE, camera.exposure) == camera.exposure
        and wanted.get(GAIN, camera.gain) == camera.gain
    )


def _glare(median: float, camera: Camera) -> CalibrationResult:
    exposure, gain = setting_for(camera, 0.5, exposure_limit(camera))
    refused = {THRESHOLD: f"too bright everywhere (half the picture is above {median:.0f})"}
    if (exposure, gain) == (camera.exposure, camera.gain):
        refused[EXPOSURE] = "too bright at the shortest exposure: keep daylight and lamps away"
        return CalibrationResult({}, 0.0, refused)
    refused[THRESHOLD] += ": apply the shorter exposure, keep daylight away, and run again"
    span = (float(bounds("exposure")[0] + 1), float(camera.exposure))
    estimates = {EXPOSURE: Estimate(exposure, span, "")}
    estimates |= _goes_with_exposure(camera, exposure, gain)
    return CalibrationResult(estimates, 0.0, refused)


def _estimates(levels: Levels, proposal: Proposal, camera: Camera) -> dict[str, Estimate]:
    value, low, high = proposal.threshold_now if camera.source == "stream" else proposal.threshold
    estimates = {THRESHOLD: Estimate(value, (float(low), float(high)), "grey levels")}
    shortest, longest = proposal.exposure_range
    estimates[EXPOSURE] = Estimate(proposal.exposure, (float(shortest), float(longest)), "")
    return estimates | _goes_with_exposure(camera, proposal.exposure, proposal.gain)


def _goes_with_exposure(camera: Camera, exposure: int, gain: int) -> dict[str, Estimate]:
    """Gain, if it changes, and the exposure's time, which goes with its control."""
    changed: dict[str, Estimate] = {}
    if gain != camera.gain:
        least, most = bounds("gain")
        span = (float(max(least, gain - 2)), float(min(most, gain + 2)))
        changed[GAIN] = Estimate(gain, span, "")
    if exposure != camera.exposure:
        time_s = min(max(camera.exposure_s * exposure / max(1, camera.exposure), 1e-5), 0.05)
        changed[EXPOSURE_S] = Estimate(time_s, (0.9 * time_s, 1.1 * time_s), "s")
    return changed


def _refused(levels: Levels, proposal: Proposal, camera: Camera) -> dict[str, str]:
    refused = {}
    threshold = proposal.threshold_now.value
    large = [
        one
        for one in levels.reflections
        if one.level_dn > threshold and (one.strip_like or one.area_px > levels.area_px)
    ]
    if large:
        places = ", ".join(_place(one) for one in large[:NAMED])
        refused[THRESHOLD] = (
            f"no threshold tells the tape from bright things that do not move, {places}: cover them"
        )
    if camera.source == "stream":
        why = "a stream's exposure is set at the camera, not here"
        refused |= {EXPOSURE: why, GAIN: why, EXPOSURE_S: why}
    elif levels.saturated > MUCH_WHITE and proposal.factor > 0.99:
        refused[EXPOSURE] = "the tape is saturated at the shortest exposure: dim the ring light"
    return refused


def _place(one: Reflection) -> str:
    return (
        f"at column {one.column_px}, row {one.row_px} (level {one.level_dn}, {one.area_px} pixels)"
    )


def _notes(
    levels: Levels, proposal: Proposal, camera: Camera, detections: list[Detection | None]
) -> tuple[str, ...]:
    notes = [
        (
            f"background {levels.ground_dn:.0f} (brightest parts {levels.ground_top_dn:.0f}), tape "
            f"{levels.tape_dn:.0f} (darkest parts {levels.tape_low_dn:.0f}), contrast "
            f"{levels.contrast_dn:.0f}, noise {levels.noise_dn:.1f}, "
            f"{100 * levels.saturated:.0f} % of the tape saturated"
        )
    ]
    known = [one for one in detections if one is not None]
    if known:
        found = sum(one.status is DetectionStatus.OK for one in known)
        notes.append(
            f"with threshold {camera.threshold} the pole was found in {found} of {len(known)} "
            f"pictures; {proposal.threshold_now.value} suits them"
        )
    notes += _exposure_notes(levels, proposal, camera)
    for one in levels.reflections[:NAMED]:
        if one.level_dn >= levels.tape_low_dn:
            notes.append(f"a reflection as bright as the tape {_place(one)}: cover it")
    return tuple(notes)


def _exposure_notes(levels: Levels, proposal: Proposal, camera: Camera) -> list[str]:
    if camera.source == "stream":
        return []
    notes = []
    if levels.saturated > MUCH_WHITE:
        notes.append("the tape is saturated, its level unknown: run again after this step down")
    elif proposal.gain == bounds("gain")[1] and proposal.reached_dn < KEEP_DN[0]:
        notes.append(
            f"with the longest exposure and the most gain the tape will read "
            f"{proposal.reached_dn:.0f}: a brighter ring light, or closer to the lens, would help"
        )
    if proposal.exposure == proposal.exposure_limit or proposal.gain > camera.gain:
        notes.append(
            f"exposure {proposal.exposure_limit} is the longest: beyond it a fast pole smears over "
            "more than the tape's width, or the frame rate falls; a brighter light is better"
        )
    if proposal.exposure != camera.exposure:
        notes.append("exposure changes the camera's delay: run `cartpole calibrate latency` after")
    return notes


# --- what a person sees -------------------------------------------------------------------------


def draw_levels(
    pictures: Sequence[Picture], camera: Camera, path: Path, fastest_m_s: float | None = None
) -> None:
    """One PNG: a picture with what lies above the present and above the proposed threshold, and
    the histograms of ground and tape with both.

    The good threshold is drawn where it lies in these pictures; the title says what it becomes with
    the proposed exposure. Raises as :func:`levels_from_pictures` does.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    frames = [one for one, _ in pictures]
    levels = measure_levels(frames, [one for _, one in pictures])
    proposal = propose(levels, camera, fastest_m_s)
    figure = plt.figure(figsize=(11.0, 8.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1.25, 1.0))
    frame = frames[len(frames) // 2]
    for column, (threshold, name) in enumerate(
        ((camera.threshold, "the present threshold"), (proposal.threshold_now.value, "a good one"))
    ):
        axis = figure.add_subplot(grid[0, column])
        _draw_picture(axis, frame, threshold, levels)
        share = 100.0 * float(np.mean(frame > threshold))
        axis.set_title(f"above {name}, {threshold}: {share:.2f} % of the picture")
    _draw_histogram(figure.add_subplot(grid[1, :]), levels, proposal, camera)
    figure.suptitle(_headline(proposal, camera))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _headline(proposal: Proposal, camera: Camera) -> str:
    words = []
    for name, old, new in (
        ("threshold", camera.threshold, proposal.threshold.value),
        ("exposure", camera.exposure, proposal.exposure),
        ("gain", camera.gain, proposal.gain),
    ):
        words.append(f"{name} {old} → {new}" if new != old else f"{name} {old} stays")
    return "proposed:  " + "    ".join(words)


def _draw_picture(axis: Any, frame: Pixels, threshold: int, levels: Levels) -> None:
    """The picture with its dark parts lifted, so that a person sees what is there."""
    from cartpole.vision.alignment import tinted

    lifted = 230.0 * np.minimum(frame / max(levels.tape_dn, 1.0), 1.0) ** 0.8
    view = tinted(frame, threshold, lifted.astype(np.uint8))
    axis.imshow(view[:, :, ::-1], interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    for one in levels.reflections[:NAMED]:
        axis.plot(
            one.column_px, one.row_px, "o", markersize=22, markerfacecolor="none", color="#ff7060"
        )
        axis.annotate(
            "reflection",
            (one.column_px, one.row_px),
            (0, 14),
            textcoords="offset points",
            color="#ff7060",
            fontsize=10,
            ha="center",
        )


def _draw_histogram(axis: Any, levels: Levels, proposal: Proposal, camera: Camera) -> None:
    """Shares of ground's and tape's own pixels, so that the thin tape shows beside the ground."""
    grey = np.arange(256)
    for counts, colour, name in (
        (levels.ground, "0.45", f"background, median {levels.ground_dn:.0f}"),
        (levels.tape, "tab:blue", f"tape, median {levels.tape_dn:.0f}"),
    ):
        share = 100.0 * np.array(counts) / sum(counts)
        axis.fill_between(grey, share, step="mid", color=colour, alpha=0.55, label=name)
    now = proposal.threshold_now
    axis.axvspan(now.low, now.high, color="tab:green", alpha=0.1, label="finds the same")
    axis.axvline(now.value, color="tab:green", linewidth=2, label=f"good here: {now.value}")
    axis.axvline(
        camera.threshold, color="tab:red", linestyle="--", label=f"present: {camera.threshold}"
    )
    axis.set_yscale("log")
    axis.set_ylim(1e-4, 100.0)
    axis.set_xlim(0, 255)
    axis.set_xlabel("grey level in these pictures")
    axis.set_ylabel("share of its pixels [%]")
    axis.legend(loc="upper center", ncols=3, fontsize=9)
    axis.grid(alpha=0.25)
