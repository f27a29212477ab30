"""How the state of a recorded rig moves between samples, mean and covariance, compiled.

Rigid: x = (p, v, theta, omega, zero), the drive is the cart. With a belt (``Model.belt_hz``) the
drive has a place and a speed of its own, x = (p, v, theta, omega, zero, q, w), and pulls the cart
by a spring with play: inside it the cart coasts. Whether the belt is taut is known only as well as
the stretch q - p, so its pull is the mean over that spread (statistical linearisation), as dry
friction's is over the rate's.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numba import njit

from cartpole.messages import FloatArray
from cartpole.model.dynamics import COULOMB_BLEND_RAD_S
from cartpole.model.parameters import GRAVITY_M_S2

STANDING_M_S = 1e-3
# Of a drive behind a belt, m/s^2 per sqrt(Hz). Its place is seen through the play only: fitted, the
# number goes to zero, and a filter that once takes the wrong side of the play stays there.
DRIVE_NOISE = 0.01
TAUT_M = 2e-5  # within which a belt goes from slack to taut, at least


@dataclass(frozen=True, slots=True)
class Model:
    """What a recording is held against; SI. From ``asymmetry`` on residuals, zero for none.

    With ``belt_hz`` the cart hangs on its drive by a belt that swings at so many hertz, with
    ``belt_damping`` as its damping ratio and ``backlash_m`` of play.
    """

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
    backlash_m: float = 0.0
    belt_hz: float = 0.0
    belt_damping: float = 0.2

    def array(self) -> FloatArray:
        """In the order of the fields."""
        return np.array(astuple(self))


(LENGTH, DAMPING, COULOMB, TAU, DELAY, GAIN, CLIP, CART, POLE, ASYMMETRY, TILT, COG_S, COG_C,
 PITCH, STICTION, PLAY, BELT, BELT_DAMPING) = range(18)  # fmt: skip
RIGID, HUNG = 5, 7  # states without and with a belt


@njit(cache=True, nogil=True, error_model="numpy")
def rubbing(omega: float, variance: float, coulomb: float) -> tuple[float, float]:
    """Mean dry friction of a rate known to ``variance``, and its derivative by the rate.

    The sign of a rate that may be either is no line about its mean: statistical linearisation, the
    blend of ``model.dynamics`` as one more spread.
    """
    if coulomb == 0.0:
        return 0.0, 0.0
    spread = variance + COULOMB_BLEND_RAD_S**2 / 3.0
    ratio = omega / math.sqrt(2.0 * spread)
    slope = math.sqrt(2.0 / (math.pi * spread)) * math.exp(-ratio * ratio)
    return coulomb * math.erf(ratio), coulomb * slope


@njit(cache=True, nogil=True, error_model="numpy")
def drive(p: float, v: float, u: float, tilt: float, q: FloatArray) -> tuple[float, float, float]:
    """Acceleration of the drive at place p and speed v, and its derivatives by them."""
    side = 0.5 * q[ASYMMETRY] if u > 0.0 else -0.5 * q[ASYMMETRY]
    push = (q[GAIN] * (1.0 + side) * u - v) / q[TAU]
    by_v = -1.0 / q[TAU]
    if abs(push) > q[CLIP]:
        push, by_v = math.copysign(q[CLIP], push), 0.0
    pull, by_p = 0.0, 0.0
    if q[COG_S] != 0.0 or q[COG_C] != 0.0:
        wave = 2.0 * math.pi / q[PITCH]
        s, c = math.sin(wave * p), math.cos(wave * p)
        pull = q[COG_S] * s + q[COG_C] * c
        by_p = wave * (q[COG_S] * c - q[COG_C] * s)
    push += pull - GRAVITY_M_S2 * math.sin(tilt)
    if q[STICTION] > 0.0 and abs(v) < 3.0 * STANDING_M_S and abs(push) < q[STICTION]:
        return -v / 0.005, 0.0, -1.0 / 0.005  # held
    return push, by_p, by_v


def make_carried(n: int) -> Any:
    """``carried(a, c, h, room)``: covariance ``c`` (n, n) a step of ``h`` on by the derivatives
    ``a`` (n, n) of the rates, in place; ``room`` (2, n, n) is overwritten.

    The size is a constant of the compiled code, sums run over whole rows, and what is zero in
    ``a`` (most of it) is passed over.
    """

    def carried(a: FloatArray, c: FloatArray, h: float, room: FloatArray) -> None:
        f, left = room[0], room[1]
        half = 0.5 * h
        for i in range(n):
            for j in range(n):
                f[i, j] = left[i, j] = 0.0
            for k in range(n):
                if a[i, k] != 0.0:
                    for j in range(n):
                        f[i, j] += a[i, k] * a[k, j]
            for j in range(n):
                f[i, j] = h * a[i, j] + half * h * f[i, j]
            f[i, i] += 1.0
            for k in range(n):
                if f[i, k] != 0.0:
                    for j in range(n):
                        left[i, j] += f[i, k] * c[k, j]
        for i in range(n):
            for j in range(i, n):
                total = 0.0
                for k in range(n):
                    total += left[i, k] * f[j, k]
                c[i, j] = total
                c[j, i] = total

    return njit(cache=True, nogil=True, error_model="numpy")(carried)


carried, carried_hung = make_carried(RIGID), make_carried(HUNG)


@njit(cache=True, nogil=True, error_model="numpy")
def predict(
    x: FloatArray, c: FloatArray, u: float, h: float, q: FloatArray, room: FloatArray
) -> None:
    """Mean (5,) and covariance (5, 5) a step of ``h`` on, by the midpoint rule.

    ``room`` (3, 5, 5) is this function's own, zeros to begin with.
    """
    coupling = 1.5 / q[LENGTH]
    half = 0.5 * h
    vdot, _a, _b = drive(x[0], x[1], u, q[TILT], q)
    rub, _slope = rubbing(x[3], c[3, 3], q[COULOMB])
    pull = GRAVITY_M_S2 * math.sin(x[2]) + vdot * math.cos(x[2])
    turn = -coupling * pull - q[DAMPING] * x[3] - rub
    p, v, th, om = x[0] + half * x[1], x[1] + half * vdot, x[2] + half * x[3], x[3] + half * turn
    vdot, by_p, by_v = drive(p, v, u, q[TILT], q)
    s, co = math.sin(th), math.cos(th)
    rub, slope = rubbing(om, c[3, 3], q[COULOMB])
    by_om = -q[DAMPING] - slope
    turn = -coupling * (GRAVITY_M_S2 * s + vdot * co) - q[DAMPING] * om - rub
    x[0] += h * v
    x[1] += h * vdot
    x[2] += h * om
    x[3] += h * turn
    a = room[2]
    a[0, 1] = 1.0
    a[1, 0] = by_p
    a[1, 1] = by_v
    a[2, 3] = 1.0
    a[3, 0] = -coupling * co * by_p
    a[3, 1] = -coupling * co * by_v
    a[3, 2] = -coupling * (GRAVITY_M_S2 * co - vdot * s)
    a[3, 3] = by_om
    carried(a, c, h, room)
    kicked(c, co, coupling, h, q)


@njit(cache=True, nogil=True, error_model="numpy")
def taut(stretch: float, variance: float, slack: float) -> tuple[float, float]:
    """Mean of what a belt is stretched beyond its play of +- ``slack``, and its derivative: the
    chance that it is taut."""
    sigma = math.sqrt(variance + TAUT_M * TAUT_M)
    beyond, chance = 0.0, 0.0
    for side in (1.0, -1.0):
        y = (side * stretch - slack) / sigma
        below = 0.5 * math.erfc(-y / math.sqrt(2.0))
        density = math.exp(-0.5 * y * y) / math.sqrt(2.0 * math.pi)
        beyond += side * sigma * (y * below + density)
        chance += below
    return beyond, chance


@njit(cache=True, nogil=True, error_model="numpy")
def pulled(x: FloatArray, c: FloatArray, q: FloatArray) -> tuple[float, float]:
    """The cart's acceleration by its belt, and the chance that the belt is taut."""
    wave = 2.0 * math.pi * q[BELT]
    variance = max(0.0, c[0, 0] + c[5, 5] - 2.0 * c[0, 5])
    beyond, chance = taut(x[5] - x[0], variance, 0.5 * q[PLAY])
    pull = wave * wave * beyond + 2.0 * q[BELT_DAMPING] * wave * chance * (x[6] - x[1])
    return pull - GRAVITY_M_S2 * math.sin(q[TILT]), chance


@njit(cache=True, nogil=True, error_model="numpy")
def predict_hung(
    x: FloatArray, c: FloatArray, u: float, h: float, q: FloatArray, room: FloatArray
) -> None:
    """As ``predict`` for a cart on a belt, x (7,); ``room`` (3, 7, 7)."""
    coupling, half = 1.5 / q[LENGTH], 0.5 * h
    wave = 2.0 * math.pi * q[BELT]
    at = x.copy()
    vdot = wdot = turn = chance = by_q = by_w = by_om = s = co = 0.0
    for stage in range(2):
        vdot, chance = pulled(at, c, q)
        wdot, by_q, by_w = drive(at[5], at[6], u, 0.0, q)
        s, co = math.sin(at[2]), math.cos(at[2])
        rub, slope = rubbing(at[3], c[3, 3], q[COULOMB])
        by_om = -q[DAMPING] - slope
        turn = -coupling * (GRAVITY_M_S2 * s + vdot * co) - q[DAMPING] * at[3] - rub
        if stage == 0:
            at[0], at[1] = x[0] + half * x[1], x[1] + half * vdot
            at[2], at[3] = x[2] + half * x[3], x[3] + half * turn
            at[5], at[6] = x[5] + half * x[6], x[6] + half * wdot
    x[0] += h * at[1]
    x[1] += h * vdot
    x[2] += h * at[3]
    x[3] += h * turn
    x[5] += h * at[6]
    x[6] += h * wdot
    stiff, drag = wave * wave * chance, 2.0 * q[BELT_DAMPING] * wave * chance
    a = room[2]
    a[0, 1] = a[2, 3] = a[5, 6] = 1.0
    a[1, 0], a[1, 1], a[1, 5], a[1, 6] = -stiff, -drag, stiff, drag
    for i in range(7):
        a[3, i] = -coupling * co * a[1, i]
    a[3, 2] = -coupling * (GRAVITY_M_S2 * co - vdot * s)
    a[3, 3] = by_om
    a[6, 5], a[6, 6] = by_q, by_w
    carried_hung(a, c, h, room)
    kicked(c, co, coupling, h, q)
    c[6, 6] += DRIVE_NOISE * DRIVE_NOISE * h


@njit(cache=True, nogil=True, error_model="numpy")
def kicked(c: FloatArray, co: float, coupling: float, h: float, q: FloatArray) -> None:
    """What both disturbances add to the covariance in a step; ``co`` the angle's cosine."""
    cart = q[CART] * q[CART] * h
    c[1, 1] += cart
    c[1, 3] -= coupling * co * cart
    c[3, 1] = c[1, 3]
    c[3, 3] += coupling * co * coupling * co * cart + q[POLE] * q[POLE] * h
