"""Parameters of the cart and the pole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Config

GRAVITY_M_S2 = 9.81


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
    def characteristic_time_s(self) -> float:
        """1 / sqrt(c g): the e-folding time of the upright pole's fall."""
        return float((self.coupling_1_m * self.gravity_m_s2) ** -0.5)


def from_config(config: Config) -> ModelParameters:
    """The model that the controller believes in."""
    return ModelParameters(
        length_m=config.pole.length_m,
        damping_1_s=config.pole.damping_1_s,
        coulomb_rad_s2=config.pole.coulomb_rad_s2,
        tau_s=config.motor.tau_s,
        motor_acceleration_m_s2=config.motor.acceleration_m_s2,
        delay_s=config.motor.delay_s,
    )


def true_plant(config: Config) -> ModelParameters:
    """The simulated rig's own truth: the model with the ``sim`` section's differences."""
    model, sim = from_config(config), config.sim

    def either(truth: float | None, belief: float) -> float:
        return belief if truth is None else truth

    return ModelParameters(
        length_m=either(sim.length_m, model.length_m),
        damping_1_s=either(sim.damping_1_s, model.damping_1_s),
        coulomb_rad_s2=either(sim.coulomb_rad_s2, model.coulomb_rad_s2),
        tau_s=either(sim.tau_s, model.tau_s),
        motor_acceleration_m_s2=either(sim.acceleration_m_s2, model.motor_acceleration_m_s2),
        delay_s=either(sim.delay_s, model.delay_s),
    )
