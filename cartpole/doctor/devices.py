"""Checks of the rig's devices that `cartpole doctor` makes."""

from __future__ import annotations

import contextlib
import grp
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole import devices
from cartpole.doctor.listening import printable
from cartpole.doctor.machine import Check, Level
from cartpole.errors import CartpoleError, DeviceBusy
from cartpole.messages import BoardStatus, EncoderSample, Link, LinkEvent, LinkState
from cartpole.rules.firmware_bridge import link_rules

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import Measurement
    from firmware_bridge.rig_links import RigLinks

ANSWER_S = 4.0  # an Arduino that is reset by opening its port needs two
SLOW_ROUND_TRIP_S = 0.008
STOP_DAEMON = "stop the daemon: cartpole service stop"


@contextlib.contextmanager
def opened_links(config: Config) -> Iterator[RigLinks]:
    """The rig's started links; of a simulated rig if the settings name one. Closed afterwards."""
    with contextlib.ExitStack() as stack:
        rig = devices.simulated_rig(devices.blind(config), stack)
        if rig is not None:
            rig.start()
            rig.wait_ready()
        links = devices.rig_links(config, rig, stack)
        links.start()
        yield links


def rig_checks(config: Config) -> list[Check]:
    """All devices the settings name."""
    checks = [groups(config)]
    names = {"motor port": config.motor.port}
    if config.encoder.protocol in ("arduino_ascii", "lines"):
        names["encoder port"] = config.encoder.port
    found = [port(title, name) for title, name in names.items()]
    if any(check.level is Level.FAIL for check in found):
        checks.append(plugged_in())
    checks += found
    checks += boards_behind(found, config)
    checks += motor_range(config)
    checks.append(camera(config))
    return checks


def failed(title: str, error: CartpoleError, advice: str) -> Check:
    """A failure's row; what the error itself says to do goes before ``advice``."""
    found, _, own_advice = str(error).partition(": ")
    if isinstance(error, DeviceBusy):
        own_advice = STOP_DAEMON
    return Check(title, Level.FAIL, found, own_advice or advice)


def groups(config: Config) -> Check:
    """Whether this user may touch serial ports and cameras at all."""
    wanted = set()
    if "sim" not in (config.motor.port, config.encoder.port):
        wanted.add("dialout")
    if config.camera.source == "v4l2":
        wanted.add("video")
    if not wanted:
        return Check("permissions", Level.SKIP, "no real device configured")
    if os.geteuid() == 0:
        return Check("permissions", Level.OK, "root")
    mine = {_group_name(number) for number in os.getgroups()}
    missing = sorted(wanted - mine)
    if not missing:
        return Check("permissions", Level.OK, f"in {' and '.join(sorted(wanted))}")
    advice = f"run: sudo usermod -aG {','.join(missing)} $USER, then log in again"
    return Check("permissions", Level.WARN, f"not in {' and '.join(missing)}", advice)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return ""


def port(title: str, name: str) -> Check:
    """Whether a serial port is there, may be opened, and has a name that stays."""
    from firmware_bridge.ports import SerialPort, resolve, usb_identity

    if name == "sim":
        return Check(title, Level.SKIP, "simulated")
    try:
        path = resolve(name)
        SerialPort(path, 9600).close()
    except CartpoleError as error:
        return failed(title, error, "check its cable and power")
    identity = usb_identity(path)
    if identity is not None and Path(name).name.startswith("tty"):
        advice = f"name it {identity.name}, which does not change when cables do"
        return Check(title, Level.WARN, path, advice)
    return Check(title, Level.OK, path)


def plugged_in() -> Check:
    """All USB serial ports of this machine, with the names the settings may give them."""
    from serial.tools.list_ports import comports

    from firmware_bridge.ports import UsbIdentity

    found = [
        f"{UsbIdentity(port.vid, port.pid, port.serial_number).name} at {port.device}"
        + (f" ({port.product})" if port.product else "")
        for port in comports()
        if port.vid is not None and port.pid is not None
    ]
    if not found:
        advice = "plug the boards in, with cables that carry data; `dmesg -w` shows what arrives"
        return Check("USB serial ports", Level.WARN, "none plugged in", advice)
    advice = "write the right one into motor.port or encoder.port"
    return Check("USB serial ports", Level.OK, "; ".join(found), advice)


def boards_behind(ports: list[Check], config: Config) -> list[Check]:
    """Who answers, once all ports are there; else a row that says why nobody was asked."""
    levels = {check.level for check in ports}
    if Level.FAIL in levels:
        return [Check("board, firmware", Level.SKIP, "not asked: see its port above")]
    if Level.SKIP in levels:
        return [Check("board, firmware", Level.SKIP, "simulated")]
    return boards(config)


def boards(config: Config) -> list[Check]:
    """Start the links and see who answers; the motor is told to stand still."""
    from firmware_bridge.rig_links import open_links

    try:
        links = open_links(link_rules(config))
        links.start()
    except CartpoleError as error:
        return [failed("boards", error, "check their cables and power")]
    try:
        heard = listen(links, config)
        return answers(config, heard, links)
    finally:
        links.close()


def listen(links: RigLinks, config: Config, extra_s: float = 0.5) -> list[Measurement]:
    """What the boards say until all have answered and ``extra_s`` longer; at most ``ANSWER_S``."""
    heard: list[Measurement] = []
    missing = {Link.MOTOR}
    if config.encoder.protocol != "none":
        missing.add(Link.ENCODER)
    end_s = time.monotonic() + ANSWER_S
    while time.monotonic() < end_s:
        new = links.poll()
        heard += new
        for message in new:
            if isinstance(message, LinkEvent) and message.state is LinkState.UP:
                missing.discard(message.link)
                if not missing:
                    end_s = min(end_s, time.monotonic() + extra_s)
        time.sleep(0.01)
    return heard


def answers(config: Config, heard: list[Measurement], links: RigLinks) -> list[Check]:
    """What the boards' first words tell."""
    checks = []
    if config.motor.protocol == "bridge":
        checks.append(_bridge(heard, links))
    else:
        advice = "set its serial time-out to 100 ms: there is no watchdog on this wire"
        checks.append(Check("motor driver", Level.OK, "text, need not answer", advice))
    if config.encoder.protocol != "none":
        checks.append(_encoder(heard, config, unread_line(links)))
    return checks


def unread_line(links: RigLinks) -> str:
    """A line of the encoder board that made no sense; empty if there was none."""
    from firmware_bridge.rig_links import Links

    encoder = links.encoder if isinstance(links, Links) else None
    return "" if encoder is None else printable(encoder.driver.last_unread)


def _encoder(heard: list[Measurement], config: Config, unread: str) -> Check:
    samples = [message for message in heard if isinstance(message, EncoderSample)]
    if len(samples) < 3 and unread:
        found = f"answers with lines of another kind: {unread}"
        advice = "see what it speaks: cartpole doctor board --listen; encoder.protocol: lines"
        return Check("encoder board", Level.FAIL, found, advice)
    if len(samples) < 3:
        advice = "is this the encoder board's port, and is its baud rate encoder.baud?"
        return Check("encoder board", Level.FAIL, "does not answer", advice)
    trip_s = sorted(s.arrival_ns - s.t_ns for s in samples)[len(samples) // 2] * 1e-9
    rate_hz = (len(samples) - 1) * 1e9 / max(samples[-1].t_ns - samples[0].t_ns, 1)
    last = samples[-1]
    found = (
        f"{rate_hz:.0f} samples/s, {trip_s * 1e3:.1f} ms old on arrival, "
        f"cart {last.cart_counts}, pole {last.pole_counts}"
    )
    if last.limit_low and last.limit_high:
        advice = "both limit switches read pressed: check their wiring"
        return Check("encoder board", Level.FAIL, found, advice)
    if trip_s > SLOW_ROUND_TRIP_S:
        advice = "slow answers: lower the USB adapter's latency timer"
        return Check("encoder board", Level.WARN, found, advice)
    if rate_hz < 0.8 * config.encoder.poll_hz:
        return Check("encoder board", Level.WARN, found, "slower than encoder.poll_hz: lower it")
    return Check("encoder board", Level.OK, found)


def _bridge(heard: list[Measurement], links: RigLinks) -> Check:
    states = [message for message in heard if isinstance(message, BoardStatus)]
    refused = [
        message.detail
        for message in heard
        if isinstance(message, LinkEvent) and message.state is LinkState.REFUSED
    ]
    if refused:
        return Check("board", Level.FAIL, refused[-1], "lower the limits, or run: cartpole flash")
    if not states:
        return Check("board", Level.FAIL, "does not answer", "flash it: cartpole flash")
    info, last = board_line(links), states[-1]
    if last.estop:
        return Check("board", Level.WARN, f"{info}, e-stop pressed", "release the e-stop")
    if last.fault_code:
        found = f"{info}, fault {last.fault_code} latched"
        return Check("board", Level.WARN, found, "it is cleared by `cartpole reset`")
    return Check("board", Level.OK, info)


def board_line(links: RigLinks) -> str:
    """Firmware, boot and loop time of a bridge board in one line."""
    from firmware_bridge.bridge_link import BridgeLink
    from firmware_bridge.rig_links import Links

    drive = links.drive if isinstance(links, Links) else None
    if not isinstance(drive, BridgeLink) or drive.codec.info is None:
        return "no firmware of its own"
    info = drive.codec.info
    loop_us = drive.codec.statistics.counters.loop_max_s * 1e6
    return (
        f"firmware {info.firmware}, boot {info.boot_id} (cause {info.reset_cause}), "
        f"loop {loop_us:.0f} µs at most"
    )


def motor_range(config: Config) -> list[Check]:
    """Whether full scale of the text driver reaches the speed limit."""
    if config.motor.protocol == "bridge":
        return []
    from firmware_bridge.rig_links import motor_driver

    largest = motor_driver(config.motor).largest_velocity_m_s
    found = f"full scale is {largest:.2f} m/s"
    if largest >= config.rig.velocity_limit_m_s:
        return [Check("motor range", Level.OK, found)]
    advice = f"lower rig.velocity_limit_m_s to {largest:.2f}, or check motor.counts_per_m_s"
    return [Check("motor range", Level.WARN, found, advice)]


def camera(config: Config) -> Check:
    """Mode, controls and measured rate: opening sets and verifies all three."""
    if config.camera.source in ("none", "sim"):
        word = "none configured" if config.camera.source == "none" else "simulated"
        return Check("camera", Level.SKIP, word)
    from cartpole.vision.sources import make_source

    source = make_source(config.camera)
    try:
        found = source.open()
        if config.camera.source == "v4l2":
            found += f"; exposure {config.camera.exposure} and gain {config.camera.gain} hold"
        return Check("camera", Level.OK, found)
    except CartpoleError as error:
        check = failed("camera", error, "correct the camera section of the settings")
        if config.camera.source == "v4l2":
            return replace(check, found=f"{check.found} (this machine has {cameras()})")
        return check
    finally:
        source.close()


def cameras(root: Path = Path("/sys")) -> str:
    """The cameras that are plugged in, in words."""
    found = []
    for folder in sorted((root / "class/video4linux").glob("video*")):
        with contextlib.suppress(OSError):
            found.append(f"/dev/{folder.name}: {(folder / 'name').read_text().strip()}")
    return "; ".join(found) or "none"
