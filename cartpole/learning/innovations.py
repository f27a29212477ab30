"""How likely a recording is under a model: an extended Kalman filter's innovations, compiled.

State x = (p, v, theta, omega, zero), zero the pole encoder's own error. Between encoder samples the
cart follows the drive, the pole the cart (``model.dynamics``), disturbed by white accelerations of
cart and pole; the samples are uniform within their steps (``counted``). The likelihood of a
recording is that of its innovations nu with covariance S (Schweppe 1965):

    -ln L = 1/2 sum (nu' S^-1 nu + ln |S|)

What the equations of motion leave out can be switched on (``Model``): a drive that is stronger one
way, that cogs or sticks, and a tilted track.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cartpole.errors import SessionError
from cartpole.messages import FloatArray
from cartpole.model.dynamics import COULOMB_BLEND_RAD_S
from cartpole.model.parameters import GRAVITY_M_S2

if TYPE_CHECKING:
    from calibration.recording import Recording

LONGEST_S = 0.0026  # of a step of the filter
GAP_S = 0.25  # without samples: the filter begins afresh
STANDING_M_S = 1e-3
ZERO_SIGMA_RAD = 0.004
LEAST_SAMPLES = 200
# Samples on one count beyond which a longer stay is no slower crossing of its edge: of the pole's
# coarse counts, and of the cart's fine ones, among which a disturbance changes the speed at once.
SLOW, CART_SLOW = 6, 1
STILL = 20  # of a long stay every so many samples say that it is one
BEGIN_M, BEGIN_RAD = 1e-3, 5e-3  # sigma of the first sample: one of some step


@dataclass(frozen=True, slots=True)
class Model:
    """What a recording is held against; SI. The last six are residuals, zero for none."""

    length_m: float = 0.5
    damping_1_s: float = 0.05
    coulomb_rad_s2: float = 0.0
    tau_s: float = 0.05
    delay_s: float = 0.008
    gain: float = 1.0
    acceleration_m_s2: float = 8.0
    cart_noise: float = 0.05  # m/s^2 per sqrt(Hz)
    pole_noise: float = 0.05  # rad/s^2 per sqrt(Hz)
    asymmetry: float = 0.0  # share by which the gain to the right exceeds that to the left
    tilt_rad: float = 0.0
    cogging_sin_m_s2: float = 0.0
    cogging_cos_m_s2: float = 0.0
    cogging_pitch_m: float = 0.02
    stiction_m_s2: float = 0.0

    def array(self) -> FloatArray:
        """In the order of the fields."""
        return np.array(astuple(self))


(LENGTH, DAMPING, COULOMB, TAU, DELAY, GAIN, CLIP, CART, POLE, ASYMMETRY, TILT, COG_S, COG_C,
 PITCH, STICTION) = range(15)  # fmt: skip


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
def rubbing(omega: float, variance: float, coulomb: float) -> tuple[float, float]:
    """Mean dry friction of a rate known to ``variance``, and its derivative by the rate.

    The sign of a rate that may be either is no line about its mean: statistical linearisation, the
    blend of ``model.dynamics`` as one more spread.
    """
    spread = variance + COULOMB_BLEND_RAD_S**2 / 3.0
    ratio = omega / math.sqrt(2.0 * spread)
    slope = math.sqrt(2.0 / (math.pi * spread)) * math.exp(-ratio * ratio)
    return coulomb * math.erf(ratio), coulomb * slope


@njit(cache=True, nogil=True, error_model="numpy")
def drive(p: float, v: float, u: float, q: FloatArray) -> tuple[float, float, float]:
    """vdot and its derivatives by p and v."""
    side = 0.5 * q[ASYMMETRY] if u > 0.0 else -0.5 * q[ASYMMETRY]
    push = (q[GAIN] * (1.0 + side) * u - v) / q[TAU]
    by_v = -1.0 / q[TAU]
    if abs(push) > q[CLIP]:
        push, by_v = math.copysign(q[CLIP], push), 0.0
    wave = 2.0 * math.pi / q[PITCH]
    s, c = math.sin(wave * p), math.cos(wave * p)
    push += q[COG_S] * s + q[COG_C] * c - GRAVITY_M_S2 * math.sin(q[TILT])
    by_p = wave * (q[COG_S] * c - q[COG_C] * s)
    if q[STICTION] > 0.0 and abs(v) < 3.0 * STANDING_M_S and abs(push) < q[STICTION]:
        return -v / 0.005, 0.0, -1.0 / 0.005  # held
    return push, by_p, by_v


@njit(cache=True, nogil=True, error_model="numpy")
def predict(x: FloatArray, c: FloatArray, u: float, h: float, q: FloatArray) -> None:
    """Mean (5,) and covariance (5, 5) a step of ``h`` on, by the midpoint rule."""
    coupling = 1.5 / q[LENGTH]
    half = 0.5 * h
    vdot, _a, _b = drive(x[0], x[1], u, q)
    rub, _slope = rubbing(x[3], c[3, 3], q[COULOMB])
    pull = GRAVITY_M_S2 * math.sin(x[2]) + vdot * math.cos(x[2])
    turn = -coupling * pull - q[DAMPING] * x[3] - rub
    p, v, th, om = x[0] + half * x[1], x[1] + half * vdot, x[2] + half * x[3], x[3] + half * turn
    vdot, by_p, by_v = drive(p, v, u, q)
    s, co = math.sin(th), math.cos(th)
    rub, slope = rubbing(om, c[3, 3], q[COULOMB])
    by_om = -q[DAMPING] - slope
    turn = -coupling * (GRAVITY_M_S2 * s + vdot * co) - q[DAMPING] * om - rub
    x[0] += h * v
    x[1] += h * vdot
    x[2] += h * om
    x[3] += h * turn
    a = np.zeros((5, 5))
    a[0, 1] = 1.0
    a[1, 0] = by_p
    a[1, 1] = by_v
    a[2, 3] = 1.0
    a[3, 0] = -coupling * co * by_p
    a[3, 1] = -coupling * co * by_v
    a[3, 2] = -coupling * (GRAVITY_M_S2 * co - vdot * s)
    a[3, 3] = by_om
    f = np.zeros((5, 5))
    for i in range(5):
        for j in range(5):
            total = 0.0
            for k in range(5):
                total += a[i, k] * a[k, j]
            f[i, j] = h * a[i, j] + half * h * total
        f[i, i] += 1.0
    left = np.zeros((5, 5))
    for i in range(5):
        for j in range(5):
            for k in range(5):
                left[i, j] += f[i, k] * c[k, j]
    for i in range(5):
        for j in range(i, 5):
            total = 0.0
            for k in range(5):
                total += left[i, k] * f[j, k]
            c[i, j] = total
            c[j, i] = total
    cart = q[CART] * q[CART] * h
    c[1, 1] += cart
    c[1, 3] -= coupling * co * cart
    c[3, 1] = c[1, 3]
    c[3, 3] += coupling * co * coupling * co * cart + q[POLE] * q[POLE] * h


@njit(cache=True, nogil=True, error_model="numpy")
def update(
    x: FloatArray, c: FloatArray, row: FloatArray, z: float, variance: float
) -> tuple[float, float]:
    """Take in a scalar sample ``z`` = row . x; its innovation and variance."""
    column = np.zeros(5)
    s = variance
    nu = z
    for i in range(5):
        for j in range(5):
            column[i] += c[i, j] * row[j]
        nu -= row[i] * x[i]
    for i in range(5):
        s += row[i] * column[i]
    for i in range(5):
        x[i] += column[i] * nu / s
    for i in range(5):
        for j in range(5):
            c[i, j] -= column[i] * column[j] / s
    return nu, s


@njit(cache=True, nogil=True, error_model="numpy")
def run(
    t: FloatArray, p: FloatArray, theta: FloatArray, ct: FloatArray, cu: FloatArray,
    p_variance: FloatArray, theta_variance: FloatArray, q: FloatArray, white: FloatArray,
    logs: FloatArray, states: FloatArray,
) -> float:  # fmt: skip
    """-ln L of the samples; whitened innovations into ``white`` (n, 2), the logarithms of their
    variances into ``logs`` (n, 2), means (n, 5)."""
    n = t.shape[0]
    x, c = np.zeros(5), np.zeros((5, 5))
    rows = np.zeros((2, 5))
    rows[0, 0] = rows[1, 2] = rows[1, 4] = 1.0
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
            white[k, 0] = white[k, 1] = logs[k, 0] = logs[k, 1] = 0.0
            states[k] = x
            place = 0
            continue
        now = t[k - 1]
        while now < t[k] - 1e-12:
            while place + 1 < ct.shape[0] and ct[place + 1] + q[DELAY] <= now + 1e-12:
                place += 1
            u = cu[place] if ct[place] + q[DELAY] <= now + 1e-12 else 0.0
            end = min(t[k], now + LONGEST_S)
            if place + 1 < ct.shape[0]:
                end = min(end, max(now + 1e-9, ct[place + 1] + q[DELAY]))
            predict(x, c, u, end - now, q)
            now = end
        for which in range(2):
            z = p[k] if which == 0 else theta[k]
            variance = p_variance[k] if which == 0 else theta_variance[k]
            if variance == np.inf:
                white[k, which] = logs[k, which] = 0.0
                continue
            nu, s = update(x, c, rows[which], z, variance)
            if not s > 0.0:
                return np.inf
            white[k, which] = nu / math.sqrt(s)
            logs[k, which] = math.log(s)
            total += 0.5 * (nu * nu / s + logs[k, which])
        states[k] = x
    return total


def likelihood(track: Track, model: Model) -> float:
    """-ln L of a recording."""
    return filtered(track, model.array())[0]


def filtered(track: Track, q: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """(-ln L, whitened innovations (n, 2), means (n, 5)); q in the order of ``Model``."""
    value, white, _logs, states = _filtered(track, q)
    return value, white, states


def innovations(track: Track, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Whitened innovations and the logarithms of their variances (n, 2); zeros where none is."""
    _value, white, logs, _states = _filtered(track, q)
    return white, logs


def _filtered(track: Track, q: FloatArray) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    n = len(track.t_s)
    white, logs, states = np.empty((n, 2)), np.empty((n, 2)), np.empty((n, 5))
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
    x, c = x.copy(), np.zeros((5, 5))
    now, end = float(track.t_s[first]), float(track.t_s[last])
    times = track.command_t_s + q[DELAY]
    while now < end - 1e-12:
        place = int(np.searchsorted(times, now + 1e-12, side="right")) - 1
        u = float(track.command_m_s[place]) if place >= 0 else 0.0
        until = min(end, now + LONGEST_S)
        if place + 1 < len(times):
            until = min(until, max(now + 1e-9, float(times[place + 1])))
        predict(x, c, u, until - now, q)
        now = until
    return [x[0] - float(track.p_m[last]), x[2] + x[4] - float(track.theta_rad[last])]
