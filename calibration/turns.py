"""Counts per turn, from a pole that went over the top and turned.

Turning, it must move the same way after every turn: that tells how many counts a turn has to a
small part of a count.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.signal import savgol_filter

from calibration.fit import NORMAL_95, Fit, Parameter, fit
from calibration.grid import Grid, Noise, likeliest_noise, likelihood, make_grid, run
from calibration.pole import LENGTHS_M
from calibration.recording import BoolArray as Chosen
from calibration.recording import Counts, Motion, Recording
from calibration.result import Estimate
from cartpole.messages import FloatArray

GRID_S = 0.005
BELOW = 0.2  # of a turn: below the horizontal
SWINGS_S = 6.0
OVER = 0.7  # of a turn from where it hung: it went over
FREE_S = 2.5  # of turning that tell its energy
SEARCHED = 0.03  # to both sides of what the energy says
SEARCH_STEPS = 121
ROUNDS = 3
CORRELATION_S = 0.1


def over_the_top(counts: Counts, early: Chosen, rough: float) -> Chosen | None:
    """From the last swings before the pole went over the top on; None if it did not."""
    off = np.abs(counts.pole - float(np.median(counts.pole[early])))
    if float(off.max()) < OVER * rough:
        return None
    left_s = counts.t_s[int(np.flatnonzero(off > BELOW * rough)[0])]
    return np.asarray(counts.t_s > left_s - SWINGS_S)


def counts_by_energy(recording: Recording, counts: Counts, rough: float) -> float:
    """Counts a turn to about a percent from a pole that turned freely; ``rough`` if none did.

    Turning freely, its energy is conserved but for friction: omega^2 is a constant, less what
    friction takes on the way, and a cosine of the angle. The period of that cosine, in counts, is
    a turn.
    """
    for begin, end in recording.free_spells(FREE_S):
        spell = (counts.t_s >= begin) & (counts.t_s <= end)
        t, pole = counts.t_s[spell], counts.pole[spell]
        if float(np.ptp(pole)) < rough:
            continue
        grid = np.arange(t[0], t[-1], GRID_S)
        width = 2 * round(0.03 / GRID_S) + 1
        place = savgol_filter(np.interp(grid, t, pole), width, 3)
        rate = savgol_filter(np.interp(grid, t, pole), width, 3, deriv=1, delta=GRID_S)
        path = np.cumsum(np.abs(np.diff(place, prepend=place[0])))
        path /= max(1.0, float(path[-1]))
        periods = rough * np.geomspace(0.7, 1.4, 700)
        return float(periods[np.argmin([_wave(place, rate**2, path, one) for one in periods])])
    return rough


def _wave(place: FloatArray, square: FloatArray, path: FloatArray, period: float) -> float:
    """What is left of ``square`` after a cosine of ``place`` and the losses along ``path``."""
    angle = 2.0 * math.pi * place / period
    columns = np.stack([np.ones_like(path), path, path**2, np.cos(angle), np.sin(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(columns, square, rcond=None)
    return float(np.sum((square - columns @ weights) ** 2))


def counts_by_motion(
    counts: Counts, position: FloatArray, part: Chosen, rough: float, length: float
) -> Estimate:
    """The pole's own model with the scale of its angle as one unknown more.

    ``rough`` counts a turn (below zero if they fall counter-clockwise) and ``length`` [m] are where
    the search begins.
    """
    step = 2.0 * math.pi / rough
    rough = abs(rough)
    hung = float(np.median(counts.pole[part][:20]))
    angle = (counts.pole[part] - hung) * step
    motion = Motion(counts.t_s[part], position[part], angle, theta_step_rad=abs(step))
    grid = make_grid(motion)
    floor = step * step / 12.0
    noise = Noise(0.1, 4.0 * floor)
    values = {"pole.length_m": length, "pole.damping_1_s": 0.1, "scale": 1.0}

    def scaled(given: dict[str, float]) -> Grid:
        return replace(grid, theta=grid.theta * given["scale"])

    scales = np.linspace(1.0 - SEARCHED, 1.0 + SEARCHED, SEARCH_STEPS).tolist()
    costs = [likelihood(scaled({"scale": one}), values, noise, None) for one in scales]
    values["scale"] = scales[int(np.argmin(costs))]
    used = np.ones(len(angle))
    lags = round(CORRELATION_S / float(np.median(np.diff(motion.t_s))))
    for _ in range(ROUNDS):
        found = _fit(grid, values, noise, used, lags)
        values = {one.name: found.value(one.name) for one in found.parameters}
        noise = likeliest_noise(scaled(values), values, noise, used, floor)
    scale = found.value("scale")
    return whole_counts(rough / scale, rough * found.sigma("scale") / scale**2)


def _fit(grid: Grid, start: dict[str, float], noise: Noise, used: FloatArray, lags: int) -> Fit:
    parameters = [
        Parameter("scale", "1", start["scale"], 0.8, 1.25, 0.01),
        Parameter("pole.length_m", "m", start["pole.length_m"], *LENGTHS_M, 0.1),
        Parameter("pole.damping_1_s", "1/s", start["pole.damping_1_s"], -1.0, 20.0, 0.1),
        Parameter(
            "pole.coulomb_rad_s2", "rad/s^2", start.get("pole.coulomb_rad_s2", 0.0), -2.0, 20.0, 0.1
        ),
        Parameter("offset", "rad", start.get("offset", 0.0), -0.6, 0.6, 0.05),
    ]
    names = [one.name for one in parameters]

    def innovations(values: FloatArray) -> tuple[FloatArray, FloatArray]:
        given = dict(zip(names, values.tolist(), strict=True))
        out, variance, _, _ = run(
            replace(grid, theta=grid.theta * given["scale"]), given, noise, used
        )
        return out / given["scale"], variance

    weight = 1.0 / np.sqrt(innovations(np.array([one.start for one in parameters]))[1])
    return fit(lambda values: weight * innovations(values)[0], parameters, lags)


def whole_counts(value: float, sigma: float) -> Estimate:
    """A turn has a whole number of counts, with four edges a line a multiple of four."""
    for step in (4.0, 1.0):
        near = step * round(value / step)
        if abs(near - value) <= 3.0 * sigma < 0.5 * step:  # the only one that can be
            value = near
            break
    half = NORMAL_95 * sigma
    return Estimate(value, (value - half, value + half), "1")
