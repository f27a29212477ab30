"""The controller: cost, tick, optimizer, estimator, safety."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cartpole.config.schema.fields import Section, limit, number, whole


class Weights(Section):
    """Stage cost, in units scaled by the rig's own length, time and limits."""

    position: float = number(1.0, 0.0, 1e4, "cart away from its target", live=True)
    velocity: float = number(0.9, 0.0, 1e4, "cart speed", live=True)
    angle: float = number(1.0, 1e-3, 1e4, "pole away from upright", live=True)
    rate: float = number(0.1, 0.0, 1e4, "pole speed", live=True)
    command: float = number(0.01, 0.0, 1e4, "size of the velocity command", live=True)
    command_rate: float = number(0.003, 1e-6, 1e4, "rate of the velocity command", live=True)


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
    user_model: str = Field(
        default="",
        max_length=300,
        description="file.py:function, accelerations of cart and pole in place of the rig's own",
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
    learn: bool = Field(default=True, description="correct the model in flight")
    length_sigma: float = number(
        0.12, 1e-4, 1.0, "how well pole.length_m is known, a share; calibration knows better"
    )
    lag_sigma: float = number(0.18, 1e-4, 1.0, "how well motor.tau_s is known, a share")
    gain_sigma: float = number(0.05, 1e-4, 1.0, "how well the drive's scale is known, a share")
    delay_sigma_s: float = number(0.006, 1e-5, 0.1, "how well motor.delay_s is known")
    damping_sigma_1_s: float = number(0.04, 1e-4, 5.0, "how well pole.damping_1_s is known")
    coulomb_sigma_rad_s2: float = number(0.2, 1e-4, 20.0, "how well pole.coulomb_rad_s2 is known")


class Safety(Section):
    """Limits of the governor and the watch over the devices."""

    stale_state_s: float = limit(0.06, 0.02, 0.5, "no command from an older state")
    board_timeout_s: float = limit(0.1, 0.02, 0.5, "the board ramps down after this long silence")
    stop_margin_m: float = limit(0.005, 0.001, 0.1, "kept free before the end stops")
    lag_error_s: float = limit(0.1, 0.05, 1.0, "commanded and seen velocity may differ this long")
    homing_speed_m_s: float = limit(0.2, 0.01, 0.5, "speed towards the switches")
    travel_tolerance: float = limit(0.1, 0.01, 0.5, "found against configured travel")
    gain_tolerance: float = limit(0.1, 0.02, 0.5, "found against commanded speed while homing")
