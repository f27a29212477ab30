"""The simulated rig's devices as they are: the configured ones with the ``sim`` section's truth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from cartpole.model.parameters import ModelParameters, true_plant

if TYPE_CHECKING:
    from cartpole.config.schema import Camera, Config, Encoder, Motor, Section

    Device = TypeVar("Device", bound=Section)


def true_model(config: Config) -> ModelParameters:
    """The plant's parameters; a pole with a tip mass or a heavy hub moves as a longer rod.

    c = m d / J with the rod's own L / 2 and L^2 / 3, the tip's L and L^2, and the hub's inertia.
    """
    model, sim = true_plant(config), config.sim
    tip, hub = sim.tip_mass, sim.hub_inertia
    if not tip and not hub:
        return model
    longer = 1.5 * ((1.0 + hub) / 3.0 + tip) / (0.5 + tip)
    return replace(model, length_m=model.length_m * longer)


def true_tape_angle_rad(config: Config) -> float:
    """What the camera sees beside the angle of the pole's mass: it is turned, or the pole bent."""
    return (config.sim.upright_offset_rad or 0.0) + config.sim.pole_bend_rad


def true_camera(config: Config) -> Camera:
    """The camera with its true lens, place, readout and latency."""
    sim = config.sim
    return _with(
        config.camera,
        {
            "lens_k1": sim.lens_k1,
            "homography": sim.homography,
            "readout_s": sim.readout_s,
            "latency_s": sim.camera_latency_s,
        },
    )


def true_encoder(config: Config) -> Encoder:
    """Both encoders with their true scales and signs."""
    sim = config.sim
    return _with(
        config.encoder,
        {
            "cart_counts_per_m": sim.cart_counts_per_m,
            "cart_sign": sim.cart_sign,
            "pole_counts_per_turn": sim.pole_counts_per_turn,
            "pole_sign": sim.pole_sign,
            "switch_active": sim.switch_active,
        },
    )


def true_motor(config: Config) -> Motor:
    """The motor's driver with its true gain, dead band and wiring."""
    sim = config.sim
    return _with(
        config.motor,
        {
            "counts_per_m_s": sim.counts_per_m_s,
            "dead_band_counts": sim.dead_band_counts,
            "sign": sim.motor_sign,
        },
    )


def _with(device: Device, truth: dict[str, Any]) -> Device:
    return device.model_copy(update={k: v for k, v in truth.items() if v is not None})
