"""Settings into the rules of the controller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cartpole.config.load import disarmed_fields, flatten, live_fields
from cartpole.control.drive_watch import DriveRules
from cartpole.control.governor import LAG_FACTOR, GovernorLimits
from cartpole.control.homing import Homing
from cartpole.control.homing_records import HomingRules
from cartpole.control.lqr import FeedbackRules
from cartpole.control.observer import ObserverRules
from cartpole.control.pilot import PilotRules
from cartpole.control.reference import TargetRules
from cartpole.control.rules import CoreRules
from cartpole.control.swing import Scales
from cartpole.control.watch_records import WatchRules
from cartpole.estimation.stamps import StampRules
from cartpole.messages import Request, RequestKind, Settings
from cartpole.rules.estimation import filter_rules, learner_rules
from cartpole.rules.model import model_of
from cartpole.rules.optimizer import planner_rules, scaled_weights

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def settings_of(config: Config) -> Settings:
    """Settings as a core takes them."""
    return Settings(
        rules=core_rules(config),
        values=flatten(config),
        live=live_fields(),
        disarmed=disarmed_fields(),
        source=config,
    )


def config_of(settings: Settings) -> Config:
    """The tree that settings were made from."""
    config: Config = settings.source
    return config


def change(config: Config) -> Request:
    """The request to take over other settings."""
    return Request(RequestKind.CONFIG, settings=settings_of(config))


def core_rules(config: Config) -> CoreRules:
    """The rules of all parts of the controller."""
    return CoreRules(
        model=model_of(config),
        observer=observer_rules(config),
        watch=watch_rules(config),
        target=TargetRules(config.controller.target_m, config.rig.position_limit_m),
        homing=Homing(homing_rules(config)),
        pilot=pilot_rules(config),
        governor=governor_limits(config),
        balance_angle_rad=config.controller.balance_angle_rad,
        board_keeps_limits=config.motor.protocol == "bridge",
    )


def observer_rules(config: Config) -> ObserverRules:
    """Scales of the encoders, and the filter's rules."""
    encoder = config.encoder
    return ObserverRules(
        filter=filter_rules(config),
        learner=learner_rules(config),
        stamps=StampRules(
            1.0 / encoder.cart_counts_per_m,
            config.motor.acceleration_m_s2,
            config.rig.velocity_limit_m_s,
        ),
        upright_offset_rad=config.pole.upright_offset_rad,
        offset_sigma_rad=config.estimator.offset_sigma_rad,
        pole_zero_sigma_rad=config.estimator.pole_zero_sigma_rad,
        camera_only=encoder.protocol == "none",
        cart_counts_per_m=encoder.cart_counts_per_m,
        cart_sign=encoder.cart_sign,
        pole_counts_per_turn=encoder.pole_counts_per_turn,
        pole_sign=encoder.pole_sign,
        pole_scale=encoder.pole_scale,
        pole_skew_s=encoder.pole_skew_s,
        board_blocks=config.motor.protocol == "bridge",
    )


def watch_rules(config: Config) -> WatchRules:
    """What the devices are held against."""
    return WatchRules(
        has_encoder=config.encoder.protocol != "none",
        has_camera=config.camera.source != "none",
        stale_s=config.safety.stale_state_s,
        position_limit_m=config.rig.position_limit_m,
        period_s=config.controller.period_s,
        drive=DriveRules(
            velocity_limit_m_s=config.rig.velocity_limit_m_s,
            tau_s=config.motor.tau_s,
            acceleration_m_s2=config.motor.acceleration_m_s2,
            period_s=config.controller.period_s,
            ticks=max(2, round(config.safety.lag_error_s / config.controller.period_s)),
        ),
        cart_counts_per_m=config.encoder.cart_counts_per_m * config.encoder.cart_sign,
        switch_active=config.encoder.switch_active,
    )


def homing_rules(config: Config) -> HomingRules:
    """Scales, speeds, limits and tolerances of homing."""
    encoder, rig = config.encoder, config.rig
    pole_per_rad = encoder.pole_counts_per_turn / (2.0 * math.pi)
    return HomingRules(
        scales=Scales(
            encoder.cart_counts_per_m * encoder.cart_sign, pole_per_rad * encoder.pole_sign
        ),
        pole_counts_per_turn=encoder.pole_counts_per_turn,
        speed_m_s=min(config.safety.homing_speed_m_s, 0.5 * rig.velocity_limit_m_s),
        velocity_limit_m_s=rig.velocity_limit_m_s,
        acceleration_m_s2=min(rig.acceleration_limit_m_s2, config.motor.acceleration_m_s2),
        travel_m=rig.track_length_m,
        position_limit_m=rig.position_limit_m,
        stop_margin_m=config.safety.stop_margin_m,
        travel_tolerance=config.safety.travel_tolerance,
        gain_tolerance=config.safety.gain_tolerance,
        period_s=config.controller.period_s,
        tau_s=config.motor.tau_s,
        delay_s=config.motor.delay_s,
        coupling_1_m=1.5 / config.pole.length_m,
        switch_active=config.encoder.switch_active,
    )


def pilot_rules(config: Config) -> PilotRules:
    """What planner and fall-back are made of."""
    return PilotRules(
        planner=planner_rules(config),
        feedback=feedback_rules(config),
        backend=config.optimizer.backend,
        feed_back_only=config.controller.feed_back_only,
        acceleration_limit_m_s2=config.rig.acceleration_limit_m_s2,
        position_limit_m=config.rig.position_limit_m,
        period_s=config.controller.period_s,
    )


def feedback_rules(config: Config) -> FeedbackRules:
    """The regulator by the same weights as the plans."""
    model = model_of(config)
    return FeedbackRules(
        model=model,
        weights=scaled_weights(config, model),
        period_s=config.controller.period_s,
        target_m=config.controller.target_m,
        position_limit_m=config.rig.position_limit_m,
        velocity_limit_m_s=config.rig.velocity_limit_m_s,
        acceleration_limit_m_s2=config.rig.acceleration_limit_m_s2,
    )


def governor_limits(config: Config) -> GovernorLimits:
    """The governor's limits; ``notice_s`` is how late a lost host is noticed (I2's t_d)."""
    return GovernorLimits(
        velocity_m_s=config.rig.velocity_limit_m_s,
        acceleration_m_s2=min(config.rig.acceleration_limit_m_s2, config.motor.acceleration_m_s2),
        position_m=config.rig.position_limit_m,
        stop_m=config.rig.track_length_m / 2,
        margin_m=config.safety.stop_margin_m,
        lag_s=config.motor.tau_s * LAG_FACTOR,
        notice_s=config.safety.board_timeout_s + config.controller.period_s,
        period_s=config.controller.period_s,
    )
