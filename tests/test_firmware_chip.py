"""The compiled firmware in a simulated ATmega328P, in lock step: times are chip cycles."""

from __future__ import annotations

import hashlib
import math
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.firmware import FIRMWARE, MS, Chip, needs_chip

from cartpole.config.schema import Config, Encoder
from cartpole.estimation.clock import BoardClock
from cartpole.messages import EncoderSample
from cartpole.rules.control import homing_rules
from cartpole.rules.firmware_bridge import link_rules
from firmware_bridge.bridge_codec import BridgeCodec
from firmware_bridge.protocol import BoardFault
from firmware_bridge.simulator.machine import (
    CART,
    CLOCK_HZ,
    MAIN_LOOP,
    PIN_ESTOP,
    PIN_LIMIT_HIGH,
    PIN_LIMIT_LOW,
    POLE,
    AvrMachine,
    OutputKind,
    build,
)

pytestmark = needs_chip

INT0, INT1, PCINT1, COMPA = 1, 2, 4, 11  # interrupt vectors by number
EDGE_CYCLES = CLOCK_HZ // 50_000  # between two edges at 50,000 counts/s
BIT_CYCLES = CLOCK_HZ // 38_400


@pytest.fixture
def chips() -> Iterator[list[Chip]]:
    """Chips made in a test, freed after it."""
    made: list[Chip] = []
    yield made
    for chip in made:
        chip.machine.close()


@pytest.fixture
def chip(chips: list[Chip]) -> Chip:
    chips.append(Chip())
    return chips[0]


# Boot


def test_it_fits_and_says_so() -> None:
    elf, _ = build()
    size = subprocess.run(
        ["avr-size", "-A", str(elf)], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in size.splitlines()]
    sections = {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[0][0] == "."}
    flash = sections[".text"] + sections[".data"]
    ram = sections[".data"] + sections[".bss"] + sections.get(".noinit", 0)
    print(f"flash {flash} of 32256 bytes, RAM {ram} of 2048")
    assert flash < 16_384
    assert ram < 1024  # the stack has the rest


def test_it_boots_silent_and_disabled(chip: Chip) -> None:
    chip.talking = False
    chip.run(1000)
    assert chip.received == b""
    assert not any(o.value for o in chip.outputs if o.kind is OutputKind.ENABLE)
    assert not chip.since(0, OutputKind.PWM)


def test_it_answers_and_streams(chip: Chip) -> None:
    chip.run(1000)
    assert chip.codec.ready
    assert chip.codec.info is not None
    assert chip.codec.info.reset_cause & 1
    assert chip.codec.statistics.spoilt == chip.codec.statistics.lost == 0
    times = [s.t_ns for s in chip.samples[100:150]]
    steps = {round((b - a) / 1e6) for a, b in pairwise(times)}
    assert steps == {5}  # 200 a second
    assert chip.status.acknowledged_sequence >= chip.sequence - 1


def test_the_stream_is_as_fast_as_asked(chips: list[Chip]) -> None:
    chip = Chip(config=Config(encoder=Encoder(poll_hz=400.0)))
    chips.append(chip)
    chip.run(500)
    before = len(chip.samples)
    chip.run(500)
    assert len(chip.samples) - before == pytest.approx(200, abs=2)
    assert chip.codec.statistics.lost == 0


def test_stamps_are_the_board_s_microseconds(chip: Chip) -> None:
    """A cart at constant speed: counts against stamps are a line to within a count."""
    chip.motion = {CART: lambda ms: 20 * ms}
    chip._shown = {CART: 0}
    chip.run(400)
    rows = [(s.t_ns * 1e-9, s.cart_counts) for s in chip.samples[5:]]
    t0, c0 = rows[0]
    assert max(abs(c - c0 - 20_000 * (t - t0)) for t, c in rows) <= 1.1


class WatchedClock(BoardClock):
    """Remembers the board's stamps."""

    def __init__(self) -> None:
        super().__init__()
        self.stamps_us: list[int] = []

    def observe(self, board_us: int, arrival_ns: int) -> int:
        self.stamps_us.append(board_us)
        return super().observe(board_us, arrival_ns)


def test_latch_times_on_the_host_s_clock() -> None:
    """A crystal 60 ppm off and arrivals late by up to milliseconds: latches known to 50 us."""
    rng = np.random.default_rng(3)
    clock, machine = WatchedClock(), AvrMachine()
    config = Config(encoder=Encoder(poll_hz=250.0, latency_s=0.00198))
    codec = BridgeCodec(link_rules(config), clock)
    drift, step = 1.0 + 60e-6, CLOCK_HZ // 50_000
    waiting: list[tuple[int, bytes]] = []
    errors_ns = []
    late_ns = 0
    for k in range(3 * 50_000):
        machine.run_until((k + 1) * step)
        now_ns = round((k + 1) * 20_000 * drift)
        data = machine.read()
        if k % 100 == 0:
            late_ns = int(rng.exponential(400_000))
        if data:
            due_ns = max(now_ns + late_ns, waiting[-1][0] if waiting else 0)
            waiting.append((due_ns, data))
        while waiting and waiting[0][0] <= now_ns:
            arrival_ns, data = waiting.pop(0)
            for message in codec.feed(data, arrival_ns):
                if isinstance(message, EncoderSample):
                    errors_ns.append(message.t_ns - clock.stamps_us[-1] * 1000 * drift)
        if k % 50 == 0:
            question = codec.service(now_ns)
            if question:
                machine.write(question)
    machine.close()
    assert len(errors_ns) > 500
    settled = np.array(errors_ns[200:])
    assert np.abs(settled).max() <= 50_000, (settled.min(), settled.max())


# Counting


def test_fifty_thousand_counts_a_second_each(chip: Chip) -> None:
    """Both encoders at once, while driving and streaming; nothing is lost anywhere."""
    chip.start(0.3)
    chip.machine.log_serial()
    begun = chip.now

    def fast(ms: int) -> int:
        return 50 * max(ms - begun, 0)

    chip.motion = {CART: fast, POLE: lambda ms: -fast(ms)}
    chip._shown = {CART: 0, POLE: 0}
    chip.run(1500)
    stop = chip.now
    chip.motion = {}
    chip.run(20)
    counters = chip.codec.statistics.counters
    assert (counters.cart_errors, counters.pole_errors) == (0, 0)
    assert chip.samples[-1].cart_counts == 50 * (stop - begun)
    assert chip.samples[-1].pole_counts == -50 * (stop - begun)
    assert chip.codec.statistics.lost == chip.codec.statistics.spoilt == 0
    assert counters.overruns == counters.bad_frames == 0
    packets = sabertooth_packets([o.value for o in chip.since(0, OutputKind.SERIAL)])
    assert len(packets) > 250
    assert set(packets[1:-1]) == {100 + 450}
    # The state of an edge must be read before the next one comes.
    for vector in (INT0, INT1, PCINT1):
        timing = chip.machine.timing(vector)
        assert timing.longest_wait + timing.longest / 2 < EDGE_CYCLES
    serial = chip.machine.timing(COMPA)
    assert serial.longest_wait + serial.longest < BIT_CYCLES
    assert chip.machine.timing(MAIN_LOOP).longest < 2 * MS


def sabertooth_packets(levels: list[int]) -> list[int]:
    """Units of every packet on the serial line; fails on a spoilt one."""
    bits = levels[:]
    units = []
    packet: list[int] = []
    while len(bits) >= 10:
        start, *data, stop = bits[:10]
        del bits[:10]
        assert (start, stop) == (0, 1)
        packet.append(sum(bit << k for k, bit in enumerate(data)))
        if len(packet) == 9:
            assert packet[:2] == [128, 40]
            assert packet[3] == sum(packet[:3]) & 127
            assert packet[8] == sum(packet[4:8]) & 127
            size = packet[4] | packet[5] << 7
            units.append(-size if packet[2] else size)
            packet = []
    return units


def swing_up(chips: list[Chip], seconds: int) -> tuple[Chip, str]:
    """Motion of a rig that swings up and holds, with the commands that go with it."""
    chip = Chip()
    chips.append(chip)
    cart, pole = 20_000.0, 1200 / math.tau

    def position(t: float) -> float:
        t = max(t - 0.3, 0.0)  # a board counts from its boot on
        return 0.18 * math.sin(5.3 * t) * math.exp(-0.3 * t)

    def angle(t: float) -> float:
        t = max(t - 0.3, 0.0)
        growing = min(t / 2.0, 1.0)
        return growing * math.pi + (1.0 - growing) * 2.5 * math.sin(5.3 * t)

    chip.motion = {
        CART: lambda ms: math.floor(cart * position(ms / 1000)),
        POLE: lambda ms: math.floor(pole * angle(ms / 1000)),
    }
    chip._shown = {CART: 0, POLE: 0}
    chip.meet()
    chip.enable = True
    for _ in range(seconds * 50 - 15):
        t = chip.now / 1000
        chip.velocity_m_s = max(-1.0, min(1.0, (position(t + 0.02) - position(t)) / 0.02))
        chip.run(20)
    digest = hashlib.sha256(bytes(chip.received))
    digest.update(repr([(o.cycle, o.kind, o.value) for o in chip.outputs]).encode())
    return chip, digest.hexdigest()


def test_ten_seconds_of_swing_up_and_hold(chips: list[Chip]) -> None:
    chip, digest = swing_up(chips, 10)
    assert chip.status.enabled
    assert chip.status.fault_code == BoardFault.NONE
    counters = chip.codec.statistics.counters
    assert (counters.cart_errors, counters.pole_errors) == (0, 0)
    assert chip.codec.statistics.lost == chip.codec.statistics.spoilt == 0
    chip.motion = {}
    chip.run(20)
    assert chip.samples[-1].cart_counts == chip.machine.count(CART)
    assert chip.samples[-1].pole_counts == chip.machine.count(POLE)
    _, again = swing_up(chips, 10)
    assert again == digest  # byte for byte, cycle for cycle


# Faults, in cycles


def first_braking_cycle(chip: Chip, after: int) -> int:
    """When the duty first fell below what the steady speed needs."""
    steady = [o.value for o in chip.outputs if o.kind is OutputKind.PWM and o.cycle < after][-20:]
    return next(o.cycle for o in chip.since(after, OutputKind.PWM) if o.value < min(steady))


def test_heartbeat_lost(chip: Chip) -> None:
    chip.start(0.5)
    chip.talking = False
    heard = chip.last_frame_end
    chip.run(250)
    braking = first_braking_cycle(chip, heard) - heard
    assert 90 * MS < braking <= 100 * MS
    ramp = chip.off_after(heard) - braking
    assert ramp <= (0.5 / 8.0 * 1000 + 3) * MS
    assert chip.status.fault_code == BoardFault.HEARTBEAT
    # The host is back and goes on as if nothing had been: the board stays off.
    chip.talking = True
    chip.run(200)
    assert not chip.status.enabled
    chip.enable, chip.clear = False, True
    chip.run(60)
    assert chip.status.fault_code == BoardFault.NONE
    chip.enable, chip.clear = True, False
    chip.run(60)
    assert chip.status.enabled


def test_spoilt_frames(chip: Chip) -> None:
    chip.start(0.5)
    chip.spoil = lambda frame: frame[:3] + bytes((frame[3] ^ 0x10 or 1,)) + frame[4:]
    first = chip.machine.cycle
    chip.run(200)
    assert first_braking_cycle(chip, first) - first <= 65 * MS  # three frames, 20 ms apart
    assert chip.status.fault_code == BoardFault.LINK
    assert not chip.status.enabled
    assert chip.codec.statistics.counters.bad_frames >= 3


def test_a_burst_of_noise_changes_nothing(chip: Chip) -> None:
    chip.start(0.5)
    for _ in range(5):
        chip.machine.write(bytes((17 * k + 3) & 0xFF for k in range(24)) + b"\x00")
        chip.run(100)
    assert chip.status.enabled
    assert chip.status.fault_code == BoardFault.NONE
    assert chip.status.velocity_m_s == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("pin", "fault"),
    [
        (PIN_LIMIT_LOW, BoardFault.LIMIT_LOW),
        (PIN_LIMIT_HIGH, BoardFault.LIMIT_HIGH),
        (PIN_ESTOP, BoardFault.ESTOP),
    ],
)
def test_a_switch_cuts_the_drive_with_the_host_dead(
    chip: Chip, pin: tuple[str, int], fault: BoardFault
) -> None:
    chip.start(0.5)
    chip.talking = False
    chip.run(7)
    pressed = chip.press(pin)
    chip.run(5)
    assert chip.off_after(pressed) < 200  # cycles; a millisecond would be 16,000
    chip.machine.pin(pin, False)  # a short touch is enough
    chip.talking = True
    chip.run(200)
    assert not chip.status.enabled
    assert chip.status.fault_code == fault
    later = [o for o in chip.since(pressed, OutputKind.ENABLE) if o.value]
    assert not later


def test_a_glitch_on_a_switch_is_not_missed(chip: Chip) -> None:
    chip.start(0.5)
    chip.press(PIN_LIMIT_HIGH)
    chip.machine.run_until(chip.machine.cycle + 400)
    chip.press(PIN_LIMIT_HIGH, False)
    chip.run(40)
    assert chip.status.fault_code == BoardFault.LIMIT_HIGH


def test_homing_touches_a_switch_and_backs_away(chip: Chip) -> None:
    chip.homing = True
    chip.meet()
    chip.enable, chip.velocity_m_s = True, -0.9
    chip.run(300)
    fastest_m_s = homing_rules(chip.config).fastest_m_s
    assert fastest_m_s < 0.9
    assert chip.status.velocity_m_s == pytest.approx(-fastest_m_s)  # clamped
    pressed = chip.press(PIN_LIMIT_LOW)
    chip.run(100)
    assert chip.off_after(pressed) < 200
    assert (chip.status.enabled, chip.status.velocity_m_s) == (True, 0.0)
    chip.velocity_m_s = 0.1
    chip.run(60)
    chip.press(PIN_LIMIT_LOW, False)
    chip.run(60)
    assert chip.status.velocity_m_s == pytest.approx(0.1)
    assert chip.status.fault_code == BoardFault.NONE


def test_the_estop_cannot_be_cleared_while_pressed(chip: Chip) -> None:
    chip.start(0.2)
    chip.press(PIN_ESTOP)
    chip.run(40)
    chip.enable, chip.clear = False, True
    chip.run(100)
    assert chip.status.fault_code == BoardFault.ESTOP
    chip.press(PIN_ESTOP, False)
    chip.run(60)
    assert chip.status.fault_code == BoardFault.NONE


def test_a_hanging_main_loop(chip: Chip) -> None:
    """The tick interrupt notices within five milliseconds; then the watchdog resets."""
    chip.start(0.5)
    hung = chip.machine.cycle
    chip.machine.hang(interrupts=True)
    chip.run(700)
    assert chip.off_after(hung) <= 6 * MS
    assert any(o.kind is OutputKind.RESET for o in chip.outputs)
    assert chip.status.fault_code == BoardFault.RESET
    assert not chip.status.enabled


def test_a_dead_processor(chip: Chip) -> None:
    """Interrupts off and hanging: only the watchdog is left."""
    chip.start(0.5)
    boot = chip.status.boot_id
    hung = chip.machine.cycle
    chip.machine.hang(interrupts=False)
    chip.run(700)
    reset = next(o.cycle for o in chip.outputs if o.kind is OutputKind.RESET and o.cycle >= hung)
    assert reset - hung <= 40 * MS  # fault 16's time; the outputs float and are pulled off
    assert chip.status.boot_id == boot + 1
    assert chip.status.fault_code == BoardFault.RESET
    assert chip.codec.info is not None
    assert chip.codec.info.reset_cause & 8


def test_a_reboot_in_mid_run(chip: Chip) -> None:
    chip.start(0.5)
    boot = chip.status.boot_id
    cut = chip.machine.cycle
    before = len(chip.received)
    chip.machine.reset()
    chip.codec.service = lambda now_ns: b""  # type: ignore[method-assign]
    chip.run(200)  # the host only goes on commanding
    assert len(chip.received) == before  # silent until asked
    assert chip.off_after(cut) == 0
    assert not [o for o in chip.since(cut, OutputKind.ENABLE) if o.value]
    del chip.codec.service
    chip.run(600)
    assert chip.status.boot_id == boot + 1
    assert chip.status.fault_code == BoardFault.RESET
    assert not chip.status.enabled


def test_a_board_that_restarts_counts_again(chip: Chip) -> None:
    chip.motion = {CART: lambda ms: 5 * ms, POLE: lambda ms: -3 * ms}
    chip._shown = {CART: 0, POLE: 0}
    chip.run(400)
    chip.machine.reset()
    chip.run(900)
    first, last = chip.samples[-20], chip.samples[-1]
    seconds = (last.t_ns - first.t_ns) * 1e-9
    assert last.cart_counts - first.cart_counts == pytest.approx(5000 * seconds, abs=2)
    assert last.pole_counts - first.pole_counts == pytest.approx(-3000 * seconds, abs=2)
    assert 0 < last.cart_counts < 900 * 5  # from zero


def test_the_last_words_of_a_host_stop_softly(chip: Chip) -> None:
    chip.start(0.5)
    chip.talking = False
    chip.machine.write(chip.codec.encode_stop())
    said = chip.machine.cycle
    chip.run(90)
    assert chip.off_after(said) <= (0.5 / 8 * 1000 + 5) * MS
    assert chip.status.fault_code == BoardFault.NONE


def test_a_flood_does_not_stop_the_board(chip: Chip) -> None:
    """Noise at line speed: no command gets through, so it brakes, and it comes back."""
    chip.start(0.5)
    begun = chip.machine.cycle
    for k in range(200):
        chip.machine.write(bytes((k * 7 + j * 31) & 0xFF for j in range(11)))
        chip.talking = k < 0
        chip.run(1)
    assert chip.off_after(begun) <= 180 * MS
    assert chip.machine.timing(MAIN_LOOP).longest < 2 * MS
    chip.talking, chip.enable, chip.clear = True, False, True
    chip.run(100)
    assert chip.status.fault_code == BoardFault.NONE


def test_it_builds_as_the_arduino_ide_does(tmp_path: Path) -> None:
    """Every C file of the sketch's folder by itself, without the Makefile's definitions."""
    for source in sorted(FIRMWARE.glob("*.c")):
        options = ("-mmcu=atmega328p", "-DF_CPU=16000000L", "-std=gnu11", "-Os", "-w", "-c")
        target = tmp_path / f"{source.stem}.o"
        command = ["avr-gcc", *options, str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
