"""Ports and links on pseudo-terminals: unplugged, stuffed, flooded, hung up."""

from __future__ import annotations

import os
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from cartpole.config.schema import Config
from cartpole.errors import (
    ConfigError,
    DeviceBusy,
    DeviceError,
    DeviceLost,
    DeviceNotFound,
    UsageError,
)
from cartpole.messages import (
    Command,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
)
from cartpole.rules.firmware_bridge import link_rules
from cartpole.sim.boards import ArduinoAsciiBoard, SabertoothTextBoard
from cartpole.sim.pty_port import PtyPort, PtyServer
from firmware_bridge import ports
from firmware_bridge.arduino_ascii import ArduinoAscii
from firmware_bridge.keeper import Outbox, no_tap
from firmware_bridge.link import EncoderLink
from firmware_bridge.ports import Backoff, SerialPort, resolve
from firmware_bridge.rig_links import Links, open_links
from firmware_bridge.sabertooth_text import SabertoothText

pytestmark = pytest.mark.realtime
PATIENCE_S = 10.0


class FakePlant:
    """Remembers commands; counts stand still unless moved."""

    def __init__(self) -> None:
        self.cart = 0
        self.commands: list[float] = []

    def counts(self, t_ns: int) -> tuple[int, int]:
        return self.cart, 0

    def limits(self, t_ns: int) -> tuple[bool, bool]:
        return False, False

    def command(self, t_ns: int, velocity_m_s: float) -> None:
        self.commands.append(velocity_m_s)


class Rig:
    """Both text boards behind pseudo-terminals, and the links to them."""

    def __init__(self, folder: Path) -> None:
        self.plant = FakePlant()
        self.config = Config()
        self.encoder = PtyPort(ArduinoAsciiBoard(self.plant), folder / "encoder")
        driver = SabertoothText.from_config(self.config.motor)
        self.motor = PtyPort(SabertoothTextBoard(self.plant, driver), folder / "motor")
        self.server = PtyServer([self.encoder, self.motor])
        self.server.start()
        self.tapped: list[tuple[int, str, str, bytes]] = []
        links = open_links(
            link_rules(self.config),
            lambda *row: self.tapped.append(row),
            encoder_port=str(self.encoder.path),
            motor_port=str(self.motor.path),
        )
        assert isinstance(links, Links)
        self.links = links
        self.heard: list[Measurement] = []
        self._sequence = 0

    def poll(self) -> list[Measurement]:
        new = self.links.poll()
        self.heard += new
        return new

    def send(self, velocity_m_s: float, enable: bool = True) -> bool:
        self._sequence += 1
        return self.links.send(
            Command(time.monotonic_ns(), self._sequence, velocity_m_s, enable, velocity_m_s)
        )

    def until(self, condition: Callable[[], bool]) -> None:
        """Poll until it holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; heard {self.heard[-5:]}"
            self.poll()
            time.sleep(0.002)

    def events(self, link: Link) -> list[LinkState]:
        return [m.state for m in self.heard if isinstance(m, LinkEvent) and m.link is link]

    def samples(self) -> list[EncoderSample]:
        return [m for m in self.heard if isinstance(m, EncoderSample)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    made.links.start()
    yield made
    made.links.close()
    made.server.close()


@pytest.fixture
def pair() -> Iterator[tuple[int, str]]:
    """A bare pseudo-terminal: the near end's handle and the far end's path."""
    near, far = os.openpty()
    tty.setraw(far)
    os.set_blocking(near, False)
    yield near, os.ttyname(far)
    for handle in (near, far):
        try:
            os.close(handle)
        except OSError:
            continue


class TestPort:
    def test_both_ways(self, pair: tuple[int, str]) -> None:
        port = SerialPort(pair[1], 115200, "E")
        assert port.write(b"a") == 1
        assert os.read(pair[0], 10) == b"a"
        os.write(pair[0], b"1\t2\t0\t0\r\n")
        assert port.read(1.0) == b"1\t2\t0\t0\r\n"
        assert port.read(0.0) == b""
        port.close()
        port.close()

    def test_a_byte_whose_parity_is_wrong_is_noticed(self, pair: tuple[int, str]) -> None:
        port = SerialPort(pair[1], 115200, "E")
        with open(pair[1], "rb", buffering=0) as far:
            flags = termios.tcgetattr(far)[0]
        assert flags & termios.INPCK
        assert not flags & (termios.IGNPAR | termios.PARMRK)
        port.close()

    def test_a_bite_is_bounded(self, pair: tuple[int, str]) -> None:
        port = SerialPort(pair[1], 9600)
        os.write(pair[0], b"x" * 3000)
        assert len(port.read(1.0)) == ports.READ_AT_MOST
        port.close()

    def test_a_full_port_takes_nothing_and_does_not_block(self, pair: tuple[int, str]) -> None:
        port = SerialPort(pair[1], 9600)
        taken = [port.write(b"M1: 0\r\n" * 100) for _ in range(100)]
        assert taken[-1] == 0
        port.discard_output()
        assert port.write(b"M1: 0\r\n") == 7
        port.close()

    def test_exclusive(self, pair: tuple[int, str]) -> None:
        port = SerialPort(pair[1], 9600)
        with pytest.raises(DeviceBusy, match="in use"):
            SerialPort(pair[1], 9600)
        port.close()
        SerialPort(pair[1], 9600).close()

    def test_names_that_lead_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(DeviceNotFound, match="does not exist"):
            SerialPort(str(tmp_path / "none"), 9600)
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file", tmp_path):
            with pytest.raises(DeviceError):
                SerialPort(str(path), 9600)

    @pytest.mark.parametrize("use", ["read", "write", "discard_output"])
    def test_every_way_to_notice_a_hang_up_is_one_error(self, tmp_path: Path, use: str) -> None:
        pty = PtyPort(ArduinoAsciiBoard(FakePlant()), tmp_path / "port")
        port = SerialPort(str(pty.path), 115200, "E")
        pty.unplug()
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: port.read(0.1),
            "write": lambda: port.write(b"a"),
            "discard_output": port.discard_output,
        }
        with pytest.raises(DeviceLost, match="cable"):
            calls[use]()
        port.close()

    def test_a_closed_port_is_lost(self, pair: tuple[int, str]) -> None:
        port = SerialPort(pair[1], 9600)
        port.close()
        for call in (lambda: port.read(0.0), lambda: port.write(b"a"), port.discard_output):
            with pytest.raises(DeviceLost):
                call()


class FakeInfo:
    def __init__(self, device: str, vid: int | None, pid: int | None, serial: str | None) -> None:
        self.device, self.vid, self.pid, self.serial_number = device, vid, pid, serial


class TestUsbIds:
    @pytest.fixture(autouse=True)
    def bus(self, monkeypatch: pytest.MonkeyPatch) -> list[FakeInfo]:
        found = [
            FakeInfo("/dev/ttyS0", None, None, None),
            FakeInfo("/dev/ttyACM0", 0x2341, 0x0043, "A1"),
            FakeInfo("/dev/ttyACM1", 0x2341, 0x0043, "B:2"),
            FakeInfo("/dev/ttyACM2", 0x268B, 0x0201, None),
        ]
        monkeypatch.setattr(ports, "_usb_ports", lambda: found)
        return found

    def test_found(self) -> None:
        assert resolve("/dev/ttyUSB7") == "/dev/ttyUSB7"
        assert resolve("usb:268b:0201") == "/dev/ttyACM2"
        assert resolve("usb:2341:0043:A1") == "/dev/ttyACM0"
        assert resolve("usb:2341:0043:B:2") == "/dev/ttyACM1"

    def test_not_found(self) -> None:
        with pytest.raises(DeviceNotFound, match="plugged in"):
            resolve("usb:1234:5678")
        with pytest.raises(DeviceNotFound, match="ttyACM0, /dev/ttyACM1: add the serial"):
            resolve("usb:2341:0043")
        with pytest.raises(UsageError, match="usb:VID:PID"):
            resolve("usb:arduino")

    def test_back_on_another_node(self, bus: list[FakeInfo]) -> None:
        opened: list[str] = []

        def factory(path: str, baud: int, parity: ports.Parity) -> ports.Port:
            opened.append(path)
            return cast("ports.Port", object())

        bus[1] = FakeInfo("/dev/null", 0x2341, 0x0043, "A1")  # a path that exists
        opener = ports.PortOpener("/dev/null", 9600, "N", factory)
        opener()
        opener._name = "/dev/gone"  # as if the node had vanished
        bus[1] = FakeInfo("/dev/ttyACM5", 0x2341, 0x0043, "A1")
        opener()
        assert opened == ["/dev/null", "/dev/ttyACM5"]


def test_waiting_times_grow_and_start_again() -> None:
    backoff = Backoff(0.1, 0.3)
    assert [backoff.next_s() for _ in range(4)] == [0.1, 0.2, 0.3, 0.3]
    backoff.reset()
    assert backoff.next_s() == 0.1


def test_the_outbox_keeps_events_when_samples_overflow() -> None:
    outbox = Outbox()
    for index in range(2 * Outbox.MOST_SAMPLES):
        outbox.put(EncoderSample(index, index, 0, 0))
    outbox.put(LinkEvent(0, Link.ENCODER, LinkState.DOWN))
    taken = outbox.take()
    assert len(taken) == Outbox.MOST_SAMPLES + 1
    assert isinstance(taken[-1], LinkEvent)
    assert outbox.dropped == Outbox.MOST_SAMPLES
    assert outbox.take() == []


class TestLinks:
    def test_samples_come_and_commands_go(self, rig: Rig) -> None:
        rig.until(lambda: len(rig.samples()) > 20)
        assert rig.send(0.5)
        rig.until(lambda: 0.5 in rig.plant.commands)
        rig.plant.cart = 40
        rig.until(lambda: rig.samples()[-1].cart_counts == 40)
        times = [sample.t_ns for sample in rig.samples()]
        assert times == sorted(times)
        assert all(s.t_ns < s.arrival_ns <= time.monotonic_ns() for s in rig.samples())
        directions = {(link, way) for _, link, way, _ in rig.tapped}
        assert directions >= {("encoder", "in"), ("encoder", "out"), ("motor", "out")}
        sent = b"".join(
            data for _, link, way, data in rig.tapped if (link, way) == ("motor", "out")
        )
        assert sent == b"M1: 0\r\nM1: 0\r\nM1: 850\r\n"
        assert rig.links.statistics()["encoder"]["lines"] >= 20

    def test_closing_stops_the_motor(self, rig: Rig) -> None:
        rig.send(0.7)
        rig.links.close()
        rig.links.close()
        rig.until(lambda: rig.plant.commands[-1:] == [0.0])
        assert not rig.send(0.7)

    def test_what_is_not_finite_stops_the_motor(self, rig: Rig) -> None:
        rig.send(0.7)
        rig.send(float("nan"))
        rig.until(lambda: rig.plant.commands[-1:] == [0.0])

    def test_disabled_is_zero(self, rig: Rig) -> None:
        rig.send(0.7, enable=False)
        rig.until(lambda: len(rig.plant.commands) >= 2)
        assert set(rig.plant.commands) == {0.0}

    def test_encoder_unplugged_and_back(self, rig: Rig) -> None:
        rig.until(lambda: len(rig.samples()) > 5)
        rig.server.unplug(rig.encoder)
        rig.until(lambda: rig.events(Link.ENCODER) == [LinkState.UP, LinkState.DOWN])
        rig.server.plug(rig.encoder)
        rig.until(lambda: rig.events(Link.ENCODER)[2:] == [LinkState.UP])
        before = len(rig.samples())
        rig.until(lambda: len(rig.samples()) > before + 5)

    def test_motor_unplugged_and_back_moves_only_after_the_core_has_noticed(self, rig: Rig) -> None:
        rig.send(0.5)
        rig.server.unplug(rig.motor)
        rig.until(lambda: rig.events(Link.MOTOR)[-1:] == [LinkState.DOWN])
        assert not rig.send(0.5)
        rig.plant.commands.clear()
        rig.server.plug(rig.motor)
        rig.until(lambda: rig.events(Link.MOTOR)[-1:] == [LinkState.UP] and rig.send(0.5))
        rig.until(lambda: len(rig.plant.commands) >= 2)
        assert set(rig.plant.commands) == {0.0}
        rig.send(0.0, enable=False)
        rig.send(0.5)
        rig.until(lambda: rig.plant.commands[-1] == 0.5)

    def test_a_board_that_falls_silent(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        rig.until(lambda: len(rig.samples()) > 5)
        monkeypatch.setattr(rig.encoder.board, "exchange", lambda t_ns, received: b"")
        rig.until(lambda: rig.events(Link.ENCODER)[-1:] == [LinkState.DOWN])
        monkeypatch.undo()
        rig.until(lambda: rig.events(Link.ENCODER)[-1:] == [LinkState.UP])

    def test_a_driver_that_reads_nothing_gets_no_old_commands_later(self, rig: Rig) -> None:
        with rig.server.lock:  # the emulated boards stand still
            for _ in range(4000):
                if not rig.send(0.9):
                    break
            else:
                pytest.fail("the port took everything")
            for _ in range(3):
                rig.send(0.8)
            rig.poll()
            assert LinkState.REFUSED in rig.events(Link.MOTOR)
            rig.send(0.1)
        rig.until(lambda: rig.send(0.2) and rig.plant.commands[-1:] == [0.2])
        assert rig.events(Link.MOTOR)[-1:] == [LinkState.REFUSED]

    def test_a_flood_of_nonsense_costs_bounded_time_and_memory(self, rig: Rig) -> None:
        rig.until(lambda: len(rig.samples()) > 5)
        stop = threading.Event()

        def flood() -> None:
            nonsense = bytes(range(1, 256)) * 4
            while not stop.is_set():
                try:
                    os.write(rig.encoder.fileno(), nonsense)
                except BlockingIOError:
                    time.sleep(0.001)

        thread = threading.Thread(target=flood)
        before = rig.links.statistics()["encoder"]["bytes_in"]
        start = time.monotonic()
        thread.start()
        rig.until(lambda: LinkState.GARBLED in rig.events(Link.ENCODER))
        time.sleep(0.3)
        stop.set()
        thread.join()
        span_s = time.monotonic() - start
        taken = rig.links.statistics()["encoder"]["bytes_in"] - before
        assert taken <= (span_s * rig.config.encoder.poll_hz + 3) * ports.READ_AT_MOST
        rig.poll()
        count = len(rig.samples())
        rig.until(lambda: len(rig.samples()) > count + 5)  # and it finds its way back


class TestFactory:
    def test_sim_needs_a_simulated_rig(self) -> None:
        with pytest.raises(UsageError, match=r"encoder\.port is sim"):
            open_links(link_rules(Config()))

    def test_a_line_too_slow_for_the_tick(self) -> None:
        config = Config.model_validate({"motor": {"baud": 1200}})
        with pytest.raises(ConfigError, match=r"motor\.baud"):
            open_links(link_rules(config), encoder_port="/x", motor_port="/y")

    def test_a_missing_port_is_an_error_at_the_start(self, tmp_path: Path) -> None:
        links = open_links(
            link_rules(Config()),
            encoder_port=str(tmp_path / "none"),
            motor_port=str(tmp_path / "nobody"),
        )
        with pytest.raises(DeviceNotFound, match="nobody"):
            links.start()

    def test_a_missing_encoder_leaves_the_motor_stopped(self, tmp_path: Path) -> None:
        plant = FakePlant()
        driver = SabertoothText.from_config(Config().motor)
        motor = PtyPort(SabertoothTextBoard(plant, driver), tmp_path / "motor")
        links = open_links(
            link_rules(Config()), encoder_port=str(tmp_path / "none"), motor_port=str(motor.path)
        )
        with pytest.raises(DeviceNotFound, match="none"):
            links.start()
        motor.serve(0)
        assert plant.commands[-1] == 0.0
        motor.unplug()


class _Stalling:
    """A port at whose third read the machine does not run the reader for 80 ms; no answers."""

    name = "fake"

    def __init__(self, link: Callable[[], EncoderLink]) -> None:
        self.now_ns, self.reads, self._link = 0, 0, link

    def clock(self) -> int:
        return self.now_ns

    def read(self, timeout_s: float = 0.0) -> bytes:
        self.reads += 1
        self.now_ns += round(timeout_s * 1e9) + (80_000_000 if self.reads == 3 else 0)
        if self.reads == 6:
            self._link().stop()
        return b""

    def write(self, data: bytes) -> int:
        return len(data)

    def discard_output(self) -> None: ...

    def close(self) -> None: ...


def test_a_reader_that_was_not_run_says_so_and_blames_no_board() -> None:
    link: EncoderLink | None = None

    def made() -> EncoderLink:
        assert link is not None
        return link

    port, outbox = _Stalling(made), Outbox()
    link = EncoderLink(ArduinoAscii(1_600_000), 200.0, lambda: port, outbox, no_tap, port.clock)
    link._port = port
    link._run()
    said = [one for one in outbox.take() if isinstance(one, LinkEvent)]
    assert [(one.state, one.link) for one in said] == [(LinkState.STARVED, Link.ENCODER)]
    assert said[0].detail == "its reader was not run for 80 ms"
