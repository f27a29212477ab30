"""The light across a strip and what it says of the strip's place; compiled.

Across the tape the light is a plateau with two soft edges: a step, blurred by the optics and the
pixels, and smeared by the motion during the exposure. The blur is the biweight kernel
15/16 (1 - u^2)^2 of half width ``blur`` (variance blur^2 / 7: within one per cent of a Gaussian's
step, and a polynomial), the smear a box. With H the kernel's second integral and S its first,

    step(x) = blur / smear (H((x + smear/2) / blur) - H((x - smear/2) / blur))
    light(x) = ground + amplitude (step(x + half) - step(x - half))

A slice is fitted by linear least squares about a place that is nearly right (one Gauss-Newton
step): amplitude and ground are each slice's own, so uneven light along the tape is no error; the
place's information is what is left when they are known as badly as they are.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.frame import Pixels

Singles = npt.NDArray[np.float32]  # a hundred-thousandth of a pixel, and eight at a time

LEAST_SMEAR_PX = 0.2  # a smaller one is lost in the blur
REACH_PX = 1.0  # pixels taken in beyond the foot of an edge: they tell the ground

# Sums over a slice's pixels of products of: the profile F, one N, its derivatives by the place D,
# by the half width W and by the blur B, the pixel Y; XD is place times D, LEFT and RIGHT the two
# outermost pixels on each side.
(FF, F1, FD, FY, N, D1, Y1, DD, DY, YY, XD, LEFT, RIGHT) = range(13)
(FW, FB, W1, B1, DW, DB, WW, WB, BB, WY, BY) = range(13, 24)
SUMS = 24

# S's coefficients in single precision.
ONE, S0, S1 = np.float32(1.0), np.float32(0.5), np.float32(0.9375)
S3, S5 = np.float32(0.625), np.float32(0.1875)


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def first_integral(t: float) -> float:
    """S: the kernel's integral, t within -1 and 1."""
    q = t * t
    return 0.5 + t * (0.9375 - q * (0.625 - q * 0.1875))


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def second_integral(t: float, u: float) -> float:
    """H: the integral of S; t is u held within -1 and 1."""
    q = t * t
    return 0.15625 + 0.5 * t + q * (0.46875 - q * (0.15625 - q * 0.03125)) + max(0.0, u - 1.0)


@njit(cache=True, nogil=True, fastmath=True)
def whole_sums(
    values: FloatArray,
    low: int,
    size: int,
    centre: float,
    half: float,
    blur: float,
    smear: float,
    out: FloatArray,
) -> None:
    """The sums up to XD of a slice's exact profile, whether its edges are apart or not; ``values``
    (>= size,) are the pixels from ``low`` on."""
    ff, f1, fd, fy, d1, y1, dd, dy, yy, xd = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    inv = 1.0 / blur
    shift, edge, start = 0.5 * smear * inv, half * inv, low - centre
    scale = blur / smear
    for j in range(size):
        y = values[j]
        x = start + j
        u = x * inv
        a, b, c, d = u + edge + shift, u + edge - shift, u - edge + shift, u - edge - shift
        ta, tb = min(1.0, max(-1.0, a)), min(1.0, max(-1.0, b))
        tc, td = min(1.0, max(-1.0, c)), min(1.0, max(-1.0, d))
        f = scale * (
            second_integral(ta, a)
            - second_integral(tb, b)
            - second_integral(tc, c)
            + second_integral(td, d)
        )
        g = (
            first_integral(tb) - first_integral(ta) + first_integral(tc) - first_integral(td)
        ) / smear
        ff += f * f
        f1 += f
        fd += f * g
        fy += f * y
        d1 += g
        y1 += y
        dd += g * g
        dy += g * y
        yy += y * y
        xd += x * g
    out[FF], out[F1], out[FD], out[FY], out[N] = ff, f1, fd, fy, size
    out[D1], out[Y1], out[DD], out[DY], out[YY], out[XD] = d1, y1, dd, dy, yy, xd


@njit(cache=True, nogil=True, inline="always")
def soft_edge(blur: float, smear: float) -> float:
    """Half width of the biweight kernel that is as wide as blur and smear together: a box of width
    ``smear`` has a variance of a twelfth of its square."""
    return math.sqrt(blur * blur + 7.0 / 12.0 * smear * smear)


@njit(cache=True, nogil=True, fastmath=True)
def soft_sums(
    values: Pixels, starts: Singles, halves: Singles, softs: Singles, sums: Singles
) -> None:
    """Add the sums that tell amplitude, ground and place (up to XD, not N), of many slices, whose
    edges are apart: each is one kernel as wide as blur and smear, which is a third of the work, and
    the place, which is all that is asked here, is nearly as exact.

    Args:
        values: (size, n) pixels, a column a slice: so they are summed several slices at a time.
        starts, halves, softs: (n,) each slice's first pixel from the strip's middle, half width and
            half an edge's width [px].
        sums: (XD + 1, n).
    """
    for j in range(values.shape[0]):
        pixels, offset = values[j], np.float32(j)
        for i in range(values.shape[1]):
            y, x, inv = np.float32(pixels[i]), starts[i] + offset, ONE / softs[i]
            t = min(ONE, max(-ONE, (halves[i] - abs(x)) * inv))
            q = t * t
            r = ONE - q
            f = S0 + t * (S1 - q * (S3 - q * S5))
            g = S1 * inv * r * r
            g = g if x > 0.0 else -g
            sums[FF, i] += f * f
            sums[F1, i] += f
            sums[FD, i] += f * g
            sums[FY, i] += f * y
            sums[D1, i] += g
            sums[Y1, i] += y
            sums[DD, i] += g * g
            sums[DY, i] += g * y
            sums[YY, i] += y * y
            sums[XD, i] += x * g


@njit(cache=True, nogil=True, fastmath=True)
def shape_sums(
    values: FloatArray,
    low: int,
    size: int,
    centre: float,
    half: float,
    blur: float,
    smear: float,
    out: FloatArray,
) -> None:
    """The sums up to YY, and the further ones that tell half width and blur."""
    ff, f1, fd, fy, d1, y1, dd, dy, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    fw, fb, w1, b1, dw, db = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    ww, wb, bb, wy, by = 0.0, 0.0, 0.0, 0.0, 0.0
    inv = 1.0 / blur
    shift, edge, start = 0.5 * smear * inv, half * inv, low - centre
    scale, per_px = blur / smear, 1.0 / smear
    for j in range(size):
        y = values[j]
        u = (start + j) * inv
        a, b, c, d = u + edge + shift, u + edge - shift, u - edge + shift, u - edge - shift
        ta, tb = min(1.0, max(-1.0, a)), min(1.0, max(-1.0, b))
        tc, td = min(1.0, max(-1.0, c)), min(1.0, max(-1.0, d))
        sa, sb, sc, sd = (
            first_integral(ta),
            first_integral(tb),
            first_integral(tc),
            first_integral(td),
        )
        h = (
            second_integral(ta, a)
            - second_integral(tb, b)
            - second_integral(tc, c)
            + second_integral(td, d)
        )
        f = scale * h
        g = per_px * (sb - sa + sc - sd)
        w = per_px * (sa - sb + sc - sd)
        k = per_px * (h - a * sa + b * sb + c * sc - d * sd)
        ff += f * f
        f1 += f
        fd += f * g
        fy += f * y
        d1 += g
        y1 += y
        dd += g * g
        dy += g * y
        yy += y * y
        fw += f * w
        fb += f * k
        w1 += w
        b1 += k
        dw += g * w
        db += g * k
        ww += w * w
        wb += w * k
        bb += k * k
        wy += w * y
        by += k * y
    out[FF], out[F1], out[FD], out[FY], out[N] = ff, f1, fd, fy, size
    out[D1], out[Y1], out[DD], out[DY], out[YY] = d1, y1, dd, dy, yy
    out[FW], out[FB], out[W1], out[B1], out[DW], out[DB] = fw, fb, w1, b1, dw, db
    out[WW], out[WB], out[BB], out[WY], out[BY] = ww, wb, bb, wy, by


@njit(cache=True, nogil=True)
def take(pixels: Pixels, low: int, size: int, values: FloatArray) -> None:
    """Pixels from ``low`` on as floats, side by side: so they are summed several at a time."""
    for j in range(size):
        values[j] = pixels[low + j]


@njit(cache=True, nogil=True, inline="always")
def window(centre: float, half: float, soft: float) -> tuple[int, int]:
    """First and last pixel that the strip's light reaches."""
    reach = half + soft + REACH_PX
    return math.ceil(centre - reach), math.floor(centre + reach)
