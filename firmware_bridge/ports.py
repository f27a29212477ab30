"""A serial port that is opened by name or USB id, never blocks, and fails in one way only.

Whatever the operating system raises on a port that went away (SerialException, OSError,
``termios.error``) becomes a ``DeviceError`` whose message names the port and the next step.
"""

from __future__ import annotations

import errno
import os
import re
import select
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from cartpole.errors import DeviceBusy, DeviceError, DeviceLost, DeviceNotFound, UsageError

if TYPE_CHECKING:
    from serial.tools.list_ports_common import ListPortInfo

Parity = Literal["N", "E", "O"]
PARITIES: dict[str, Parity] = {"none": "N", "even": "E", "odd": "O"}

READ_AT_MOST = 1024  # bytes taken from the system in one go, so that a flood costs a bounded time
_USB = re.compile(r"usb:([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::(.+))?")
_BUSY = (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK)


class Port(Protocol):
    """What links need of a port."""

    def read(self, timeout_s: float = 0.0) -> bytes:
        """Bytes that are there, waiting at most ``timeout_s`` for the first; DeviceLost if gone."""
        ...

    def write(self, data: bytes) -> int:
        """Hand over what fits at once, return how much that was; DeviceLost if gone."""
        ...

    def discard_output(self) -> None:
        """Forget what was handed over and has not left yet."""
        ...

    def close(self) -> None:
        """Let go; never raises."""
        ...


def resolve(name: str) -> str:
    """Device path of ``name``: a path, or ``usb:VID:PID[:SERIAL]`` in hexadecimal.

    Raises DeviceNotFound if no such USB device is plugged in (or several are and no serial number
    tells them apart), UsageError if the name is neither.
    """
    if not name.startswith("usb:"):
        return name
    match = _USB.fullmatch(name)
    if match is None:
        raise UsageError(f"{name!r} is no USB id: write usb:VID:PID[:SERIAL], four hex digits each")
    vendor, product, serial = int(match[1], 16), int(match[2], 16), match[3]
    found = [
        port.device
        for port in _usb_ports()
        if port.vid == vendor
        and port.pid == product
        and (serial is None or port.serial_number == serial)
    ]
    if not found:
        raise DeviceNotFound(f"no USB device {name} is plugged in: check its cable and power")
    if len(found) > 1:
        raise DeviceNotFound(
            f"{name} fits {', '.join(sorted(found))}: add the serial number, usb:VID:PID:SERIAL"
        )
    return str(found[0])


def _usb_ports() -> list[ListPortInfo]:
    from serial.tools.list_ports import comports

    return list(comports())


@dataclass(frozen=True, slots=True)
class UsbIdentity:
    """Which USB device a port belongs to, whatever node it got."""

    vendor: int
    product: int
    serial: str | None

    @property
    def name(self) -> str:
        """The ``usb:VID:PID[:SERIAL]`` to write into the settings."""
        tail = f":{self.serial}" if self.serial else ""
        return f"usb:{self.vendor:04x}:{self.product:04x}{tail}"


def usb_identity(path: str) -> UsbIdentity | None:
    """The USB device behind a port's path (links are followed); None if there is none."""
    real = os.path.realpath(path)
    for port in _usb_ports():
        if port.device == real and port.vid is not None and port.pid is not None:
            return UsbIdentity(port.vid, port.pid, port.serial_number)
    return None


class PortOpener:
    """Opens one configured port again and again, also when it comes back on another node.

    A port named by its path is remembered by its USB identity; when the path is gone and that
    device sits elsewhere, it is opened there.
    """

    def __init__(self, name: str, baud: int, parity: Parity, factory: PortFactory) -> None:
        self._name = name
        self._baud = baud
        self._parity = parity
        self._factory = factory
        self._identity: UsbIdentity | None = None

    def __call__(self) -> Port:
        """The open port; DeviceError if it cannot be opened."""
        path = resolve(self._name)
        if self._identity is not None and not os.path.exists(path):
            path = resolve(self._identity.name)
        port = self._factory(path, self._baud, self._parity)
        self._identity = usb_identity(path) or self._identity
        return port


# How a port is made: path, baud, parity.
PortFactory = Callable[[str, int, Parity], Port]


class SerialPort:
    """An open port, 8 data bits, 1 stop bit, exclusive; see ``Port``.

    Opening may take a while (USB); nothing afterwards blocks longer than its ``timeout_s``.
    """

    def __init__(self, name: str, baud: int, parity: Parity = "N") -> None:
        import serial

        self.name = name
        self.path = resolve(name)
        try:
            self._serial = serial.Serial(
                self.path, baud, parity=parity, timeout=0, write_timeout=0, exclusive=True
            )
            self._fd = self._serial.fileno()
        except (OSError, termios.error, ValueError) as error:
            raise _opening(self.path, error) from error
        self._set_low_latency()
        if parity != "N":
            self._check_parity()

    def _check_parity(self) -> None:
        # pyserial sends the parity bit but has the kernel not look at it: a byte that fails shall
        # be read as 0, which no line of text contains.
        try:
            attributes = termios.tcgetattr(self._fd)
            attributes[0] = (attributes[0] | termios.INPCK) & ~(termios.IGNPAR | termios.PARMRK)
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        except termios.error:
            return

    def _set_low_latency(self) -> None:
        # USB adapters hold bytes back for up to 16 ms unless told; those that cannot, need not.
        try:
            self._serial.set_low_latency_mode(True)
        except (OSError, termios.error, ValueError, NotImplementedError):
            return

    def read(self, timeout_s: float = 0.0) -> bytes:
        """See ``Port``."""
        try:
            ready, _, _ = select.select([self._fd], [], [], timeout_s)
            if not ready:
                return b""
            data = os.read(self._fd, READ_AT_MOST)
        except BlockingIOError:
            return b""
        except (OSError, ValueError, termios.error) as error:
            raise self._lost(error) from error
        if not data:  # readable and yet empty: hung up
            raise self._lost("hung up")
        return data

    def write(self, data: bytes) -> int:
        """See ``Port``."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except (OSError, ValueError, termios.error) as error:
            raise self._lost(error) from error

    def discard_output(self) -> None:
        """See ``Port``."""
        try:
            termios.tcflush(self._fd, termios.TCOFLUSH)
        except (OSError, ValueError, termios.error) as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """See ``Port``."""
        self._fd = -1
        try:
            self._serial.close()
        except (OSError, termios.error, ValueError):
            return

    def _lost(self, why: object) -> DeviceLost:
        return DeviceLost(f"{self.name} went away ({why}): check its cable and power")


def _opening(path: str, error: BaseException) -> DeviceError:
    """The error to raise for a port that cannot be opened."""
    number = getattr(error, "errno", None)
    text = str(error)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO) or not os.path.exists(path):
        return DeviceNotFound(f"{path} does not exist: is the board plugged in and powered?")
    if number in _BUSY or "exclusively lock" in text:
        return DeviceBusy(f"{path} is in use by another process: stop it first")
    if number in (errno.EACCES, errno.EPERM):
        return DeviceError(f"{path} may not be opened: join the group dialout and log in again")
    if number in (errno.ENOTTY, errno.EINVAL, errno.EISDIR) or isinstance(error, termios.error):
        return DeviceError(f"{path} is no serial port")
    return DeviceError(f"{path} cannot be opened: {' '.join(text.split())}")


class Backoff:
    """Waiting times between attempts to reopen: 0.1 s, doubling to 2 s."""

    def __init__(self, first_s: float = 0.1, largest_s: float = 2.0) -> None:
        self._first_s = first_s
        self._largest_s = largest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """The time to wait now."""
        wait_s, self._next_s = self._next_s, min(self._next_s * 2.0, self._largest_s)
        return wait_s

    def reset(self) -> None:
        """It worked: start from the shortest again."""
        self._next_s = self._first_s
