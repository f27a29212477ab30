"""Parameters of the cart and the pole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

GRAVITY_M_S2 = 9.81


class Coefficients(NamedTuple):
    """Of the equations of motion, as kernels take them: c [1/m], g [m/s^2], b [1/s], dry friction
    [rad/s^2], lag [s] and clip [m/s^2] of the drive."""

    coupling: float
    gravity: float
    damping: float
    coulomb: float
    tau: float
    limit: float


@dataclass(frozen=True, slots=True)
class ModelParameters:
    """What the equations of motion need; SI.

    ``motor_acceleration_m_s2`` is the clip inside the drive; ``delay_s`` the time from sending a
    command to its first effect; ``gain`` the speed that a command of 1 m/s leads to.
    """

    length_m: float = 0.5
    damping_1_s: float = 0.05
    coulomb_rad_s2: float = 0.0
    tau_s: float = 0.05
    motor_acceleration_m_s2: float = 8.0
    delay_s: float = 0.008
    gravity_m_s2: float = GRAVITY_M_S2
    gain: float = 1.0

    @property
    def coupling_1_m(self) -> float:
        """c = m d / J; for a uniform rod pivoted at one end 3 / (2 L)."""
        return 1.5 / self.length_m

    @property
    def coefficients(self) -> Coefficients:
        """What a step needs."""
        return Coefficients(
            self.coupling_1_m,
            self.gravity_m_s2,
            self.damping_1_s,
            self.coulomb_rad_s2,
            self.tau_s,
            self.motor_acceleration_m_s2,
        )

    @property
    def characteristic_time_s(self) -> float:
        """1 / sqrt(c g): the e-folding time of the upright pole's fall."""
        return float((self.coupling_1_m * self.gravity_m_s2) ** -0.5)
