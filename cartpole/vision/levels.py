"""Grey levels of ground and tape, from the pixels; and the threshold and exposure that suit them.

The tape covers a percent of the picture, so no global statistic shows it. It is found by what it
does: it moves. Of the pixels that rise above their own darkest state, Otsu's method takes the
bright class; the bright region that holds most of them is the tape, whatever the threshold in the
settings is. Bright regions that never darken are reflections. A pole at rest is taken from the
tracker's rectangles, if it found any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cartpole.config.schema import Camera
from cartpole.errors import IdentificationError
from cartpole.messages import Detection, DetectionStatus
from cartpole.vision.frame import Pixels

WHITE_DN = 250  # from here on a pixel counts as saturated
TARGET_DN = 200.0  # the tape's level to aim at: far above the noise, below saturation
KEEP_DN = (180.0, 225.0)  # a tape inside this needs no other exposure
MUCH_WHITE = 0.3  # share of saturated tape pixels beyond which its level is unknown
_ALL_WHITE = 0.95  # and beyond this it is probably far above
MAX_PICTURES = 32  # looked at, evenly picked
GRAVITY_M_S2 = 9.81
BLACK_DN = 16.0  # a sensor's black level may lie as high as this

_LEAST_MOVING = 3e-4  # share of the pixels that a moving tape changes at least
_LEAST_ELONGATION = 2.2  # of a strip
_GROUND_SPREAD, _TAPE_SPREAD = 0.04, 0.08  # least spreads, in parts of the contrast
_LOWEST, _HIGHEST = 0.25, 0.6  # where between ground and tape a threshold may lie
_FALSE_SHARE, _FOUND_SHARE = 1e-4, 0.95  # of ground above, of tape above: "the same is found"

NOTHING_BRIGHT = (
    "nothing bright moves in the picture: is the ring light on, is the lens cap off, is the "
    "infrared filter out?"
)
NOTHING_MOVES = (
    "nothing moves in the pictures and the tracker finds no pole: let the pole swing while they "
    "are taken"
)
NO_STRIP = (
    "what moves brightly is no strip: keep people and shiny parts out of the picture, and the "
    "whole pole inside"
)

_Mask = npt.NDArray[np.bool_]
_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reflection:
    """A bright region that stands still in the picture."""

    column_px: int
    row_px: int
    area_px: int
    level_dn: int
    strip_like: bool


@dataclass(frozen=True, slots=True)
class Levels:
    """Grey levels of ground and tape over some pictures.

    ``ground`` and ``tape`` are histograms (256,): all pixels away from tape and reflections, and
    the tape's pixels without its edges. ``area_px`` is the tape's median area in a picture.
    """

    ground_dn: float  # median
    ground_top_dn: float  # 99.9th percentile
    tape_dn: float  # median
    tape_low_dn: float  # 5th percentile
    saturated: float  # share of the tape's pixels
    noise_dn: float  # standard deviation from picture to picture
    area_px: float
    pictures: int
    ground: tuple[int, ...]
    tape: tuple[int, ...]
    reflections: tuple[Reflection, ...]

    @property
    def contrast_dn(self) -> float:
        """Tape's level above the ground's."""
        return self.tape_dn - self.ground_dn


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
    return int(low), int(high)


def gain_factor(gain: int) -> float:
    """How many times brighter a PS Eye's picture is than with gain 0.

    Its sensor's register GAIN multiplies (1 + bit 7)(1 + bit 6)(1 + bit 5)(1 + bit 4)(1 + low four
    bits / 16) (OmniVision OV7720 data sheet); the kernel's driver (gspca ov534) makes 0x0g, 0x3g,
    0x7g and 0xfg of the control's 0x0g, 0x1g, 0x2g and 0x3g: 1, 4, 8 and 16 times (1 + g / 16).
    """
    return (1.0, 4.0, 8.0, 16.0)[(gain >> 4) & 3] * (1.0 + (gain & 15) / 16.0)


def brightness(camera: Camera) -> float:
    """Light times exposure times gain, 1 with the default settings."""
    usual = Camera.model_fields
    exposure = camera.exposure / usual["exposure"].default
    return float(exposure * (gain_factor(camera.gain) / gain_factor(usual["gain"].default)))


# --- levels from the pixels ---------------------------------------------------------------------


def measure_levels(
    pictures: Sequence[Pixels], detections: Sequence[Detection | None] = ()
) -> Levels:
    """Levels of ground and tape.

    Args:
        pictures: (height, width) uint8 each, of one size, best over a swing.
        detections: what the tracker found in each of them; only needed if the pole does not move.

    Raises:
        IdentificationError: no tape can be told from the ground; says what to do.
    """
    chosen, found = _pick(pictures, detections)
    if not chosen:
        raise IdentificationError("no pictures: check the camera's cable")
    stack = np.stack(chosen)
    smooth = _smoothed(stack)
    noise = _noise(stack)
    ground = float(np.median(stack))
    still = np.partition(smooth, len(stack) // 16, axis=0)[len(stack) // 16]
    rise = smooth.astype(np.int16) - still
    # ``still`` is the darkest of many: about two standard deviations of smoothed noise too low.
    moving = rise > 2.3 * noise + 2.0
    if len(stack) > 1 and np.count_nonzero(moving) > _LEAST_MOVING * stack.size:
        split = _otsu(rise[moving])
        cut = ground + split
        masks = _moving_masks(smooth > cut, rise > split, still > cut)
    else:
        resting = _resting_mask(found, stack.shape[1:])
        if resting is None:
            dark = np.percentile(stack, 99.9) - ground < 6.0 * noise + 8.0
            raise IdentificationError(NOTHING_BRIGHT if dark else NOTHING_MOVES)
        masks = np.stack([resting] * len(stack))
    return _levels(stack, masks, still, noise)


def _pick(
    pictures: Sequence[Pixels], detections: Sequence[Detection | None]
) -> tuple[list[Pixels], list[Detection]]:
    count = min(len(pictures), MAX_PICTURES)
    places = [(2 * i + 1) * len(pictures) // (2 * count) for i in range(count)]
    seen = [detections[i] if i < len(detections) else None for i in places]
    found = [one for one in seen if one is not None and one.status is DetectionStatus.OK]
    return [np.ascontiguousarray(pictures[i]) for i in places], found


def _smoothed(stack: Pixels) -> Pixels:
    """Means over 3x3 pixels: a third of the noise."""
    import cv2

    return np.stack([np.asarray(cv2.blur(one, (3, 3)), np.uint8) for one in stack])


def _noise(stack: Pixels) -> float:
    """Standard deviation of a pixel from picture to picture (median of the differences)."""
    if len(stack) < 2:
        return 1.0
    change = np.abs(np.diff(stack[:, ::2, ::2].astype(np.int16), axis=0))
    share = np.bincount(change.ravel(), minlength=256).cumsum() / change.size
    # Between whole numbers, else small noise would have steps of one grey level.
    upper = int(np.argmax(share >= 0.5))
    below = share[upper - 1] if upper else 0.0
    median = max(0.0, upper - 0.5 + (0.5 - below) / (share[upper] - below))
    return float(max(0.5, 1.4826 * median / math.sqrt(2.0)))


def _otsu(values: npt.NDArray[np.int16]) -> float:
    """Otsu's threshold (1979): the largest variance between two classes."""
    counts = np.bincount(values, minlength=256).astype(np.float64)
    levels = np.arange(len(counts))
    below, total = counts.cumsum(), counts.sum()
    moment = (counts * levels).cumsum()
    between = (moment[-1] * below / total - moment) ** 2
    between /= np.maximum(below * (total - below), 1.0)
    return int(np.argmax(between)) + 0.5


def _moving_masks(bright: _Mask, moved: _Mask, static: _Mask) -> _Mask:
    """The tape's pixels, (pictures, height, width).

    Args:
        bright: pixels above the cut.
        moved: pixels that rose by as much; the tape's region holds most of them.
        static: (height, width) above the cut at all times: a reflection unless it is connected to
            the tape in most pictures (its inner end, near the pivot).
    """
    import cv2

    masks = np.zeros_like(bright)
    strips = seen = 0
    _, islands = cv2.connectedComponents(static.astype(np.uint8), connectivity=8)
    touched = np.zeros(int(islands.max()) + 1, np.int64)
    for index, picture in enumerate(bright):
        _, labels = cv2.connectedComponents(picture.astype(np.uint8), connectivity=8)
        votes = np.bincount(labels[moved[index] & picture], minlength=2)
        votes[0] = 0
        if votes.max() < 4:
            continue
        masks[index] = labels == int(np.argmax(votes))
        seen += 1
        strips += _elongation(masks[index]) > _LEAST_ELONGATION
        touched[np.unique(islands[masks[index]])] += 1
    if strips < 0.3 * seen or seen == 0:
        raise IdentificationError(NO_STRIP)
    own = 2 * touched > seen
    kept = own[islands] | (islands == 0)
    return np.asarray(masks & kept)


def _elongation(mask: _Mask) -> float:
    """Length over width of the rotated rectangle around a region."""
    import cv2

    points = np.argwhere(mask)[:, ::-1].astype(np.float32)
    _, (a, b), _ = cv2.minAreaRect(points)
    return float((max(a, b) + 1.0) / (min(a, b) + 1.0))


def _resting_mask(found: Sequence[Detection], shape: tuple[int, ...]) -> _Mask | None:
    """(height, width): the tracker's median rectangle; None if it found the pole nowhere."""
    import cv2

    corners = [one.corners_px for one in found if one.corners_px]
    if not corners:
        return None
    area = np.zeros(shape, np.uint8)
    middle = np.median(np.array(corners), axis=0)
    cv2.fillConvexPoly(area, np.rint(middle).astype(np.int32), 1)
    return np.asarray(area > 0)


def _levels(stack: Pixels, masks: _Mask, still: Pixels, noise: float) -> Levels:
    """Histograms of the tape's pixels and of those away from tape and reflections."""
    tape, areas = np.zeros(256, np.int64), []
    for picture, mask in zip(stack, masks, strict=True):
        if mask.any():
            areas.append(np.count_nonzero(mask))
            tape += np.bincount(picture[_core(mask, picture)], minlength=256)
    area = float(np.median(areas))
    dark, tape_dn = float(np.median(stack)), quantile(tape, 0.5)
    dim = dark + max(_LOWEST * (tape_dn - dark), 2.0 * noise + 2.0)
    glare = (still > dim) & ~_grown(masks.mean(axis=0) > 0.5)
    away = ~_grown(glare)
    ground = np.zeros(256, np.int64)
    for picture, mask in zip(stack, masks, strict=True):
        ground += np.bincount(picture[away & ~_grown(mask)], minlength=256)
    if not ground.any():
        raise IdentificationError(NO_STRIP)
    return Levels(
        ground_dn=quantile(ground, 0.5),
        ground_top_dn=quantile(ground, 0.999),
        tape_dn=tape_dn,
        tape_low_dn=quantile(tape, 0.05),
        saturated=float(tape[WHITE_DN:].sum() / tape.sum()),
        noise_dn=noise,
        area_px=area,
        pictures=len(areas),
        ground=tuple(ground.tolist()),
        tape=tuple(tape.tolist()),
        reflections=_reflections(glare, still, area),
    )


def _grown(mask: _Mask) -> _Mask:
    """With four pixels around, the blur of its edges."""
    import cv2

    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0)


def _core(mask: _Mask, picture: Pixels) -> _Mask:
    """The tape without its edges; of a tape too thin for that, the brighter half."""
    import cv2

    core = np.asarray(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    if 4 * np.count_nonzero(core) >= np.count_nonzero(mask):
        return core
    return np.asarray(mask & (picture >= np.median(picture[mask])))


def _reflections(glare: _Mask, still: Pixels, tape_area_px: float) -> tuple[Reflection, ...]:
    """Largest first; specks of a few pixels are left out."""
    import cv2

    count, labels, stats, centres = cv2.connectedComponentsWithStats(glare.astype(np.uint8))
    found = []
    for label in range(1, count):
        area = int(stats[label, cv2.CC_STAT_AREA])
        if area < 6:
            continue
        region = labels == label
        column, row = np.rint(centres[label]).astype(int).tolist()
        long = area > 0.2 * tape_area_px and _elongation(region) > _LEAST_ELONGATION
        level = int(np.percentile(still[region], 90))
        found.append(Reflection(column, row, area, level, bool(long)))
    return tuple(sorted(found, key=lambda one: -one.area_px))


def quantile(counts: Sequence[int] | _Counts, share: float) -> float:
    """The level below which that share of a histogram lies, between whole numbers."""
    below = np.cumsum(counts) / np.sum(counts)
    at = int(np.argmax(below >= share))
    before = below[at - 1] if at else 0.0
    return float(min(255.0, max(0.0, at - 0.5 + (share - before) / (below[at] - before))))


# --- settings that suit the levels --------------------------------------------------------------


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
    share = min(max(ground / (ground + tape), _LOWEST), _HIGHEST)
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
