"""The two devices of a rig as USB sees them: a PS Eye camera and an Arduino Uno."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable

import numpy as np
from drivers.usb_redir import FULL_SPEED, UsbDevice

# How the driver writes a rate at 320x240: sensor registers 0x11, 0x0d and bridge register 0xe5.
_RATES = {
    (0x01, 0x81, 0x02): 187,
    (0x01, 0xC1, 0x04): 150,
    (0x02, 0xC1, 0x02): 137,
    (0x02, 0x81, 0x02): 125,
    (0x02, 0xC1, 0x04): 100,
    (0x03, 0xC1, 0x04): 75,
    (0x04, 0xC1, 0x04): 60,
    (0x02, 0x41, 0x04): 50,
    (0x03, 0x41, 0x04): 37,
    (0x04, 0x41, 0x04): 30,
}
_HEADER, _PACKET, _BATCH = 12, 2048, 8
_BITS = 16


def numbered_picture(number: int, height: int, width: int) -> bytes:
    """YUYV picture whose first lines carry ``number`` in 16 black or white fields."""
    raw = np.full((height, width, 2), 128, np.uint8)
    raw[:, :, 0] = 40
    field = width // _BITS
    for bit in range(_BITS):
        raw[:16, bit * field : (bit + 1) * field, 0] = 235 if number >> bit & 1 else 16
    return raw.tobytes()


class PsEye(UsbDevice):
    """OV534 bridge with an OV7720 sensor: registers by vendor requests, pictures by bulk packets
    with UVC headers. It runs at the rate that its registers say."""

    vendor, product = 0x1415, 0x2000
    strings = ("OmniVision Technologies, Inc.", "USB Camera-B4.09.24.1")

    def __init__(self) -> None:
        self.bridge = bytearray(256)
        self.sensor = bytearray(256)
        self.sensor[0x0A], self.sensor[0x0B] = 0x77, 0x21  # product and version
        self.sent = 0
        self._wanted: list[tuple[int, int]] = []
        self._more = threading.Condition()
        self._streaming = False

    @property
    def exposure(self) -> int:
        """What the sensor was told: twice the driver's control."""
        return self.sensor[0x08] << 8 | self.sensor[0x10]

    @property
    def rate_hz(self) -> float:
        """What the registers ask for."""
        key = (self.sensor[0x11], self.sensor[0x0D], self.bridge[0xE5])
        return float(_RATES.get(key, 30))

    def configuration(self) -> bytes:
        interface = struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 1, 0xFF, 0, 0, 0)
        endpoint = struct.pack("<BBBBHB", 7, 5, 0x81, 2, 512, 0)
        total = 9 + len(interface) + len(endpoint)
        return struct.pack("<BBHBBBBB", 9, 2, total, 1, 1, 0, 0x80, 250) + interface + endpoint

    def control(self, kind: int, request: int, value: int, index: int, data: bytes) -> bytes | None:
        register = index & 0xFF
        if (kind, request) == (0xC0, 1):
            done = 0  # the sensor's bus is never busy
            return bytes((done if register == 0xF6 else self.bridge[register],))
        if (kind, request) != (0x40, 1):
            return None
        self.bridge[register] = data[0]
        if register == 0xF5:
            self._sensor_bus(data[0])
        elif register == 0xE0:
            self._stream(data[0] == 0)
        return b""

    def _sensor_bus(self, operation: int) -> None:
        address = self.bridge[0xF2]
        if operation == 0x37:
            self.sensor[address] = self.bridge[0xF3]
        elif operation == 0xF9:
            self.bridge[0xF4] = self.sensor[address]

    def bulk_in(self, number: int, length: int) -> None:
        with self._more:
            self._wanted.append((number, length))
            self._more.notify()

    def cancelled(self, number: int) -> None:
        with self._more:
            self._wanted = [entry for entry in self._wanted if entry[0] != number]

    def unplugged(self) -> None:
        self._stream(False)

    def _stream(self, on: bool) -> None:
        starts = on and not self._streaming
        self._streaming = on
        if starts:
            threading.Thread(target=self._expose, daemon=True).start()

    def _expose(self) -> None:
        due_s = time.monotonic()
        frame_id = 0
        while self._streaming:
            due_s = max(due_s + 1 / self.rate_hz, time.monotonic() - 0.5)
            time.sleep(max(0.0, due_s - time.monotonic()))
            frame_id ^= 1
            width, height = self.bridge[0xC0] * 8, self.bridge[0xC1] * 8
            picture = numbered_picture(self.sent & 0xFFFF, height, width)
            packets = self._packets(picture, frame_id)
            for start in range(0, len(packets), _BATCH):
                request = self._next_request()
                if request is None:
                    return
                self.port.answer(request, b"".join(packets[start : start + _BATCH]))
            self.sent += 1

    def _packets(self, picture: bytes, frame_id: int) -> list[bytes]:
        time_stamp = struct.pack("<I", self.sent * 1000 & 0xFFFFFFFF or 1)
        room = _PACKET - _HEADER
        packets = []
        for start in range(0, len(picture), room):
            last = 2 if start + room >= len(picture) else 0
            head = bytes((_HEADER, 0x8C | frame_id | last)) + time_stamp + bytes(6)
            packets.append(head + picture[start : start + room])
        return packets

    def _next_request(self) -> int | None:
        with self._more:
            while not self._wanted:
                if not self._streaming:
                    return None
                self._more.wait(0.2)
            return self._wanted.pop(0)[0]


class Arduino(UsbDevice):
    """Arduino Uno R3: a CDC-ACM serial port.

    ``on_bytes`` gets what the host wrote, ``on_dtr`` each change of the line that resets the board;
    ``send`` is the board talking. ``baud``, ``data_bits``, ``parity`` (0 none, 2 even) and ``dtr``
    hold what the host asked for.
    """

    vendor, product = 0x2341, 0x0043
    speed, device_class = FULL_SPEED, 2
    strings = ("Arduino (www.arduino.cc)", "Arduino Uno", "5573932393735180F0D1")

    def __init__(
        self,
        on_bytes: Callable[[bytes], None] = lambda data: None,
        on_dtr: Callable[[bool], None] = lambda level: None,
    ) -> None:
        self.on_bytes, self.on_dtr = on_bytes, on_dtr
        self.baud, self.data_bits, self.parity = 0, 0, 0
        self.dtr = False
        self._out = bytearray()
        self._wanted: list[tuple[int, int]] = []
        self._lock = threading.RLock()

    def configuration(self) -> bytes:
        control = struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 1, 2, 2, 1, 0)
        functions = bytes((5, 0x24, 0, 0x10, 1, 5, 0x24, 1, 1, 1, 4, 0x24, 2, 6, 5, 0x24, 6, 0, 1))
        events = struct.pack("<BBBBHB", 7, 5, 0x82, 3, 8, 255)
        data = struct.pack("<BBBBBBBBB", 9, 4, 1, 0, 2, 10, 0, 0, 0)
        out = struct.pack("<BBBBHB", 7, 5, 0x04, 2, 64, 1)
        into = struct.pack("<BBBBHB", 7, 5, 0x83, 2, 64, 1)
        body = control + functions + events + data + out + into
        return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0xC0, 50) + body

    def control(self, kind: int, request: int, value: int, index: int, data: bytes) -> bytes | None:
        if request == 0x20:  # SET_LINE_CODING
            self.baud, _, self.parity, self.data_bits = struct.unpack("<IBBB", data[:7])
            return b""
        if request == 0x21:  # GET_LINE_CODING
            return struct.pack("<IBBB", self.baud, 0, self.parity, self.data_bits)
        if request == 0x22:  # SET_CONTROL_LINE_STATE
            level = bool(value & 1)
            if level != self.dtr:
                self.dtr = level
                self.on_dtr(level)
            return b""
        return b"" if request == 0x23 else None  # SEND_BREAK

    def send(self, data: bytes) -> None:
        """Bytes from the board to the host."""
        with self._lock:
            self._out += data
            self._flush()

    def bulk_in(self, number: int, length: int) -> None:
        with self._lock:
            self._wanted.append((number, length))
            self._flush()

    def _flush(self) -> None:
        while self._wanted and self._out:
            number, length = self._wanted.pop(0)
            data = bytes(self._out[:length])
            del self._out[:length]
            self.port.answer(number, data)

    def cancelled(self, number: int) -> None:
        with self._lock:
            self._wanted = [entry for entry in self._wanted if entry[0] != number]

    def bulk_out(self, data: bytes) -> None:
        self.on_bytes(data)
