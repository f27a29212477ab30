"""Whether a measured strip may be believed, and how well it fits; compiled."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import DetectionStatus, FloatArray
from cartpole.vision.change import change, is_along
from cartpole.vision.frame import Pixels
from cartpole.vision.layout import (
    CHI2,
    CONFIDENCE,
    CORNERS,
    ENDS_SEEN,
    FAR_X,
    FAR_Y,
    NEAR_X,
    NEAR_Y,
    OTHER_SCORE,
    RESIDUAL,
    SCORE,
    SEEN,
    TAPE_END,
    TAPE_START,
    WIDTH,
)
from cartpole.vision.seam import has_seam
from cartpole.vision.slices import (
    AGE,
    BLUR,
    DISPLACED_SHARE,
    GROUND_NOISE,
    HALF_WIDTH,
    LIGHT,
    LOOKED,
    MISSING,
    NOISE,
    ODD_CHANGE,
    ODD_SLICES,
    ODD_WIDTH,
    OPTICS_AGE,
    OPTICS_BLUR,
    OPTICS_HALF,
    OPTICS_TAPER,
    PIXEL_NOISE,
    STEEP,
    TAPER,
    USED,
)
from cartpole.vision.torn import BESIDE_PX, is_torn

OK = int(DetectionStatus.OK)
NO_BLOB = int(DetectionStatus.NO_BLOB)
AMBIGUOUS = int(DetectionStatus.AMBIGUOUS)
LOW_CONFIDENCE = int(DetectionStatus.LOW_CONFIDENCE)
MISFIT = int(DetectionStatus.MISFIT)

AMBIGUOUS_MARGIN = 3.0  # chi-square by which the best explanation must win
WORST_SCORE = 30.0  # chi-square beyond which the strip is not this rig's pole
MIN_CONFIDENCE = 0.15
# What the fit may leave: so many times the ground's noise, and a share of the tape's light, of the
# pixels, and in places (as noise).
MISFIT_NOISES, MISFIT_PIXELS, MISFIT_PLACES = 2.0, 0.05, 0.02
MISFIT_SHARE = 0.2  # of the slices that look like the strip, off its line
MISFIT_CHI2 = 2.5  # of the points of an axis of which no end is where it should be
# A tape that is a little crooked is so in every picture, a tear in one: what is beyond the least
# and so many times what is usual is refused, but not after so many more that were like the one
# before than not.
ODD_SHARE, ODD_TIMES, ODD_ALIKE = 0.03, 3.0, 16
AS_MUCH = 0.7  # alike if the logarithm of how much differs by less,
AS_FAR = 0.08  # or how far along the tape
# Root of the F of a change of curve along the strip: it stands alone; something lies before the
# tape; by chi-square the axis is no pole's, too.
CHANGE, COVERED_CHANGE, BENT_CHANGE = 4.5, 6.5, 3.2
# Chi-square of such an axis, in the ground's noise; and of one along the pixels.
BENT_CHI2, BENT_ALONG_CHI2 = 9.0, 20.0
# rms, of what a change explains: less is what the raster does to a strip along it; and to others.
ALONG_PX, CHANGE_PX = 0.024, 0.012
CHANGE_NOISES = 1.1  # of the ground's: slices that scatter less do not change their curve
RASTER_SHARE = 0.01
CHANGE_MISSING = 5  # slices: where more are missing, something lies before the tape
OTHER_WIDTH = 0.12  # of the width: a picture in which the strip is so much wider or narrower is odd
OTHER_THAN_SET = 0.25  # the same, before any picture told the width,
OTHER_IF_BLIND = 0.5  # and where how far it moved is a guess
USUAL_NEW = 1.0 / 16.0  # weight of a picture in what is usual
OPTICS_SLICES = 24  # that may tell the strip's look
LOOK_NEW = 0.3  # weight of a new look at the strip's width and blur
LEAST_NOISE_DN = 0.3  # rounding alone


@njit(cache=True, nogil=True)
def judge(report: FloatArray, prior: FloatArray, pose: FloatArray) -> int:
    """Whether the pose just solved is this pole's: a status; also how sure that is, into the pose.

    The confidence is the share of the tape that was seen and agrees with a line.
    """
    seen = pose[SEEN] / (prior[TAPE_END] - prior[TAPE_START])
    whole = min(1.0, seen) if seen < 1.3 else max(0.0, 2.3 - seen)
    pose[CONFIDENCE] = whole * (1.0 - report[DISPLACED_SHARE])
    if pose[SCORE] > WORST_SCORE or pose[CONFIDENCE] < MIN_CONFIDENCE:
        return LOW_CONFIDENCE
    if pose[OTHER_SCORE] - pose[SCORE] < AMBIGUOUS_MARGIN:
        return AMBIGUOUS
    return OK


@njit(cache=True, nogil=True)
def odd(
    value: float, least: float, mark: float, room: float, memory: int, optics: FloatArray
) -> bool:
    """Whether ``value`` is beyond ``least`` and more than usual.

    ``mark`` is what the picture's oddity is like, to within ``room``. ``optics`` from ``memory``
    on: what is usual, how many alike were odd, the last one's mark.
    """
    crooked = value > max(least, ODD_TIMES * optics[memory])
    if crooked:
        alike = abs(mark - optics[memory + 2]) < room
        optics[memory + 1] = max(0.0, optics[memory + 1] + (1.0 if alike else -1.0))
        optics[memory + 2] = mark
        if optics[memory + 1] < ODD_ALIKE:
            return True
    new = 1.0 if crooked else USUAL_NEW
    optics[memory] += new * (value - optics[memory])
    optics[memory + 1] = 0.0
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _is_odd(
    table: FloatArray,
    report: FloatArray,
    pose: FloatArray,
    optics: FloatArray,
    scratch: FloatArray,
) -> bool:
    """Whether the strip is more crooked, broken or wider than it usually is."""
    share = report[DISPLACED_SHARE]
    if odd(share, ODD_SHARE, math.log(max(1e-9, share)), AS_MUCH, ODD_SLICES, optics):
        return True
    # Without noise the raster is what is left: a share of the light stands for it.
    quiet = max(report[GROUND_NOISE], RASTER_SHARE * report[LIGHT])
    noises = max(1.0, report[NOISE] / quiet)
    along_pixels, covered = is_along(report), report[MISSING] > CHANGE_MISSING
    bent = pose[CHI2] * noises * noises > (BENT_ALONG_CHI2 if along_pixels else BENT_CHI2)
    least = COVERED_CHANGE if covered else (BENT_CHANGE if bent else CHANGE)
    better, place = 0.0, 0.0
    if bent or noises > CHANGE_NOISES:
        least_px = ALONG_PX if along_pixels and not bent else CHANGE_PX
        better, place = change(table, report, least_px, scratch)
    near, far = pose[NEAR_X], pose[FAR_X]
    if report[STEEP] > 0.0:
        near, far = pose[NEAR_Y], pose[FAR_Y]
    along = (place - near) / (far - near)
    if odd(math.sqrt(better), least, along, AS_FAR, ODD_CHANGE, optics):
        return True
    if report[LOOKED] == 0.0:
        return False
    wider = report[HALF_WIDTH] / optics[OPTICS_HALF]
    least = OTHER_WIDTH if report[AGE] > 0.0 else OTHER_THAN_SET
    least = OTHER_IF_BLIND if report[LOOKED] < 0.0 else least
    found: bool = odd(abs(wider - 1.0), least, math.log(wider), OTHER_WIDTH, ODD_WIDTH, optics)
    return found


@njit(cache=True, nogil=True)
def _learn(report: FloatArray, optics: FloatArray) -> None:
    """The strip's look, from a picture that is believed."""
    optics[OPTICS_AGE] = report[AGE]
    if report[USED] < OPTICS_SLICES or report[LOOKED] < 0.0:
        return
    if report[LOOKED] > 0.0:
        known = report[AGE] > 0.0 and optics[ODD_WIDTH] < OTHER_WIDTH
        weight = LOOK_NEW if known else 1.0
        optics[OPTICS_HALF] += weight * (report[HALF_WIDTH] - optics[OPTICS_HALF])
        optics[OPTICS_BLUR] += weight * (report[BLUR] - optics[OPTICS_BLUR])
        optics[OPTICS_TAPER] += weight * (report[TAPER] - optics[OPTICS_TAPER])
    optics[OPTICS_AGE] += 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def draw_corners(prior: FloatArray, pose: FloatArray) -> None:
    """The corners of the rotated rectangle about what was seen, (x, y) [px] each, into the pose."""
    x0, y0, x1, y1 = pose[NEAR_X], pose[NEAR_Y], pose[FAR_X], pose[FAR_Y]
    half = 0.5 * prior[WIDTH] / max(1e-9, math.hypot(x1 - x0, y1 - y0))
    side_x, side_y = -(y1 - y0) * half, (x1 - x0) * half
    pose[CORNERS], pose[CORNERS + 1] = x0 + side_x, y0 + side_y
    pose[CORNERS + 2], pose[CORNERS + 3] = x1 + side_x, y1 + side_y
    pose[CORNERS + 4], pose[CORNERS + 5] = x1 - side_x, y1 - side_y
    pose[CORNERS + 6], pose[CORNERS + 7] = x0 - side_x, y0 - side_y


@njit(cache=True, nogil=True)
def check(
    frame: Pixels,
    table: FloatArray,
    report: FloatArray,
    prior: FloatArray,
    pose: FloatArray,
    g: FloatArray,
    optics: FloatArray,
    scratch: FloatArray,
) -> int:
    """OK, or MISFIT where what was found is not one picture of the pole; arguments as of
    :func:`cartpole.vision.torn.is_torn`, which is asked if a part of the tape is missing, and
    ``optics`` as of :func:`cartpole.vision.strip.measure_strip`.

    The residual, into the pose, is chi-square a degree of freedom: of the tape's pixels against the
    ground's noise, or of the axis points against theirs, whichever fits worse.
    """
    pixels = report[PIXEL_NOISE] / max(LEAST_NOISE_DN, report[GROUND_NOISE])
    pose[RESIDUAL] = max(pixels * pixels, pose[CHI2])
    noise, light = MISFIT_NOISES * report[GROUND_NOISE], report[LIGHT]
    if (
        report[PIXEL_NOISE] > noise + MISFIT_PIXELS * light
        or report[NOISE] > noise + MISFIT_PLACES * light
        or report[DISPLACED_SHARE] > MISFIT_SHARE
        or (pose[CHI2] > MISFIT_CHI2 and pose[ENDS_SEEN] < 1.0)
    ):
        return MISFIT
    if _is_odd(table, report, pose, optics, scratch):
        return MISFIT
    steep = report[STEEP] > 0.0
    near, far = pose[NEAR_Y if steep else NEAR_X], pose[FAR_Y if steep else FAR_X]
    beside = 0.5 * prior[WIDTH] + BESIDE_PX
    if has_seam(frame, report, min(near, far), max(near, far), beside):
        return MISFIT
    whole = report[MISSING] == 0.0 and pose[ENDS_SEEN] > 1.0
    if not whole and is_torn(frame, table, report, prior, pose, g, scratch):
        return MISFIT
    _learn(report, optics)
    draw_corners(prior, pose)
    return OK
