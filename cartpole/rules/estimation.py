"""Settings into the rules of filter and learner."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cartpole.estimation.learner import WANDER, LearnerRules
from cartpole.estimation.records import FilterRules
from cartpole.rules.model import model_of

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def filter_rules(config: Config) -> FilterRules:
    """What the settings say to the filter."""
    encoder = config.encoder
    commands_and_looks = 2.0 / config.controller.period_s
    return FilterRules(
        model=model_of(config),
        noise=config.estimator,
        upright_offset_rad=config.pole.upright_offset_rad,
        half_p_m=0.5 / encoder.cart_counts_per_m,
        half_theta_rad=math.pi / encoder.pole_counts_per_turn,
        velocity_limit_m_s=config.rig.velocity_limit_m_s,
        track_length_m=config.rig.track_length_m,
        events_per_s=encoder.poll_hz + config.camera.rate_hz + commands_and_looks,
    )


def learner_rules(config: Config) -> LearnerRules:
    """What the settings say to the learner."""
    noise, encoder = config.estimator, config.encoder
    return LearnerRules(
        prior=model_of(config),
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
