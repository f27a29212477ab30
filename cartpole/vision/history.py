"""The last few measurements, and what they say about the next picture."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cartpole.messages import NANOSECONDS, FloatArray

KEPT = 5  # a parabola through five pictures: the least noise that still follows the motion
MEMORY_S = 0.06  # older pictures tell nothing
# How fast accelerations change: of the pole [rad/s^3] and of the cart [m/s^3].
POLE_JERK = 500.0
CART_JERK = 100.0


@njit(cache=True, nogil=True)
def _extrapolate(times: FloatArray, values: FloatArray, n: int, out: FloatArray) -> None:
    """Least-squares parabola (line for two points) through (times, values), looked at in time 0.

    ``out`` (4,) receives the value, its rate, half its second derivative, and the rate's error per
    unit of the values' error. Times are about evenly spread and not all the same.
    """
    size = 3 if n >= 3 else n
    a = np.zeros((3, 7))
    scale = max(1e-6, -times[0])
    for i in range(n):
        t = times[i] / scale
        power = (1.0, t, t * t)
        for j in range(size):
            for k in range(size):
                a[j, k] += power[j] * power[k]
            a[j, 3] += power[j] * values[i]
    for j in range(size):
        a[j, 4 + j] = 1.0
    for j in range(size):
        for k in range(size):
            if k != j:
                factor = a[k, j] / a[j, j]
                for m in range(j, 7):
                    a[k, m] -= factor * a[j, m]
    for j in range(3):
        out[j] = a[j, 3] / a[j, j] / scale**j if j < size else 0.0
    out[3] = math.sqrt(a[1, 5] / a[1, 1]) / scale if size > 1 else 0.0


class History:
    """Up to KEPT accepted measurements, oldest first."""

    def __init__(self) -> None:
        self._t_ns: list[int] = []
        self._theta: list[float] = []
        self._p: list[float] = []
        self._sigma = (math.inf, math.inf)
        self._times, self._values = np.zeros(KEPT), np.zeros(KEPT)
        self._out = np.zeros(4)

    def __len__(self) -> int:
        return len(self._t_ns)

    @property
    def last(self) -> tuple[float, float]:
        """(theta, p) of the newest."""
        return self._theta[-1], self._p[-1]

    def clear(self) -> None:
        """Forget everything."""
        self._t_ns.clear()
        self._theta.clear()
        self._p.clear()

    def add(self, t_ns: int, theta: float, p: float, sigma_theta: float, sigma_p: float) -> None:
        """Take a measurement; out of order or after a gap it starts anew."""
        if self._t_ns and not 0 < t_ns - self._t_ns[-1] < MEMORY_S * NANOSECONDS:
            self.clear()
        if self._t_ns:
            theta = self._theta[-1] + math.remainder(theta - self._theta[-1], 2.0 * math.pi)
        self._t_ns.append(t_ns)
        self._theta.append(theta)
        self._p.append(p)
        self._sigma = (sigma_theta, sigma_p)
        if len(self._t_ns) > KEPT:
            del self._t_ns[0], self._theta[0], self._p[0]

    def recent(self, t_ns: int) -> bool:
        """Whether there is a measurement shortly before ``t_ns``."""
        return bool(self._t_ns) and 0 < t_ns - self._t_ns[-1] < MEMORY_S * NANOSECONDS

    def age_s(self, t_ns: int) -> float:
        """How long before ``t_ns`` the newest measurement was true."""
        return (t_ns - self._t_ns[-1]) / NANOSECONDS

    def predict(self, t_ns: int) -> tuple[FloatArray, FloatArray]:
        """(4,) each for theta and p at ``t_ns``: value, rate, sigma of the rate, acceleration.

        From a single measurement the rate is unknown: sigma inf. The acceleration is 0 until there
        are three measurements.
        """
        n = len(self._t_ns)
        for i in range(n):
            self._times[i] = (self._t_ns[i] - t_ns) / NANOSECONDS
        return (
            self._fit(self._theta, n, self._sigma[0], 25.0, POLE_JERK),
            self._fit(self._p, n, self._sigma[1], 5.0, CART_JERK),
        )

    def _fit(
        self, values: list[float], n: int, sigma: float, acceleration: float, jerk: float
    ) -> FloatArray:
        base = values[-1]
        for i in range(n):
            self._values[i] = values[i] - base
        out = self._out
        _extrapolate(self._times, self._values, n, out)
        span = -float(self._times[0])
        if n == 1:
            rate_sigma = math.inf
        elif n == 2:
            rate_sigma = float(out[3]) * sigma + 2.0 * acceleration * span
        else:
            # What a cubic leaves of a parabola's slope just beyond its points: jerk span^2 / 6.
            rate_sigma = float(out[3]) * sigma + jerk * span * span / 6.0
        return np.array([base + out[0], out[1], rate_sigma, 2.0 * out[2]])
