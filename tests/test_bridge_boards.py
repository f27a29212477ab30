"""The emulated boards: wire times, boot, switches, dead band, serial time-out."""

from __future__ import annotations

from pathlib import Path

from cartpole.sim.boards import NEVER, ArduinoAsciiBoard, SabertoothTextBoard, byte_time_ns
from cartpole.sim.pty_port import PtyPort
from firmware_bridge.sabertooth_text import SabertoothText

BYTE_NS = byte_time_ns(115200, 11)
DRIVER = SabertoothText(channel=1, sign=1, counts_per_m_s=1500.0, dead_band_counts=100.0)


class FakePlant:
    """Counts that tell the time they were taken at: 1 a microsecond."""

    def __init__(self) -> None:
        self.commands: list[tuple[int, float]] = []

    def counts(self, t_ns: int) -> tuple[int, int]:
        return t_ns // 1000, -t_ns // 1000

    def limits(self, t_ns: int) -> tuple[bool, bool]:
        return False, True

    def command(self, t_ns: int, velocity_m_s: float) -> None:
        self.commands.append((t_ns, velocity_m_s))


def run(board: ArduinoAsciiBoard | SabertoothTextBoard, until_ns: int) -> bytes:
    """Let the board finish what it began."""
    out = b""
    while (t_ns := board.next_ns()) != NEVER and t_ns <= until_ns:
        out += board.exchange(t_ns, b"")
    return out


def test_the_encoder_board_latches_when_the_request_has_arrived() -> None:
    board = ArduinoAsciiBoard(FakePlant())
    assert board.exchange(1_000_000, b"a") == b""
    latch_us = (1_000_000 + BYTE_NS) // 1000
    assert run(board, 10**9) == b"%d\t-%d\t0\t1\r\n" % (latch_us, latch_us + 1)


def test_its_bytes_take_their_time() -> None:
    board = ArduinoAsciiBoard(FakePlant())
    board.exchange(0, b"a")
    assert board.exchange(BYTE_NS * 4, b"") == b"95\t"
    assert board.next_ns() == BYTE_NS * (1 + len(b"95\t-96\t0\t1\r\n"))
    assert run(board, 10**9) == b"-96\t0\t1\r\n"
    assert board.next_ns() == NEVER


def test_it_is_silent_unless_asked_and_answers_every_question() -> None:
    board = ArduinoAsciiBoard(FakePlant())
    assert board.exchange(10**9, b"xyz\r\n") == b""
    assert board.next_ns() == NEVER
    board.exchange(10**9, b"aa")
    assert run(board, 2 * 10**9).count(b"\n") == 2


def test_it_counts_from_its_last_boot_and_is_deaf_while_booting() -> None:
    board = ArduinoAsciiBoard(FakePlant(), boot_ns=1_000_000, counter_bits=16)
    board.reset(5_000_000)
    assert board.exchange(5_500_000, b"a") == b""
    assert board.next_ns() == NEVER
    board.exchange(6_000_000, b"a")
    assert run(board, 10**9).startswith(b"1095\t")
    board.exchange(5_000_000 + 40_000_000, b"a")  # 40095 does not fit into 16 bits
    assert run(board, 10**9).startswith(b"%d\t" % (40_095 - 65_536))


def test_the_motor_driver_has_a_dead_band_and_a_zero() -> None:
    plant = FakePlant()
    board = SabertoothTextBoard(plant, DRIVER)
    for text in (b"M1: 850\r\n", b"M1: 100\n", b"m1:-1600\r", b"M1: 9999\r\n", b"M2: 5\r\n"):
        assert board.exchange(len(plant.commands), text) == b""
    assert [velocity for _, velocity in plant.commands] == [0.5, 0.0, -1.0, 1947 / 1500]
    assert board.exchange(9, b"M1: 1e3\r\nM1: \r\nM1 50\r\n\x00\xff\r\n") == b""
    assert len(plant.commands) == 4


def test_its_serial_time_out_stops_the_motor_once() -> None:
    plant = FakePlant()
    board = SabertoothTextBoard(plant, DRIVER, timeout_ns=100)
    board.exchange(0, b"M1: 850\r\n")
    assert board.next_ns() == 100
    board.exchange(100, b"")
    assert board.next_ns() == NEVER
    assert plant.commands == [(0, 0.5), (100, 0.0)]


def test_commands_on_a_slow_line_arrive_byte_by_byte() -> None:
    plant = FakePlant()
    board = SabertoothTextBoard(plant, DRIVER, byte_ns=10)
    board.exchange(0, b"M1: 850\r\nM1: 0\r\n")
    assert plant.commands == []
    run(board, 10**9)
    assert plant.commands == [(80, 0.5), (150, 0.0)]


def test_it_answers_questions_and_can_be_shut_down() -> None:
    plant = FakePlant()
    board = SabertoothTextBoard(plant, DRIVER, battery_v=24.4)
    assert board.exchange(0, b"M1: getb\r\nM1: GET T\r\n") == b"M1:B244\r\nM1:T25\r\n"
    board.exchange(1, b"M1: shut down\r\nM1: 850\r\n")
    assert board.units == 0
    board.exchange(2, b"M1: startup\r\nM1: 850\r\n")
    assert board.units == 850
    assert board.exchange(3, b"M1: get\r\n") == b"M1: 850\r\n"


def test_a_driver_without_its_cable_still_times_out(tmp_path: Path) -> None:
    plant = FakePlant()
    port = PtyPort(SabertoothTextBoard(plant, DRIVER, timeout_ns=100), tmp_path / "motor")
    port.board.exchange(0, b"M1: 850\r\n")
    port.unplug()
    port.serve(100)
    assert plant.commands == [(0, 0.5), (100, 0.0)]
