"""The simulated rig's devices as they are: the configured ones with the ``sim`` section's truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cartpole.config.schema import Camera, Config, Encoder, Motor, Section

    Device = TypeVar("Device", bound=Section)


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
