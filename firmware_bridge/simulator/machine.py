"""One simulated ATmega328P running the compiled firmware, stepped in chip cycles.

Built on demand from the C sources beside this file and the firmware's own, with avr-gcc and
libsimavr, into the user's cache. Nothing here reads a clock: the same calls give the same bytes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from cartpole.errors import DeviceError, DeviceNotFound

CLOCK_HZ = 16_000_000
PACKAGES = "gcc-avr avr-libc gcc make libsimavr-dev libelf-dev"
FIRMWARE = Path(__file__).resolve().parent.parent / "firmware"
SOURCE = Path(__file__).resolve().with_name("avr_machine.c")
SIMAVR_INCLUDE = Path("/usr/include/simavr")

CART, POLE = 0, 1
PIN_LIMIT_LOW = ("B", 0)
PIN_LIMIT_HIGH = ("B", 2)
PIN_ESTOP = ("B", 3)
MAIN_LOOP = -1  # in place of a vector's number


class OutputKind(IntEnum):
    """What an entry of the output log tells."""

    ENABLE = 0
    DIRECTION = 1
    PWM = 2  # compare value 0..255
    SERIAL = 3  # next level of the packet serial line; see ``log_serial``
    RESET = 4


@dataclass(frozen=True, slots=True)
class Output:
    """The program changed an output at this cycle."""

    cycle: int
    kind: OutputKind
    value: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Cycles of an interrupt (entry to return) or of a turn of the main loop."""

    count: int
    longest: int
    total: int
    longest_wait: int  # from the request to the entry, the core's own latency included


class _Entry(ctypes.Structure):
    _fields_ = (("cycle", ctypes.c_uint64), ("kind", ctypes.c_uint32), ("value", ctypes.c_uint32))


def missing_tools() -> str:
    """What is needed to build and is not here, and what to do; empty if all is well."""
    missing = [tool for tool in ("avr-gcc", "gcc", "make") if shutil.which(tool) is None]
    if not (SIMAVR_INCLUDE / "sim_avr.h").exists():
        missing.append("simavr")
    if not missing:
        return ""
    return f"{', '.join(missing)} not found: apt install {PACKAGES}"


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "") or str(Path.home() / ".cache")
    return Path(base) / "cartpole" / "avr"


def _run(arguments: Sequence[str | Path]) -> str:
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise DeviceError(f"cannot build the simulated board: {' '.join(last)}")
    return done.stdout


def build(folder: Path | None = None) -> tuple[Path, Path]:
    """(firmware.elf, simulator library), built if the sources changed.

    Raises DeviceNotFound if a tool is missing, DeviceError if the build fails.
    """
    problem = missing_tools()
    if problem:
        raise DeviceNotFound(problem)
    digest = hashlib.sha256(SOURCE.read_bytes())
    for path in sorted(FIRMWARE.iterdir()):
        if path.suffix in {".c", ".h"} or path.name == "Makefile":
            digest.update(path.name.encode() + path.read_bytes())
    target = (folder or _cache_folder()) / digest.hexdigest()[:16]
    elf, library = target / "firmware.elf", target / "avr_machine.so"
    if elf.exists() and library.exists():
        return elf, library
    # Built aside and moved into place: two processes may start at once.
    aside = target.with_name(f"{target.name}.{os.getpid()}")
    aside.mkdir(parents=True, exist_ok=True)
    _run(["make", "-s", "-C", FIRMWARE, f"BUILD={aside}"])
    options = ("-O2", "-Wall", "-Wextra", "-shared", "-fPIC", f"-I{SIMAVR_INCLUDE}")
    _run(["gcc", *options, SOURCE, "-o", aside / library.name, "-lsimavr", "-lelf"])
    target.mkdir(exist_ok=True)
    for path in aside.iterdir():
        path.replace(target / path.name)
    aside.rmdir()
    return elf, library


class AvrMachine:
    """The board. ``close`` it when done; at most 64 live in one process."""

    def __init__(self, folder: Path | None = None) -> None:
        """A board at power-up; see ``build`` for ``folder`` and the errors."""
        elf, library = build(folder)
        self._lib = _bind(ctypes.CDLL(str(library)))
        self._machine = self._lib.machine_new(str(elf).encode(), CLOCK_HZ)
        if not self._machine:
            raise DeviceError("the simulated board cannot be made: too many live, or no firmware")
        self._buffer = ctypes.create_string_buffer(65536)
        self._entries = (_Entry * 4096)()

    def close(self) -> None:
        """Frees the board; calls after it raise DeviceError."""
        if self._machine:
            self._lib.machine_free(self._machine)
            self._machine = None

    @property
    def _live(self) -> int:
        if not self._machine:
            raise DeviceError("the simulated board is closed")
        return int(self._machine)

    @property
    def cycle(self) -> int:
        """Chip cycles since power-up."""
        return int(self._lib.machine_cycle(self._live))

    def run_until(self, cycle: int) -> None:
        """Lets the program run; it may overshoot by one instruction."""
        if self._lib.machine_run(self._live, cycle) >= 6:  # cpu_Done, cpu_Crashed
            raise DeviceError("the simulated firmware crashed")

    def write(self, data: bytes) -> int:
        """Bytes from the host, at the line's speed from now on; how many were taken."""
        return int(self._lib.machine_write(self._live, data, len(data)))

    def read(self) -> bytes:
        """Bytes the board has sent since the last call."""
        size = self._lib.machine_read(self._live, self._buffer, len(self._buffer))
        return self._buffer.raw[:size]

    def move(self, axis: int, counts: int, begin: int, end: int) -> None:
        """Turns an encoder by ``counts``, evenly over the cycles (begin, end]."""
        if self._lib.machine_move(self._live, axis, counts, begin, end):
            raise DeviceError("too many encoder moves scheduled at once")

    def count(self, axis: int) -> int:
        """Where the encoder truly is."""
        return int(self._lib.machine_count(self._live, axis))

    def pin(self, pin: tuple[str, int], level: bool) -> None:
        """Drives an input; the switches read high when pressed."""
        self._lib.machine_pin(self._live, pin[0].encode(), pin[1], level)

    def outputs(self) -> list[Output]:
        """What the program did to its outputs since the last call."""
        out: list[Output] = []
        while True:
            size = self._lib.machine_log(self._live, self._entries, len(self._entries))
            for entry in self._entries[:size]:
                out.append(Output(entry.cycle, OutputKind(entry.kind), entry.value))
            if size < len(self._entries):
                return out

    def log_serial(self) -> None:
        """From now on ``outputs`` holds the bits of the packet serial too."""
        self._lib.machine_log_serial(self._live, 1)

    def timing(self, vector: int) -> Timing:
        """Of an interrupt vector by its number, or of the ``MAIN_LOOP``."""
        values = (ctypes.c_uint64 * 4)()
        self._lib.machine_timing(self._live, vector, values)
        return Timing(*values)

    def reset(self) -> None:
        """The reset button: as DTR does on an Arduino, without its boot loader's wait."""
        self._lib.machine_reset(self._live)

    def hang(self, *, interrupts: bool) -> None:
        """Makes the main program hang, with or without interrupts, until the next reset."""
        self._lib.machine_hang(self._live, interrupts)


def _bind(lib: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, cycles = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64
    text = ctypes.c_char_p
    signatures: dict[str, tuple[object, list[object]]] = {
        "machine_new": (pointer, [text, ctypes.c_uint32]),
        "machine_free": (None, [pointer]),
        "machine_cycle": (cycles, [pointer]),
        "machine_run": (number, [pointer, cycles]),
        "machine_read": (number, [pointer, text, number]),
        "machine_write": (number, [pointer, text, number]),
        "machine_move": (number, [pointer, number, ctypes.c_int32, cycles, cycles]),
        "machine_count": (ctypes.c_int64, [pointer, number]),
        "machine_pin": (None, [pointer, ctypes.c_char, number, number]),
        "machine_log": (number, [pointer, ctypes.POINTER(_Entry), number]),
        "machine_log_serial": (None, [pointer, number]),
        "machine_timing": (None, [pointer, number, ctypes.POINTER(cycles)]),
        "machine_reset": (None, [pointer]),
        "machine_hang": (None, [pointer, number]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    return lib
