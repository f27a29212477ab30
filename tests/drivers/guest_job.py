"""What runs inside the guest: the product's own code against the kernel's own drivers.

Each result is a line ``CHECK name ok|FAILED detail``; a line ``HOST order`` asks the host to do
something to the cables.
"""

from __future__ import annotations

import glob
import itertools
import os
import time
from collections.abc import Callable

import serial
from drivers.devices import _BITS  # the picture's code

from cartpole.config.schema import Camera, Config, Encoder, Motor, Safety
from cartpole.errors import DeviceError, DeviceLost
from cartpole.messages import (
    BoardStatus,
    Command,
    EncoderSample,
    LinkEvent,
    LinkState,
    Measurement,
)
from cartpole.rules.firmware_bridge import link_rules
from cartpole.vision import v4l2_device as device
from cartpole.vision.frame import Frame
from cartpole.vision.v4l2_capture import V4l2Source
from firmware_bridge.rig_links import open_links
from firmware_bridge.simulator.machine import missing_tools

EYE = "/dev/v4l/by-id/usb-OmniVision*index0"
BOARD = "/dev/serial/by-id/usb-Arduino*"
RATE_HZ, EXPOSURE, GAIN = 50.0, 77, 11


def check(name: str, good: bool, detail: object = "") -> None:
    print(f"CHECK {name} {'ok' if good else 'FAILED'} {detail}", flush=True)


def host(order: str) -> None:
    print(f"HOST {order}", flush=True)


def wait_for(pattern: str, timeout_s: float = 30.0) -> str:
    """First path that fits, as soon as there is one."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        found = sorted(glob.glob(pattern))
        if found:
            return found[0]
        time.sleep(0.05)
    raise TimeoutError(f"{pattern} never came")


def wait_gone(pattern: str, timeout_s: float = 30.0) -> None:
    """Until no path fits: else the name of what was just unplugged would be taken for the next."""
    end_s = time.monotonic() + timeout_s
    while glob.glob(pattern):
        if time.monotonic() > end_s:
            raise TimeoutError(f"{pattern} never went")
        time.sleep(0.05)


def number_in(frame: Frame) -> int:
    step = frame.data.shape[1] // _BITS
    return sum(1 << bit for bit in range(_BITS) if frame.data[8, bit * step + step // 2] > 128)


def read(source: V4l2Source, duration_s: float) -> list[Frame]:
    """Frames with their pictures' numbers in place of the data's content."""
    frames = []
    end_s = time.monotonic() + duration_s
    while time.monotonic() < end_s:
        frame = source.read_latest(1.0, 0.5)
        if frame is not None:
            frames.append(frame)
            numbers.append(number_in(frame))
    return frames


numbers: list[int] = []


def camera() -> None:
    path = wait_for(EYE)
    check("camera by-id name", True, path)
    check("found by USB id", device.find("usb:1415:2000") == os.path.realpath(path))
    fd = device.open_node(path)
    rates = device.rates_hz(fd, 0x56595559, 320, 240)
    os.close(fd)
    check("driver lists its rates", rates[:2] == (187.0, 150.0), rates)
    settings = Camera(source="v4l2", device=path, rate_hz=RATE_HZ, exposure=EXPOSURE, gain=GAIN)
    source = V4l2Source(settings)
    check("opens, sets, reads back, measures", True, source.open())
    host("registers")
    frames = read(source, 3.0)
    ages = sorted((frame.arrival_ns - frame.t_ns) * 1e-6 for frame in frames)
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    check("pictures in order", bool(frames) and min(steps) > 0, f"{len(frames)} pictures, {steps}")
    check("kernel time stamps", 0.0 < ages[0] < ages[len(ages) // 2] < 100, f"{ages[0]:.1f} ms")
    check("gaps counted", source.counters.gaps >= 0, source.counters)
    time.sleep(0.6)
    fresh = source.read_latest(0.1, 3.0)
    check("fresh after a pause", fresh is not None, source.counters)

    host("unplug eye")
    lost = raises(lambda: read(source, 20.0), DeviceLost)
    check("unplugged camera is lost", lost is not None, lost)
    gone = raises(lambda: source.open(), DeviceError)
    check("cannot be opened meanwhile", gone is not None, gone)
    wait_gone(EYE)
    host("plug eye")
    wait_for(EYE)
    check("opens again", True, reopened(source))
    check("pictures again", len(read(source, 1.0)) > 0)
    source.close()
    wrong = settings.model_copy(update={"rate_hz": 90.0})
    refused = raises(lambda: V4l2Source(wrong).open(), DeviceError)
    check("a rate it lacks is refused", "offers 187" in str(refused), refused)


def reopened(source: V4l2Source) -> str:
    """Open as the camera process does: again and again until it works."""
    end_s = time.monotonic() + 20.0
    while True:
        try:
            return source.open()
        except DeviceError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.2)


def raises(action: Callable[[], object], kind: type[Exception]) -> Exception | None:
    try:
        action()
    except kind as error:
        return error
    return None


def board() -> None:
    path = wait_for(BOARD)
    check("board by-id name", "Arduino_Uno" in path, path)
    with serial.Serial(
        path, 115200, parity=serial.PARITY_EVEN, timeout=5.0, exclusive=True
    ) as port:
        host("board lines")
        port.write(b"hello\n")
        check("bytes both ways", port.readline() == b"echo hello\n")
        port.dtr = False
        time.sleep(0.2)
        port.dtr = True
        check("greets after a reset", port.readline() == b"reset\n")
        host("unplug board")
        lost = raises(lambda: [port.read(1) for _ in range(5)], serial.SerialException)
        check("unplugged board is lost", lost is not None, lost)
    wait_gone(BOARD)
    host("plug board")
    check("comes back under its name", wait_for(BOARD) == path)


class Desk:
    """The daemon's side of the bridge board: polls and sends a command every 20 ms."""

    def __init__(self, path: str) -> None:
        config = Config(
            motor=Motor(protocol="bridge", port=path),
            encoder=Encoder(protocol="bridge", port=path),
            safety=Safety(board_timeout_s=0.5),  # an emulated machine takes its time
        )
        self.links = open_links(link_rules(config))
        self.links.start()
        self.heard: list[Measurement] = []
        self.enable = self.clear = False
        self._sequence = 0

    def until(self, done: Callable[[], bool], timeout_s: float = 20.0) -> bool:
        end_s = time.monotonic() + timeout_s
        while not done() and time.monotonic() < end_s:
            self._sequence += 1
            command = Command(
                time.monotonic_ns(),
                self._sequence,
                0.0,
                self.enable,
                0.0,
                clear_fault=self.clear,
            )
            self.links.send(command)
            time.sleep(0.02)
            self.heard += self.links.poll()
        return done()

    def saw(self, state: LinkState) -> bool:
        return any(isinstance(m, LinkEvent) and m.state is state for m in self.heard)

    def status(self) -> BoardStatus:
        found = [m for m in self.heard if isinstance(m, BoardStatus)]
        return found[-1] if found else BoardStatus(0, boot_id=-1)

    def samples(self) -> list[EncoderSample]:
        return [m for m in self.heard if isinstance(m, EncoderSample)]


def bridge() -> None:
    """The product's firmware behind cdc-acm: opening resets it, and it never arms by itself."""
    host("unplug board")
    wait_gone(BOARD)
    host("plug firmware")
    desk = Desk(wait_for(BOARD))
    check("firmware answers", desk.until(lambda: desk.saw(LinkState.UP)), desk.status())
    check("samples flow", desk.until(lambda: len(desk.samples()) > 200), len(desk.samples()))
    steps = [b.cart_counts - a.cart_counts for a, b in itertools.pairwise(desk.samples())]
    check("counts only grow", min(steps) >= 0 < max(steps), f"{min(steps)} to {max(steps)}")
    desk.enable = True
    check("drive comes on", desk.until(lambda: desk.status().enabled), desk.status())
    boot = desk.status().boot_id
    host("reset firmware")
    again = desk.until(lambda: desk.status().boot_id == boot + 1)
    check("a reset is seen and named", again and desk.status().fault_code > 0, desk.status())
    check("and nothing comes on by itself", not desk.until(lambda: desk.status().enabled, 2.0))
    desk.heard.clear()
    host("unplug firmware")
    check("unplugged firmware is lost", desk.until(lambda: desk.saw(LinkState.DOWN)))
    wait_gone(BOARD)
    desk.heard.clear()
    host("plug firmware")
    check("the link comes back by itself", desk.until(lambda: desk.saw(LinkState.UP), 40.0))
    check("with the drive off", not desk.until(lambda: desk.status().enabled, 1.0), desk.status())
    desk.links.close()


def main() -> None:
    parts = [camera, board]
    parts += [bridge] if not missing_tools() else []
    for part in parts:
        try:
            part()
        except Exception as error:  # the other part still runs
            check(part.__name__, False, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
