"""Settings into parameters: of the model that the controller begins with, and of the true rig."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cartpole.model.parameters import ModelParameters

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def model_of(config: Config) -> ModelParameters:
    """The model that the controller believes in until it has learned a better one."""
    return ModelParameters(
        length_m=config.pole.length_m,
        damping_1_s=config.pole.damping_1_s,
        coulomb_rad_s2=config.pole.coulomb_rad_s2,
        tau_s=config.motor.tau_s,
        motor_acceleration_m_s2=config.motor.acceleration_m_s2,
        delay_s=config.motor.delay_s,
    )


def true_model(config: Config) -> ModelParameters:
    """The simulated rig's truth: the model with the ``sim`` section's differences.

    A pole with a tip mass or a heavy hub moves as a longer rod: c = m d / J with the rod's own
    L / 2 and L^2 / 3, the tip's L and L^2, and the hub's inertia.
    """
    model, sim = model_of(config), config.sim

    def either(truth: float | None, belief: float) -> float:
        return belief if truth is None else truth

    longer = 1.0
    if sim.tip_mass or sim.hub_inertia:
        longer = 1.5 * ((1.0 + sim.hub_inertia) / 3.0 + sim.tip_mass) / (0.5 + sim.tip_mass)
    return ModelParameters(
        length_m=either(sim.length_m, model.length_m) * longer,
        damping_1_s=either(sim.damping_1_s, model.damping_1_s),
        coulomb_rad_s2=either(sim.coulomb_rad_s2, model.coulomb_rad_s2),
        tau_s=either(sim.tau_s, model.tau_s),
        motor_acceleration_m_s2=either(sim.acceleration_m_s2, model.motor_acceleration_m_s2),
        delay_s=either(sim.delay_s, model.delay_s),
    )
