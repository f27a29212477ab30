"""The rig: track, pole, drive, encoders, camera."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cartpole.config.schema.fields import Homography, Section, Sign, limit, number, whole
from cartpole.config.schema.lines import EncoderLines, MotorLines


class Rig(Section):
    """The track."""

    name: str = Field(default="cart-pole", max_length=80, description="shown in pages and reports")
    track_length_m: float = number(0.88, 0.2, 5.0, "travel between the two limit switches")
    position_limit_m: float = limit(0.36, 0.05, 2.4, "plans and governor keep |p| inside this")
    velocity_limit_m_s: float = limit(1.0, 0.05, 5.0, "largest velocity command")
    acceleration_limit_m_s2: float = limit(8.0, 0.5, 50.0, "largest rate of the velocity command")

    @model_validator(mode="after")
    def _inside_track(self) -> Rig:
        if self.position_limit_m > self.track_length_m / 2:
            raise ValueError(
                f"position_limit_m {self.position_limit_m} lies beyond half the track "
                f"({self.track_length_m / 2} m)"
            )
        return self


class Pole(Section):
    """The pole as the dynamics see it."""

    length_m: float = number(0.5, 0.05, 3.0, "length of the uniform rod with the same dynamics")
    damping_1_s: float = number(0.05, 0.0, 5.0, "viscous friction b in omegadot = ... - b omega")
    coulomb_rad_s2: float = number(0.0, 0.0, 20.0, "dry friction of the pivot")
    upright_offset_rad: float = number(
        0.0, -0.2, 0.2, "measured angle minus true angle when the pole is upright"
    )


class Motor(Section):
    """The drive: a velocity servo behind a serial line."""

    protocol: Literal["sabertooth_text", "bridge", "lines", "driver"] = Field(
        default="sabertooth_text", description="what the wire speaks; driver: see motor.driver"
    )
    driver: str = Field(
        default="",
        max_length=60,
        description="with protocol driver: odrive_ascii, roboclaw_packet, or a plug-in's name",
    )
    address: int = whole(128, 0, 255, "of the drive, where a driver asks for one")
    port: str = Field(
        default="sim", max_length=200, description="device path, usb:VID:PID[:SERIAL], or sim"
    )
    baud: int = whole(9600, 1200, 1_000_000, "serial speed")
    channel: Literal[1, 2] = Field(default=1, description="motor output of the driver")
    sign: Sign = Field(default=1, description="-1 if a positive command moves the cart left")
    counts_per_m_s: float = number(1500.0, 1.0, 1e6, "driver units per m/s above the dead band")
    dead_band_counts: float = number(100.0, 0.0, 1000.0, "driver units before anything moves")
    tau_s: float = number(0.05, 0.002, 0.5, "lag of the velocity servo")
    delay_s: float = number(0.008, 0.0, 0.1, "from sending a command to its first effect")
    acceleration_m_s2: float = number(8.0, 0.5, 100.0, "what the motor itself can do")
    lines: MotorLines = MotorLines()


class Encoder(Section):
    """Cart and pole encoders."""

    protocol: Literal["arduino_ascii", "bridge", "lines", "none"] = Field(
        default="arduino_ascii", description="what the board speaks; none for camera only"
    )
    port: str = Field(
        default="sim", max_length=200, description="device path, usb:VID:PID[:SERIAL], or sim"
    )
    baud: int = whole(115200, 1200, 1_000_000, "serial speed")
    poll_hz: float = number(200.0, 20.0, 1000.0, "how often the board is asked")
    cart_counts_per_m: float = number(20000.0, 100.0, 1e7, "cart encoder scale")
    cart_sign: Sign = Field(default=1, description="-1 if counts fall when the cart moves right")
    pole_counts_per_turn: float = number(1200.0, 16.0, 1e6, "pole encoder scale")
    pole_sign: Sign = Field(default=1, description="-1 if counts fall counter-clockwise")
    pole_scale: float = number(
        1.0,
        0.8,
        1.25,
        "what the pole's sensor reads over the true angle, both from upright, where it is right "
        "(an analogue sensor with a dead zone; for an encoder set pole_counts_per_turn)",
    )
    pole_skew_s: float = number(
        0.0, -0.06, 0.06, "how much older the angle of a line is than its position"
    )
    latency_s: float = number(0.0016, 0.0, 0.1, "least time from latch to arrival")
    switch_active: Literal["high", "low"] = Field(
        default="high",
        description="what a pressed limit switch reads: high is 1, low is 0 (a switch to ground "
        "with a pull-up)",
    )
    lines: EncoderLines = EncoderLines()


class Camera(Section):
    """The camera, its lens and where the rig stands in its picture.

    A point (x, y) of the rig's plane (metres; x to the right, y up from the pivot's track) goes
    through ``homography`` (3x3, row by row) to undistorted pixels, then through the radial term
    1 + k1 r^2, r measured from (centre_x_px, centre_y_px) in units of ``focal_px``.
    """

    source: Literal["none", "sim", "v4l2", "stream"] = Field(
        default="sim", description="where pictures come from"
    )
    device: str = Field(
        default="/dev/video0",
        max_length=300,
        description="V4L2 node or usb:vendor:product[:serial], stream URL or video file",
    )
    width_px: int = whole(320, 64, 1920, "picture width")
    height_px: int = whole(240, 48, 1080, "picture height")
    rate_hz: float = number(150.0, 5.0, 250.0, "frames a second asked for and verified")
    pixel_format: Literal["YUYV", "GREY", "GRBG", "MJPG"] = Field(
        default="YUYV",
        description="YUYV, the raw Bayer pattern, or what most webcams need to be fast",
    )
    exposure: int = whole(120, 0, 10000, "the driver's exposure control")
    gain: int = whole(20, 0, 255, "the driver's gain control")
    auto_exposure: bool = Field(
        default=False,
        description="live with exposure and gain that change by themselves (cheap webcams)",
    )
    exposure_s: float = number(0.003, 1e-5, 0.05, "exposure time of one line")
    readout_s: float = number(0.0053, 0.0, 0.05, "time from first to last line (rolling shutter)")
    latency_s: float = number(
        0.012,
        0.0,
        0.2,
        "mid-exposure of the middle line to arrival (v4l2: to the driver's stamp, at first "
        "(readout_s + exposure_s) / 2)",
    )
    threshold: int = whole(60, 1, 254, "pixels above this belong to the tape", live=True)
    method: Literal["line_fit", "min_area_rect"] = Field(
        default="line_fit", description="sub-pixel line fit, or contour and rotated rectangle alone"
    )
    homography: Homography = Field(
        default=(180.0, 0.0, 160.0, 0.0, -180.0, 120.0, 0.0, 0.0, 1.0),
        description="rig plane [m] to undistorted pixels, 3x3 row by row",
    )
    lens_k1: float = number(-0.08, -0.5, 0.5, "radial distortion")
    focal_px: float = number(260.0, 20.0, 4000.0, "focal length, the unit of r in the lens term")
    centre_x_px: float = number(160.0, 0.0, 1920.0, "optical centre")
    centre_y_px: float = number(120.0, 0.0, 1080.0, "optical centre")
    tape_start_m: float = number(0.03, 0.0, 1.0, "where the tape begins, from the pivot")
    tape_end_m: float = number(0.48, 0.02, 3.0, "where the tape ends, from the pivot")
    tape_width_m: float = number(0.03, 0.002, 0.2, "width of the tape")

    @model_validator(mode="after")
    def _tape(self) -> Camera:
        if self.tape_end_m <= self.tape_start_m:
            raise ValueError("tape_end_m must lie beyond tape_start_m")
        return self
