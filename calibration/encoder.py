"""Encoders: the cart's scale between the switches, every sign, and the pole's counts per turn.

The switches say which way is left and how long the track is. The pole's answer to the cart's
accelerations says which way it turns and, roughly, how many counts a radian has. Counts per turn
come from a pole that went over the top: it hangs there whole turns away from where it hung before.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter

from calibration.fit import NORMAL_95, implausible
from calibration.recording import Counts, Recording
from calibration.result import CalibrationResult, Estimate
from calibration.turns import counts_by_energy, counts_by_motion, over_the_top
from cartpole.config.schema import Config
from cartpole.errors import IdentificationError, SessionError
from cartpole.messages import FloatArray
from cartpole.model.parameters import GRAVITY_M_S2

RECORD = "record a homing move: slowly to the left switch, then to the right one"
TURN = "let the pole go over the top and turn freely for 5 s"
SWITCH_SIGMA_M = 0.0003  # how well a lever switch repeats
GRID_S = 0.005
DAMPINGS_1_S = (0.1, 0.5, 2.0)  # where the search begins
LENGTHS_M = (0.06, 2.5)
EXPLAINED = 0.5  # share of the pole's motion that the cart must account for


@dataclass(frozen=True, slots=True)
class Answer:
    """How the hanging pole answers the cart: counts per radian (signed), its length [m]."""

    counts_per_rad: float
    length_m: float
    explained: float

    @property
    def counts_per_turn(self) -> float:
        """Of the encoder, whichever way it counts."""
        return 2.0 * math.pi * abs(self.counts_per_rad)


def calibrate_encoder(recording: Recording, config: Config) -> CalibrationResult:
    """Counts per metre from the travel that the settings state; signs; counts per turn.

    Raises IdentificationError without both switches or if the scale cannot be right.
    """
    counts = recording.counts
    if counts is None:
        raise IdentificationError(f"{recording.name}: no encoder counts; {RECORD}")
    low, high = _edges(counts)
    travel = high[0] - low[0]
    if abs(travel) < 10.0:
        raise IdentificationError(f"{recording.name}: counts hardly change; is the encoder wired?")
    estimates = {"encoder.cart_counts_per_m": _cart_scale(travel, (low[1], high[1]), config)}
    sign = 1 if travel > 0.0 else -1
    estimates["encoder.cart_sign"] = _sign(sign)
    notes = [
        f"travel {abs(travel):.0f} counts on {config.rig.track_length_m:.3f} m; moving right the "
        + ("counts rise" if sign > 0 else "counts fall"),
        f"middle of the track at count {0.5 * (low[0] + high[0]):.0f}",
    ]
    drive = _drive_sign(recording, sign)
    if drive:
        estimates["motor.sign"] = _sign(drive * config.motor.sign)
    position = sign * counts.cart * config.rig.track_length_m / abs(travel)
    refused: dict[str, str] = {}
    try:
        estimates |= _pole(recording, counts, position, refused, notes)
    except (IdentificationError, SessionError) as error:
        refused["encoder.pole_counts_per_turn"] = f"{error}; {TURN}"
    return CalibrationResult(estimates, 1.0, refused, tuple(notes))


def known_so_far(recording: Recording, config: Config) -> dict[str, float]:
    """Settings to move by, from a sweep or more; empty if the pole did not answer."""
    counts = recording.counts
    if counts is None:
        return {}
    known = calibrate_encoder(recording, config).settings()
    low, high = _edges(counts)
    position = (counts.cart - low[0]) * config.rig.track_length_m / (high[0] - low[0])
    early = counts.t_s <= _sweep_ends(counts)
    answer = _answer(counts.t_s[early], position[early], counts.pole[early])
    if answer.explained < EXPLAINED:
        return {}
    known.setdefault(
        "encoder.pole_counts_per_turn", counts_by_energy(recording, counts, answer.counts_per_turn)
    )
    return known | {"pole.length_m": answer.length_m}


def _cart_scale(travel: float, edges: tuple[float, float], config: Config) -> Estimate:
    length, believed = config.rig.track_length_m, config.encoder.cart_counts_per_m
    scale = abs(travel) / length
    sigma = math.hypot(*edges) + scale * SWITCH_SIGMA_M * math.sqrt(2.0)
    half = NORMAL_95 * sigma / length
    why = implausible("encoder.cart_counts_per_m", scale, believed / 3.0, believed * 3.0, believed)
    if why:
        raise IdentificationError(why + " Check rig.track_length_m")
    return Estimate(scale, (scale - half, scale + half), "1/m")


def _sign(value: int) -> Estimate:
    return Estimate(float(value), (float(value), float(value)), "")


def _drive_sign(recording: Recording, cart_sign: int) -> int:
    """Whether the cart goes where it is told: 1, -1, or 0 if nothing was told."""
    commands, counts = recording.commands, recording.counts
    if commands is None or counts is None or not np.any(commands.velocity_m_s):
        return 0
    way = np.concatenate([[0.0], np.cumsum(commands.velocity_m_s[:-1] * np.diff(commands.t_s))])
    at = np.interp(commands.t_s, counts.t_s, counts.cart)
    agree = float(np.sum((way - way.mean()) * (at - at.mean()))) * cart_sign
    return 0 if agree == 0.0 else int(math.copysign(1, agree))


def _edges(counts: Counts) -> tuple[tuple[float, float], tuple[float, float]]:
    """Counts, with their sigma, at which the left and the right switch close."""
    out = []
    for name, pressed in (("left", counts.limit_low), ("right", counts.limit_high)):
        rising = np.flatnonzero(np.diff(pressed.astype(np.int8)) > 0)
        if len(rising) == 0:
            raise IdentificationError(
                f"the {name} limit switch is never pressed in this recording; {RECORD}"
            )
        before, after = counts.cart[rising], counts.cart[rising + 1]
        out.append(
            (
                float(np.mean(0.5 * (before + after))),
                float(np.mean(np.abs(after - before)) / math.sqrt(12.0 * len(rising))),
            )
        )
    return out[0], out[1]


def _sweep_ends(counts: Counts) -> float:
    """Time [s] at which the cart, back from the last switch, has passed the middle."""
    last = int(np.flatnonzero(counts.limit_low | counts.limit_high)[-1])
    low, high = _edges(counts)
    middle = 0.5 * (low[0] + high[0])
    side = np.sign(counts.cart[last] - middle)
    after = np.flatnonzero((counts.cart[last:] - middle) * side < 0.0)
    return float(counts.t_s[last + int(after[0]) if len(after) else -1])


def _pole(
    recording: Recording,
    counts: Counts,
    position: FloatArray,
    refused: dict[str, str],
    notes: list[str],
) -> dict[str, Estimate]:
    """Sign and counts per turn of the pole; ``position`` (n,) is the cart's in metres."""
    name = "encoder.pole_counts_per_turn"
    early = counts.t_s <= _sweep_ends(counts)
    answer = _answer(counts.t_s[early], position[early], counts.pole[early])
    if answer.explained < EXPLAINED:
        why = "the pole hardly answers to the cart: encoder's plug, a stiff bearing, a held pole?"
        refused[name] = refused["encoder.pole_sign"] = why
        return {}
    estimates = {"encoder.pole_sign": _sign(int(math.copysign(1, answer.counts_per_rad)))}
    rough = counts_by_energy(recording, counts, answer.counts_per_turn)
    notes.append(
        f"the pole answers the cart like a rod of {answer.length_m:.3f} m with about {rough:.0f} "
        "counts a turn"
    )
    turning = over_the_top(counts, early, rough)
    if turning is None:
        refused[name] = f"it did not turn over; {TURN}"
        return estimates
    estimates[name] = counts_by_motion(
        counts, position, turning, math.copysign(rough, answer.counts_per_rad), answer.length_m
    )
    return estimates


def _answer(t: FloatArray, p: FloatArray, pole: FloatArray) -> Answer:
    """Least squares of the pole's counts on a hanging pole's answer to the cart.

    thetadotdot = -c (g theta + pdotdot) - b thetadot, c = 3 / (2 L), beside a free swing and a
    constant; length and damping (dry friction damps small swings, too) leave the least residual.
    """
    grid = np.arange(t[0], t[-1], GRID_S)
    cart, counts = np.interp(grid, t, p - p[0]), np.interp(grid, t, pole)
    counts = counts - counts.mean()

    def solve(length: float, damping: float) -> tuple[float, float]:
        columns = _answers(grid - grid[0], cart, length, damping)
        weights, *_ = np.linalg.lstsq(columns, counts, rcond=None)
        return float(np.sum((counts - columns @ weights) ** 2)), float(weights[0])

    starts = itertools.product(np.geomspace(*LENGTHS_M, 80).tolist(), DAMPINGS_1_S)
    begin = min(starts, key=lambda one: solve(*one)[0])

    def residual(logs: FloatArray) -> float:
        return solve(math.exp(logs[0]), math.exp(logs[1]))[0]

    tolerance = 1e-6 * float(np.sum(counts**2))
    options = {"xatol": 1e-3, "fatol": tolerance, "maxfev": 200}
    first = np.log(np.array(begin))
    best = minimize(residual, first, method="Nelder-Mead", options=options)  # type: ignore[call-overload]
    length = min(max(math.exp(best.x[0]), LENGTHS_M[0]), LENGTHS_M[1])
    damping = math.exp(best.x[1])
    left, per_rad = solve(length, damping)
    total = float(np.sum(counts**2))
    return Answer(per_rad, length, 1.0 - left / total if total > 0.0 else 0.0)


def _answers(t: FloatArray, cart: FloatArray, length: float, damping: float) -> FloatArray:
    """Columns (n, 4): answer to the cart's motion in radians, free swing (two), constant."""
    coupling = 1.5 / length
    stiffness, k = coupling * GRAVITY_M_S2, 2.0 / GRID_S  # s = k (z - 1) / (z + 1)
    square = k * k
    top = -coupling * square * np.array([1.0, -2.0, 1.0])
    bottom = np.array(
        [
            square + damping * k + stiffness,
            2.0 * (stiffness - square),
            square - damping * k + stiffness,
        ]
    )
    forced = lfilter(top, bottom, cart)
    rate, fade = math.sqrt(stiffness), np.exp(-0.5 * damping * t)
    return np.stack(
        [forced, fade * np.cos(rate * t), fade * np.sin(rate * t), np.ones_like(t)], axis=1
    )
