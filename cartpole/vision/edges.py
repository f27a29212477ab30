"""A blurred and smeared edge, and what pixels say of its width; compiled.

The profile of ``profile.py`` with a kernel that has feet, and its derivatives by what makes an edge
wide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.profile import Singles

# Sums over some slices' pixels, of products of the profile F, one N, its derivatives by half width
# W, by blur B and by the edges' variance V, the pixel Y.
FF, F1, FY, N, Y1, FW, FB, FV, W1, B1, V1, WW, WB, WV, BB, BV, VV, WY, BY, VY = range(20)
SUMS = 20

# The optics' kernel here is a polynomial up to SIGMAS standard deviations: its step is within .0014
# of a Gaussian's. The lighter one of ``profile.py`` tells places as well, but calls smear what it
# lacks itself: 3.5 per cent of the rate.
SIGMAS = 3.2
ONE, HALF = np.float32(1.0), np.float32(0.5)
S1, S3, S5 = np.float32(1.267328), np.float32(2.008121), np.float32(2.357892)
S7, S9 = np.float32(1.510736), np.float32(0.393636)
H0, H2, H4 = np.float32(0.124862), np.float32(0.633664), np.float32(0.50203)
H6, H8, H10 = np.float32(0.392982), np.float32(0.188842), np.float32(0.039364)


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def _first(t: Any) -> Any:
    """S: the kernel's integral, t within -1 and 1; single precision, as all here."""
    q = t * t
    return HALF + t * (S1 - q * (S3 - q * (S5 - q * (S7 - q * S9))))


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def _second(t: Any, u: Any) -> Any:
    """H: the integral of S; t is u held within -1 and 1."""
    q = t * t
    even = q * (H2 - q * (H4 - q * (H6 - q * (H8 - q * H10))))
    return H0 + HALF * t + even + max(u, ONE) - ONE


@njit(cache=True, nogil=True, fastmath=True)
def edge_sums(
    values: Singles,
    places: Singles,
    half: float,
    blur: float,
    smear: float,
    out: FloatArray,
) -> None:
    """The sums of pixels ``values`` (n,) at ``places`` (n,) from the strip's middle. The strip's
    edges are apart, so each pixel sees the nearer one."""
    zero = np.float32(0.0)
    ff, f1, fy, y1, fw, fb, fv, w1 = zero, zero, zero, zero, zero, zero, zero, zero
    b1, v1, ww, wb, wv, bb, bv, vv = zero, zero, zero, zero, zero, zero, zero, zero
    wy, by, vy = zero, zero, zero
    edge, inv, per_px = np.float32(half), np.float32(1.0 / blur), np.float32(1.0 / smear)
    shift, scale = np.float32(0.5 * smear / blur), np.float32(blur / smear)
    by_variance = np.float32(6.0 / (smear * smear))
    for j in range(values.shape[0]):
        y = values[j]
        u = (edge - abs(places[j])) * inv
        a, b = u + shift, u - shift
        ta, tb = min(ONE, max(-ONE, a)), min(ONE, max(-ONE, b))
        sa, sb = _first(ta), _first(tb)
        h = _second(ta, a) - _second(tb, b)
        f = scale * h
        w = per_px * (sa - sb)
        k = per_px * (h - a * sa + b * sb)
        v = by_variance * (HALF * (sa + sb) - f)
        ff += f * f
        f1 += f
        fy += f * y
        y1 += y
        fw += f * w
        fb += f * k
        fv += f * v
        w1 += w
        b1 += k
        v1 += v
        ww += w * w
        wb += w * k
        wv += w * v
        bb += k * k
        bv += k * v
        vv += v * v
        wy += w * y
        by += k * y
        vy += v * y
    out[FF], out[F1], out[FY], out[N], out[Y1] = ff, f1, fy, values.shape[0], y1
    out[FW], out[FB], out[FV], out[W1], out[B1], out[V1] = fw, fb, fv, w1, b1, v1
    out[WW], out[WB], out[WV], out[BB], out[BV], out[VV] = ww, wb, wv, bb, bv, vv
    out[WY], out[BY], out[VY] = wy, by, vy
