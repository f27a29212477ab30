"""A drive's commands and what its cart did, and what the drive's filter says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import savgol_filter

from calibration.loose_kernel import loose_innovations
from calibration.motor_kernel import (
    DELAY,
    LIMIT,
    PUSHES,
    RAMP,
    TAU,
    innovations,
    wanted_speed,
)
from calibration.recording import Commands, Motion
from cartpole.config.schema import Motor
from cartpole.messages import FloatArray
from cartpole.model.dynamics import cart_step

PLAIN = tuple(range(RAMP))  # unknowns of a drive with a lag, a delay and a limit
NO_LIMIT_M_S2 = 1e3
GATE = 6.0
FULL_SCALE = 2047
BLUR_STEP_S = 0.001
PULL_STEP_S, PULL_S = 0.005, 0.06  # grid and window of a pole's acceleration
SMALL_PUSH_M_S2 = 0.01  # by which a push's effect is differentiated


@dataclass(frozen=True, slots=True)
class Noise:
    """Variances: of the cart's random acceleration [(m/s)^2/s], of a position [m^2], of the
    times at which a command arrives and for which a sample is stamped [s^2]."""

    push: float
    position: float
    arrival: float = 0.0
    stamp: float = 0.0
    inner: float = 0.0  # as push, of the drive on its side of a belt


@dataclass(frozen=True, slots=True)
class Drive:
    """What a fit is given: cart (n,), commands in driver units (m,), and what else may push the
    drive, (n, k) [m/s^2 for a factor of one]. ``lever`` (n,) is the squared cosine of the pole's
    angle: the share of the cart's acceleration that the pole feels and gives back. ``own``:
    which of the kernels' coefficients are unknown; a drive without an own limit has none."""

    time: FloatArray
    position: FloatArray
    sent: FloatArray
    units: FloatArray
    pushes: FloatArray
    lever: FloatArray
    own: tuple[int, ...] = PLAIN

    def coefficients(self, values: FloatArray) -> FloatArray:
        """As the kernels take them, from unknowns in the order of ``own``, then of the pushes (the
        last of which may be left out)."""
        count = len(self.own)
        pars = np.zeros(PUSHES + self.pushes.shape[1])
        pars[LIMIT] = NO_LIMIT_M_S2
        pars[list(self.own[: len(values)])] = values[:count]
        more = values[count:]
        pars[PUSHES : PUSHES + len(more)] = more
        return pars

    def innovations(self, values: FloatArray, noise: Noise) -> tuple[FloatArray, FloatArray]:
        """Innovations [m] and variances, (n,); factors of the last pushes may be left out."""
        n = len(self.time)
        out, variance = np.empty(n), np.empty(n)
        rig = (self.time, self.position, self.sent, self.units, self.pushes)
        pars, spread = self.coefficients(values), (noise.push, noise.position)
        if max(self.own) < RAMP and noise.arrival <= 0.0:
            innovations(*rig, pars, *spread, GATE, out, variance)
        else:
            more = (math.sqrt(noise.arrival), noise.stamp, noise.inner)
            loose_innovations(*rig, pars, *spread, *more, GATE, out, variance)
        return out, variance

    def pushed_by(self, *more: FloatArray) -> Drive:
        """The same drive, that these (n,) may push besides."""
        return replace(self, pushes=np.column_stack([self.pushes, *more]))

    def blurred_pull(self, values: FloatArray) -> FloatArray:
        """What smoothing its angle hides of a pole's pull, but for a factor [m/s^2], (n,).

        The pole gives back a share of the drive's own acceleration, which steps with the commands.
        """
        grid = np.arange(self.time[0], self.time[-1], BLUR_STEP_S)
        width = 2 * round(0.5 * PULL_S / BLUR_STEP_S) + 1
        if len(grid) <= width:
            return np.zeros(len(self.time))
        felt = np.interp(grid, self.time, self.lever * self.acceleration(values))
        return np.asarray(np.interp(self.time, grid, felt - savgol_filter(felt, width, 3)))

    def acceleration(self, values: FloatArray) -> FloatArray:
        """The drive's acceleration [m/s^2] at the samples by the commands alone, (n,)."""
        return np.asarray(np.gradient(self.speeds(values), self.time))

    def effects(self, values: FloatArray, noise: Noise, pushes: Sequence[FloatArray]) -> FloatArray:
        """By how many of its deviations a residual changes for each m/s^2 of a push, (n, k)."""
        given = np.zeros(len(self.own) + self.pushes.shape[1] + 1)
        given[: len(values)] = values
        before, variance = self.innovations(given[:-1], noise)
        given[-1] = SMALL_PUSH_M_S2
        after = [self.pushed_by(one).innovations(given, noise)[0] for one in pushes]
        scale = SMALL_PUSH_M_S2 * np.sqrt(variance)
        return np.column_stack([(one - before) / scale for one in after])

    def speeds(self, values: FloatArray) -> FloatArray:
        """The drive's speed [m/s] at the samples by the commands alone, (n,)."""
        speed, out = 0.0, [0.0]
        pars = self.coefficients(values)
        tau, limit = float(pars[TAU]), float(pars[LIMIT])
        wished = self.wished(values).tolist()
        for u, step in zip(wished, np.diff(self.time).tolist(), strict=False):
            _, speed = cart_step(0.0, speed, u, step, tau, limit)
            out.append(speed)
        return np.array(out)

    def is_driven(self) -> FloatArray:
        """1 where the last command was to move, 0 elsewhere, at the samples, (n,)."""
        at = np.searchsorted(self.sent, self.time, side="right") - 1
        return np.where(at >= 0, self.units[at] != 0.0, False).astype(np.float64)

    def wished(self, values: FloatArray) -> FloatArray:
        """The speed [m/s] that the drive is asked for at the samples, behind its ramp, (n,)."""
        pars = self.coefficients(values)
        wanted = np.array([wanted_speed(one, pars) for one in self.units.tolist()])
        at = np.searchsorted(self.sent + pars[DELAY], self.time, side="right") - 1
        held = np.where(at >= 0, wanted[at], 0.0)
        if pars[RAMP] <= 0.0:
            return held
        ramp, speed, out = float(pars[RAMP]), float(held[0]), [float(held[0])]
        for u, step in zip(held[1:].tolist(), np.diff(self.time).tolist(), strict=True):
            speed += min(max(u - speed, -ramp * step), ramp * step)
            out.append(speed)
        return np.array(out)


def drive_from(motion: Motion, commands: Commands, motor: Motor) -> Drive:
    """A recorded drive; its pole may push it."""
    units = driver_units(commands.velocity_m_s, motor)
    pull, lever = pole_pull(motion)[:, None], np.cos(motion.theta_rad) ** 2
    return Drive(motion.t_s, motion.p_m, commands.t_s, units, pull, lever)


def driver_units(velocity_m_s: FloatArray, motor: Motor) -> FloatArray:
    """What the configured driver wrote for these commands, sign of the wiring left out, (n,)."""
    size = motor.dead_band_counts + np.abs(velocity_m_s) * motor.counts_per_m_s
    whole = np.minimum(np.rint(size), FULL_SCALE)
    return np.where(velocity_m_s == 0.0, 0.0, np.copysign(whole, velocity_m_s))


def pole_pull(motion: Motion) -> FloatArray:
    """How a pole pulls at its cart [1/s^2], (n,): omega^2 sin theta - omegadot cos theta.

    A cart of mass M under a pole of mass m, its centre of mass d from the pivot, is accelerated by
    m d / (m + M) times this.
    """
    grid = np.arange(motion.t_s[0], motion.t_s[-1], PULL_STEP_S)
    width = 2 * round(0.5 * PULL_S / PULL_STEP_S) + 1
    if len(grid) <= width:
        return np.zeros(len(motion.t_s))
    theta = np.interp(grid, motion.t_s, motion.theta_rad)
    angle, rate, bent = (
        savgol_filter(theta, width, 3, deriv=k, delta=PULL_STEP_S) for k in range(3)
    )
    pull = rate**2 * np.sin(angle) - bent * np.cos(angle)
    return np.asarray(np.interp(motion.t_s, grid, pull))
