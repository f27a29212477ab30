"""What is wrong with a table that does not move like a cart with a pole, tried out one by one.

A pole on a cart obeys ``theta'' = -a (sin theta + p'' cos theta / g) - d theta'``, with ``a = c g``
between those of a mast and of a pencil. Accelerations come from local parabolas (Savitzky and
Golay); what a slip explains much better than the table as it stands is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import savgol_filter

from cartpole.messages import FloatArray
from cartpole.session.columns import (
    ANGLE,
    POSITION,
    TIME,
    UNIT_NAMES,
    UNITS,
    Column,
    Layout,
)

GRAVITY = 9.81
SLOWEST, FASTEST = 3.0, 220.0  # a = c g [1/s^2]: poles of 5 m and of 7 cm
WINDOW_S = 0.14
FEW_ROWS, MOST_ROWS = 20, 20_000
# A slip is named where it explains the motion, and leaves less than this share of what the table as
# it stands leaves unexplained.
EXPLAINED, LEFT_UNEXPLAINED = 0.7, 0.4
LONGEST_STEP_S, SHORTEST_STEP_S = 0.5, 5e-5
LONGEST_TRACK_M = 5.0
FASTEST_TURN_RAD_S = 60.0
MOST = 1e9  # metres or radians, in whatever wrong unit


@dataclass(frozen=True, slots=True)
class Slip:
    """What seems to be wrong, and the layout that would mend it (None: no mapping can)."""

    what: str
    remedy: Layout | None = None

    def __str__(self) -> str:
        if self.remedy is None:
            return self.what
        return f"{self.what}; if so: --map {self.remedy.text()}"


@dataclass(frozen=True, slots=True)
class _Fit:
    """How well the pole's equation holds: share explained, a [1/s^2], cart's part over expected."""

    explained: float
    stiffness: float
    cart_ratio: float
    cart_sure: bool

    @property
    def sensible(self) -> bool:
        return SLOWEST <= self.stiffness <= FASTEST


def find_slip(
    t_s: FloatArray, p_m: FloatArray, theta_rad: FloatArray, layout: Layout
) -> Slip | None:
    """The likeliest slip of one run, None if it is fine; all (n,), theta not unwrapped."""
    t_s, p_m, theta_rad = t_s[:MOST_ROWS], p_m[:MOST_ROWS], theta_rad[:MOST_ROWS]
    if len(t_s) < 3:
        return None
    return (
        _time_slip(t_s, layout)
        or _beyond(p_m, theta_rad)
        or _motion_slip(t_s, p_m, theta_rad, layout)
        or _turn_slip(t_s, theta_rad, layout)
        or _track_slip(p_m, layout)
    )


def _time_slip(t_s: FloatArray, layout: Layout) -> Slip | None:
    """By the rows' distance alone."""
    step = float(np.median(np.diff(t_s)))
    if SHORTEST_STEP_S <= step <= LONGEST_STEP_S:
        return None
    raw = step / layout.columns[TIME].scale
    for unit in ("ms", "us", "ns", "s"):
        if 2e-4 <= raw * UNITS[TIME][unit] <= 0.2:
            return _unit_slip(layout, TIME, unit, "time looks like")
    return Slip(f"the rows are {step:g} s apart: no pole can be followed so")


def _beyond(p_m: FloatArray, theta: FloatArray) -> Slip | None:
    """Numbers of another kind, by which nothing more can be tried."""
    most = max(float(np.max(np.abs(p_m))), float(np.max(np.abs(theta))))
    return None if most <= MOST else Slip(f"a value of {most:g} is no position and no angle")


def _turn_slip(t_s: FloatArray, theta: FloatArray, layout: Layout) -> Slip | None:
    """Angles that would turn faster than any pole."""
    speed = np.abs(np.diff(theta)) / np.maximum(np.diff(t_s), 1e-9)
    if len(speed) < FEW_ROWS or np.quantile(speed, 0.8) < FASTEST_TURN_RAD_S:
        return None
    unit = layout.columns[ANGLE].unit
    if unit == "deg":
        return None
    return _unit_slip(layout, ANGLE, "deg", "angles look like")


def _track_slip(p_m: FloatArray, layout: Layout) -> Slip | None:
    """Positions that no track has."""
    if POSITION not in layout.columns:
        return None
    span = float(np.ptp(p_m))
    if span <= LONGEST_TRACK_M:
        return None
    raw = span / layout.columns[POSITION].scale
    # The largest unit that a track has; over 1 m in centimetres, millimetres are likelier.
    for unit, most_m in (("m", LONGEST_TRACK_M), ("cm", 1.0), ("mm", LONGEST_TRACK_M)):
        if raw * UNITS[POSITION][unit] <= most_m:
            return _unit_slip(layout, POSITION, unit, "positions look like")
    return Slip(f"the cart moves over {span:g} m: positions are not in the unit that was named")


def _motion_slip(
    t_s: FloatArray, p_m: FloatArray, theta: FloatArray, layout: Layout
) -> Slip | None:
    """By the pole's equation."""
    now = _fit(t_s, p_m, theta)
    if now is None:
        return None
    best: tuple[float, Slip] | None = None
    for slip, other in _hypotheses(t_s, p_m, theta, layout):
        if other is not None and other.sensible and (best is None or other.explained > best[0]):
            best = (other.explained, slip)
    if best is not None and best[0] >= EXPLAINED:
        unexplained = 1.0 - now.explained
        if not now.sensible or 1.0 - best[0] < LEFT_UNEXPLAINED * unexplained:
            return best[1]
    return _cart_slip(now, layout) if now.sensible and POSITION in layout.columns else None


def _hypotheses(
    t_s: FloatArray, p_m: FloatArray, theta: FloatArray, layout: Layout
) -> Iterator[tuple[Slip, _Fit | None]]:
    """Slips of angle and time, alone and with zero at the other end."""
    angle, time = layout.columns[ANGLE], layout.columns[TIME]
    raw = (theta - (math.pi if angle.zero_up else 0.0)) / angle.scale
    for unit in dict.fromkeys((angle.unit, "rad", "deg", "grad", "turns")):
        for flipped in (False, True):
            zero_up = angle.zero_up != flipped
            scale = UNITS[ANGLE].get(unit, angle.scale)
            if unit == angle.unit and not flipped:
                continue
            shifted = raw * scale + (math.pi if zero_up else 0.0)
            said = [f"angles look like {UNIT_NAMES.get(unit, unit)}"] if unit != angle.unit else []
            if flipped:
                said.append(f"zero looks like {'upright' if zero_up else 'hanging'}")
            column = replace(angle, unit=unit, scale=scale, zero_up=zero_up)
            slip = Slip(" and ".join(said), _with(layout, ANGLE, column))
            yield slip, _fit(t_s, p_m, shifted)
    for unit in ("s", "ms", "us"):
        if unit != time.unit:
            slip = _unit_slip(layout, TIME, unit, "time looks like")
            yield slip, _fit(t_s / time.scale * UNITS[TIME][unit], p_m, theta)


def _cart_slip(fit: _Fit, layout: Layout) -> Slip | None:
    """The pole feels the cart: by how much says the unit of either, the sign who is reversed."""
    if not fit.cart_sure or 0.3 < fit.cart_ratio < 3.0:
        return None
    column = layout.columns[POSITION]
    if -3.0 < fit.cart_ratio < -0.3:
        turned = _with(layout, POSITION, replace(column, reversed=not column.reversed))
        return Slip("the sign of angle or position looks reversed", turned)
    # Small angles in a wrong unit swing as well as right ones: only the cart tells.
    shares = {(POSITION, unit): column.scale / UNITS[POSITION][unit] for unit in ("m", "cm", "mm")}
    angle = layout.columns[ANGLE].scale
    shares |= {(ANGLE, unit): UNITS[ANGLE][unit] / angle for unit in ("rad", "deg", "turns")}
    off = {key: abs(math.log(abs(fit.cart_ratio) * share)) for key, share in shares.items()}
    quantity, unit = min(off, key=lambda key: off[key])
    if off[quantity, unit] > math.log(1.3) or unit == layout.columns[quantity].unit:
        return None
    return _unit_slip(layout, quantity, unit, f"{quantity}s look like")


def _unit_slip(layout: Layout, quantity: str, unit: str, what: str) -> Slip:
    column = replace(layout.columns[quantity], unit=unit, scale=UNITS[quantity][unit])
    return Slip(f"{what} {UNIT_NAMES[unit]}", _with(layout, quantity, column))


def _with(layout: Layout, quantity: str, column: Column) -> Layout:
    return Layout(layout.name, {**layout.columns, quantity: column})


def _fit(t_s: FloatArray, p_m: FloatArray, theta: FloatArray) -> _Fit | None:
    """Least squares of the pole's equation over an evenly spaced copy; None if nothing swings."""
    step = float(np.median(np.diff(t_s)))
    window = 2 * round(0.5 * min(WINDOW_S / step, 401.0)) + 1 if step > 0.0 else 0
    window = max(window, 5)
    if not math.isfinite(step) or len(t_s) < 3 * window:
        return None
    even = np.arange(t_s[0], t_s[-1], step)[: 2 * MOST_ROWS]
    angle = np.interp(even, t_s, np.unwrap(theta))
    place = np.interp(even, t_s, p_m)
    with np.errstate(all="ignore"):
        smooth = savgol_filter(angle, window, 2)
        rate = savgol_filter(angle, window, 2, deriv=1, delta=step)
        acceleration = savgol_filter(angle, window, 2, deriv=2, delta=step)
        push = savgol_filter(place, window, 2, deriv=2, delta=step)
        terms = np.column_stack([-np.sin(smooth), -push * np.cos(smooth) / GRAVITY, -rate])
        inner = slice(window, -window)
        terms, acceleration = terms[inner], acceleration[inner]
        sizes = np.sqrt(np.mean(terms**2, axis=0))
    if not np.all(np.isfinite(terms)) or not np.all(np.isfinite(acceleration)):
        return None
    if len(acceleration) < FEW_ROWS or sizes[0] < 0.02:
        return None
    used = sizes > 1e-12
    scaled = terms[:, used] / sizes[used]
    found, *_ = np.linalg.lstsq(scaled, acceleration, rcond=None)
    rest = acceleration - scaled @ found
    total = float(np.mean(acceleration**2))
    values = np.zeros(3)
    values[used] = found / sizes[used]
    explained = 1.0 - float(np.mean(rest**2)) / total if total > 0.0 else 0.0
    # Neighbours share a window: the rows that tell something are fewer than there are.
    sigma = math.sqrt(float(np.mean(rest**2)) * window / len(acceleration))
    felt = abs(values[1]) * sizes[1]
    sure = bool(felt > 3.0 * sigma and felt**2 > 0.05 * total)
    ratio = values[1] / values[0] if values[0] != 0.0 else math.nan
    return _Fit(explained, float(values[0]), float(ratio), sure)
