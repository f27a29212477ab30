"""USB devices written in Python that a QEMU guest sees plugged into its controller.

The server side of the usbredir protocol (0.7) on the unix socket of
``-chardev socket,path=… -device usb-redir,chardev=…``. The guest's own host controller driver
enumerates the device and the guest's own class or vendor driver binds to it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path

HELLO, CONNECT, DISCONNECT, RESET, INTERFACE_INFO, EP_INFO = range(6)
SET_CONFIGURATION, GET_CONFIGURATION, CONFIGURATION_STATUS = 6, 7, 8
SET_ALT, GET_ALT, ALT_STATUS = 9, 10, 11
START_INTERRUPT, STOP_INTERRUPT, INTERRUPT_STATUS = 15, 16, 17
CANCEL, CONTROL, BULK = 21, 100, 101
# Disconnect acknowledged, packet sizes of endpoints, 64-bit ids, 32-bit bulk lengths: what an xHCI
# controller insists on.
CAPABILITIES = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6
OK, CANCELLED, STALL = 0, 1, 4
FULL_SPEED, HIGH_SPEED = 1, 2
_CONTROL = struct.Struct("<BBBBHHH")
_BULK = struct.Struct("<BBHIH")
_ENDPOINTS = 32


class UsbDevice:
    """One device: descriptors, vendor or class requests, and bulk endpoints.

    Subclasses fill in the class attributes, ``configuration`` and the three handlers, which run in
    the port's thread. A bulk-in request is answered later by ``port.answer``.
    """

    vendor = product = 0
    version = 0x0100
    device_class = 0
    speed = HIGH_SPEED
    strings: tuple[str, ...] = ()  # manufacturer, product, serial number

    port: UsbPort

    def configuration(self) -> bytes:
        """Configuration descriptor with everything below it."""
        raise NotImplementedError

    def control(self, kind: int, request: int, value: int, index: int, data: bytes) -> bytes | None:
        """A class or vendor request: the answer (``b""`` for none), or None to stall."""
        return None

    def bulk_in(self, number: int, length: int) -> None:
        """The guest asks for up to ``length`` bytes; answer now or later."""

    def bulk_out(self, data: bytes) -> None:
        """The guest sent bytes."""

    def cancelled(self, number: int) -> None:
        """The guest takes a bulk-in request back."""

    def unplugged(self) -> None:
        """The cable was pulled."""

    def standard(self, kind: int, request: int, value: int, length: int) -> bytes | None:
        """A standard request on endpoint 0."""
        if kind == 0x80 and request == 6:
            found = self._descriptor(value >> 8, value & 0xFF)
            return None if found is None else found[:length]
        if kind & 0x80 and request == 0:
            return b"\0\0"
        return b"" if not kind & 0x80 else None

    def _descriptor(self, kind: int, index: int) -> bytes | None:
        numbers = [at + 1 if at < len(self.strings) else 0 for at in range(3)]
        if kind == 1:
            head = struct.pack("<BBHBBBB", 18, 1, 0x200, self.device_class, 0, 0, 64)
            tail = struct.pack("<HHHBBBB", self.vendor, self.product, self.version, *numbers, 1)
            return head + tail
        if kind == 2:
            return self.configuration()
        if kind == 3 and index == 0:
            return struct.pack("<BBH", 4, 3, 0x409)
        if kind == 3 and index <= len(self.strings):
            text = self.strings[index - 1].encode("utf-16le")
            return bytes((len(text) + 2, 3)) + text
        if kind == 6:
            return struct.pack("<BBHBBBBBB", 10, 6, 0x200, self.device_class, 0, 0, 64, 1, 0)
        return None


class UsbPort:
    """A socket of the guest's controller into which one device at a time can be plugged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._lock = threading.RLock()
        self._ready = threading.Event()
        self._device: UsbDevice | None = None
        self._pending: dict[int, tuple[int, ...]] = {}
        self._guest: socket.socket | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def plug(self, device: UsbDevice, timeout_s: float = 60.0) -> None:
        """Plug ``device`` in, as soon as the guest's controller is there."""
        if not self._ready.wait(timeout_s):
            raise TimeoutError("the guest's controller never said hello")
        device.port = self
        interfaces, endpoints = _survey(device.configuration())
        columns = b"".join(
            bytes(row[at] for row in interfaces).ljust(_ENDPOINTS, b"\0") for at in range(4)
        )
        absent = (255, 0, 0, 0)
        rows = [endpoints.get(at, absent) for at in range(_ENDPOINTS)]
        sizes = struct.pack(f"<{_ENDPOINTS}H", *(row[3] for row in rows))
        with self._lock:
            self._device, self._pending = device, {}
            self._send(INTERFACE_INFO, 0, struct.pack("<I", len(interfaces)) + columns)
            self._send(
                EP_INFO, 0, b"".join(bytes(row[at] for row in rows) for at in range(3)) + sizes
            )
            name = (device.vendor, device.product, device.version)
            self._send(
                CONNECT, 0, struct.pack("<BBBBHHH", device.speed, device.device_class, 0, 0, *name)
            )

    def unplug(self) -> None:
        """Pull the device out."""
        with self._lock:
            device, self._device = self._device, None
            if device is not None:
                self._send(DISCONNECT, 0)
                device.unplugged()

    def answer(self, number: int, data: bytes = b"", status: int = OK, taken: int = 0) -> None:
        """Complete request ``number``; for data going out, ``taken`` says how much."""
        with self._lock:
            asked = self._pending.pop(number, None)
            if asked is None or self._device is None:
                return
            length = len(data) or taken
            if len(asked) == 5:
                endpoint, request, kind, value, index = asked
                head = _CONTROL.pack(endpoint, request, kind, status, value, index, length)
                self._send(CONTROL, number, head + data)
            else:
                endpoint, stream = asked
                head = _BULK.pack(endpoint, status, length & 0xFFFF, stream, length >> 16)
                self._send(BULK, number, head + data)

    def _send(self, kind: int, number: int, body: bytes = b"") -> None:
        assert self._guest is not None
        form = "<III" if kind == HELLO else "<IIQ"
        with self._lock, contextlib.suppress(OSError):
            self._guest.sendall(struct.pack(form, kind, len(body), number) + body)

    def _receive(self, count: int) -> bytes:
        assert self._guest is not None
        parts = bytearray()
        while len(parts) < count:
            more = self._guest.recv(count - len(parts))
            if not more:
                raise EOFError
            parts += more
        return bytes(parts)

    def _run(self) -> None:
        self._guest, _ = self._listener.accept()
        self._guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
        self._send(HELLO, 0, b"cartpole".ljust(64, b"\0") + struct.pack("<I", CAPABILITIES))
        with contextlib.suppress(EOFError, OSError):
            _, length, _ = struct.unpack("<III", self._receive(12))
            self._receive(length)  # the guest's hello
            self._ready.set()
            while True:
                kind, length, number = struct.unpack("<IIQ", self._receive(16))
                body = self._receive(length)
                with self._lock:
                    device = self._device
                if device is not None:
                    self._handle(device, kind, number, body)

    def _handle(self, device: UsbDevice, kind: int, number: int, body: bytes) -> None:
        if kind == SET_CONFIGURATION:
            self._send(CONFIGURATION_STATUS, number, bytes((OK, body[0])))
        elif kind == GET_CONFIGURATION:
            self._send(CONFIGURATION_STATUS, number, bytes((OK, 1)))
        elif kind == SET_ALT:
            self._send(ALT_STATUS, number, bytes((OK, body[0], body[1])))
        elif kind == GET_ALT:
            self._send(ALT_STATUS, number, bytes((OK, body[0], 0)))
        elif kind in (START_INTERRUPT, STOP_INTERRUPT):
            self._send(INTERRUPT_STATUS, number, bytes((OK, body[0])))
        elif kind == CANCEL:
            device.cancelled(number)
            self.answer(number, status=CANCELLED)
        elif kind == CONTROL:
            self._control(device, number, body)
        elif kind == BULK:
            self._bulk(device, number, body)

    def _control(self, device: UsbDevice, number: int, body: bytes) -> None:
        endpoint, request, kind, _, value, index, length = _CONTROL.unpack_from(body)
        self._pending[number] = (endpoint, request, kind, value, index)
        data = body[_CONTROL.size :]
        if kind & 0x60 == 0:
            answer = device.standard(kind, request, value, length)
        else:
            answer = device.control(kind, request, value, index, data)
        if answer is None:
            self.answer(number, status=STALL)
        elif kind & 0x80:
            self.answer(number, answer[:length])
        else:
            self.answer(number, taken=length)

    def _bulk(self, device: UsbDevice, number: int, body: bytes) -> None:
        endpoint, _, low, stream, high = _BULK.unpack_from(body)
        self._pending[number] = (endpoint, stream)
        length = low | high << 16
        if endpoint & 0x80:
            device.bulk_in(number, length)
        else:
            device.bulk_out(body[_BULK.size :])
            self.answer(number, taken=length)


def _survey(
    configuration: bytes,
) -> tuple[list[tuple[int, int, int, int]], dict[int, tuple[int, int, int, int]]]:
    """Interfaces (number, class, subclass, protocol), and endpoints by the protocol's index
    (type, interval, interface, packet size)."""
    interfaces: dict[int, tuple[int, int, int, int]] = {}
    endpoints = {0: (0, 0, 0, 64), 16: (0, 0, 0, 64)}
    at = current = 0
    while at < len(configuration):
        length, kind = configuration[at], configuration[at + 1]
        entry = configuration[at : at + length]
        if kind == 4:
            current = entry[2]
            interfaces.setdefault(current, (current, entry[5], entry[6], entry[7]))
        elif kind == 5:
            address = entry[2]
            size = entry[4] | entry[5] << 8
            place = (address & 0x80) >> 3 | address & 15
            endpoints[place] = (entry[3] & 3, entry[6], current, size)
        at += length
    return list(interfaces.values()), endpoints
