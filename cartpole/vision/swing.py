"""Which end of the strip moved more while the picture was exposed; compiled.

The pivot of a pole that lies level stands still across the pole, whatever the cart does, its far
end sweeps omega L T: edges are softer there, and that tells which end is which where the track
cannot. An edge that a motion smears over s px has s^2 / 12 more of variance; the fitted kernel of
half width b stands for b^2 / 7.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels
from cartpole.vision.layout import EXPOSURE, PX_PER_M, SIGMA_SPEED, SPEED
from cartpole.vision.orient import Pair
from cartpole.vision.shape import INFORMATION, SHAPE_SIZE, fit_shape
from cartpole.vision.slices import (
    BLIND_SMEAR_PX,
    BLUR,
    GROUND,
    HALF_WIDTH,
    LIGHT,
    LINE_A,
    LINE_B,
    LINE_C,
    MIDDLE,
    PIXEL_NOISE,
    START,
    START_SEEN,
    STEEP,
    STOP,
    STOP_SEEN,
    TABLE_COLUMNS,
    TAPER,
)

OTHER_OPTICS = 0.2  # of an edge's variance: what a lens is softer at one end than at the other
OTHER_PX2 = 0.03  # what else may differ,
RASTER_PX2, RASTER_PX = 0.3, 1.2  # and along the pixels, by how many of them a strip crosses
CLIPPED_DN = 245.0  # edges of light that is cut off are sharper than they are
SPEEDS = 3.0  # sigmas of the cart's speed
SURE = 2.0  # sigmas of the noise count as one: a wrong end costs more than none


@njit(cache=True, nogil=True, error_model="numpy")
def _softer(lines: Pixels, report: FloatArray, scratch: FloatArray) -> Pair:
    """How much softer edges get from the strip's middle to its second end [px], by all slices of
    ``lines``, and its sigma; inf: not told."""
    first, last = math.ceil(report[START]), math.floor(report[STOP])
    line, shape = np.empty(4), np.empty(SHAPE_SIZE)
    line[0], line[1], line[2] = report[LINE_A], report[LINE_B], report[LINE_C]
    line[3] = report[MIDDLE]
    shape[0], shape[1] = report[HALF_WIDTH], report[TAPER] * 0.5 * (last - first)
    shape[2], shape[3] = report[BLUR], 0.0
    shape[4], shape[5] = BLIND_SMEAR_PX, BLIND_SMEAR_PX
    shape[6], shape[INFORMATION] = math.sqrt(1.0 + line[1] * line[1]), 0.0
    table = np.empty((2 * (last - first) + 4, TABLE_COLUMNS))
    fit_shape(lines, line, first, last, shape, table, scratch, last - first + 1)
    if shape[INFORMATION] <= 0.0:
        return 0.0, math.inf
    return shape[3], report[PIXEL_NOISE] / math.sqrt(shape[INFORMATION])


@njit(cache=True, nogil=True, error_model="numpy")
def swing(frame: Pixels, report: FloatArray, prior: FloatArray, scratch: FloatArray) -> Pair:
    """Variance [px^2] that the strip's second end has more than its first, and its sigma; inf: not
    told, or not all of the tape is seen. The strip was measured without knowing its motion."""
    whole = report[START_SEEN] > 0.0 and report[STOP_SEEN] > 0.0
    if not whole or report[GROUND] + report[LIGHT] > CLIPPED_DN:
        return 0.0, math.inf
    steep = report[STEEP] > 0.0
    lines = frame[::1, ::1]  # of any strides: rows and columns are one machine code
    if not steep:
        lines = lines.T
    softer, error = _softer(lines, report, scratch)
    blur, slope = report[BLUR], abs(report[LINE_B])
    crossed = slope * (report[STOP] - report[START]) / RASTER_PX
    upright = 1.0 if steep else slope / math.sqrt(1.0 + slope * slope)
    speed = (abs(prior[SPEED]) + SPEEDS * prior[SIGMA_SPEED]) * upright
    moved = speed * prior[EXPOSURE] * prior[PX_PER_M]
    per_px = 4.0 * blur / 7.0
    sigma = math.sqrt(
        (SURE * per_px * error) ** 2
        + (OTHER_OPTICS * blur * blur / 7.0) ** 2
        + OTHER_PX2**2
        + (RASTER_PX2 / (1.0 + crossed * crossed)) ** 2
        + (moved * moved / 12.0) ** 2
    )
    return per_px * softer, sigma
