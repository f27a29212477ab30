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


@njit(cache=True, nogil=True)
def _gather(
    table: FloatArray, n: int, middle: float, good: tuple[FloatArray, FloatArray, FloatArray]
) -> tuple[int, float]:
    """The good slices' places from the middle, centroids and weights side by side; how many, and
    what is left over of their pixels on average."""
    places, centroids, weights = good
    count, left = 0, 0.0
    for i in range(n):
        row = table[i]
        if row[KIND] == GOOD:
            places[count], centroids[count] = row[PLACE] - middle, row[CENTROID]
            weights[count] = row[WEIGHT]
            left += row[LEFT_OVER]
            count += 1
    return count, left / max(1, count)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _curve(
    good: tuple[FloatArray, FloatArray, FloatArray], n: int, line: FloatArray, cut: float
) -> bool:
    """Weighted parabola through the good slices, those off the last one by ``cut`` px left out."""
    places, centroids, weights = good
    s0, s1, s2, s3, s4, r0, r1, r2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    scale, per_cut = 1.0 / max(1.0, 0.5 * n), 1.0 / cut
    a, b, c = line[0], line[1], line[2]
    for i in range(n):
        t = places[i]
        r = centroids[i] - (a + t * (b + c * t))
        v = r * per_cut
        inside = max(0.0, 1.0 - v * v)
        t *= scale
        w = weights[i] * inside * inside
        wt = w * t
        wt2 = wt * t
        s0 += w
        s1 += wt
        s2 += wt2
        s3 += wt2 * t
        s4 += wt2 * t * t
        r0 += w * r
        r1 += wt * r
        r2 += wt2 * r
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


@njit(cache=True, nogil=True, error_model="numpy")
def _settle(
    table: FloatArray, n: int, line: FloatArray, noise: float, report: FloatArray
) -> tuple[int, int, int]:
    """Mark what looks like the strip and is not on its line, take the weight of all that is not
    good; how many stay, and the first and last row of what is the tape's.

    The noise that the good slices' own scatter about the curve speaks of goes into the report. What
    the fit leaves of the pixels (``noise``) counts as a few slices: it holds the profile's small
    misfit, too, which is the same in every slice and moves none.
    """
    total, freedom = PIXELS_COUNT * noise * noise, PIXELS_COUNT - 3.0
    used, off, first, last, missing, since = 0, 0, n, -1, 0, 0
    a, b, c = line[0], line[1], line[2]
    for i in range(n):
        row = table[i]
        kind = row[KIND]
        if kind == GOOD:
            t = row[PLACE] - line[3]
            r = row[CENTROID] - (a + t * (b + c * t))
            # Off by DISPLACED_SIGMAS of its own and what the curve itself may be off.
            over = max(0.0, abs(r) - DISPLACED_PX)
            if over * over * row[WEIGHT] > (DISPLACED_SIGMAS * noise) ** 2:
                kind = row[KIND] = DISPLACED
                off += 1
            else:
                total += row[WEIGHT] * r * r
                used += 1
        if kind != GOOD:
            row[WEIGHT] = 0.0
        if kind >= NEAR_EDGE:
            missing += since if last >= 0 else 0
            since = 0
            first = min(first, i)
            last = i
        since += kind < NEAR_EDGE or kind == DISPLACED
    report[DISPLACED_SHARE] = off / max(1, off + used)
    report[NOISE] = math.sqrt(total / (freedom + used))
    report[MISSING] = missing
    return used, first, last


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
    size = scratch.shape[0] // 3
    good = (scratch[:size], scratch[size : 2 * size], scratch[2 * size :])
    count, left = _gather(table, n, line[3], good)
    if count < MIN_SLICES:
        return 0
    noise = math.sqrt(max(1.0 / 12.0, left))
    for wide in (1.0, 0.3):
        if not _curve(good, count, line, wide):
            break
    report[LINE_A], report[LINE_B], report[LINE_C] = line[0], line[1], line[2]
    report[LIGHT] = light
    report[PIXEL_NOISE] = noise
    used, first, last = _settle(table, n, line, noise, report)
    whole = math.ceil(cut)
    for side, outward in enumerate((-1, 1)):
        place, sure = _end(table, n, last if side else first, outward, light, whole)
        report[START + side], report[START_SEEN + side] = place, 1.0 * sure
    return used
