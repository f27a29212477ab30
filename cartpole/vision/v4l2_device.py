"""A V4L2 node: the ioctls this package needs, one function each, and how a camera is found.

Structures and request numbers are v4l2-python3's. Their request numbers are negative where the top
bit is set; the kernel wants 32 unsigned bits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import v4l2

from cartpole.errors import DeviceBusy, DeviceError, DeviceLost, DeviceNotFound

CAPTURE = v4l2.V4L2_BUF_TYPE_VIDEO_CAPTURE
MMAP = v4l2.V4L2_MEMORY_MMAP

# Newer than v4l2-python3's structures (linux/videodev2.h).
FLAG_ERROR = 0x00000040
TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0x0000E000, 0x00002000
SOURCE_MASK, SOURCE_START_OF_EXPOSURE = 0x00070000, 0x00010000
EXPOSURE_ABSOLUTE = 0x009A0902

_DISABLED = 0x0001  # V4L2_CTRL_FLAG_DISABLED
_NEXT_CONTROL = 0x80000000
_USB_ID = re.compile(r"usb:([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::(.+))?")
_GONE = (errno.ENODEV, errno.ENXIO, errno.EIO, errno.EPIPE, errno.ESHUTDOWN)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which camera a node is: what stays the same when it comes back on another node."""

    driver: str
    card: str


@dataclass(frozen=True, slots=True)
class Control:
    """One control of the driver and what it holds."""

    number: int
    name: str
    minimum: int
    maximum: int
    default: int
    value: int


@dataclass(frozen=True, slots=True)
class Mode:
    """One format, size and its rates."""

    pixel_format: str
    width_px: int
    height_px: int
    rates_hz: tuple[float, ...]


def call(fd: int, request: int, record: Any) -> None:
    """One ioctl on a node; ``record`` is changed in place. OSError as the kernel gives it."""
    fcntl.ioctl(fd, request & 0xFFFFFFFF, record)


def lost(error: OSError, path: str) -> DeviceError:
    """The exception for an ioctl that should have worked."""
    if error.errno in _GONE:
        return DeviceLost(f"{path} was unplugged")
    if error.errno == errno.EBUSY:
        return DeviceBusy(f"{path} is in use by another program")
    return DeviceError(f"{path}: {error.strerror}")


def find(device: str, known: Identity | None = None) -> str:
    """The node behind a path or a USB id ``usb:vendor:product[:serial]``.

    If the path is not there, a sibling node (``video*`` in its folder) that is the ``known``
    camera is taken: after a replug the kernel may have given it the next number. Raises
    ``DeviceNotFound``.
    """
    usb = _USB_ID.fullmatch(device)
    if usb:
        for node in _usb_nodes(*usb.groups()):
            return node
        raise DeviceNotFound(f"no camera {device} is plugged in")
    if Path(device).exists():
        return device
    if known is not None:
        for path in sorted(Path(device).parent.glob("video*")):
            if _identity_at(str(path)) == known:
                return str(path)
    raise DeviceNotFound(f"camera {device} does not exist: is it plugged in?")


def _usb_nodes(vendor: str, product: str, serial: str | None) -> Iterator[str]:
    def says(folder: Path, name: str) -> str:
        try:
            return (folder / name).read_text().strip()
        except OSError:
            return ""

    for entry in sorted(Path("/sys/class/video4linux").glob("video*")):
        usb = (entry / "device").resolve().parent  # the device of the interface
        same = (says(usb, "idVendor"), says(usb, "idProduct")) == (vendor.lower(), product.lower())
        if same and says(entry, "index") == "0" and serial in (None, says(usb, "serial")):
            yield f"/dev/{entry.name}"


def _identity_at(path: str) -> Identity | None:
    try:
        fd = open_node(path)
    except DeviceError:
        return None
    try:
        return identify(fd, path)
    except DeviceError:
        return None
    finally:
        os.close(fd)


def open_node(path: str) -> int:
    """File descriptor of the node, non-blocking. Raises a ``DeviceError`` that says why not."""
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise DeviceError(
            f"{path}: no permission: add your user to the group video and log in again"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOENT, *_GONE):
            raise DeviceNotFound(f"camera {path} does not exist: is it plugged in?") from None
        raise lost(error, path) from error


def identify(fd: int, path: str) -> Identity:
    """Driver and card; raises ``DeviceError`` if the node is no capture device."""
    capability = v4l2.v4l2_capability()
    try:
        call(fd, v4l2.VIDIOC_QUERYCAP, capability)
    except OSError as error:
        if error.errno == errno.ENOTTY:
            raise DeviceError(f"{path} is no video device") from None
        raise lost(error, path) from error
    flags = capability.capabilities
    if flags & v4l2.V4L2_CAP_DEVICE_CAPS:
        flags = capability.reserved[0]  # device_caps: this node's own
    if not (flags & v4l2.V4L2_CAP_VIDEO_CAPTURE and flags & v4l2.V4L2_CAP_STREAMING):
        raise DeviceError(f"{path} does not capture pictures (a metadata node?)")
    return Identity(bytes(capability.driver).decode(), bytes(capability.card).decode())


def set_format(fd: int, width: int, height: int, fourcc: int) -> Any:
    """Ask for a size and format; the ``v4l2_pix_format`` the driver gives instead or as asked."""
    form = v4l2.v4l2_format()
    form.type = CAPTURE
    pix = form.fmt.pix
    pix.width, pix.height, pix.pixelformat = width, height, fourcc
    pix.field = v4l2.V4L2_FIELD_NONE
    call(fd, v4l2.VIDIOC_S_FMT, form)
    return form.fmt.pix


def set_rate(fd: int, rate_hz: float) -> float:
    """Ask for frames a second; what the driver gives."""
    parameters = v4l2.v4l2_streamparm()
    parameters.type = CAPTURE
    period = parameters.parm.capture.timeperframe
    wanted = 1 / Fraction(rate_hz).limit_denominator(1000)
    period.numerator, period.denominator = wanted.numerator, wanted.denominator
    call(fd, v4l2.VIDIOC_S_PARM, parameters)
    period = parameters.parm.capture.timeperframe
    return float(period.denominator / period.numerator) if period.numerator else 0.0


def query_control(fd: int, number: int) -> Control | None:
    """The control with this number and what it holds; None if the driver has none such."""
    query = v4l2.v4l2_queryctrl()
    query.id = number
    try:
        call(fd, v4l2.VIDIOC_QUERYCTRL, query)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return None
        raise
    if query.flags & _DISABLED:
        return None
    try:
        value = get_control(fd, query.id)
    except OSError as error:
        if error.errno in _GONE:
            raise
        value = query.default_value  # a button or a class header holds nothing
    name = bytes(query.name).decode(errors="replace")
    return Control(query.id, name, query.minimum, query.maximum, query.default_value, value)


def get_control(fd: int, number: int) -> int:
    """What a control holds."""
    control = v4l2.v4l2_control()
    control.id = number
    call(fd, v4l2.VIDIOC_G_CTRL, control)
    return int(control.value)


def set_control(fd: int, number: int, value: int) -> None:
    """Set one control."""
    control = v4l2.v4l2_control()
    control.id, control.value = number, value
    call(fd, v4l2.VIDIOC_S_CTRL, control)


def list_modes(fd: int) -> list[Mode]:
    """Every format, size and rate the driver offers."""
    modes = []
    for form in _enumerate(fd, v4l2.VIDIOC_ENUM_FMT, v4l2.v4l2_fmtdesc, type=CAPTURE):
        fourcc = form.pixelformat
        sizes = _enumerate(
            fd, v4l2.VIDIOC_ENUM_FRAMESIZES, v4l2.v4l2_frmsizeenum, pixel_format=fourcc
        )
        for size in sizes:
            width, height = size.discrete.width, size.discrete.height
            rates = rates_hz(fd, fourcc, width, height)
            name = int(fourcc).to_bytes(4, "little").decode(errors="replace")
            modes.append(Mode(name, width, height, rates))
    return modes


def rates_hz(fd: int, fourcc: int, width: int, height: int) -> tuple[float, ...]:
    """Frames a second the driver lists for one format and size; none for a continuous range."""
    intervals = _enumerate(
        fd,
        v4l2.VIDIOC_ENUM_FRAMEINTERVALS,
        v4l2.v4l2_frmivalenum,
        pixel_format=fourcc,
        width=width,
        height=height,
    )
    return tuple(
        interval.discrete.denominator / interval.discrete.numerator
        for interval in intervals
        if interval.type == v4l2.V4L2_FRMIVAL_TYPE_DISCRETE and interval.discrete.numerator
    )


def list_controls(fd: int) -> list[Control]:
    """Every control of the driver."""
    controls: list[Control] = []
    query = v4l2.v4l2_queryctrl()
    number = 0
    while True:
        query.id = number | _NEXT_CONTROL
        try:
            call(fd, v4l2.VIDIOC_QUERYCTRL, query)
        except OSError:
            return controls
        number = query.id
        found = query_control(fd, number)
        if found is not None:
            controls.append(found)


def _enumerate(fd: int, request: int, kind: Any, **fields: int) -> Iterator[Any]:
    """Records of an enumerating ioctl until the driver says EINVAL."""
    for index in range(256):
        record = kind()
        record.index = index
        for name, value in fields.items():
            setattr(record, name, value)
        try:
            call(fd, request, record)
        except OSError:
            return
        yield record
