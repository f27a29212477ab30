"""A core that homes a simulated rig in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.messages import (
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Mode,
    Request,
    RequestKind,
    TickInput,
    TickRecord,
)
from cartpole.rules.control import settings_of
from cartpole.rules.sim import rig_rules
from cartpole.sim.rig import VirtualRig

PERIOD_NS = 20_000_000
Four = tuple[float, float, float, float]
RIG = {"sim.homed": False, "camera.source": "none"}


def settings(**values: Any) -> Config:
    return with_values(Config(), RIG | {key.replace("__", "."): v for key, v in values.items()})


class Yard:
    """A core that homes a rig; ``each`` may do something to the rig after every tick."""

    def __init__(
        self,
        config: Config,
        start: Four = (0.0, 0.0, 0.0, 0.0),
        truth: Config | None = None,
        each: Callable[[VirtualRig, float], None] = lambda _rig, _t: None,
    ) -> None:
        self.rig = VirtualRig(rig_rules(truth or config), 1, start=start, t_ns=PERIOD_NS)
        self.core = ControlCore(settings_of(config))
        self.now_ns = PERIOD_NS
        self.each = each
        self.records: list[TickRecord] = []
        self.truths: list[Four] = []
        self.tick(LinkEvent(self.now_ns, Link.MOTOR, LinkState.UP, "simulated"))
        for _ in range(9):
            self.tick()

    def tick(self, *more: Measurement, ask: tuple[Request, ...] = ()) -> TickRecord:
        self.now_ns += PERIOD_NS
        found = (*more, *self.rig.advance(self.now_ns))
        record = self.core.tick(TickInput(self.now_ns, found, ask, 60))
        self.rig.send(self.now_ns, record.command)
        self.core.after_tick()
        self.each(self.rig, self.now_ns / 1e9)
        self.records.append(record)
        self.truths.append(self.rig.truth(self.now_ns))
        return record

    def home(self, seconds: float = 20.0) -> float:
        """Arm and home; returns the time it took."""
        self.tick(ask=(Request(RequestKind.ARM),))
        begin = len(self.records)
        while self.records[-1].mode is Mode.HOMING and len(self.records) - begin < 50 * seconds:
            self.tick()
        taken = 0.02 * (len(self.records) - begin)
        for _ in range(60):
            self.tick()
        return taken

    @property
    def said(self) -> str:
        return "; ".join(event for record in self.records for event in record.events)

    @property
    def moved_m(self) -> float:
        places = [truth[0] for truth in self.truths]
        return max(places) - min(places)

    def pushed_s(self, at: Callable[[Four], bool]) -> float:
        """How long the drive was commanded while the cart was held where ``at`` says."""
        pairs = zip(self.records, self.truths, strict=True)
        return 0.02 * sum(record.command.velocity_m_s != 0.0 and at(t) for record, t in pairs)
