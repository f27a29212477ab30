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
    track_length_m: float | None = Field(
        default=None, ge=0.2, le=5.0, description="true travel between the switches"
    )
    switch_active: Literal["high", "low"] | None = Field(
        default=None, description="what its pressed limit switches really read"
    )
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
    recover: bool = Field(
        default=False,
        description="in real time: after a stop reset, home and swing up again",
    )
    homed: bool = Field(default=True, description="in virtual time: start with homing done")

    # What a drive, a belt and a track do beyond the equations of motion.
    drive_stiction_m_s2: float = number(0.0, 0.0, 10.0, "a standing drive is held by this much")
    drive_cogging_m_s2: float = number(0.0, 0.0, 20.0, "acceleration that changes with the place")
    drive_cogging_pitch_m: float = number(0.01, 0.001, 0.2, "way from one cog to the next")
    drive_ripple_m_s: float = number(0.0, 0.0, 0.5, "speed that swings while the drive is driven")
    drive_ripple_hz: float = number(9.0, 0.5, 100.0, "how often it swings")
    drive_ramp_m_s2: float | None = Field(
        default=None, ge=0.5, le=100.0, description="the driver ramps its command by itself"
    )
    supply_sag: float = number(0.0, 0.0, 0.3, "share by which the motor's gain swings in flight")
    supply_period_s: float = number(7.0, 0.2, 600.0, "period of that swing")
    command_step_m_s: float = number(0.0, 0.0, 0.2, "the driver rounds commands to multiples")
    belt_hz: float = number(0.0, 0.0, 50.0, "the cart swings on its belt at; 0: a stiff belt")
    belt_damping: float = number(0.15, 0.0, 2.0, "damping ratio of that swing")
    belt_backlash_m: float = number(0.0, 0.0, 0.02, "play between drive and cart")
    track_tilt_rad: float = number(0.0, -0.1, 0.1, "the track climbs to the right by this angle")

    # What the pole is beyond a straight, even rod.
    tip_mass: float = number(0.0, 0.0, 10.0, "mass at the tip, times the rod's")
    hub_inertia: float = number(0.0, 0.0, 10.0, "inertia of the pivot, times the rod's")
    pole_bend_rad: float = number(0.0, -0.1, 0.1, "the tape points beside where the mass hangs")

    # Serial lines, both ways, and the encoders at their ends.
    answers_burst_s: float = number(0.0, 0.0, 0.1, "a USB bridge hands answers over this often")
    commands_burst_s: float = number(0.0, 0.0, 0.1, "and commands")
    bytes_lost: float = number(0.0, 0.0, 0.5, "share of bytes lost")
    bytes_doubled: float = number(0.0, 0.0, 0.5, "share of bytes that come twice")
    bytes_corrupted: float = number(0.0, 0.0, 0.5, "share of bytes with one bit wrong")
    commands_lost: float = number(0.0, 0.0, 0.9, "share of commands lost whole")
    cart_misses_one_in: int = whole(0, 0, 10**7, "one rising count in so many is lost")
    pole_misses_one_in: int = whole(0, 0, 10**7, "one rising count in so many is lost")
    pole_slip_counts: int = whole(0, -(10**5), 10**5, "the pole's encoder slips by so much")
    pole_stick_s: float = number(0.0, 0.0, 600.0, "the pole's encoder shows one count so long")
    encoder_upset_at_s: float = number(5.0, 0.0, 86400.0, "when it slips or sticks")
