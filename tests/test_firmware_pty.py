"""The compiled firmware behind a pseudo-terminal, in real time, under the link of a real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.firmware import needs_chip

from cartpole.config.schema import Config, Encoder, Motor
from cartpole.messages import (
    BoardStatus,
    Command,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
)
from cartpole.rules.firmware_bridge import link_rules
from cartpole.rules.sim import true_devices
from cartpole.sim.avr_board import AvrBoard
from cartpole.sim.pty_port import PtyPort, PtyServer
from firmware_bridge.protocol import BoardFault
from firmware_bridge.rig_links import Links, open_links

pytestmark = [needs_chip, pytest.mark.realtime]
PATIENCE_S = 20.0
CONFIG = Config(
    motor=Motor(protocol="bridge", port="sim"),
    encoder=Encoder(protocol="bridge", port="sim"),
)


class Bench:
    """A plant that only remembers."""

    def __init__(self) -> None:
        self.commands: list[float] = []

    def counts(self, t_ns: int) -> tuple[int, int]:
        return 1000, -1000

    def limits(self, t_ns: int) -> tuple[bool, bool]:
        return False, False

    def command(self, t_ns: int, velocity_m_s: float) -> None:
        self.commands.append(velocity_m_s)


class Desk:
    """The daemon's side: polls, and sends a command every tick."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench()
        self.board = AvrBoard(true_devices(CONFIG).motor, self.bench, t_ns=time.monotonic_ns())
        self.port = PtyPort(self.board, folder / "board")
        self.server = PtyServer([self.port])
        self.server.start()
        links = open_links(link_rules(CONFIG), motor_port=str(folder / "board"))
        assert isinstance(links, Links)
        self.links = links
        self.links.start()
        self.heard: list[Measurement] = []
        self.velocity, self.enable = 0.0, False
        self.patient = True  # a starved machine may miss a heartbeat: clear it and go on
        self._sequence = 0

    def until(self, done: Callable[[], bool]) -> None:
        """Tick until something is so."""
        end_s = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end_s, self.heard[-5:]
            self._sequence += 1
            now_ns = time.monotonic_ns()
            enable = self.enable and not (self.patient and self._stopped())
            clear = self.patient and not enable
            command = Command(now_ns, self._sequence, self.velocity, enable, 0.0, clear_fault=clear)
            self.links.send(command)
            time.sleep(0.01)
            self.heard += self.links.poll()

    def saw(self, link: Link, state: LinkState) -> bool:
        return any(
            isinstance(m, LinkEvent) and m.link is link and m.state is state for m in self.heard
        )

    def status(self) -> BoardStatus | None:
        return next((m for m in reversed(self.heard) if isinstance(m, BoardStatus)), None)

    def _stopped(self) -> bool:
        status = self.status()
        return status is not None and status.fault_code != BoardFault.NONE

    def driving(self) -> bool:
        status = self.status()
        return status is not None and status.enabled and status.velocity_m_s > 0.19

    def close(self) -> None:
        self.links.close()
        self.server.close()
        with self.server.lock:  # its thread may be in the chip yet
            self.board.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_it_drives_measures_and_survives_its_cable(desk: Desk) -> None:
    desk.until(lambda: desk.saw(Link.MOTOR, LinkState.UP) and desk.saw(Link.ENCODER, LinkState.UP))
    desk.velocity, desk.enable = 0.2, True
    desk.until(desk.driving)
    desk.patient = False
    sample = next(m for m in reversed(desk.heard) if isinstance(m, EncoderSample))
    assert sample.t_ns < sample.arrival_ns
    assert max(desk.bench.commands) == pytest.approx(0.2, abs=0.01)

    desk.server.unplug(desk.port)
    desk.until(lambda: desk.saw(Link.MOTOR, LinkState.DOWN))
    desk.heard.clear()
    time.sleep(0.3)
    desk.server.plug(desk.port)
    desk.until(lambda: desk.saw(Link.MOTOR, LinkState.UP))
    # The host went on asking for speed all the while: back on the line, nothing moves by itself.
    desk.heard.clear()
    desk.until(lambda: len(desk.heard) > 100)
    status = desk.status()
    assert status is not None
    assert not status.enabled
    assert desk.bench.commands[-1] == 0.0
    assert status.fault_code == BoardFault.HEARTBEAT


def test_closing_the_link_stops_the_motor(desk: Desk) -> None:
    desk.until(lambda: desk.saw(Link.MOTOR, LinkState.UP))
    desk.velocity, desk.enable = 0.2, True
    desk.until(desk.driving)
    desk.links.close()
    time.sleep(0.3)
    assert desk.bench.commands[-1] == 0.0
