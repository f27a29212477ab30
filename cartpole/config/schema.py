"""Every setting, with its unit in its name and its bounds beside it.

Frozen and strict: an unknown key, a number given as text, ``nan`` or a value outside its bounds
is an error. Fields marked ``live`` may change while the controller runs, those marked ``disarmed``
(limits that keep the rig whole) only while it is disarmed; all others need a restart.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys or silent conversions, finite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )


def number(
    default: float,
    low: float,
    high: float,
    text: str,
    *,
    live: bool = False,
    disarmed: bool = False,
) -> Any:
    """A bounded number field; ``live`` ones may change while running, ``disarmed`` ones at rest."""
    marks: dict[str, Any] = {"live": live, "disarmed": disarmed}
    return Field(default=default, ge=low, le=high, description=text, json_schema_extra=marks)


def limit(default: float, low: float, high: float, text: str) -> Any:
    """A bounded number that keeps the rig whole: it may change only while disarmed."""
    return number(default, low, high, text, disarmed=True)


def whole(default: int, low: int, high: int, text: str, *, live: bool = False) -> Any:
    """A bounded integer field."""
    return Field(
        default=default, ge=low, le=high, description=text, json_schema_extra={"live": live}
    )


Real = Annotated[float, Field(strict=False)]  # YAML's `1` is a fine float; `"1"` is not
Sign = Literal[-1, 1]
Homography = tuple[Real, Real, Real, Real, Real, Real, Real, Real, Real]


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

    protocol: Literal["sabertooth_text", "bridge"] = Field(
        default="sabertooth_text", description="what the wire speaks"
    )
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


class Encoder(Section):
    """Cart and pole encoders."""

    protocol: Literal["arduino_ascii", "bridge", "none"] = Field(
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
    latency_s: float = number(0.0016, 0.0, 0.1, "least time from latch to arrival")


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
    pixel_format: Literal["YUYV", "GREY", "GRBG"] = Field(
        default="YUYV", description="YUYV or the raw Bayer pattern"
    )
    exposure: int = whole(120, 0, 255, "the driver's exposure control")
    gain: int = whole(20, 0, 63, "the driver's gain control")
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


class Weights(Section):
    """Stage cost, in units scaled by the rig's own length, time and limits."""

    position: float = number(1.0, 0.0, 1e4, "cart away from its target", live=True)
    velocity: float = number(0.3, 0.0, 1e4, "cart speed", live=True)
    angle: float = number(1.0, 1e-3, 1e4, "pole away from upright", live=True)
    rate: float = number(0.1, 0.0, 1e4, "pole speed", live=True)
    command: float = number(0.01, 0.0, 1e4, "size of the velocity command", live=True)
    command_rate: float = number(0.01, 1e-6, 1e4, "rate of the velocity command", live=True)


class Controller(Section):
    """The tick and what it aims at."""

    period_s: float = number(0.02, 0.002, 0.1, "time between two ticks")
    target_m: float = number(0.0, -2.4, 2.4, "where the cart balances", live=True)
    weights: Weights = Weights()
    balance_angle_rad: float = number(0.25, 0.02, 1.0, "closer than this counts as balancing")
    feed_back_only: bool = Field(
        default=False, description="fly LQR alone (for comparison); swing-up by energy"
    )


class Optimizer(Section):
    """The trajectory optimizer."""

    backend: Literal["compiled", "torch", "penalty"] = Field(
        default="compiled",
        description="compiled kernels, PyTorch, or the first author's penalty method",
    )
    horizon_steps: int = whole(100, 10, 400, "steps of the plan")
    step_s: float = number(0.02, 0.002, 0.1, "length of a step")
    newton_steps: int = whole(60, 1, 400, "most Newton steps a tick, all candidates together")
    tolerance: float = number(1e-4, 1e-10, 1e-1, "KKT residual that counts as converged")
    candidates: int = whole(5, 1, 8, "plans kept alive")
    user_cost: str = Field(
        default="", max_length=300, description="file.py:function, a cost for the torch backend"
    )


class Estimator(Section):
    """Noise the filter believes in."""

    cart_noise_m_s2: float = number(
        0.05, 1e-5, 10.0, "disturbance of the cart's acceleration, per sqrt(s)", live=True
    )
    pole_noise_rad_s: float = number(
        0.05, 1e-5, 10.0, "disturbance of the pole's rate, per sqrt(s)", live=True
    )
    offset_noise_rad: float = number(1e-4, 0.0, 0.1, "drift of the upright offset", live=True)
    offset_sigma_rad: float = number(
        0.0005, 0.0, 0.2, "how well pole.upright_offset_rad is known; 0.01 if never measured"
    )
    pole_zero_sigma_rad: float = number(
        0.001, 0.0, 0.2, "how well the pole encoder's zero is known after homing"
    )
    encoder_jitter_s: float = number(
        5e-5, 0.0, 0.01, "error of an encoder sample's time stamp", live=True
    )
    camera_sigma_rad: float = number(0.0003, 1e-5, 0.2, "floor of a frame's angle error", live=True)
    camera_sigma_m: float = number(
        0.0003, 1e-5, 0.2, "floor of a frame's position error", live=True
    )
    gate_sigma: float = number(5.0, 2.0, 20.0, "innovations beyond this are rejected", live=True)
    reopen_after: int = whole(5, 2, 100, "rejections in a row before the gate opens again")
    history_s: float = number(0.15, 0.02, 2.0, "how far back a late measurement may reach")


class Safety(Section):
    """Limits of the governor and the watch over the devices."""

    stale_state_s: float = limit(0.06, 0.02, 0.5, "no command from an older state")
    board_timeout_s: float = limit(0.1, 0.02, 0.5, "the board ramps down after this long silence")
    stop_margin_m: float = limit(0.005, 0.001, 0.1, "kept free before the end stops")
    lag_error_s: float = limit(0.1, 0.05, 1.0, "commanded and seen velocity may differ this long")
    homing_speed_m_s: float = limit(0.15, 0.01, 0.5, "speed towards the switches")
    travel_tolerance: float = limit(0.1, 0.01, 0.5, "found against configured travel")
    gain_tolerance: float = limit(0.1, 0.02, 0.5, "found against commanded speed while homing")


class Startup(Section):
    """What happens after the start."""

    action: Literal["disarmed", "swing_up"] = Field(
        default="disarmed", description="wait for an operator, or arm, home and swing up by itself"
    )


class Session(Section):
    """Recordings."""

    record: bool = Field(default=True, description="record every run")
    folder: str = Field(default="sessions", max_length=300, description="where recordings go")
    frames: Literal["none", "fault", "all"] = Field(
        default="fault",
        description="keep pictures never, from the minute before a fault, or always",
    )
    frame_every: int = whole(1, 1, 1000, "with frames: all, keep every n-th")
    max_folder_mb: int = whole(4096, 10, 10_000_000, "oldest recordings go beyond this")
    max_file_mb: int = whole(1024, 1, 100_000, "a recording is continued in a new file beyond this")
    max_age_days: int = whole(365, 1, 100_000, "older recordings are removed")


class Service(Section):
    """The process."""

    socket: str = Field(
        default="run/cartpole.sock", max_length=100, description="control socket (mode 0660)"
    )
    priority: int = whole(50, 0, 99, "SCHED_FIFO priority; 0 keeps the ordinary scheduler")
    cpu: int = whole(-1, -1, 1023, "processor of the control thread; -1 lets the kernel choose")
    lock_memory: bool = Field(default=True, description="mlockall where allowed")


class Dashboard(Section):
    """The live page."""

    enabled: bool = Field(default=False, description="serve the page with `run`")
    host: str = Field(default="127.0.0.1", max_length=100, description="address to listen on")
    port: int = whole(8080, 1, 65535, "port to listen on")
    commands: bool = Field(default=False, description="allow buttons and sliders")


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


class Config(Section):
    """The whole configuration."""

    rig: Rig = Rig()
    pole: Pole = Pole()
    motor: Motor = Motor()
    encoder: Encoder = Encoder()
    camera: Camera = Camera()
    controller: Controller = Controller()
    optimizer: Optimizer = Optimizer()
    estimator: Estimator = Estimator()
    safety: Safety = Safety()
    startup: Startup = Startup()
    session: Session = Session()
    service: Service = Service()
    dashboard: Dashboard = Dashboard()
    sim: Sim = Sim()

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.encoder.protocol == "none" and self.camera.source == "none":
            raise ValueError("encoder.protocol and camera.source are both none: nothing measures")
        if self.encoder.protocol == "bridge" and self.motor.protocol != "bridge":
            raise ValueError("encoder.protocol bridge needs motor.protocol bridge: one board")
        if abs(self.controller.target_m) > self.rig.position_limit_m:
            raise ValueError("controller.target_m lies outside rig.position_limit_m")
        return self
