"""The simulated rig whose board is the compiled firmware, in virtual time."""

from __future__ import annotations

from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.messages import (
    NANOSECONDS,
    HomingResult,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Request,
    RequestKind,
    TickInput,
    TickRecord,
)
from cartpole.rules.control import settings_of
from cartpole.rules.firmware_bridge import link_rules
from cartpole.rules.sim import rig_rules, true_devices
from cartpole.sim.avr_board import AvrBoard
from cartpole.sim.plant import Plant
from firmware_bridge.bridge_codec import BridgeCodec

POLL_NS = 2_000_000  # how often the host looks at the port
QUIET_TICKS = 25


class FirmwareRun:
    """Core, codec, chip and plant in lock step; ``tick`` goes one control period further."""

    def __init__(self, config: Config, seed: int = 0) -> None:
        self.config = config
        self._start_ns = self.now_ns = NANOSECONDS
        self.plant = Plant(rig_rules(config), seed, (0.0, 0.0, 0.02, 0.0), self.now_ns)
        self.board = AvrBoard(true_devices(config).motor, self.plant, t_ns=self.now_ns)
        self.codec = BridgeCodec(link_rules(config), baud=config.motor.baud)
        # The board counts from its boot on, and the plant began a hair from its zero.
        here = self.plant.counts(self.now_ns)
        homed = HomingResult(-float(here[0]), -float(here[1])) if config.sim.homed else None
        self.core = ControlCore(settings_of(config), homed=homed)
        self.received = bytearray()
        self._up = False
        self._index = 0

    def close(self) -> None:
        """Frees the chip."""
        self.board.close()

    def tick(self, *requests: Request) -> TickRecord:
        """One control period."""
        end_ns = self.now_ns + round(self.config.controller.period_s * NANOSECONDS)
        measurements: list[Measurement] = []
        while self.now_ns < end_ns:
            self.now_ns = min(self.now_ns + POLL_NS, end_ns)
            data = self.board.exchange(self.now_ns, self.codec.service(self.now_ns))
            self.received += data
            measurements += self.codec.feed(data, self.now_ns)
        if self.codec.ready and not self._up:
            self._up = True
            measurements += [
                LinkEvent(self.now_ns, link, LinkState.UP) for link in (Link.MOTOR, Link.ENCODER)
            ]
        self._index += 1
        if self._index == QUIET_TICKS:
            requests += (Request(RequestKind.ARM), Request(RequestKind.SWING_UP))
        budget = self.config.optimizer.newton_steps
        record = self.core.tick(TickInput(self.now_ns, tuple(measurements), requests, budget))
        self.board.exchange(self.now_ns, b"")
        self.board.machine.write(self.codec.encode_velocity(record.command))
        self.core.after_tick()
        return record
