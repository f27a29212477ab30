"""Settings that are each allowed and together make no sense: what `check-config` looks for.

A daemon starts with them all the same (a person may be on the way to better ones).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Config

# No USB vendor has the id 0000; a port is a path or usb:VID:PID[:SERIAL], four hex digits each.
_PORT = re.compile(r"sim|/.+|usb:(?!0000)[0-9a-f]{4}:[0-9a-f]{4}(:.+)?", re.IGNORECASE)
FULL_SCALE_UNITS = 2047  # of the text driver
READ_BITS = 11 * 40  # a line of the text board with its question, on the wire


@dataclass(frozen=True, slots=True)
class Doubt:
    """A dotted key, and what is wrong with it beside the others and what would do."""

    key: str
    text: str


def doubts(config: Config) -> list[Doubt]:
    """Everything that cannot be meant, in the order of the file."""
    return [*_rig(config), *_pole(config), *_motor(config), *_ports(config), *_camera(config)]


def _rig(config: Config) -> Iterator[Doubt]:
    rig, safety = config.rig, config.safety
    fast = rig.velocity_limit_m_s
    slowing = min(rig.acceleration_limit_m_s2, config.motor.acceleration_m_s2)
    notice = safety.board_timeout_s + config.controller.period_s + config.motor.tau_s
    room = rig.track_length_m / 2 - rig.position_limit_m
    needed = safety.stop_margin_m
    if room < needed:
        yield Doubt(
            "rig.position_limit_m",
            f"leaves {1000 * room:.0f} mm before the switch, {1000 * needed:.0f} mm are kept free",
        )
    whole = fast * notice + fast * fast / (2.0 * slowing)
    if whole > rig.track_length_m / 2:
        yield Doubt(
            "rig.velocity_limit_m_s",
            f"a cart at {fast:g} m/s whose host falls silent needs {whole:.2f} m to stop, half the "
            f"track is {rig.track_length_m / 2:.2f} m: lower it, or safety.board_timeout_s",
        )
    if safety.homing_speed_m_s > fast:
        yield Doubt("safety.homing_speed_m_s", "is above rig.velocity_limit_m_s")


def _pole(config: Config) -> Iterator[Doubt]:
    # The rod that swings like a pole with a weight at its tip is 1.5 times as long as the pole.
    if config.camera.source != "none" and config.camera.tape_end_m > config.pole.length_m:
        yield Doubt(
            "camera.tape_end_m",
            f"the tape ends {config.camera.tape_end_m:g} m from the pivot, the pole is "
            f"{config.pole.length_m:g} m long",
        )


def _motor(config: Config) -> Iterator[Doubt]:
    motor, wanted = config.motor, config.rig.velocity_limit_m_s
    if motor.protocol in ("lines", "driver"):
        return
    largest = (FULL_SCALE_UNITS - motor.dead_band_counts) / motor.counts_per_m_s
    if largest < wanted:
        yield Doubt(
            "motor.counts_per_m_s",
            f"full scale of the driver is {max(largest, 0.0):.2f} m/s, rig.velocity_limit_m_s is "
            f"{wanted:g}: lower either",
        )


def _ports(config: Config) -> Iterator[Doubt]:
    named = {"motor.port": config.motor.port}
    if config.encoder.protocol in ("arduino_ascii", "lines"):
        named["encoder.port"] = config.encoder.port
        if config.encoder.port == config.motor.port != "sim":
            yield Doubt("encoder.port", "is the motor's port too: two boards need two ports")
    if config.encoder.protocol == "bridge" and config.encoder.port != config.motor.port:
        yield Doubt("encoder.port", "differs from motor.port, but one bridge board does both")
    for key, port in named.items():
        if not _PORT.fullmatch(port):
            yield Doubt(key, f"{port!r} is no port: a path, usb:vendor:product[:serial], or sim")
    if config.encoder.protocol == "arduino_ascii":
        most_hz = config.encoder.baud / READ_BITS
        if config.encoder.poll_hz > most_hz:
            yield Doubt(
                "encoder.poll_hz",
                f"{config.encoder.baud} baud carry {most_hz:.0f} answers a second",
            )


def _camera(config: Config) -> Iterator[Doubt]:
    camera = config.camera
    if camera.source == "none":
        return
    between_s = 1.0 / camera.rate_hz
    if camera.exposure_s > between_s:
        yield Doubt(
            "camera.exposure_s",
            f"{1e3 * camera.exposure_s:g} ms do not fit between two frames at {camera.rate_hz:g} "
            f"a second ({1e3 * between_s:.1f} ms)",
        )
    if camera.readout_s > between_s:
        yield Doubt(
            "camera.readout_s",
            f"{1e3 * camera.readout_s:g} ms do not fit between two frames ({1e3 * between_s:.1f})",
        )
    usb = camera.source == "v4l2" and camera.device.startswith("usb:")
    if usb and not _PORT.fullmatch(camera.device):
        yield Doubt("camera.device", f"{camera.device!r}: usb:vendor:product, four hex digits")
    pixels = math.hypot(*camera.homography[0:5:3]) if camera.homography[8] else 0.0
    if pixels * camera.tape_width_m < 2.0:
        yield Doubt("camera.homography", "makes the tape less than two pixels wide")
