"""Emulated boards: bytes in, bytes out, time as an argument.

A board is stepped with ``exchange(t_ns, received)`` and says by ``next_ns()`` when it wants to be
stepped again although nothing arrives. Bytes take the time they take on the wire.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from cartpole.messages import NANOSECONDS
from firmware_bridge.arduino_ascii import LineSplitter
from firmware_bridge.board_lines import POLL, CountsLine, format_line
from firmware_bridge.sabertooth_text import SabertoothText, parse_command

NEVER = 1 << 62  # later than anything


class RigPlant(Protocol):
    """What boards know of the rig. Times grow but for wire times: a time a few milliseconds before
    the plant's own means *now*."""

    def counts(self, t_ns: int) -> tuple[int, int]:
        """Cart and pole counts since the plant's beginning."""
        ...

    def limits(self, t_ns: int) -> tuple[bool, bool]:
        """Whether the left and the right limit switch is pressed."""
        ...

    def command(self, t_ns: int, velocity_m_s: float) -> None:
        """The drive is asked for a velocity, true units of the true motor."""
        ...


class Board(Protocol):
    """Anything at the far end of a serial line."""

    def exchange(self, t_ns: int, received: bytes) -> bytes:
        """Take what the host wrote until ``t_ns``; return what has reached the host by then."""
        ...

    def next_ns(self) -> int:
        """When something will happen by itself; ``NEVER`` if nothing will."""
        ...


def byte_time_ns(baud: int, bits: int) -> int:
    """Time of one byte on the wire; ``bits`` counts start, parity and stop."""
    return bits * NANOSECONDS // baud


class ArduinoAsciiBoard:
    """The encoder board of ``firmware_bridge.arduino_ascii``: 115200 baud 8E1, counts from boot.

    It latches when a request has arrived whole, then writes its line byte by byte.
    ``counter_bits`` wraps the counters as a board with small integers does; ``boot_ns`` is how long
    it stays deaf after a reset (an Arduino's boot loader: 1 to 2 s; 0 here); ``pressed`` what a
    pressed switch reads.
    """

    def __init__(
        self,
        plant: RigPlant,
        *,
        byte_ns: int = byte_time_ns(115200, 11),
        boot_ns: int = 0,
        counter_bits: int = 32,
        pressed: bool = True,
        t_ns: int = 0,
    ) -> None:
        self._plant = plant
        self._byte_ns = byte_ns
        self._boot_ns = boot_ns
        self._half = 1 << (counter_bits - 1)
        self._pressed = pressed
        self._requests: deque[int] = deque(maxlen=64)  # the UART's buffer
        self._line = b""
        self._line_start_ns = 0
        self.reset(t_ns)

    def reset(self, t_ns: int) -> None:
        """Power or DTR reset: deaf for the boot time, then counts from zero."""
        self._deaf_until_ns = t_ns + self._boot_ns
        self._origin = self._plant.counts(t_ns)
        self._requests.clear()
        self._line = b""

    def exchange(self, t_ns: int, received: bytes) -> bytes:
        """See ``Board``."""
        if received and t_ns >= self._deaf_until_ns:
            for index in range(received.count(POLL)):
                self._requests.append(t_ns + (index + 1) * self._byte_ns)
        out = b""
        while True:
            if not self._line:
                if not self._requests or self._requests[0] > t_ns:
                    return out
                self._latch(max(self._requests.popleft(), self._line_start_ns))
            done = (t_ns - self._line_start_ns) // self._byte_ns if self._byte_ns else 96
            if done <= 0:
                return out
            out += self._line[:done]
            self._line_start_ns += min(done, len(self._line)) * self._byte_ns
            self._line = self._line[done:]

    def next_ns(self) -> int:
        """See ``Board``: when the line being written is complete, or a request."""
        if self._line:
            return self._line_start_ns + len(self._line) * self._byte_ns
        return self._requests[0] if self._requests else NEVER

    def _latch(self, t_ns: int) -> None:
        cart, pole = self._plant.counts(t_ns)
        low, high = self._plant.limits(t_ns)
        line = CountsLine(
            self._wrap(cart - self._origin[0]),
            self._wrap(pole - self._origin[1]),
            low == self._pressed,
            high == self._pressed,
        )
        self._line = format_line(line)
        self._line_start_ns = t_ns

    def _wrap(self, value: int) -> int:
        half = self._half
        return value if -half <= value < half else (value + half) % (2 * half) - half


class SabertoothTextBoard:
    """The motor driver of ``firmware_bridge.sabertooth_text`` with its true gain and dead band.

    ``byte_ns`` is 0 because the configured command delay already holds the wire's time; set it to
    emulate the line itself. ``timeout_ns`` is the driver's serial time-out: that long without a
    valid command stops the motor; 0 switches it off.
    """

    def __init__(
        self,
        plant: RigPlant,
        driver: SabertoothText,
        *,
        byte_ns: int = 0,
        timeout_ns: int = 0,
        battery_v: float = 12.0,
    ) -> None:
        self._plant = plant
        self._driver = driver
        self._byte_ns = byte_ns
        self._timeout_ns = timeout_ns
        self._battery_v = battery_v
        self._splitter = LineSplitter()
        self._pending: deque[tuple[int, bytes]] = deque(maxlen=256)
        self._wire_free_ns = 0
        self._last_ns = NEVER
        self._units = 0
        self._shut_down = False

    @property
    def units(self) -> int:
        """The N in force."""
        return self._units

    def exchange(self, t_ns: int, received: bytes) -> bytes:
        """See ``Board``."""
        self._take(t_ns, received)
        out = b""
        while self._pending and self._pending[0][0] <= t_ns:
            out += self._obey(*self._pending.popleft())
        if self._timeout_ns and t_ns >= self._last_ns + self._timeout_ns:
            self._last_ns = NEVER
            self._drive(t_ns, 0)
        return out

    def next_ns(self) -> int:
        """See ``Board``: when a line on the wire is complete, or the serial time-out."""
        if self._pending:
            return self._pending[0][0]
        if self._timeout_ns and self._last_ns != NEVER:
            return self._last_ns + self._timeout_ns
        return NEVER

    def _take(self, t_ns: int, received: bytes) -> None:
        if not self._byte_ns:
            self._pending.extend((t_ns, line) for line in self._splitter.split(received))
            return
        for value in received:
            self._wire_free_ns = max(self._wire_free_ns, t_ns) + self._byte_ns
            lines = self._splitter.split(bytes((value,)))
            self._pending.extend((self._wire_free_ns, line) for line in lines)

    def _obey(self, t_ns: int, line: bytes) -> bytes:
        command = parse_command(line)
        if command is not None:
            if command[0] == self._driver.channel:
                self._last_ns = t_ns
                self._drive(t_ns, command[1])
            return b""
        text = line.decode("ascii", "replace").lower().replace(" ", "").removesuffix("\x00")
        prefix = f"m{self._driver.channel}:"
        if not text.startswith(prefix):
            return b""
        return self._answer(t_ns, text.removeprefix(prefix))

    def _answer(self, t_ns: int, word: str) -> bytes:
        if word in ("shutdown", "startup"):
            self._shut_down = word == "shutdown"
            self._drive(t_ns, 0)
            return b""
        figures = {
            "get": f" {self._units}",
            "getb": f"B{round(self._battery_v * 10)}",
            "getc": "C0",
            "gett": "T25",
        }
        if word not in figures:
            return b""
        return f"M{self._driver.channel}:{figures[word]}\r\n".encode()

    def _drive(self, t_ns: int, units: int) -> None:
        self._units = 0 if self._shut_down else units
        self._plant.command(t_ns, self._driver.velocity_m_s(self._units))
