"""Threshold, exposure and gain that suit the grey levels of ground and tape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cartpole.config.schema import Camera
from cartpole.model.parameters import GRAVITY_M_S2
from cartpole.vision.levels import LOWEST, Levels

MOST_GAIN = 63  # a PS Eye's; what a step does is known of this one only
TARGET_DN = 200.0  # the tape's level to aim at: far above the noise, below saturation
KEEP_DN = (180.0, 225.0)  # a tape inside this needs no other exposure
MUCH_WHITE = 0.3  # share of saturated tape pixels beyond which its level is unknown
BLACK_DN = 16.0  # a sensor's black level may lie as high as this

_ALL_WHITE = 0.95  # and beyond this the tape is probably far above saturation
_GROUND_SPREAD, _TAPE_SPREAD = 0.04, 0.08  # least spreads, in parts of the contrast
_HIGHEST = 0.6  # of the way from ground to tape; a threshold lies between LOWEST and this
_FALSE_SHARE, _FOUND_SHARE = 1e-4, 0.95  # of ground above, of tape above: "the same is found"


class Threshold(NamedTuple):
    """A threshold and how far it may move while the same pixels are found."""

    value: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings that suit the levels.

    ``threshold`` belongs to the new exposure and gain; ``threshold_now`` to the present ones.
    ``factor`` is how much brighter the picture becomes. ``reached`` is the tape's level then; 0 if
    the tape is saturated and so its level unknown.
    """

    threshold: Threshold
    threshold_now: Threshold
    exposure: int
    exposure_range: tuple[int, int]
    exposure_limit: int
    gain: int
    factor: float
    reached_dn: float


def bounds(name: str) -> tuple[int, int]:
    """Lowest and highest value of one of the camera's whole-numbered settings."""
    metadata = Camera.model_fields[name].metadata
    low = next(one.ge for one in metadata if hasattr(one, "ge"))
    high = next(one.le for one in metadata if hasattr(one, "le"))
    return int(low), min(int(high), MOST_GAIN) if name == "gain" else int(high)


def gain_factor(gain: int) -> float:
    """How many times brighter a PS Eye's picture is than with gain 0.

    Its sensor's register GAIN multiplies (1 + bit 7)(1 + bit 6)(1 + bit 5)(1 + bit 4)(1 + low four
    bits / 16) (OmniVision OV7720 data sheet); the kernel's driver (gspca ov534) makes 0x0g, 0x3g,
    0x7g and 0xfg of the control's 0x0g, 0x1g, 0x2g and 0x3g: 1, 4, 8 and 16 times (1 + g / 16).
    """
    gain = min(gain, MOST_GAIN)
    return (1.0, 4.0, 8.0, 16.0)[gain >> 4] * (1.0 + (gain & 15) / 16.0)


def brightness(camera: Camera) -> float:
    """Light times exposure times gain, 1 with the default settings."""
    usual = Camera.model_fields
    exposure = camera.exposure / usual["exposure"].default
    return float(exposure * (gain_factor(camera.gain) / gain_factor(usual["gain"].default)))


def threshold_between(levels: Levels, factor: float = 1.0) -> Threshold:
    """The threshold for pictures that are ``factor`` times brighter than those measured.

    As many standard deviations from the ground as from the tape,

        t = (s_tape m_ground + s_ground m_tape) / (s_ground + s_tape),

    which for two normal distributions makes the larger of the two error rates least (Anderson and
    Bahadur 1962; the decision level of an optical receiver, Agrawal, Fiber-Optic Communication
    Systems, 4.6). Deviations are those of the tails that meet: ground's 99.9th percentile, which
    holds vignetting and dim reflections, and tape's 5th, which holds smear. They count for at least
    a part of the contrast, since light and background change from day to day. Reflections are not
    in the ground's tail; the threshold is raised above those that leave room below the tape.

    The interval is how far it may move while at most one ground pixel in ten thousand comes above,
    and at least 95 % of the tape stays above.
    """
    # Noise need not shrink with the light.
    spread = max(1.0, factor)
    contrast = factor * max(levels.contrast_dn, 1.0)
    ground = spread * (levels.ground_top_dn - levels.ground_dn) / 3.09
    tape = spread * (levels.tape_dn - levels.tape_low_dn) / 1.645
    ground, tape = max(ground, _GROUND_SPREAD * contrast), max(tape, _TAPE_SPREAD * contrast)
    share = min(max(ground / (ground + tape), LOWEST), _HIGHEST)
    value = factor * levels.ground_dn + share * contrast
    over = _above_reflections(levels, factor, spread)
    value = max(value, over)
    above_ground = 1.0 - np.cumsum(levels.ground) / max(1, sum(levels.ground))
    above_tape = 1.0 - np.cumsum(levels.tape) / max(1, sum(levels.tape))
    lowest = float(np.argmax(above_ground <= _FALSE_SHARE)) - levels.ground_dn
    highest = float(np.argmin(above_tape >= _FOUND_SHARE)) - 1.0 - levels.tape_dn
    low = min(value, max(over, factor * levels.ground_dn + spread * lowest))
    high = max(value, factor * levels.tape_dn + spread * highest)
    least, most = bounds("threshold")
    low, value, high = (min(max(round(one), least), most) for one in (low, value, high))
    return Threshold(value, low, high)


def _above_reflections(levels: Levels, factor: float, spread: float) -> float:
    """Three standard deviations above the brightest reflection that leaves room; 0 if none does."""
    highest = factor * (levels.ground_dn + _HIGHEST * levels.contrast_dn)
    tops = [factor * one.level_dn + 3.0 * spread * levels.noise_dn for one in levels.reflections]
    return max((one for one in tops if one <= highest), default=0.0)


def fastest_tip_m_s(camera: Camera) -> float:
    """Speed of the tape's far end at the bottom of a fall from upright, as of a rod that long."""
    return math.sqrt(6.0 * GRAVITY_M_S2 * camera.tape_end_m)


def exposure_limit(camera: Camera, fastest_m_s: float | None = None) -> int:
    """The longest exposure at which the fastest tape smears by no more than its width, and which
    fits between two pictures; the control is taken as proportional to ``exposure_s``."""
    speed = fastest_tip_m_s(camera) if fastest_m_s is None else fastest_m_s
    longest_s = min(camera.tape_width_m / max(speed, 1e-3), 1.0 / camera.rate_hz)
    low, high = bounds("exposure")
    return min(max(int(camera.exposure * longest_s / camera.exposure_s), low + 1), high)


def propose(levels: Levels, camera: Camera, fastest_m_s: float | None = None) -> Proposal:
    """Threshold, exposure and, where that is at its bound, gain.

    The tape's level is taken as proportional to exposure; a black level makes the next look ask for
    a little more or less.
    """
    limit = exposure_limit(camera, fastest_m_s)
    white = levels.saturated > MUCH_WHITE
    inside = KEEP_DN[0] <= levels.tape_dn <= KEEP_DN[1]
    wanted = 1.0 if inside else TARGET_DN / max(levels.tape_dn, 1.0)
    if white:
        wanted = 0.25 if levels.saturated > _ALL_WHITE else 0.5
    exposure, gain = setting_for(camera, wanted, limit)
    factor = exposure / max(1, camera.exposure) * gain_factor(gain) / gain_factor(camera.gain)
    return Proposal(
        threshold=threshold_between(levels, factor),
        threshold_now=threshold_between(levels),
        exposure=exposure,
        exposure_range=_exposure_range(levels, camera, exposure, gain, white),
        exposure_limit=limit,
        gain=gain,
        factor=factor,
        reached_dn=0.0 if white else min(255.0, factor * levels.tape_dn),
    )


def setting_for(camera: Camera, factor: float, limit: int) -> tuple[int, int]:
    """Exposure and gain that make the picture ``factor`` times as bright; exposure first.

    Gain's steps are up to twice as large as the one before: exposure makes up for them.
    """
    shortest, now = bounds("exposure")[0] + 1, max(1, camera.exposure)
    wanted = now * factor
    if shortest - 0.5 <= wanted <= 1.08 * limit:
        return min(max(round(wanted), shortest), limit), camera.gain
    goal = gain_factor(camera.gain) * wanted / (limit if wanted > limit else shortest)
    low, high = bounds("gain")
    steps = range(low, high + 1)
    if wanted > limit:
        gain = next((one for one in steps if gain_factor(one) >= goal), high)
    else:
        gain = next((one for one in reversed(steps) if gain_factor(one) <= goal), low)
    rest = wanted * gain_factor(camera.gain) / gain_factor(gain)
    return min(max(round(rest), shortest), limit), gain


def _exposure_range(
    levels: Levels, camera: Camera, exposure: int, gain: int, white: bool
) -> tuple[int, int]:
    """Exposures that bring the tape into KEEP_DN, whatever the black level; around ``exposure``."""
    low, high = bounds("exposure")
    if white:
        return low + 1, max(exposure, camera.exposure)
    scale = max(1, camera.exposure) * gain_factor(camera.gain) / gain_factor(gain)
    blacks = (0.0, min(levels.ground_dn, BLACK_DN))
    ends = [
        scale * (goal - black) / max(1.0, levels.tape_dn - black)
        for goal in KEEP_DN
        for black in blacks
    ]
    return (
        min(max(math.floor(min(ends)), low + 1), exposure),
        max(min(math.ceil(max(ends)), high), exposure),
    )


def advice(levels: Levels, proposal: Proposal, camera: Camera) -> str:
    """One line on what to change; empty if the levels are good and the threshold lies between."""
    changes = []
    ours = camera.source != "stream"  # a stream's exposure is set at the camera
    if ours and proposal.exposure != camera.exposure:
        word = "raise" if proposal.exposure > camera.exposure else "lower"
        changes.append(f"{word} camera.exposure to about {proposal.exposure}")
    if ours and proposal.gain != camera.gain:
        word = "raise" if proposal.gain > camera.gain else "lower"
        changes.append(f"{word} camera.gain to about {proposal.gain}")
    now = proposal.threshold_now
    if changes or not now.low <= camera.threshold <= now.high:
        suits = proposal.threshold if ours else now
        changes.append(f"set camera.threshold to about {suits.value}")
    if not changes:
        return ""
    level = "saturated" if levels.saturated > MUCH_WHITE else f"{levels.tape_dn:.0f}"
    return (
        f"tape level {level}, background {levels.ground_dn:.0f}: {', '.join(changes)}, or run "
        "`cartpole calibrate camera`"
    )
