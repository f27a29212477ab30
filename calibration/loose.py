"""A drive that does more than lag, delay and limit say, and can be allowed for.

It may ramp its commands, pull its cart by a soft belt or with play, stand on a tilted track,
ripple, cog, and be fed unevenly. One after the other is asked for, from several starts; what
explains nothing is taken away again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calibration.drive import Drive, Noise
from calibration.drive_fit import BACK_M, HIDDEN, Found, fit_noise, settled
from calibration.drive_lost import without_lost
from calibration.drive_waves import Waves, find_cogs, find_ripple, supply_pushes
from calibration.fit import Parameter
from calibration.motor_kernel import BELT_HZ, DAMPING, LIMIT, PLAY, RAMP
from cartpole.messages import FloatArray

LIMITED, RAMPS, BELT, DAMPED, PLAYS = (
    "motor.acceleration_m_s2", "ramp", "belt", "belt's damping", "play",
)  # fmt: skip
PLACE = {LIMITED: LIMIT, RAMPS: RAMP, BELT: BELT_HZ, DAMPED: DAMPING, PLAYS: PLAY}
UNKNOWN = {
    RAMPS: Parameter(RAMPS, "m/s^2", 12.0, 0.5, 200.0, 2.0),
    BELT: Parameter(BELT, "Hz", 22.0, 5.0, 60.0, 3.0),
    DAMPED: Parameter(DAMPED, "1", 0.15, 0.0, 2.0, 0.1, wall=True),
    PLAYS: Parameter(PLAYS, "m", 1e-4, 0.0, 0.02, 1e-4, wall=True),
}
TILT = Parameter("tilt", "m/s^2", 0.0, -5.0, 5.0, 0.1)
DELAY_S = "motor.delay_s"
SUPPLY = "supply, wave "
RAMP_STARTS = tuple({RAMPS: one} for one in (6.0, 12.0, 30.0))
BELT_STARTS = tuple(
    {BELT: hz, DAMPED: 0.15, PLAYS: play} for hz, play in ((18.0, 1e-5), (27.0, 1e-5), (25.0, 2e-4))
)
SOFTER_S = 0.004  # of delay that is the belt's own
INNER = 0.03  # of the cart's random pushes, to start from
ARRIVAL_S, STAMP_S = 3e-4, 1e-4  # by which times are off, to start from
WORTH = 10.0  # by how much an unknown must make twice the logarithm of the likelihood greater
UNEVEN_WORTH = 20.0  # so much all waves of a supply: by chance 1 in 400 recordings


def loosened(plain: Found, noise: Noise) -> Found:
    """With all that a drive may do besides and that shows; ``noise`` to start from."""
    noise = replace(noise, arrival=ARRIVAL_S**2, stamp=STAMP_S**2, inner=INNER * noise.push)
    found = _with(replace(plain, noise=noise), RAMP_STARTS)
    found = _tilted(_missing(found))
    found = _waving(found)
    found = _fed_unevenly(found)
    found = _with(_missing(found), BELT_STARTS)
    found = _waving(_missing(found))
    for names in ((BELT, DAMPED, PLAYS), (PLAYS,), (RAMPS,)):
        found = _simpler(found, names)
    for wave in found.waves:
        found = _without(found, wave.names)
    if found.has(BACK_M):
        found = _without(found, (BACK_M, HIDDEN))
    if fed := [one.name for one in found.fit.parameters if one.name.startswith(SUPPLY)]:
        found = _without(found, fed, UNEVEN_WORTH)
    if found.has(RAMPS):
        found = _simpler(found, (LIMITED,))  # a drive never asks for more than its ramp
    return found


def _missing(found: Found) -> Found:
    """Without the commands that never arrived: the one before went on for a tick."""
    drive, lost = without_lost(found)
    if not lost:
        return found
    again = settled(drive, found.fit, (), found.noise)
    return replace(found.grown(again), lost=found.lost + lost)


def _waving(found: Found) -> Found:
    """With a ripple and cogs, where they show and were not known."""
    for find, cogs in ((find_ripple, False), (find_cogs, True)):
        if any(one.cogs == cogs for one in found.waves):
            continue
        wave = find(found.residuals)
        if wave is not None:
            found = with_waves(found, wave)
    return found


def with_waves(found: Found, wave: Waves) -> Found:
    """With two unknowns more."""
    unknown = [Parameter(name, "m/s^2", 0.0, -20.0, 20.0, 0.1) for name in wave.names]
    grown = _pushed(found, unknown, wave.pushes(found.drive))
    return replace(grown, waves=(*found.waves, wave))


def _with(found: Found, starts: Sequence[dict[str, float]]) -> Found:
    """With unknowns more, from that start which ends at the most likely drive."""
    trials = []
    for one in starts:
        count = len(found.drive.own)
        softer_s = SOFTER_S if BELT in one else 0.0
        old = [
            replace(p, start=found.fit.value(p.name) - (softer_s if p.name == DELAY_S else 0.0))
            for p in found.fit.parameters
        ]
        new = [replace(UNKNOWN[name], start=value) for name, value in one.items()]
        drive = replace(found.drive, own=(*found.drive.own, *(PLACE[name] for name in one)))
        first = fit_noise(drive, [*old[:count], *new, *old[count:]], found.noise)
        trials.append(found.grown(settled(drive, first, (), found.noise)))
    return min(trials, key=lambda trial: trial.unlikeliness)


def _pushed(found: Found, unknown: Sequence[Parameter], pushes: Sequence[FloatArray]) -> Found:
    drive = found.drive.pushed_by(*pushes)
    grown = settled(drive, found.fit, tuple(unknown), found.noise)
    return found.grown(grown)


def _tilted(found: Found) -> Found:
    return _pushed(found, [TILT], [np.ones(len(found.drive.time))])


def _fed_unevenly(found: Found) -> Found:
    """With slow changes of its gain, where they show."""
    pushes = supply_pushes(found.drive, found.fit.values)
    names = [f"{SUPPLY}{k}" for k in range(1, len(pushes) + 1)]
    grown = _pushed(found, [Parameter(name, "1", 0.0, -0.5, 0.5, 0.01) for name in names], pushes)
    return grown if found.unlikeliness - grown.unlikeliness > UNEVEN_WORTH else found


def _without(found: Found, gone: Sequence[str], worth: float = 2.0 * WORTH) -> Found:
    """Without pushes that something else explains by now."""
    names = [one.name for one in found.fit.parameters]
    columns = [k - len(found.drive.own) for k, name in enumerate(names) if name in gone]
    drive = replace(found.drive, pushes=np.delete(found.drive.pushes, columns, axis=1))
    trial = _again(found, drive, gone)
    left = tuple(one for one in found.waves if one.names[0] not in gone)
    return _simplest(found, replace(trial, waves=left), worth)


def _simpler(found: Found, names: Sequence[str]) -> Found:
    """Without these, where they explain nothing."""
    if not all(found.has(name) for name in names):
        return found
    gone = {PLACE[name] for name in names}
    drive = replace(found.drive, own=tuple(one for one in found.drive.own if one not in gone))
    return _simplest(found, _again(found, drive, names), WORTH * len(names))


def _again(found: Found, drive: Drive, gone: Sequence[str]) -> Found:
    left = [
        replace(one, start=found.fit.value(one.name))
        for one in found.fit.parameters
        if one.name not in gone
    ]
    first = fit_noise(drive, left, found.noise)
    return found.grown(settled(drive, first, (), found.noise))


def _simplest(found: Found, simpler: Found, worth: float) -> Found:
    return simpler if simpler.unlikeliness - found.unlikeliness < worth else found
