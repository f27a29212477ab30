"""The learner's arithmetic, compiled: a Kalman filter whose states include the model's parameters.

State (``STATES``,): cart and pole as everywhere; then, as slow states, the logarithms of coupling
c, lag tau and gain of the drive, the delay of a command [s], viscous and dry friction [1/s] and
[rad/s^2], and the pole encoder's zero [rad]. Commands are kept by the time they were *sent*: when
they act is part of what is estimated.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.estimation.kernels import rounded_moments
from cartpole.messages import OMEGA, THETA, P, V
from cartpole.model.dynamics import rig_step
from cartpole.model.jacobian import rig_step_jacobian
from cartpole.model.parameters import Coefficients

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

COUPLING, LAG, GAIN, DELAY, DAMPING, COULOMB, ZERO = range(4, 11)
STATES = 11
FIRST = 4  # of the parameters

# Rules, as the kernels take them: gravity, the drive's clip, powers of the white disturbances of
# cart and pole, powers of the parameters' wandering (7), their bounds (7, 7).
GRAVITY, LIMIT, CART_POWER, POLE_POWER = range(4)
WANDER = 4
LOW = WANDER + STATES - FIRST
HIGH = LOW + STATES - FIRST
JITTER = HIGH + STATES - FIRST  # of the stamps [s]
RULES = JITTER + 1

# Marks: time of the state [ns], the next command to act, commands so far, refusals in a row by
# channel.
TIME, NEXT, COUNT, REFUSED_P, REFUSED_THETA = range(5)
MARKS = 5

MAX_STEP_S = 0.005
NUDGE = 1e-4  # step of the differences by a parameter
NUDGE_FRICTION = 1e-3
# A pole that is slower than this sits on a few counts: what the edges of its counts say of dry
# friction is biased (a pole within one count seems to be held).
RUBS_RAD_S = 0.1
GATE = 6.0
EDGE = 0.1  # softness of an encoder's edge, as in the state filter
BELIEVE_AFTER = 8  # refusals in a row after which the state, not the reading, is wrong
LOST_ZERO_RAD = 0.3
TURN = 2.0 * math.pi


@njit(cache=True, nogil=True)
def _believed(x: Floats, rules: Floats) -> tuple[float, Coefficients]:
    """The drive's gain, and the model."""
    c, tau, gain = math.exp(x[COUPLING]), math.exp(x[LAG]), math.exp(x[GAIN])
    return gain, Coefficients(c, rules[GRAVITY], x[DAMPING], x[COULOMB], tau, rules[LIMIT])


@njit(cache=True, nogil=True)
def _moved(x: Floats, u: float, h: float, k: int, nudge: float, rules: Floats) -> tuple[float, ...]:
    """The four fast states after a step with one parameter nudged."""
    kept = x[k]
    x[k] = kept + nudge
    gain, model = _believed(x, rules)
    x[k] = kept
    return rig_step((x[P], x[V], x[THETA], x[OMEGA]), gain * u, h, model)


@njit(cache=True, nogil=True)
def _transform(cov: Floats, f: Floats) -> None:
    """cov <- F cov F^T in place, F = [f; 0 1] with f (4, STATES)."""
    top = np.empty((4, STATES))
    for i in range(4):
        for j in range(STATES):
            total = 0.0
            for k in range(DELAY):
                total += f[i, k] * cov[k, j]
            for k in range(DAMPING, ZERO):
                total += f[i, k] * cov[k, j]
            top[i, j] = total
    for i in range(4):
        for j in range(STATES):
            cov[i, j] = top[i, j]
    for j in range(STATES):
        column = (
            _along(cov, f, j, 0), _along(cov, f, j, 1), _along(cov, f, j, 2), _along(cov, f, j, 3)
        )  # fmt: skip
        cov[j, 0], cov[j, 1], cov[j, 2], cov[j, 3] = column


@njit(cache=True, nogil=True, inline="always")
def _along(cov: Floats, f: Floats, j: int, i: int) -> float:
    total = 0.0
    for k in range(DELAY):
        total += cov[j, k] * f[i, k]
    for k in range(DAMPING, ZERO):
        total += cov[j, k] * f[i, k]
    return total


@njit(cache=True, nogil=True)
def _step(x: Floats, cov: Floats, u: float, h: float, rules: Floats) -> None:
    """One step of state and covariance under the held command u."""
    gain, model = _believed(x, rules)
    p, v, theta, omega, pv, vv, tv, tt, to, ov, ot, oo = rig_step_jacobian(
        (x[P], x[V], x[THETA], x[OMEGA]), gain * u, h, model
    )
    f = np.zeros((4, STATES))
    f[P, P], f[P, V], f[V, V] = 1.0, pv, vv
    f[THETA, V], f[THETA, THETA], f[THETA, OMEGA] = tv, tt, to
    f[OMEGA, V], f[OMEGA, THETA], f[OMEGA, OMEGA] = ov, ot, oo
    for k in (COUPLING, LAG, GAIN, DAMPING, COULOMB):
        nudge = NUDGE if k < DELAY else NUDGE_FRICTION
        moved = _moved(x, u, h, k, nudge, rules)
        f[P, k], f[V, k] = (moved[0] - p) / nudge, (moved[1] - v) / nudge
        f[THETA, k], f[OMEGA, k] = (moved[2] - theta) / nudge, (moved[3] - omega) / nudge
    square = omega * omega
    sure = square / (square + RUBS_RAD_S * RUBS_RAD_S)
    f[THETA, COULOMB] *= sure
    f[OMEGA, COULOMB] *= sure
    reach = -model.coupling * math.cos(theta)
    x[P], x[V], x[THETA], x[OMEGA] = p, v, theta, omega
    _transform(cov, f)
    power = rules[CART_POWER] * h
    cov[V, V] += power
    cov[V, OMEGA] += power * reach
    cov[OMEGA, V] += power * reach
    cov[OMEGA, OMEGA] += power * reach * reach + rules[POLE_POWER] * h
    for k in range(FIRST, STATES):
        cov[k, k] += rules[WANDER + k - FIRST] * h


@njit(cache=True, nogil=True)
def _edge(x: Floats, cov: Floats, before: float, after: float, rules: Floats) -> None:
    """A command takes over: had it acted later by one, the state would differ by the old push."""
    gain, model = _believed(x, rules)
    limit, tau = model.limit, model.tau
    old = max(-limit, min(limit, (gain * before - x[V]) / tau))
    new = max(-limit, min(limit, (gain * after - x[V]) / tau))
    by_delay = (0.0, old - new, 0.0, -model.coupling * math.cos(x[THETA]) * (old - new))
    for i in (V, OMEGA):
        for j in range(STATES):
            cov[i, j] += by_delay[i] * cov[DELAY, j]
    for i in (V, OMEGA):
        for j in range(STATES):
            cov[j, i] += by_delay[i] * cov[j, DELAY]


@njit(cache=True, nogil=True)
def _run(x: Floats, cov: Floats, u: float, span: float, rules: Floats) -> None:
    if span <= 0.0:
        return
    pieces = math.ceil(span / MAX_STEP_S)
    for _ in range(pieces):
        _step(x, cov, u, span / pieces, rules)


@njit(cache=True, nogil=True)
def advance(
    x: Floats, cov: Floats, marks: Whole, sent: Whole, speeds: Floats, t_ns: int, rules: Floats
) -> None:
    """Carry the state to ``t_ns`` through the commands that act by then."""
    kept = len(sent)
    if marks[COUNT] - marks[NEXT] > kept:
        marks[NEXT] = marks[COUNT] - kept
    while True:
        now = marks[NEXT]
        u = speeds[(now - 1) % kept] if now > 0 else 0.0
        if now >= marks[COUNT]:
            break
        acts = sent[now % kept] + round(x[DELAY] * 1e9)
        if acts > t_ns:
            break
        if acts > marks[TIME]:
            _run(x, cov, u, (acts - marks[TIME]) * 1e-9, rules)
            marks[TIME] = acts
        _edge(x, cov, u, speeds[now % kept], rules)
        marks[NEXT] = now + 1
    _run(x, cov, u, (t_ns - marks[TIME]) * 1e-9, rules)
    marks[TIME] = t_ns


@njit(cache=True, nogil=True)
def _correct(
    x: Floats,
    cov: Floats,
    i: int,
    also: int,
    shift: float,
    share: float,
    expected: float,
    rules: Floats,
) -> None:
    """Update by a reading of state i (plus state ``also``), then keep the parameters in bounds."""
    column = np.empty(STATES)
    for j in range(STATES):
        column[j] = cov[j, i] + (cov[j, also] if also >= 0 else 0.0)
    for j in range(STATES):
        gain = column[j] / expected
        x[j] += gain * shift
        for k in range(j + 1):
            value = cov[j, k] - gain * share * column[k]
            cov[j, k] = value
            cov[k, j] = value
    for k in range(FIRST, STATES):
        low, high = rules[LOW + k - FIRST], rules[HIGH + k - FIRST]
        x[k] = min(max(x[k], low), high)


@njit(cache=True, nogil=True)
def read(
    x: Floats,
    cov: Floats,
    marks: Whole,
    cart: bool,
    reading: float,
    half: float,
    variance: float,
    rules: Floats,
) -> bool:
    """One reading of cart or pole: rounded to ±half, or with half 0 normal; whether it fitted."""
    i, also, rate, mark = (P, -1, V, REFUSED_P) if cart else (THETA, ZERO, OMEGA, REFUSED_THETA)
    miss = reading - x[i] - (0.0 if cart else x[also])
    turns = 0.0
    if not cart:
        turns = TURN * math.floor(miss / TURN + 0.5)
        miss -= turns
    jitter = x[rate] * rules[JITTER]
    variance += jitter * jitter + (EDGE * half) ** 2
    expected = cov[i, i] + variance
    if also >= 0:
        expected += cov[also, also] + 2.0 * cov[i, also]
    if abs(miss) > GATE * math.sqrt(expected) + half:
        marks[mark] += 1
        if marks[mark] < BELIEVE_AFTER:
            return False
        # The state is wrong, the parameters are not to blame: they forget nothing of it.
        for j in range(STATES):
            for k in (i, rate):
                cov[j, k] = 0.0
                cov[k, j] = 0.0
        cov[i, i], cov[rate, rate] = miss * miss, 4.0 if cart else 100.0
        if not cart:  # nor is the zero: its encoder may have slipped
            for j in range(STATES):
                cov[ZERO, j] = 0.0
                cov[j, ZERO] = 0.0
            cov[ZERO, ZERO] = LOST_ZERO_RAD * LOST_ZERO_RAD
        expected = cov[i, i] + variance + (cov[also, also] if also >= 0 else 0.0)
    marks[mark] = 0
    x[i] += turns
    shift, share = miss, 1.0
    if half > 0.0:
        shift, share = rounded_moments(miss, half, math.sqrt(expected))
    _correct(x, cov, i, also, shift, share, expected, rules)
    return True


@njit(cache=True, nogil=True)
def take(
    x: Floats,
    cov: Floats,
    marks: Whole,
    sent: Whole,
    speeds: Floats,
    t_ns: int,
    p: float,
    half_p: float,
    variance_p: float,
    theta: float,
    half_theta: float,
    variance_theta: float,
    rules: Floats,
) -> None:
    """``advance`` to ``t_ns`` and ``read`` cart and pole there, in one call."""
    if t_ns > marks[TIME]:
        advance(x, cov, marks, sent, speeds, t_ns, rules)
    for cart in (True, False):  # as literals they would compile a copy each
        reading, half = (p, half_p) if cart else (theta, half_theta)
        read(x, cov, marks, cart, reading, half, variance_p if cart else variance_theta, rules)
