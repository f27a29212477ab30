"""The simulated rig: its truth, its noise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cartpole.config.schema.fields import Homography, Section, Sign, number, whole


class Sim(Section):
    """The simulated rig: where its plant differs from the configured model, and its noise."""

    seed: int = whole(0, 0, 2**31 - 1, "random numbers")
    length_m: float | None = Field(default=None, ge=0.05, le=3.0, description="true pole length")
    damping_1_s: float | None = Field(default=None, ge=0.0, le=5.0, description="true damping")
    coulomb_rad_s2: float | None = Field(default=None, ge=0.0, le=20.0, description="true friction")
    tau_s: float | None = Field(default=None, ge=0.002, le=0.5, description="true lag")
    delay_s: float | None = Field(default=None, ge=0.0, le=0.1, description="true command delay")
    acceleration_m_s2: float | None = Field(
        default=None, ge=0.5, le=100.0, description="true motor limit"
    )
    counts_per_m_s: float | None = Field(
        default=None, ge=1.0, le=1e6, description="true motor gain"
    )
    dead_band_counts: float | None = Field(
        default=None, ge=0.0, le=1000.0, description="true dead band of the driver"
    )
    motor_sign: Sign | None = Field(default=None, description="true wiring of the motor")
    cart_counts_per_m: float | None = Field(
        default=None, ge=100.0, le=1e7, description="true cart encoder scale"
    )
    cart_sign: Sign | None = Field(default=None, description="true sign of the cart's counts")
    pole_counts_per_turn: float | None = Field(
        default=None, ge=16.0, le=1e6, description="true pole encoder scale"
    )
    pole_sign: Sign | None = Field(default=None, description="true sign of the pole's counts")
    upright_offset_rad: float | None = Field(
        default=None, ge=-0.2, le=0.2, description="true offset of the camera's angle"
    )
    lens_k1: float | None = Field(default=None, ge=-0.5, le=0.5, description="true distortion")
    homography: Homography | None = Field(default=None, description="where it really stands")
    readout_s: float | None = Field(default=None, ge=0.0, le=0.05, description="true readout")
    camera_latency_s: float | None = Field(
        default=None, ge=0.0, le=0.2, description="true camera latency"
    )
    pictures: Literal["rendered", "measured"] = Field(
        default="measured",
        description="in virtual time: render every frame, or draw the tracker's measurement from "
        "its noise (`run` always renders)",
    )
    cart_disturbance: float = number(
        0.05, 0.0, 10.0, "random cart acceleration, m/s^2 per sqrt(Hz)"
    )
    pole_disturbance: float = number(
        0.05, 0.0, 10.0, "random pole acceleration, rad/s^2 per sqrt(Hz)"
    )
    camera_sigma_rad: float = number(0.0015, 0.0, 0.2, "angle noise of a measured frame")
    camera_sigma_m: float = number(0.001, 0.0, 0.2, "position noise of a measured frame")
    camera_jitter_s: float = number(0.0015, 0.0, 0.05, "spread of the camera's latency")
    camera_loss: float = number(0.02, 0.0, 1.0, "share of frames lost")
    camera_outliers: float = number(0.002, 0.0, 1.0, "share of frames that measure nonsense")
    pixel_noise: float = number(3.0, 0.0, 50.0, "noise of a rendered pixel, grey levels")
    distractors: int = whole(0, 0, 5, "bright reflections in the rendered picture")
    light: float = number(
        1.0,
        0.01,
        20.0,
        "the ring light, times the usual; rendered pictures go with it, exposure, gain",
    )
    homed: bool = Field(default=True, description="in virtual time: start with homing done")
