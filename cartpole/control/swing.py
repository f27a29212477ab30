"""What a swinging pole and a moved cart show of the pole: its zero, coupling and friction.

Least squares in the weak form. With the raw angle ``t`` (its zero unknown) and the cart's
acceleration ``a``, both along their counts,

    t'' = -A sin t + B cos t - (C cos t + D sin t) a - b t' - f sign(t')

is linear in its six unknowns, and A = c g cos z, B = c g sin z, C = s c cos z, D = s c sin z hold
the zero ``z``, the coupling ``c`` and whether both encoders count the same way round (``s``).
Multiplied by a triangle of half width H and integrated, ``t''`` becomes a second difference of
angles, so that nothing has to be differentiated twice. It holds for a pole that trembles as for
one that turns over, and needs no pole at rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cartpole.messages import NANOSECONDS, EncoderSample, FloatArray

GRAVITY_M_S2 = 9.81
GRID_S = 0.02
HALF = 5  # grid steps of the triangle's half width
SPAN_S = (2 * HALF + 2) * GRID_S
KEPT_S = SPAN_S + 0.03
CLOSEST_S = 0.004  # samples nearer to each other are left out: a board at 1 kHz
HOLE_S = 0.03  # a row across a longer hole says nothing
FASTEST_RAD_S = 45.0  # a step beyond this is a damaged number
UNKNOWNS = 6
A, B, C, D, DAMPING, DRY = range(UNKNOWNS)
# What is thinkable of each unknown: keeps the fit solvable where nothing was excited.
PRIOR = np.array([80.0, 80.0, 8.0, 8.0, 0.5, 2.0])
ROWS_APART = 3.0  # rows overlap: so many of them count as one

_UPPER = np.triu_indices(UNKNOWNS)
_STEPS = np.arange(-HALF - 1, HALF + 2)
_WEIGHTS = (1.0 - np.abs(_STEPS[1:-1]) / (HALF + 1.0)) / (HALF + 1.0)


@dataclass(frozen=True, slots=True)
class Scales:
    """Counts to metres and radians along the configured signs."""

    cart_counts_per_m: float  # signed
    pole_counts_per_rad: float  # signed


@dataclass(frozen=True, slots=True)
class Swing:
    """The samples of the last moments and the normal equations of all before.

    ``normal`` is the upper triangle row by row (21), ``right`` (6,), ``square`` the sum of squares.
    """

    trail: tuple[EncoderSample, ...] = ()
    normal: tuple[float, ...] = (0.0,) * (UNKNOWNS * (UNKNOWNS + 1) // 2)
    right: tuple[float, ...] = (0.0,) * UNKNOWNS
    square: float = 0.0
    rows: int = 0
    refused: int = 0  # samples in a row that cannot be


@dataclass(frozen=True, slots=True)
class Seen:
    """What the swing says; ``sense`` is -1 where the pole's counts run the other way round than
    the cart's, ``sense_sigmas`` how sure that is."""

    zero_rad: float
    zero_sigma_rad: float
    coupling_1_m: float
    coupling_sigma_1_m: float
    damping_1_s: float
    dry_rad_s2: float
    sense: int
    sense_sigmas: float


def watch(swing: Swing, samples: tuple[EncoderSample, ...], scales: Scales) -> Swing:
    """One tick's samples, oldest first; gives at most one row."""
    trail, refused = list(swing.trail), swing.refused
    fastest = FASTEST_RAD_S * abs(scales.pole_counts_per_rad)
    for sample in samples:
        if trail:
            apart_s = (sample.t_ns - trail[-1].t_ns) / NANOSECONDS
            if apart_s < CLOSEST_S:
                continue
            step = abs(sample.pole_counts - trail[-1].pole_counts)
            if step > fastest * apart_s + 2 and refused < 3:
                refused += 1
                continue
        refused = 0
        trail.append(sample)
    if len(trail) == len(swing.trail):
        return replace(swing, refused=refused)
    oldest_ns = trail[-1].t_ns - round(KEPT_S * NANOSECONDS)
    trail = [sample for sample in trail if sample.t_ns >= oldest_ns]
    return _add_row(replace(swing, trail=tuple(trail), refused=refused), scales)


def motion(swing: Swing, scales: Scales, span_s: float = 0.05) -> tuple[float, float, float, float]:
    """(position [m], speed [m/s], raw angle [rad], rate [rad/s]) at the newest sample.

    Straight lines through the samples of the last ``span_s``; zeros are where counts are zero.
    """
    if not swing.trail:
        return 0.0, 0.0, 0.0, 0.0
    newest_ns = swing.trail[-1].t_ns
    recent = [s for s in swing.trail if newest_ns - s.t_ns <= span_s * NANOSECONDS]
    cart = recent[-1].cart_counts / scales.cart_counts_per_m
    pole = (recent[-1].pole_counts + 0.5) / scales.pole_counts_per_rad
    if len(recent) < 2:
        return cart, 0.0, pole, 0.0
    times = np.array([(s.t_ns - newest_ns) / NANOSECONDS for s in recent])
    times = times - times.mean()
    power = float(times @ times)
    speed = float(times @ np.array([s.cart_counts for s in recent], dtype=float)) / power
    rate = float(times @ np.array([s.pole_counts for s in recent], dtype=float)) / power
    return cart, speed / scales.cart_counts_per_m, pole, rate / scales.pole_counts_per_rad


def _add_row(swing: Swing, scales: Scales) -> Swing:
    times = np.array([s.t_ns - swing.trail[-1].t_ns for s in swing.trail]) / NANOSECONDS
    if times[0] > -SPAN_S or float(np.diff(times).max()) > HOLE_S:
        return swing
    counts = np.array([s.pole_counts + 0.5 for s in swing.trail])  # the middle of a count
    grid = GRID_S * (_STEPS - _STEPS[-1])
    pole = np.interp(grid, times, counts) / scales.pole_counts_per_rad
    if float(np.ptp(pole)) * abs(scales.pole_counts_per_rad) < 2.0:
        return swing  # at rest, perhaps held by dry friction: says nothing of gravity
    carts = np.array([s.cart_counts for s in swing.trail], dtype=np.float64)
    cart = np.interp(grid, times, carts) / scales.cart_counts_per_m
    row, value = _row(pole, cart)
    upper = np.outer(row, row)[_UPPER]
    return replace(
        swing,
        normal=tuple((np.array(swing.normal) + upper).tolist()),
        right=tuple((np.array(swing.right) + value * row).tolist()),
        square=swing.square + value * value,
        rows=swing.rows + 1,
    )


def _row(pole: FloatArray, cart: FloatArray) -> tuple[FloatArray, float]:
    """The regressors (6,) and the weighted mean of t''; ``pole``, ``cart`` on the grid (13,)."""
    push = (cart[2:] - 2.0 * cart[1:-1] + cart[:-2]) / GRID_S**2
    rate = (pole[2:] - pole[:-2]) / (2.0 * GRID_S)
    inner = pole[1:-1]
    sine, cosine = np.sin(inner), np.cos(inner)
    row = np.array(
        [
            -_WEIGHTS @ sine,
            _WEIGHTS @ cosine,
            -_WEIGHTS @ (cosine * push),
            -_WEIGHTS @ (sine * push),
            -_WEIGHTS @ rate,
            -_WEIGHTS @ np.clip(rate / 0.1, -1.0, 1.0),
        ]
    )
    span = (HALF + 1.0) * GRID_S
    value = float(pole[0] - 2.0 * pole[HALF + 1] + pole[-1]) / span**2
    return row, value


def seen(swing: Swing) -> Seen | None:
    """The fit over all rows; ``None`` while there are too few."""
    if swing.rows < 2 * UNKNOWNS:
        return None
    normal = np.zeros((UNKNOWNS, UNKNOWNS))
    normal[_UPPER] = swing.normal
    normal = np.triu(normal) + np.triu(normal, 1).T
    right = np.array(swing.right)
    whole = normal + np.diag(0.05 / PRIOR**2)
    fit = np.linalg.solve(whole, right)
    left = swing.square - 2.0 * float(fit @ right) + float(fit @ normal @ fit)
    variance = max(left, 0.0) / max(swing.rows - UNKNOWNS, 1) + 1e-3
    cov: FloatArray = np.asarray(np.linalg.inv(whole) * (variance * ROWS_APART), dtype=np.float64)
    return _read(fit, cov)


def _read(fit: FloatArray, cov: FloatArray) -> Seen:
    a, b = float(fit[A]), float(fit[B])
    size = max(math.hypot(a, b), 1e-9)
    across = np.array([-b, a]) / size**2
    along = np.array([a, b]) / size
    gravity = cov[:2, :2]
    push_along = along @ fit[C : D + 1]
    push_sigma = math.sqrt(float(along @ cov[C : D + 1, C : D + 1] @ along))
    return Seen(
        zero_rad=math.atan2(b, a),
        zero_sigma_rad=math.sqrt(float(across @ gravity @ across)),
        coupling_1_m=size / GRAVITY_M_S2,
        coupling_sigma_1_m=math.sqrt(float(along @ gravity @ along)) / GRAVITY_M_S2,
        damping_1_s=float(fit[DAMPING]),
        dry_rad_s2=float(fit[DRY]),
        sense=1 if push_along >= 0.0 else -1,
        sense_sigmas=abs(float(push_along)) / max(push_sigma, 1e-9),
    )
