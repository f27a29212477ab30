"""Grey levels of ground and tape, from the pixels.

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

import numpy as np
import numpy.typing as npt

from cartpole.errors import IdentificationError
from cartpole.messages import Detection, DetectionStatus
from cartpole.vision.frame import Pixels

WHITE_DN = 250  # from here on a pixel counts as saturated
MAX_PICTURES = 32  # looked at, evenly picked

LOWEST = 0.25  # of the way from ground to tape: nothing dimmer is taken for the tape
_LEAST_MOVING = 3e-4  # share of the pixels that a moving tape changes at least
_LEAST_ELONGATION = 2.2  # of a strip

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
    dim = dark + max(LOWEST * (tape_dn - dark), 2.0 * noise + 2.0)
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
