"""Settings into the simulated rig: the configured devices with the ``sim`` section's truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from cartpole.rules.model import true_model
from cartpole.sim.rules import Devices, RigRules

if TYPE_CHECKING:
    from cartpole.config.schema import Config, Section

    Device = TypeVar("Device", bound=Section)


def rig_rules(config: Config) -> RigRules:
    """The simulated rig as it is and as the host was told."""
    sim, rig = config.sim, config.rig
    return RigRules(
        true=true_devices(config),
        told=Devices(config.camera, config.encoder, config.motor),
        model=true_model(config),
        sim=sim,
        tape_angle_rad=(sim.upright_offset_rad or 0.0) + sim.pole_bend_rad,
        switch_m=(sim.track_length_m or rig.track_length_m) / 2,
        position_limit_m=rig.position_limit_m,
        velocity_limit_m_s=rig.velocity_limit_m_s,
        board_timeout_s=config.safety.board_timeout_s,
        user_model=config.optimizer.user_model,
    )


def true_devices(config: Config) -> Devices:
    """True lens, place, readout and latency; scales and signs; gain, dead band and wiring."""
    sim = config.sim
    camera = _with(
        config.camera,
        lens_k1=sim.lens_k1,
        homography=sim.homography,
        readout_s=sim.readout_s,
        latency_s=sim.camera_latency_s,
    )
    encoder = _with(
        config.encoder,
        cart_counts_per_m=sim.cart_counts_per_m,
        cart_sign=sim.cart_sign,
        pole_counts_per_turn=sim.pole_counts_per_turn,
        pole_sign=sim.pole_sign,
        switch_active=sim.switch_active,
    )
    motor = _with(
        config.motor,
        counts_per_m_s=sim.counts_per_m_s,
        dead_band_counts=sim.dead_band_counts,
        sign=sim.motor_sign,
    )
    return Devices(camera, encoder, motor)


def _with(device: Device, **truth: Any) -> Device:
    return device.model_copy(update={k: v for k, v in truth.items() if v is not None})
