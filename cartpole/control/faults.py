"""The faults the core knows: how severe, what each means, what to do next.

Latched are all since the last reset, in the order they came; the most severe one decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from cartpole.messages import Fault, Severity


@dataclass(frozen=True, slots=True)
class FaultKind:
    """How a fault ends and what a person reads about it."""

    severity: Severity
    meaning: str
    next_step: str


CATALOGUE = MappingProxyType(
    {
        "camera lost": FaultKind(
            Severity.DEGRADED,
            "no fresh picture; the encoders alone carry the estimate",
            "check the camera's plug and the ring light",
        ),
        "camera rejected": FaultKind(
            Severity.DEGRADED,
            "pictures arrive, but their measurements do not fit",
            "look for reflections with `cartpole doctor camera`",
        ),
        "camera delay": FaultKind(
            Severity.WARNING,
            "pictures are older, or younger, than camera.latency_s says; stamped as found",
            "run `cartpole calibrate latency`",
        ),
        "pole encoder slipped": FaultKind(
            Severity.DEGRADED,
            "the pole's count jumped while the camera saw no jump; the camera carries the angle",
            "stop; tighten the encoder on its shaft, then home",
        ),
        "pole encoder stuck": FaultKind(
            Severity.DEGRADED,
            "the pole's count does not follow the pole that the camera sees; the camera flies",
            "stop; check the encoder's shaft and cable, then home",
        ),
        "camera moved": FaultKind(
            Severity.DEGRADED,
            "the picture turned, or lies aside, while the counts went on; it is corrected",
            "fix the camera, then run `cartpole calibrate camera`",
        ),
        "pole length differs": FaultKind(
            Severity.WARNING,
            "the pole behaves as a longer or shorter one than the settings say; flown as found",
            "run `cartpole calibrate pole`",
        ),
        "pole damping differs": FaultKind(
            Severity.WARNING,
            "the pole swings with more or less friction than the settings say; flown as found",
            "run `cartpole calibrate pole`",
        ),
        "dry friction differs": FaultKind(
            Severity.WARNING,
            "the pole's pivot rubs otherwise than the settings say; flown as found",
            "run `cartpole calibrate pole`",
        ),
        "drive lag differs": FaultKind(
            Severity.WARNING,
            "the drive follows more slowly or quickly than the settings say; flown as found",
            "run `cartpole calibrate motor`",
        ),
        "drive ramp differs": FaultKind(
            Severity.WARNING,
            "the driver lets its speed rise more slowly than commands may; plans keep to that",
            "raise the driver's ramp, or lower rig.acceleration_limit_m_s2",
        ),
        "drive gain differs": FaultKind(
            Severity.WARNING,
            "the cart runs faster or slower than commanded; flown as found",
            "run `cartpole calibrate motor`",
        ),
        "command delay differs": FaultKind(
            Severity.WARNING,
            "commands act later or sooner than the settings say; flown as found",
            "run `cartpole calibrate motor`",
        ),
        "state stale": FaultKind(
            Severity.BRAKE,
            "no sensor has said anything new",
            "check the plugs of camera and encoder board, then reset and home",
        ),
        "encoder lost": FaultKind(
            Severity.BRAKE,
            "the encoder board fell silent",
            "check its plug, then reset and home: its counts may have restarted",
        ),
        "encoder silent": FaultKind(
            Severity.DEGRADED,
            "the encoder board fell silent; the camera carries the estimate for a second",
            "check its plug",
        ),
        "host starved": FaultKind(
            Severity.BRAKE,
            "the machine did not run the program's reader; no board is to blame",
            "free the processor; see `cartpole doctor`",
        ),
        "no response": FaultKind(
            Severity.BRAKE,
            "the drive's board does not acknowledge commands",
            "check its cable and supply, then reset and home",
        ),
        "encoder garbled": FaultKind(
            Severity.BRAKE,
            "bytes arrive, but none of them decode",
            "check cable, baud rate and encoder.protocol, then reset and home",
        ),
        "motor lost": FaultKind(
            Severity.BRAKE,
            "the motor driver's port is gone",
            "check its plug and power, then reset and home",
        ),
        "driver refuses": FaultKind(
            Severity.BRAKE,
            "the driver answered two commands with no",
            "read its status with `cartpole doctor board`",
        ),
        "missed counts": FaultKind(
            Severity.BRAKE,
            "camera and cart encoder disagree about the position",
            "check belt and encoder, then reset and home",
        ),
        "tick late": FaultKind(
            Severity.BRAKE,
            "the machine did not run the controller; no board is to blame",
            "free the processor; see `cartpole doctor`",
        ),
        "outside track": FaultKind(
            Severity.BRAKE,
            "the cart is beyond its position limit",
            "move it back by hand, then reset and home",
        ),
        "no control": FaultKind(
            Severity.BRAKE,
            "no plan, and neither LQR nor energy control may fly from here",
            "reset; if it comes again, replay the session",
        ),
        "homing failed": FaultKind(
            Severity.BRAKE,
            "homing found numbers that cannot be",
            "see the event's text, then reset and home",
        ),
        "velocity stuck": FaultKind(
            Severity.OFF,
            "the cart does not move as commanded",
            "check motor, belt and power; then reset and home",
        ),
        "limit switch": FaultKind(
            Severity.OFF,
            "an end switch was hit",
            "push the cart back to the middle, then reset and home",
        ),
        "emergency stop": FaultKind(
            Severity.OFF,
            "the e-stop is pressed",
            "release it when it is safe, then reset and home",
        ),
        "board rebooted": FaultKind(
            Severity.OFF,
            "the board restarted while in use",
            "check its supply, then reset and home",
        ),
        "board fault": FaultKind(
            Severity.OFF,
            "the board latched a fault of its own",
            "read it with `cartpole doctor board`, then reset and home",
        ),
    }
)


def fault(t_ns: int, name: str, detail: str = "") -> Fault:
    """A fault of the catalogue."""
    kind = CATALOGUE[name]
    meaning = f"{kind.meaning} ({detail})" if detail else kind.meaning
    return Fault(t_ns, name, kind.severity, meaning, kind.next_step)


def worst(latched: tuple[Fault, ...]) -> Severity:
    """The most severe latched fault; WARNING if there is none."""
    return max(one.severity for one in latched) if latched else Severity.WARNING


def without(latched: tuple[Fault, ...], name: str) -> tuple[Fault, ...]:
    """Forget a fault that only degrades, once its cause is gone."""
    return tuple(one for one in latched if one.name != name or one.severity > Severity.DEGRADED)
