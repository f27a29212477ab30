"""The first settings file of a rig, from a few answers."""

from __future__ import annotations

from dataclasses import dataclass

from cartpole.config.edit import edited
from cartpole.config.load import loads_config
from cartpole.config.sense import doubts
from cartpole.errors import UsageError
from cartpole.shipped import shipped

BOARDS = ("sim", "text", "bridge")


@dataclass(frozen=True, slots=True)
class Answers:
    """What the questions found out; lengths in metres."""

    board: str
    motor_port: str
    encoder_port: str
    track_m: float
    pole_m: float
    camera: str


def settings_text(answers: Answers) -> str:
    """The shipped file nearest to the answers, with them written in and comments kept.

    Raises ConfigError or UsageError where the answers make no sense, alone or beside each other.
    """
    name = {"sim": "sim.yaml", "text": "rig.yaml", "bridge": "rig-bridge.yaml"}[answers.board]
    values: dict[str, object] = {
        "rig.track_length_m": answers.track_m,
        "rig.position_limit_m": round(max(0.5 * answers.track_m - 0.08, 0.05), 3),
        "pole.length_m": answers.pole_m,
        "camera.tape_end_m": round(answers.pole_m - 0.02, 3),
    }
    if answers.board != "sim":
        values["motor.port"] = answers.motor_port
        values["encoder.port"] = answers.encoder_port
        if answers.camera == "none":
            values["camera.source"] = "none"
        else:
            values["camera.device"] = answers.camera
    text = edited(shipped("config", name).read_text(), values, name)
    if doubted := doubts(loads_config(text, "the answers")):
        raise UsageError("\n".join(f"the answers: {one.key}: {one.text}" for one in doubted))
    return text
