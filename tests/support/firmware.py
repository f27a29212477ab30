"""The firmware under test: its board-free C through ctypes, the whole in a simulated chip."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cartpole.config.schema import Config
from cartpole.messages import BoardStatus, Command, EncoderSample, LinkEvent
from cartpole.rules.firmware_bridge import link_rules
from firmware_bridge.bridge_codec import BridgeCodec
from firmware_bridge.protocol import CONFIG, CommandFlag
from firmware_bridge.simulator.machine import (
    CLOCK_HZ,
    PIN_LIMIT_LOW,
    AvrMachine,
    Output,
    OutputKind,
    missing_tools,
)

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware_bridge" / "firmware"
HOST = ROOT / "tests" / "firmware_host"
BOARD_FREE = ("link.c", "safety.c", "ramp.c", "cobs.c", "crc16.c", "quadrature.c", "sabertooth.c")
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion")

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
needs_chip = pytest.mark.skipif(bool(missing_tools()), reason=missing_tools() or "-")

MS = CLOCK_HZ // 1000


def compile_c(target: Path, *arguments: str, source: Path = FIRMWARE) -> None:
    """The board-free C with ``arguments``; fails the test with the compiler's words."""
    files = [str(source / name) for name in BOARD_FREE]
    command = ["gcc", *STRICT, f"-I{source}", *arguments, *files, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def mutated_sources(folder: Path, name: str, old: str, new: str) -> Path:
    """A copy of the sources with one text replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in FIRMWARE.iterdir():
        if path.suffix in {".c", ".h"}:
            (folder / path.name).write_bytes(path.read_bytes())
    text = (folder / name).read_text()
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {name}"
    (folder / name).write_text(text.replace(old, new))
    return folder


def load_host(folder: Path, source: Path = FIRMWARE) -> ctypes.CDLL:
    """The flat interface of ``host.c`` over the sources."""
    digest = hashlib.sha256(str(source).encode()).hexdigest()[:12]
    library = folder / f"host-{digest}.so"
    compile_c(library, "-O0", "-shared", "-fPIC", str(HOST / "host.c"), source=source)
    lib = ctypes.CDLL(str(library))
    lib.host_new.restype = ctypes.c_void_p
    return lib


@dataclass(frozen=True)
class Limits:
    """The fields of CONFIG, in wire units."""

    v_max: int = 1_000_000
    home_v_max: int = 150_000
    a_max: int = 8_000
    gain: int = round(1500e-6 * 2**32)
    dead_band: int = 100
    timeout: int = 100
    stream_hz: int = 250
    period: int = 20
    flags: int = 0

    def pack(self) -> bytes:
        """As on the wire."""
        return struct.pack(CONFIG.format, *(getattr(self, f.name) for f in CONFIG.fields))


class Logic:
    """The board's logic with injected time; ``sequence`` counts by itself."""

    def __init__(self, lib: ctypes.CDLL, fault: int = 0, limits: Limits | None = None) -> None:
        self._lib = lib
        self._board = ctypes.c_void_p(lib.host_new(fault))
        self.now = 0
        self.sequence = 0
        if limits is not None:
            assert self.configure(limits)

    def configure(self, limits: Limits) -> bool:
        """Offer limits; whether they were taken."""
        return bool(self._lib.host_configure(self._board, limits.pack()))

    def command(self, velocity: int, flags: int = 1, sequence: int | None = None) -> bool:
        """One frame that passed the CRC; whether it was fresh."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        return bool(self._lib.host_command(self._board, sequence, velocity, flags, self.now))

    def ticks(self, milliseconds: int, inputs: int = 0) -> list[int]:
        """Let time pass without frames; the velocity after each millisecond."""
        out = []
        for _ in range(milliseconds):
            self.now += 1
            self._lib.host_tick(self._board, self.now, inputs)
            out.append(self.velocity)
        return out

    def drive(self, velocity: int, milliseconds: int, flags: int = 1, inputs: int = 0) -> list[int]:
        """A host that commands every 20 ms."""
        out = []
        for _ in range(0, milliseconds, 20):
            self.command(velocity, flags)
            out += self.ticks(20, inputs)
        return out

    def enabled_at(self, velocity: int) -> Logic:
        """Switched on and driving."""
        self.command(0, 0)
        self.drive(velocity, 400)
        assert self.enabled
        assert self.velocity == velocity
        return self

    def bad_frame(self) -> None:
        """A frame that did not pass."""
        self._lib.host_bad_frame(self._board, self.now)

    def trip(self, fault: int) -> None:
        """What an interrupt reports."""
        self._lib.host_trip(self._board, fault)

    def receive(self, data: bytes) -> int:
        """Bytes from the line; how many frames were accepted."""
        return int(self._lib.host_receive(self._board, data, len(data), self.now))

    def encode(self, identity: int, fields: bytes) -> bytes:
        """A frame as the board writes it."""
        out = ctypes.create_string_buffer(64)
        size = self._lib.host_encode(self._board, out, identity, fields, len(fields))
        return out.raw[:size]

    def __getattr__(self, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        return int(getattr(self._lib, f"host_{name}")(self._board))


class PlainClock:
    """A board clock that needs no regression: simulated time is the board's."""

    def observe(self, board_us: int, arrival_ns: int) -> int:
        """Microseconds to nanoseconds."""
        return board_us * 1000


@dataclass
class Chip:
    """The whole firmware, a host that speaks to it, and a notebook; time in milliseconds."""

    config: Config = field(default_factory=Config)
    machine: AvrMachine = field(default_factory=AvrMachine)
    velocity_m_s: float = 0.0
    talking: bool = True  # commands go out every 20 ms
    enable: bool = False
    homing: bool = False
    clear: bool = False
    spoil: Callable[[bytes], bytes] = field(default=lambda frame: frame)
    motion: Mapping[int, Callable[[int], int]] = field(default_factory=dict)  # axis: ms -> counts
    now: int = 0
    sequence: int = 0
    received: bytearray = field(default_factory=bytearray)
    samples: list[EncoderSample] = field(default_factory=list)
    statuses: list[BoardStatus] = field(default_factory=list)
    events: list[LinkEvent] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    last_frame_end: int = 0  # cycle at which the last valid command had arrived

    def __post_init__(self) -> None:
        self.codec = BridgeCodec(link_rules(self.config), PlainClock())
        self._shown = dict.fromkeys(self.motion, 0)

    def run(self, milliseconds: int) -> Chip:
        """Let time pass."""
        for _ in range(milliseconds):
            self._speak()
            for axis, path in self.motion.items():
                counts = path(self.now + 1)
                begin = self.now * MS
                self.machine.move(axis, counts - self._shown[axis], begin, begin + MS)
                self._shown[axis] = counts
            self.now += 1
            self.machine.run_until(self.now * MS)
            self._listen()
        return self

    def _speak(self) -> None:
        if not self.talking:
            return
        data = self.codec.service(self.now * 1_000_000)
        if self.now % 20 == 0 and self.codec.ready:
            data += self._command()
        if data:
            self.machine.write(data)

    def _command(self) -> bytes:
        self.sequence += 1
        velocity = self.velocity_m_s if self.enable else 0.0
        command = Command(0, self.sequence, velocity, self.enable, 0.0, "", self.homing, self.clear)
        frame = self.codec.encode_velocity(command)
        wire = self.spoil(frame)
        if wire == frame:
            self.last_frame_end = self.now * MS + len(frame) * 10 * CLOCK_HZ // 115200
        return wire

    def _listen(self) -> None:
        data = self.machine.read()
        self.received += data
        for message in self.codec.feed(data, self.now * 1_000_000):
            if isinstance(message, EncoderSample):
                self.samples.append(message)
            elif isinstance(message, BoardStatus):
                self.statuses.append(message)
            else:
                self.events.append(message)
        self.outputs += self.machine.outputs()

    def meet(self) -> Chip:
        """Boot, HELLO (the first one goes unheard), CONFIG, and the first commands, all off."""
        self.run(300)
        assert self.codec.ready
        return self

    def start(self, velocity_m_s: float = 0.5) -> Chip:
        """Meet, enable, and reach a speed."""
        self.meet()
        self.enable = True
        self.velocity_m_s = velocity_m_s
        self.run(200)
        assert self.status.enabled
        assert self.status.velocity_m_s == pytest.approx(velocity_m_s, abs=1e-6)
        return self

    @property
    def status(self) -> BoardStatus:
        """The newest."""
        return self.statuses[-1]

    def since(self, cycle: int, kind: OutputKind) -> list[Output]:
        """What happened to an output after a moment."""
        return [o for o in self.outputs if o.cycle >= cycle and o.kind is kind]

    def off_after(self, cycle: int) -> int:
        """Cycles from a moment until the drive's enable pin fell or floated."""
        for output in self.outputs:
            fell = output.kind is OutputKind.ENABLE and not output.value
            if output.cycle >= cycle and (fell or output.kind is OutputKind.RESET):
                return output.cycle - cycle
        raise AssertionError("the drive stayed on")

    def press(self, pin: tuple[str, int] = PIN_LIMIT_LOW, pressed: bool = True) -> int:
        """A switch; the cycle of it."""
        self.machine.pin(pin, pressed)
        return self.machine.cycle


ENABLE = int(CommandFlag.ENABLE)
HOMING = int(CommandFlag.ENABLE | CommandFlag.HOMING)
CLEAR = int(CommandFlag.CLEAR)
RELEASE = int(CommandFlag.ENABLE | CommandFlag.RELEASE)
MUTATIONS = int(os.environ.get("CARTPOLE_MUTATIONS", "100000"))
