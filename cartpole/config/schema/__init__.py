"""Every setting, with its unit in its name and its bounds beside it.

Frozen and strict: an unknown key, a number given as text, ``nan`` or a value outside its bounds
is an error. Fields marked ``live`` may change while the controller runs, those marked ``disarmed``
(limits that keep the rig whole) only while it is disarmed; all others need a restart.
"""

from __future__ import annotations

from pydantic import model_validator

from cartpole.config.schema.control import Controller, Estimator, Optimizer, Safety, Weights
from cartpole.config.schema.fields import Section
from cartpole.config.schema.lines import EncoderLines, MotorLines
from cartpole.config.schema.rig import Camera, Encoder, Motor, Pole, Rig
from cartpole.config.schema.service import Dashboard, Service, Session, Startup
from cartpole.config.schema.sim import Sim

__all__ = [
    "Camera",
    "Config",
    "Controller",
    "Dashboard",
    "Encoder",
    "EncoderLines",
    "Estimator",
    "Motor",
    "MotorLines",
    "Optimizer",
    "Pole",
    "Rig",
    "Safety",
    "Section",
    "Service",
    "Session",
    "Sim",
    "Startup",
    "Weights",
]


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
        for name, one in (("encoder", self.encoder), ("motor", self.motor)):
            if one.protocol in ("lines", "driver") and one.port == "sim":
                raise ValueError(
                    f"{name}.protocol {one.protocol} needs a real {name}.port, not sim"
                )
        if (self.motor.protocol == "driver") != bool(self.motor.driver):
            raise ValueError("motor.protocol driver and motor.driver NAME go together")
        if self.motor.protocol == "bridge" and self.encoder.switch_active == "low":
            raise ValueError(
                "encoder.switch_active must be high with motor.protocol bridge: its firmware "
                "reads the switches by itself, pressed is high"
            )
        if abs(self.controller.target_m) > self.rig.position_limit_m:
            raise ValueError("controller.target_m lies outside rig.position_limit_m")
        return self
