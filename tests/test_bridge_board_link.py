"""The bridge board's link, with the real firmware at the far end of a pseudo-terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cartpole.config.schema import Config
from cartpole.errors import DeviceNotFound
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
from firmware_bridge.rig_links import RigLinks, open_links

pytestmark = pytest.mark.realtime
PATIENCE_S = 40.0


class CartPlant:
    """A cart that follows its commands at once."""

    def __init__(self) -> None:
        self.position_m = 0.0
        self.velocity_m_s = 0.0
        self.t_ns = 0

    def counts(self, t_ns: int) -> tuple[int, int]:
        self.position_m += self.velocity_m_s * max(t_ns - self.t_ns, 0) * 1e-9
        self.t_ns = max(t_ns, self.t_ns)
        return round(self.position_m * 20_000), 0

    def limits(self, t_ns: int) -> tuple[bool, bool]:
        return False, False

    def command(self, t_ns: int, velocity_m_s: float) -> None:
        self.counts(t_ns)
        self.velocity_m_s = velocity_m_s


class Rig:
    """The board, its cable and the link."""

    def __init__(self, folder: Path, config: Config, board: AvrBoard, plant: CartPlant) -> None:
        self.plant, self.config = plant, config
        self.port = PtyPort(board, folder / "board")
        self.server = PtyServer([self.port])
        self.server.start()
        self.links: RigLinks = open_links(link_rules(config), motor_port=str(self.port.path))
        self.heard: list[Measurement] = []
        self.sequence = 0

    def tick(self, velocity_m_s: float, enable: bool, clear: bool = False) -> bool:
        self.sequence += 1
        sent = self.links.send(
            Command(
                time.monotonic_ns(),
                self.sequence,
                velocity_m_s,
                enable,
                velocity_m_s,
                clear_fault=clear,
            )
        )
        self.heard += self.links.poll()
        time.sleep(0.02)
        return sent

    def until(self, condition: Callable[[], bool], velocity: float, enable: bool) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"waited in vain; heard {self.heard[-3:]}"
            self.tick(velocity, enable, clear=not enable)

    def states(self, link: Link) -> list[LinkState]:
        return [m.state for m in self.heard if isinstance(m, LinkEvent) and m.link is link]

    def status(self) -> BoardStatus | None:
        return next((m for m in reversed(self.heard) if isinstance(m, BoardStatus)), None)

    def enabled(self) -> bool:
        status = self.status()
        return status is not None and status.enabled


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    config = Config.model_validate(
        {
            "motor": {"protocol": "bridge"},
            "encoder": {"protocol": "bridge"},
            # A test machine may be busy: the board must not time out between two ticks.
            "safety": {"board_timeout_s": 0.5},
        }
    )
    plant = CartPlant()
    try:
        board = AvrBoard(true_devices(config).motor, plant, t_ns=time.monotonic_ns())
    except DeviceNotFound as error:
        pytest.skip(str(error))
    made = Rig(tmp_path, config, board, plant)
    made.links.start()
    yield made
    made.links.close()
    made.server.close()
    board.close()


def test_it_measures_drives_and_stops(rig: Rig) -> None:
    rig.until(lambda: rig.states(Link.MOTOR)[-1:] == [LinkState.UP], 0.0, False)
    assert LinkState.UP in rig.states(Link.ENCODER)
    rig.until(rig.enabled, 0.0, True)
    rig.until(lambda: rig.plant.position_m > 0.02, 0.2, True)
    samples = [m for m in rig.heard if isinstance(m, EncoderSample)]
    assert all(0 < sample.t_ns <= sample.arrival_ns for sample in samples)
    assert samples[-1].cart_counts > 0
    status = rig.status()
    assert status is not None
    assert status.acknowledged_sequence > rig.sequence - 50
    rig.links.close()
    end_s = time.monotonic() + PATIENCE_S
    while rig.plant.velocity_m_s != 0.0:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert not rig.tick(0.2, True)


def test_unplugged_and_back_it_moves_only_after_the_core_has_noticed(rig: Rig) -> None:
    rig.until(lambda: rig.states(Link.MOTOR)[-1:] == [LinkState.UP], 0.0, False)
    rig.until(rig.enabled, 0.0, True)
    rig.until(lambda: rig.plant.velocity_m_s > 0.1, 0.2, True)
    rig.server.unplug(rig.port)
    rig.until(lambda: rig.states(Link.MOTOR)[-1:] == [LinkState.DOWN], 0.2, True)
    assert rig.states(Link.ENCODER)[-1] is LinkState.DOWN
    assert not rig.tick(0.2, True)
    rig.server.plug(rig.port)
    rig.until(lambda: rig.states(Link.MOTOR)[-1:] == [LinkState.UP], 0.2, True)
    for _ in range(20):
        rig.tick(0.2, True)
    assert rig.plant.velocity_m_s == 0.0
    assert not rig.enabled()
    for _ in range(20):
        rig.tick(0.0, False, clear=True)
    rig.until(rig.enabled, 0.0, True)
    rig.until(lambda: rig.plant.velocity_m_s > 0.1, 0.2, True)


def test_new_limits_reach_the_board_when_it_is_off(rig: Rig) -> None:
    rig.until(lambda: rig.states(Link.MOTOR)[-1:] == [LinkState.UP], 0.0, False)
    rig.until(rig.enabled, 0.0, True)
    slow = rig.config.model_copy(
        update={"rig": rig.config.rig.model_copy(update={"velocity_limit_m_s": 0.1})}
    )
    rig.heard.clear()
    rig.links.update(link_rules(slow))
    for _ in range(20):
        rig.tick(0.2, True)
    assert rig.states(Link.MOTOR) == []  # not while the drive is on
    rig.until(lambda: rig.states(Link.MOTOR) == [LinkState.UP], 0.0, False)
    assert rig.states(Link.ENCODER) == []  # it never fell silent
    rig.until(rig.enabled, 0.0, True)
    rig.until(lambda: rig.plant.velocity_m_s > 0.08, 0.3, True)
    for _ in range(25):
        rig.tick(0.3, True)
        assert rig.plant.velocity_m_s < 0.12  # the board's own limit, not the host's
