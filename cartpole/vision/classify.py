"""Which slices are the tape's, and where the tape ends; compiled.

A slice is dark, foreign (its light is not a strip's, or not this strip's), near an edge of a dark
or foreign part, displaced (a strip, but off the line of the others) or good. Only good ones count.
"""

from __future__ import annotations

import math

from numba import njit

from cartpole.messages import FloatArray
from cartpole.vision.slices import (
    CENTROID,
    DARK,
    DISPLACED,
    DISPLACED_SHARE,
    FOREIGN,
    GOOD,
    KIND,
    LEFT_OVER,
    LIGHT,
    LIGHT_DN,
    LINE_A,
    LINE_B,
    LINE_C,
    MIN_SLICES,
    MISSING,
    NEAR_EDGE,
    NOISE,
    OUTSIDE,
    PIXEL_NOISE,
    PLACE,
    START,
    START_SEEN,
    SUM,
    WEIGHT,
    smallest,
    thinned,
)

PROFILE_ERROR = 0.05  # of the tape's light: what a profile that is only nearly right leaves
LEAST_RUN = 4  # slices: shorter pieces are chance
DISPLACED_SIGMAS = 6.0
DISPLACED_PX = 0.05  # what the curve itself may be off
PIXELS_COUNT = 6.0
EDGE_ROOM = 0.5  # slices
INSIDE = 5  # slices whose light an end's is held against


@njit(cache=True, nogil=True)
def _light(table: FloatArray, n: int, scratch: FloatArray) -> float:
    """The tape's light: median of what is brighter than half of nearly the brightest."""
    lit = 0
    for i in range(n):
        if table[i, WEIGHT] > 0.0:
            scratch[lit] = table[i, LIGHT_DN]
            lit += 1
    if lit < MIN_SLICES:
        return 0.0
    lit = thinned(scratch, lit)
    half = 0.5 * smallest(scratch, lit, min(lit - 1, int(0.85 * lit)))
    bright = 0
    for i in range(lit):
        if scratch[i] > half:
            scratch[bright] = scratch[i]
            bright += 1
    return smallest(scratch, bright, bright // 2)


@njit(cache=True, nogil=True)
def _kinds(table: FloatArray, n: int, light: float, scratch: FloatArray) -> None:
    lit = 0
    for i in range(n):
        if table[i, LIGHT_DN] > 0.6 * light and table[i, WEIGHT] > 0.0:
            scratch[lit] = table[i, LEFT_OVER]
            lit += 1
    lit = thinned(scratch, lit)
    usual = smallest(scratch, lit, lit // 2) if lit > 0 else 0.0
    most = 4.0 * usual + 3.0 + (PROFILE_ERROR * light) ** 2
    for i in range(n):
        row = table[i]
        if row[SUM] < 0.0:
            row[KIND] = OUTSIDE
        elif row[WEIGHT] <= 0.0 or row[LIGHT_DN] < 0.5 * light:
            row[KIND] = DARK
        elif row[LIGHT_DN] > 1.6 * light or row[LEFT_OVER] > most:
            row[KIND] = FOREIGN
        else:
            row[KIND] = GOOD


@njit(cache=True, nogil=True)
def _erode(table: FloatArray, n: int, cut: float) -> None:
    """Slices nearer to a dark one than ``cut``, or next to a foreign one, are near an edge; runs
    of good ones that are too short are foreign."""
    dark = foreign = -1_000_000.0
    run = 0
    for i in range(n):
        kind = table[i, KIND]
        if kind == DARK:
            dark = i
        elif kind == FOREIGN:
            foreign = i
        elif kind == GOOD and (i - dark <= cut or i - foreign <= 1):
            table[i, KIND] = NEAR_EDGE
    dark = foreign = 1_000_000.0
    for i in range(n - 1, -1, -1):
        kind = table[i, KIND]
        if kind == DARK:
            dark = i
        elif kind == FOREIGN:
            foreign = i
        elif kind == GOOD and (dark - i <= cut or foreign - i <= 1):
            table[i, KIND] = NEAR_EDGE
    for i in range(n + 1):
        if i < n and table[i, KIND] == GOOD:
            run += 1
            continue
        if 0 < run < LEAST_RUN:
            for k in range(i - run, i):
                table[k, KIND] = FOREIGN
        run = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _curve(table: FloatArray, n: int, line: FloatArray, cut: float) -> bool:
    """Weighted parabola through the good slices, those off the last one by ``cut`` px left out."""
    s0, s1, s2, s3, s4, r0, r1, r2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    scale = 1.0 / max(1.0, 0.5 * n)
    for i in range(n):
        if table[i, KIND] != GOOD:
            continue
        t = table[i, PLACE] - line[3]
        r = table[i, CENTROID] - (line[0] + t * (line[1] + t * line[2]))
        v = r / cut
        if abs(v) >= 1.0:
            continue
        t *= scale
        w = table[i, WEIGHT] * (1.0 - v * v) ** 2
        s0 += w
        s1 += w * t
        s2 += w * t * t
        s3 += w * t * t * t
        s4 += w * t * t * t * t
        r0 += w * r
        r1 += w * r * t
        r2 += w * r * t * t
    if s0 <= 0.0:
        return False
    a11, a12, b1 = s2 - s1 * s1 / s0, s3 - s1 * s2 / s0, r1 - s1 * r0 / s0
    a22, b2 = s4 - s2 * s2 / s0, r2 - s2 * r0 / s0
    det = a11 * a22 - a12 * a12
    if det <= 1e-6 * a11 * a22 or a11 <= 0.0:
        return False
    b, c = (a22 * b1 - a12 * b2) / det, (a11 * b2 - a12 * b1) / det
    line[0] += (r0 - b * s1 - c * s2) / s0
    line[1] += b * scale
    line[2] += c * scale * scale
    return True


@njit(cache=True, nogil=True)
def _displaced(table: FloatArray, n: int, line: FloatArray, noise: float) -> float:
    """Mark what looks like the strip and is not on its line; its share."""
    off, good = 0, 0
    for i in range(n):
        if table[i, KIND] != GOOD:
            continue
        t = table[i, PLACE] - line[3]
        r = table[i, CENTROID] - (line[0] + t * (line[1] + t * line[2]))
        if abs(r) > DISPLACED_SIGMAS * noise / math.sqrt(table[i, WEIGHT]) + DISPLACED_PX:
            table[i, KIND] = DISPLACED
            off += 1
        else:
            good += 1
    return off / max(1, off + good)


@njit(cache=True, nogil=True, error_model="numpy")
def _scatter(table: FloatArray, n: int, line: FloatArray, noise: float) -> float:
    """The noise that the good slices' own scatter about the curve speaks of, grey levels.

    What the fit leaves of the pixels (``noise``) counts as a few slices: it holds the profile's
    small misfit, too, which is the same in every slice and moves none.
    """
    total, freedom = PIXELS_COUNT * noise * noise, PIXELS_COUNT - 3.0
    for i in range(n):
        if table[i, KIND] == GOOD:
            t = table[i, PLACE] - line[3]
            r = table[i, CENTROID] - (line[0] + t * (line[1] + t * line[2]))
            total += table[i, WEIGHT] * r * r
            freedom += 1.0
    return math.sqrt(total / freedom)


@njit(cache=True, nogil=True, error_model="numpy")
def _end(
    table: FloatArray, n: int, at: int, outward: int, light: float, cut: int
) -> tuple[float, bool]:
    """Where the tape ends beyond row ``at``, its outermost lit slice, and whether that is sure.

    The light outside a place well inside, over the light there, is the tape's length beyond it,
    whatever the blur and however obliquely the end is cut.
    """
    plain = table[at, PLACE] + 0.5 * outward
    inside = at - outward * (cut + 1)
    deepest, beyond = inside - outward * INSIDE, at + outward * (cut + 4)
    if min(deepest, beyond) < 0 or max(deepest, beyond) >= n:
        return plain, False
    level = 0.0
    for i in range(INSIDE):
        row = table[inside - outward * i]
        if row[KIND] != GOOD:
            return plain, False
        level += row[LIGHT_DN] / INSIDE
    total = 0.0
    for i in range(1, 2 * cut + 6):
        row = table[inside + outward * i]
        if row[KIND] == OUTSIDE:
            return plain, False
        if i > 2 * cut + 2 and abs(row[LIGHT_DN]) > 0.15 * light:
            return plain, False
        if i <= 2 * cut + 3:
            total += row[LIGHT_DN] / level
    if total > 2 * cut + 2 or total < 0.5:
        return plain, False
    return table[inside, PLACE] + outward * (0.5 + total), True


@njit(cache=True, nogil=True)
def classify(
    table: FloatArray,
    n: int,
    half: float,
    blur: float,
    line: FloatArray,
    report: FloatArray,
    scratch: FloatArray,
) -> int:
    """Keep the tape's slices (weight 0 for all others), find its ends; returns how many stay.

    ``half`` is half the strip's width, ``blur`` how far its edges reach beyond [px].
    """
    light = _light(table, n, scratch)
    if light <= 0.0:
        return 0
    _kinds(table, n, light, scratch)
    slope = abs(line[1])
    # An end is dark half its blur before it, and touches slices half a width of the strip farther.
    cut = (blur + half * slope) / math.sqrt(1.0 + slope * slope) + EDGE_ROOM
    _erode(table, n, cut)
    noise, good = 0.0, 0
    for i in range(n):
        if table[i, KIND] == GOOD:
            noise += table[i, LEFT_OVER]
            good += 1
    if good < MIN_SLICES:
        return 0
    noise = math.sqrt(max(1.0 / 12.0, noise / good))
    for wide in (1.0, 0.3):
        if not _curve(table, n, line, wide):
            break
    report[LINE_A], report[LINE_B], report[LINE_C] = line[0], line[1], line[2]
    report[LIGHT] = light
    report[PIXEL_NOISE] = noise
    report[DISPLACED_SHARE] = _displaced(table, n, line, noise)
    report[NOISE] = _scatter(table, n, line, noise)
    first, last = n, -1
    used, missing = 0, 0
    for i in range(n):
        if table[i, KIND] == GOOD:
            used += 1
        else:
            table[i, WEIGHT] = 0.0
        if table[i, KIND] >= NEAR_EDGE:
            first = min(first, i)
            last = i
    for i in range(first, last):
        missing += table[i, KIND] < NEAR_EDGE or table[i, KIND] == DISPLACED
    report[MISSING] = missing
    whole = math.ceil(cut)
    for side, outward in enumerate((-1, 1)):
        place, sure = _end(table, n, last if side else first, outward, light, whole)
        report[START + side], report[START_SEEN + side] = place, 1.0 * sure
    return used
