"""Settings into the rules of filter and learner."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cartpole.estimation.learner import WANDER, LearnerRules
from cartpole.model.parameters import from_config

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def learner_rules(config: Config) -> LearnerRules:
    """What the settings say to the learner."""
    noise, encoder = config.estimator, config.encoder
    return LearnerRules(
        prior=from_config(config),
        sigma=(
            noise.length_sigma,
            noise.lag_sigma,
            noise.gain_sigma,
            noise.delay_sigma_s,
            noise.damping_sigma_1_s,
            noise.coulomb_sigma_rad_s2,
        ),
        wander=WANDER,
        half_p_m=0.5 / encoder.cart_counts_per_m,
        half_theta_rad=math.pi / encoder.pole_counts_per_turn,
        cart_noise_m_s2=noise.cart_noise_m_s2,
        pole_noise_rad_s=noise.pole_noise_rad_s,
        enabled=noise.learn,
    )
