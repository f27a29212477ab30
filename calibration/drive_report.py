"""What is said of a drive that does more than lag, delay and limit tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.stats import chi2

from calibration.drive_fit import BACK_M, Found
from calibration.drive_waves import Waves, supply_pushes
from calibration.fit import NORMAL_95, Fit
from calibration.loose import BELT, DAMPED, LIMITED, PLAYS, RAMPS, SUPPLY, TILT
from calibration.result import Estimate
from cartpole.messages import FloatArray

GAIN, TAU_S, DELAY_S = "motor.counts_per_m_s", "motor.tau_s", "motor.delay_s"
DEAD = "motor.dead_band_counts"
BELT_SHARE = 0.5  # of damping / omega: a standard deviation
REACHED = 0.97  # of its ramp: so fast a drive must have been for the ramp to be its limit
# Standard deviations: drivers may round their commands, to some mm/s.
ROUNDED_M_S, ROUNDED_SHARE = 0.0012, 0.002
NEAR_RAMP = 0.8  # of a ramp: a limit above this is not told well from it
TILTED_SIGMA = 4.0
CHANCE = 0.05  # of steady drives whose residuals look like a gain that wanders
WEAKEST = 1e-6  # of the strongest direction: what lies below says nothing
ELSEWHERE = "the other numbers allow for it, plans and filter do not"


def behind_the_ramp(found: Found, result: Fit) -> tuple[dict[str, Estimate], dict[str, str]]:
    """The limit of a drive whose own one is hidden by its ramp: the ramp itself, where the drive
    has come up to it; else why not."""
    if not found.has(RAMPS) or found.has(LIMITED):
        return {}, {}
    ramp = result.estimate(RAMPS)
    fastest = float(np.max(np.abs(found.drive.acceleration(result.values))))
    if fastest >= REACHED * ramp.value:
        return {LIMITED: replace(ramp, unit="m/s^2")}, {}
    return {}, {
        LIMITED: f"not seen: the driver ramps its commands by {ramp.value:.3g} m/s^2, and so "
        f"slow a drive was not faster than {fastest:.3g}; raise rig.velocity_limit_m_s"
    }


def widened(
    found: Found, result: Fit, estimates: Mapping[str, Estimate], clock_sigma_s: float
) -> dict[str, Estimate]:
    """The same, wider by what one model cannot tell from another.

    A gain that wanders is known only to within what it wandered; how a belt damps its swing is a
    delay too (of 2 damping / omega), and is not told well from the drive's own. A limit a little
    below the ramp may be the ramp's; and a clock that stamps all samples late is a delay.
    """
    out, more = dict(estimates), {GAIN: 0.0, TAU_S: 0.0, DELAY_S: clock_sigma_s}
    gain = result.value(GAIN)
    more[GAIN] = _mean_sigma(found, result) * gain
    if found.noise.arrival > 0.0:  # the larger filter was asked: its intervals can be very narrow
        more[DEAD] = ROUNDED_M_S * gain
        more[GAIN] = math.hypot(more[GAIN], ROUNDED_SHARE * gain)
        more[LIMITED] = ROUNDED_SHARE * out[LIMITED].value if LIMITED in out else 0.0
    if found.has(BELT):
        belts_s = result.value(DAMPED) / (2.0 * math.pi * result.value(BELT))
        more[TAU_S] = BELT_SHARE * belts_s
        more[DELAY_S] = math.hypot(clock_sigma_s, more[TAU_S])
    for name, sigma in more.items():
        if name in out:
            one = out[name]
            half = math.hypot(one.ci95[1] - one.value, NORMAL_95 * sigma)
            out[name] = replace(one, ci95=(one.value - half, one.value + half))
    if LIMITED in out and found.has(RAMPS) and found.has(LIMITED):
        one, ramp = out[LIMITED], result.estimate(RAMPS)
        if one.value > NEAR_RAMP * ramp.value:
            out[LIMITED] = replace(one, ci95=(one.ci95[0], max(one.ci95[1], ramp.ci95[1])))
    return out


def drive_flags(found: Found) -> tuple[str, ...]:
    """What the drive does besides, by one word each."""
    has = {
        "weak": found.has(BACK_M),
        "cogs": any(one.cogs for one in found.waves),
        "ripples": any(not one.cogs for one in found.waves),
        "ramps": found.has(RAMPS),
        "belt": found.has(BELT),
        "play": found.has(PLAYS),
        "lost": found.lost > 0,
        "supply": found.has(SUPPLY + "1"),
    }
    return tuple(name for name, is_so in has.items() if is_so)


def drive_notes(found: Found, result: Fit) -> list[str]:
    """The same in full, and how alike right and left are."""
    skew, sigma = result.value("asymmetry"), result.sigma("asymmetry")
    same = abs(skew) < 3.0 * sigma or abs(skew) < 0.005
    notes = [
        f"right and left differ by {200.0 * skew:+.2f} ± {400.0 * sigma:.2f} % in gain: "
        + ("symmetric" if same else "not symmetric; the settings hold the mean"),
    ]
    notes += [f"{what}; {ELSEWHERE}" for what in _besides(found, result)]
    return notes


def _besides(found: Found, result: Fit) -> list[str]:
    out = []
    if found.has(BACK_M):
        out.append(
            "a weak drive: its pole pushes the cart back "
            f"({result.value(BACK_M):.3f} ± {NORMAL_95 * result.sigma(BACK_M):.3f} m of "
            "m d / (m + M))"
        )
    out += [_wave(one, result) for one in found.waves]
    if found.has(RAMPS):
        out.append(f"the driver ramps its commands: {_number(result, RAMPS)} m/s^2")
    if found.has(BELT):
        out.append(f"the cart swings on its belt at {_number(result, BELT)} Hz")
    if found.has(PLAYS):
        play_mm, half_mm = 1e3 * result.value(PLAYS), 1e3 * NORMAL_95 * result.sigma(PLAYS)
        out.append(f"play between drive and cart: {play_mm:.2f} ± {half_mm:.2f} mm")
    if found.lost:
        out.append(f"{found.lost} of {len(found.drive.sent)} commands never arrived")
    if wander := _wander(found, result):
        out.append(f"the drive's gain wandered by {100.0 * wander:.1f} % (its supply?)")
    if found.has(TILT.name) and abs(result.value(TILT.name)) > TILTED_SIGMA * result.sigma(
        TILT.name
    ):
        out.append(f"a tilted track pushes the cart by {_number(result, TILT.name)} m/s^2")
    return out


def _wave(wave: Waves, result: Fit) -> str:
    strength = math.hypot(*(result.value(name) for name in wave.names))
    uneven_mm_s = 1e3 * strength * result.value(TAU_S)
    how = f"{strength:.2g} m/s^2 (slow speeds uneven by {uneven_mm_s:.2g} mm/s)"
    if wave.cogs:
        return f"the drive cogs: {how} every {1e3 / wave.number:.3g} mm"
    return f"the drive ripples: {how} at {wave.number:.3g} Hz"


def _wander(found: Found, result: Fit) -> float:
    """Standard deviation of the gain over the recording, relative; 0 where it keeps still."""
    changes = _changes(found, result)
    return math.sqrt(0.5 * float(changes @ changes))


def _mean_sigma(found: Found, result: Fit) -> float:
    """How well a gain that wanders is known, relative: to within what it wandered, or, where that
    was left among the residuals, to within the mean of as many spells as it had."""
    wander = _wander(found, result)
    if wander == 0.0 or found.has(SUPPLY + "1"):
        return wander
    power = _changes(found, result) ** 2
    spells = float(np.sum(power * np.arange(1, len(power) + 1)) / np.sum(power))
    return wander / math.sqrt(spells)


def _changes(found: Found, result: Fit) -> FloatArray:
    """Factors of the gain's slow changes: the fitted ones, or what is left of them.

    A score test: what would explain the residuals, less what chance adds to its square.
    """
    pushes = supply_pushes(found.drive, result.values)
    if found.has(SUPPLY + "1"):
        return np.array([result.value(f"{SUPPLY}{k}") for k in range(1, len(pushes) + 1)])
    residuals = found.residuals
    effects = residuals.effects(list(pushes))
    information = effects.T @ effects
    inverse = np.linalg.pinv(information, rcond=WEAKEST, hermitian=True)
    factors = -inverse @ (effects.T @ residuals.left())
    unit = max(1.0, found.fit.chi2_dof)
    if factors @ information @ factors <= unit * float(chi2.ppf(1.0 - CHANCE, len(factors))):
        return np.zeros(len(factors))
    by_chance = unit * float(np.trace(inverse)) / float(factors @ factors)
    return np.asarray(factors * math.sqrt(max(0.0, 1.0 - by_chance)))


def _number(result: Fit, name: str) -> str:
    return f"{result.value(name):.3g} ± {NORMAL_95 * result.sigma(name):.2g}"
