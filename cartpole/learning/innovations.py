"""How likely a recording is under a model: an extended Kalman filter's innovations, compiled.

State x = (p, v, theta, omega, zero), zero the pole encoder's own error, and behind a belt the
drive's place and speed. Between encoder samples the cart follows the drive, the pole the cart
(``motion``), disturbed by white accelerations of cart and pole; the samples are uniform within
their steps (``counted``). The likelihood of a recording is that of its innovations nu with
covariance S (Schweppe 1965):

    -ln L = 1/2 sum (nu' S^-1 nu + ln |S|)

What the equations of motion leave out can be switched on (``Model``): a drive that is stronger one
way, that cogs or sticks, a tilted track, a belt with play.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cartpole.errors import SessionError
from cartpole.learning.motion import (
    BELT,
    DELAY,
    GAIN,
    HUNG,
    PLAY,
    RIGID,
    Model,
    predict,
    predict_hung,
)
from cartpole.messages import FloatArray

if TYPE_CHECKING:
    from calibration.recording import Recording

LONGEST_S, LONGEST_HUNG_S = 0.0026, 0.0013  # of a step of the filter, on a belt
GAP_S = 0.25  # without samples: the filter begins afresh
ZERO_SIGMA_RAD = 0.004
LEAST_SAMPLES = 200
# Samples on one count beyond which a longer stay is no slower crossing of its edge: of the pole's
# coarse counts, and of the cart's fine ones, among which a disturbance changes the speed at once.
SLOW, CART_SLOW = 6, 1
STILL = 20  # of a long stay every so many samples say that it is one
BEGIN_M, BEGIN_RAD = 1e-3, 5e-3  # sigma of the first sample: one of some step
BEGIN_M_S = 0.1  # of a drive's speed about what it is told


@dataclass(frozen=True, slots=True)
class Track:
    """A recording for the filter: samples t, p, theta (n,) with their variances (n,), and commands
    when sent (m,)."""

    name: str
    t_s: FloatArray
    p_m: FloatArray
    theta_rad: FloatArray
    command_t_s: FloatArray
    command_m_s: FloatArray
    p_variance: FloatArray
    theta_variance: FloatArray

    def part(self, first: int, last: int) -> Track:
        """Samples ``first`` to before ``last``; all commands."""
        cut = slice(first, last)
        return Track(
            f"{self.name} [{first}:{last}]", self.t_s[cut], self.p_m[cut], self.theta_rad[cut],
            self.command_t_s, self.command_m_s, self.p_variance[cut], self.theta_variance[cut],
        )  # fmt: skip

    def halves(self) -> tuple[Track, Track]:
        """Both halves, as tracks."""
        n = len(self.t_s)
        return self.part(0, n // 2), self.part(n // 2, n)


def track_of(recording: Recording) -> Track:
    """A recording's encoder samples and commands; SessionError where one is missing."""
    motion, commands = recording.motion, recording.commands
    if motion is None or commands is None or len(motion.t_s) < LEAST_SAMPLES:
        raise SessionError(
            f"{recording.name}: learning needs {LEAST_SAMPLES} encoder samples and commands"
        )
    p, p_variance = counted(motion.p_m, max(motion.p_step_m, 1e-6), CART_SLOW)
    theta, theta_variance = counted(motion.theta_rad, max(motion.theta_step_rad, 1e-6))
    return Track(
        recording.name, motion.t_s, p, theta, commands.t_s, commands.velocity_m_s, p_variance,
        theta_variance,
    )  # fmt: skip


def counted(read: FloatArray, step: float, slow: int = SLOW) -> tuple[FloatArray, FloatArray]:
    """(samples (n,), variances (n,)) of a counter that knows ``step`` only.

    While every sample shows another count their errors are as good as independent. Samples that
    stay on one count have one error, which is the motion itself: to a filter a pole that moves
    within a step would seem to stand. What is known then is when the count changes: the first
    sample of a stay of m lies within step / m behind the edge it came over, the last one as far
    before the next. Those between say nothing, their variance is infinite; but in a long stay one
    now and then says that the count is still the same, or a filter's doubt would grow without end.
    """
    jumps = np.diff(read)
    begins = np.flatnonzero(np.r_[True, np.abs(jumps) > 0.5 * step])
    ends = np.r_[begins[1:], len(read)] - 1
    inside = step / np.minimum(ends - begins + 1, slow)
    samples, variances = read.copy(), np.full(len(read), np.inf)
    stayed = np.arange(len(read)) - np.repeat(begins, ends - begins + 1)
    variances[(stayed > 0) & (stayed % STILL == 0)] = step**2 / 4.0
    first, last = begins[1:], ends[:-1]
    for at, other, depth in ((first, first - 1, inside[1:]), (last, last + 1, inside[:-1])):
        side = np.sign(read[at] - read[other])
        samples[at] = read[at] - side * 0.5 * (step - depth)
        variances[at] = depth**2 / 12.0
    return samples, variances


@njit(cache=True, nogil=True, error_model="numpy")
def update(
    x: FloatArray, c: FloatArray, angle: bool, z: float, variance: float, column: FloatArray
) -> tuple[float, float]:
    """Take in a sample ``z`` of p, or of theta + zero (``angle``); its innovation and variance.

    ``column`` (n,) is overwritten.
    """
    n = x.shape[0]
    if angle:
        for i in range(n):
            column[i] = c[i, 2] + c[i, 4]
        nu, s = z - x[2] - x[4], variance + column[2] + column[4]
    else:
        for i in range(n):
            column[i] = c[i, 0]
        nu, s = z - x[0], variance + column[0]
    for i in range(n):
        x[i] += column[i] * nu / s
        for j in range(i, n):
            c[i, j] -= column[i] * column[j] / s
            c[j, i] = c[i, j]
    return nu, s


@njit(cache=True, nogil=True, error_model="numpy")
def run(
    t: FloatArray, p: FloatArray, theta: FloatArray, ct: FloatArray, cu: FloatArray,
    p_variance: FloatArray, theta_variance: FloatArray, q: FloatArray, white: FloatArray,
    logs: FloatArray, states: FloatArray,
) -> float:  # fmt: skip
    """-ln L of the samples; whitened innovations into ``white`` (n, 2), the logarithms of their
    variances into ``logs`` (n, 2), means (n, 7), of which a rigid rig has five."""
    n = t.shape[0]
    size = HUNG if q[BELT] > 0.0 else RIGID
    x, c, column = np.zeros(size), np.zeros((size, size)), np.zeros(size)
    room = np.zeros((3, size, size))
    longest = LONGEST_HUNG_S if size == HUNG else LONGEST_S
    total = 0.0
    place = 0  # of the command that acts
    for k in range(n):
        begin = k == 0 or t[k] - t[k - 1] > GAP_S or t[k] <= t[k - 1]
        if begin:
            x[:] = 0.0
            x[0], x[2] = p[k], theta[k]
            c[:] = 0.0
            c[0, 0] = BEGIN_M**2
            c[1, 1] = 0.25
            c[2, 2] = BEGIN_RAD**2 + ZERO_SIGMA_RAD**2
            c[3, 3] = 4.0
            c[4, 4] = ZERO_SIGMA_RAD**2
            c[2, 4] = c[4, 2] = -(ZERO_SIGMA_RAD**2)
            place = 0
            if size == HUNG:  # the drive is somewhere in its play and moves about as it is told
                while place + 1 < ct.shape[0] and ct[place + 1] + q[DELAY] <= t[k] + 1e-12:
                    place += 1
                x[5] = p[k]
                x[6] = q[GAIN] * cu[place] if ct[place] + q[DELAY] <= t[k] + 1e-12 else 0.0
                c[5, 5] = BEGIN_M**2 + q[PLAY] ** 2 / 4.0
                c[6, 6] = BEGIN_M_S**2
            white[k, 0] = white[k, 1] = logs[k, 0] = logs[k, 1] = 0.0
            states[k, :size] = x
            continue
        now = t[k - 1]
        while now < t[k] - 1e-12:
            while place + 1 < ct.shape[0] and ct[place + 1] + q[DELAY] <= now + 1e-12:
                place += 1
            u = cu[place] if ct[place] + q[DELAY] <= now + 1e-12 else 0.0
            end = min(t[k], now + longest)
            if place + 1 < ct.shape[0]:
                end = min(end, max(now + 1e-9, ct[place + 1] + q[DELAY]))
            if size == HUNG:
                predict_hung(x, c, u, end - now, q, room)
            else:
                predict(x, c, u, end - now, q, room)
            now = end
        for which in range(2):
            z = p[k] if which == 0 else theta[k]
            variance = p_variance[k] if which == 0 else theta_variance[k]
            if variance == np.inf:
                white[k, which] = logs[k, which] = 0.0
                continue
            nu, s = update(x, c, which == 1, z, variance, column)
            if not s > 0.0:
                return np.inf
            white[k, which] = nu / math.sqrt(s)
            logs[k, which] = math.log(s)
            total += 0.5 * (nu * nu / s + logs[k, which])
        states[k, :size] = x
    return total


def likelihood(track: Track, model: Model) -> float:
    """-ln L of a recording."""
    return filtered(track, model.array())[0]


def filtered(track: Track, q: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """(-ln L, whitened innovations (n, 2), means (n, 7)); q in the order of ``Model``."""
    value, white, _logs, states = _filtered(track, q)
    return value, white, states


def innovations(track: Track, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Whitened innovations and the logarithms of their variances (n, 2); zeros where none is."""
    _value, white, logs, _states = _filtered(track, q)
    return white, logs


def _filtered(track: Track, q: FloatArray) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    n = len(track.t_s)
    white, logs, states = np.empty((n, 2)), np.empty((n, 2)), np.zeros((n, HUNG))
    value = float(
        run(
            track.t_s, track.p_m, track.theta_rad, track.command_t_s, track.command_m_s,
            track.p_variance, track.theta_variance, q, white, logs, states,
        )
    )  # fmt: skip
    return value if math.isfinite(value) else math.inf, white, logs, states


def prediction_error(track: Track, model: Model, ahead: int = 20) -> tuple[float, float]:
    """(rms of p [m], of theta [rad]) predicted ``ahead`` samples on from the filter's means."""
    _value, _white, states = filtered(track, model.array())
    n, q = len(track.t_s), model.array()
    starts = range(0, n - ahead - 1, ahead)
    errors = [_ahead(track, states[k], k, k + ahead, q) for k in starts]
    rms = np.sqrt(np.mean(np.square(errors), axis=0))
    return float(rms[0]), float(rms[1])


def _ahead(track: Track, x: FloatArray, first: int, last: int, q: FloatArray) -> list[float]:
    """Errors of p and theta after ``first`` to ``last``, from the mean at ``first``."""
    hung = q[BELT] > 0.0
    size = HUNG if hung else RIGID
    x, c, room = x[:size].copy(), np.zeros((size, size)), np.zeros((3, size, size))
    now, end = float(track.t_s[first]), float(track.t_s[last])
    times = track.command_t_s + q[DELAY]
    while now < end - 1e-12:
        place = int(np.searchsorted(times, now + 1e-12, side="right")) - 1
        u = float(track.command_m_s[place]) if place >= 0 else 0.0
        until = min(end, now + (LONGEST_HUNG_S if hung else LONGEST_S))
        if place + 1 < len(times):
            until = min(until, max(now + 1e-9, float(times[place + 1])))
        (predict_hung if hung else predict)(x, c, u, until - now, q, room)
        now = until
    return [x[0] - float(track.p_m[last]), x[2] + x[4] - float(track.theta_rad[last])]
