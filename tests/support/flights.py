"""A core in flight on a simulated rig in virtual time, and what may happen to what it hears."""

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
    Request,
    RequestKind,
    TickInput,
    TickRecord,
)
from cartpole.rules.control import settings_of
from cartpole.rules.sim import rig_rules
from cartpole.sim.rig import VirtualRig

PERIOD_NS = 20_000_000
MS = 1_000_000
Found = tuple[Measurement, ...]
UP = LinkEvent(PERIOD_NS, Link.MOTOR, LinkState.UP, "simulated")


class Flight:
    """A core in flight on a simulated rig; ``tamper`` changes what it hears."""

    def __init__(self, **values: Any) -> None:
        self.config = with_values(Config(), {k.replace("__", "."): v for k, v in values.items()})
        self.rig = VirtualRig(rig_rules(self.config), 0, t_ns=PERIOD_NS)
        self.core = ControlCore(settings_of(self.config), homed=self.rig.homing)
        self.now_ns = PERIOD_NS
        self.tamper: Callable[[Found], Found] = lambda found: found
        self.records: list[TickRecord] = []
        self.tick(UP)

    def tick(
        self, *more: Measurement, ask: tuple[RequestKind, ...] = (), gap_ns: int = PERIOD_NS
    ) -> TickRecord:
        self.now_ns += gap_ns
        found = (*self.tamper(self.rig.advance(self.now_ns)), *more)
        requests = tuple(Request(kind) for kind in ask)
        record = self.core.tick(TickInput(self.now_ns, found, requests, 60))
        self.rig.send(self.now_ns, record.command)
        self.core.after_tick()
        self.records.append(record)
        return record

    def run(self, seconds: float) -> TickRecord:
        for _ in range(round(50 * seconds)):
            record = self.tick()
        return record

    def up(self, seconds: float = 4.0) -> TickRecord:
        self.run(0.2)
        self.tick(ask=(RequestKind.ARM, RequestKind.SWING_UP))
        return self.run(seconds)

    @property
    def faults(self) -> list[str]:
        return [fault.name for fault in self.records[-1].faults]

    @property
    def said(self) -> str:
        return "; ".join(event for record in self.records for event in record.events)


def without(*kinds: type) -> Callable[[Found], Found]:
    return lambda found: tuple(item for item in found if not isinstance(item, kinds))
