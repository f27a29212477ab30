"""Commands that never arrived at their drive, told by what the cart did instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.drive import Drive
from calibration.drive_fit import Found
from calibration.motor_kernel import DELAY

FAR_SIGMA = 4.0  # what begins a spell that is looked into
BACK_S, ON_S = 0.08, 0.005  # where a command stands that could have begun it
WORTH_LOST = 25.0  # of twice the logarithm of the likelihood, for one command taken away
MOST_LOST, MOST_LOOKS = 40, 120


def without_lost(found: Found) -> tuple[Drive, int]:
    """The drive as if those commands had never been sent without which it is far more likely, and
    how many they are.

    A board that loses a command goes by the one before it, until the next.
    """
    drive, lost = found.drive, 0
    cost = found.unlikeliness_of(drive)
    out, variance = drive.innovations(found.fit.values, found.noise)
    last_s = -np.inf
    delay_s = float(drive.coefficients(found.fit.values)[DELAY])
    for at_s in drive.time[np.abs(out) > FAR_SIGMA * np.sqrt(variance)].tolist()[:MOST_LOOKS]:
        if at_s < last_s + BACK_S or lost >= MOST_LOST:
            continue
        trials = []
        for k in np.flatnonzero(
            np.abs(drive.sent + delay_s - at_s + 0.5 * BACK_S) < 0.5 * BACK_S + ON_S
        ):
            if k == 0 or drive.units[k] == drive.units[k - 1]:
                continue
            units = drive.units.copy()
            units[k] = units[k - 1]
            trial = replace(drive, units=units)
            trials.append((found.unlikeliness_of(trial), int(k), trial))
        if not trials:
            continue
        best, _, trial = min(trials, key=lambda one: one[:2])
        if cost - best > WORTH_LOST:
            drive, cost, lost, last_s = trial, best, lost + 1, at_s
    return drive, lost
