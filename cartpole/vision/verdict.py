"""Whether a measured strip may be believed, and how well it fits; compiled."""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import DetectionStatus, FloatArray
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
from cartpole.vision.slices import (
    DISPLACED_SHARE,
    GROUND_NOISE,
    LIGHT,
    MISSING,
    NOISE,
    OPTICS_ODD,
    OPTICS_SHARE,
    PIXEL_NOISE,
)
from cartpole.vision.torn import is_torn

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
# A tape that is a little crooked is so in every picture, a tear in one: beyond this share of slices
# off the line, and so many times what is usual, it is refused, but not more than so many in a row.
ODD_SHARE, ODD_TIMES, ODD_IN_A_ROW = 0.03, 3.0, 16
USUAL_NEW = 1.0 / 16.0  # weight of a picture in what is usual
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
def odd(share: float, optics: FloatArray) -> bool:
    """Whether a larger share of the slices than usual is off the strip's line."""
    crooked = share > max(ODD_SHARE, ODD_TIMES * optics[OPTICS_SHARE])
    if crooked and optics[OPTICS_ODD] < ODD_IN_A_ROW:
        optics[OPTICS_ODD] += 1.0
        return True
    new = 1.0 if crooked else USUAL_NEW
    optics[OPTICS_SHARE] += new * (share - optics[OPTICS_SHARE])
    optics[OPTICS_ODD] = 0.0
    return False


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
    if odd(report[DISPLACED_SHARE], optics):
        return MISFIT
    if report[MISSING] == 0.0 and pose[ENDS_SEEN] > 1.0:
        return OK
    if is_torn(frame, table, report, prior, pose, g, scratch):
        return MISFIT
    return OK


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
