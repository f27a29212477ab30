"""Slips of units, sign, zero, clock and counts, recognised by fitting the recording without them.

A table that does not fit is read again as if its columns meant something else, first as the pole's
own equation suggests (``cartpole.session.slips``), then by every unit, sign and zero; the reading
with the fewest slips by which it becomes the motion of a pole is the likely one. A clock that runs
too fast and an encoder of another number of counts are tried for recordings of every kind.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from calibration.fit import unidentified
from calibration.grid import Noise, gain_over_free, likeliest_noise, make_grid
from calibration.judge import judge
from calibration.pole import PoleFit, check_motion, fit_pole, setup_of, starting_points
from calibration.recording import Motion, TableSource
from calibration.tables import read_otherwise
from cartpole.errors import IdentificationError, SessionError
from cartpole.session.columns import ANGLE, POSITION, TIME, UNIT_NAMES, UNITS, Column, Layout
from cartpole.session.slips import find_slip

TRIED_SAMPLES = 400  # of the recording: a slip shows in the first seconds
LENGTHS, SCALES = 40, 3  # where a reading is tried roughly
CONTENDERS = 3  # readings that are fitted
SLIP_COSTS = 0.15  # of gain: of two readings that fit alike, the one of fewer slips
ROUGHLY = 0.3  # of the gain that is asked for, where nothing was fitted yet
PLAUSIBLE_M = (0.06, 2.5)
LEAST_GAIN = 0.4  # by which a pole foresees better than chance; see ``gain_over_free``
CLEARLY = 0.3  # so much more gain makes another reading the better one
COUNTS_FACTORS = np.geomspace(0.12, 8.0, 48)
CLOCK_FACTORS = np.geomspace(0.5, 2.0, 19)
OPEN_SCALE = 0.6  # where nothing is believed of an angle's scale
FIT_SCALE = 0.1  # how far a scale may lie from 1 under a reading that fits
LONGEST_TRACK_M, SHORTEST_TRACK_M = 5.0, 2e-3
# Logarithm of a scale: nearer to 1 no other unit lies (degrees and gradians differ by .105).
NEAREST_UNIT = 0.05
UNITS_TRIED = {
    TIME: ("s", "ms"),
    ANGLE: ("rad", "deg", "grad", "turns"),
    POSITION: ("m", "cm", "mm"),
}


@dataclass(frozen=True, slots=True)
class Fitted:
    """How well a reading fits: gain over chance, and the fit."""

    gain: float
    found: PoleFit

    @property
    def says(self) -> str:
        """For a sentence."""
        return f"it fits (chi2/dof {self.found.fit.chi2_dof:.2f})"

    @property
    def stretched(self) -> float:
        """By how much the angles would have to be scaled besides, logarithm."""
        return abs(math.log(self.found.values.get("angle scale", 1.0)))


def likely_slip(source: TableSource | None, motion: Motion, least: float = LEAST_GAIN) -> str:
    """One sentence that names the slip by which the recording fits; empty if none does.

    ``least``: the gain below which another reading of the columns explains nothing.
    """
    if source is not None and (said := another_reading(source, motion, least)):
        return said
    return _clock(motion.part(0, min(len(motion.t_s), TRIED_SAMPLES)))


def another_reading(source: TableSource, motion: Motion, least: float) -> str:
    """The columns' likely meaning, if by it the table fits with at least this gain."""
    end = motion.run_end
    hinted = find_slip(motion.t_s[:end], motion.p_m[:end], motion.theta_rad[:end], source.layout)
    remedy = None if hinted is None else hinted.remedy
    found: list[tuple[float, Layout, Fitted]] = []
    for layout in [*([remedy] if remedy is not None else []), *_promising(source, least)]:
        fitted = _fitted(source, layout)
        if fitted is not None and fitted.gain >= least:
            found.append((fitted.stretched, layout, fitted))
            if fitted.stretched < NEAREST_UNIT:
                break
    if found:
        _, layout, fitted = min(found, key=lambda one: one[0])
        what = " and ".join(_slips(source.layout, layout))
        return f"with {what} {fitted.says}: --map {layout.text()}"
    # No reading fits beyond doubt, but the pole's own equation points at one.
    return str(hinted) if hinted is not None and least <= LEAST_GAIN else ""


def _promising(source: TableSource, least: float) -> list[Layout]:
    """The few readings by which a pole foresees best, those of fewest slips first."""
    ranked = []
    for layout in _layouts(source.layout):
        try:
            gain = rough_gain(read_otherwise(source, layout, TRIED_SAMPLES))
        except (SessionError, IdentificationError):
            continue
        slips = len(_slips(source.layout, layout))
        if gain > ROUGHLY * least:
            ranked.append((gain - SLIP_COSTS * slips, -slips, layout))
    ranked.sort(key=lambda one: one[:2], reverse=True)
    return [layout for _, _, layout in ranked[:CONTENDERS]]


def _fitted(source: TableSource, layout: Layout) -> Fitted | None:
    try:
        return sound_fit(read_otherwise(source, layout, TRIED_SAMPLES))
    except SessionError:
        return None


def _layouts(layout: Layout) -> Iterator[Layout]:
    """Every unit, sign and zero, those that differ in least first."""
    places = [
        list(_columns(quantity, column))
        for quantity, column in layout.columns.items()
        if quantity in UNITS_TRIED
    ]
    names = [quantity for quantity in layout.columns if quantity in UNITS_TRIED]
    made = [
        Layout(layout.name, {**layout.columns, **dict(zip(names, one, strict=True))})
        for one in itertools.product(*places)
    ]
    ranked = sorted(made, key=lambda one: len(_slips(layout, one)))
    return (one for one in ranked if _slips(layout, one))


def _columns(quantity: str, column: Column) -> Iterator[Column]:
    for unit in dict.fromkeys((column.unit, *UNITS_TRIED[quantity])):
        scale = column.scale if unit == column.unit else UNITS[quantity][unit]
        sides = (False, True) if quantity == ANGLE else (False,)
        for turned, up in itertools.product(sides, repeat=2):
            yield replace(
                column,
                unit=unit,
                scale=scale,
                reversed=column.reversed != turned,
                zero_up=column.zero_up != up,
            )


def _slips(believed: Layout, meant: Layout) -> tuple[str, ...]:
    """Words for what differs between two layouts."""
    out = []
    for quantity, column in meant.columns.items():
        before = believed.columns[quantity]
        if column.unit != before.unit:
            unit, other = (UNIT_NAMES.get(one.unit, one.unit) for one in (column, before))
            out.append(f"{quantity}s in {unit} instead of {other}")
        if column.reversed != before.reversed:
            out.append(f"the sign of the {quantity} reversed")
        if column.zero_up != before.zero_up:
            out.append("zero upright" if column.zero_up else "zero hanging")
    return tuple(out)


def rough_gain(motion: Motion) -> float:
    """The gain over chance at the best length of a grid; raises IdentificationError."""
    track = float(np.ptp(motion.p_m))
    if track > LONGEST_TRACK_M or 0.0 < track < SHORTEST_TRACK_M:
        raise IdentificationError("no track is so long or so short")
    check_motion(motion)
    grid, setup = make_grid(motion), setup_of(motion, dry=True)
    noise = Noise(0.3, max(9.0 * setup.floor, 1e-5))
    start = starting_points(grid, noise, motion.scale_sigma, SCALES, LENGTHS)[0]
    noise = likeliest_noise(grid, start, noise, setup.alive, setup.floor)
    return gain_over_free(grid, start, noise, setup.alive, setup.floor)


def sound_fit(motion: Motion) -> Fitted | None:
    """The fit, if it is a pole's motion beyond doubt."""
    try:
        rough_gain(motion)
        found = fit_pole(motion)
    except (IdentificationError, np.linalg.LinAlgError, ValueError):
        return None
    return Fitted(found.gain(), found) if _is_sound(found, motion) else None


def _is_sound(found: PoleFit, motion: Motion) -> bool:
    verdict = judge(found.fit, motion.begins, samples=found.samples)
    values = found.values
    return (
        not verdict.doubts
        and PLAUSIBLE_M[0] < values["pole.length_m"] < PLAUSIBLE_M[1]
        and "pole.length_m" not in unidentified(verdict.fit)
        and abs(values["offset"]) < 4.0 * motion.anchor_sigma_rad
        and abs(values.get("angle scale", 1.0) - 1.0) < max(FIT_SCALE, motion.scale_sigma)
        and abs(values.get("cart scale", 1.0) - 1.0) < FIT_SCALE
    )


def _clock(motion: Motion) -> str:
    """A clock that runs too fast makes the pole longer and the cart push harder, by its square."""
    factors = [one for one in CLOCK_FACTORS.tolist() if abs(one - 1.0) > 0.5 * FIT_SCALE]
    for factor in _best_factors(motion, factors, _slower):
        fitted = sound_fit(_slower(motion, factor))
        if fitted is not None and fitted.gain >= LEAST_GAIN:
            factor *= math.sqrt(fitted.found.values.get("cart scale", 1.0))
            word, size = ("fast", factor) if factor > 1.0 else ("slow", 1.0 / factor)
            return (
                f"with a clock that runs {size:.3g} times too {word} {fitted.says}, or with "
                f"positions {factor**2:.3g} times too large"
            )
    return ""


def other_counts(motion: Motion) -> tuple[float, Fitted] | None:
    """How many times too large the angles are, if with other counts a turn the recording fits.

    The length does not depend on it: small swings tell it whatever their size.
    """
    motion = motion.part(0, min(len(motion.t_s), TRIED_SAMPLES))
    motion = replace(motion, scale_sigma=max(motion.scale_sigma, 0.03))
    factors = [one for one in COUNTS_FACTORS.tolist() if abs(one - 1.0) > FIT_SCALE]
    for turns in (0, 1, -1):  # of the sensor, by which its zero was shifted
        turned = replace(motion, theta_rad=motion.theta_rad + 2.0 * math.pi * turns)
        best = _best_factors(turned, factors, _scaled)
        tried = [_scaled(turned, factor) for factor in best]
        tried += [_with_open_scale(turned, factor) for factor in best[:1]]
        for scaled in tried:
            fitted = sound_fit(scaled)
            if fitted is not None and fitted.gain >= LEAST_GAIN:
                return _times_too_large(turned, fitted.found), fitted
    return None


def _with_open_scale(motion: Motion, factor: float) -> Motion:
    """The angles by about the scale that a fit finds which believes nothing of it.

    A motion that is nearly that of a spring has many scales: the smaller the angles, the better,
    and none by far. What that leaves open belongs into the length's interval.
    """
    open_scale = replace(_scaled(motion, factor), scale_sigma=OPEN_SCALE)
    try:
        scale = fit_pole(open_scale).values.get("angle scale", 1.0)
    except (IdentificationError, np.linalg.LinAlgError, ValueError):
        return open_scale
    return replace(_scaled(motion, factor / scale), scale_sigma=OPEN_SCALE)


def _times_too_large(motion: Motion, found: PoleFit) -> float:
    return found.values.get("angle scale", 1.0) * float(
        np.ptp(motion.theta_rad) / np.ptp(found.setup.motion.theta_rad)
    )


def _slower(motion: Motion, factor: float) -> Motion:
    return replace(motion, t_s=motion.t_s / factor, jitter_s=motion.jitter_s / factor)


def _scaled(motion: Motion, factor: float) -> Motion:
    theta = motion.anchor_rad + (motion.theta_rad - motion.anchor_rad) * factor
    return replace(motion, theta_rad=theta, theta_step_rad=motion.theta_step_rad * factor)


def _best_factors(
    motion: Motion, factors: list[float], changed: Callable[[Motion, float], Motion]
) -> list[float]:
    """The few by which a pole foresees best."""
    ranked = []
    for factor in factors:
        with contextlib.suppress(IdentificationError):
            ranked.append((rough_gain(changed(motion, factor)), factor))
    return [factor for gain, factor in sorted(ranked, reverse=True)[:CONTENDERS] if gain > 0.0]
