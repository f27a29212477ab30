"""The loop in virtual time: simulated rig and controller, as fast as the machine allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cartpole.control.core import ControlCore
from cartpole.control.timed_planner import TimedPlanner
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
    TickTiming,
)
from cartpole.record import record
from cartpole.rules.control import settings_of
from cartpole.rules.optimizer import planner_rules
from cartpole.rules.sim import rig_rules
from cartpole.sim.rig import Tap, VirtualRig
from cartpole.sim.shutter import State

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.frame import Frame

START_NS = NANOSECONDS  # virtual time begins at one second: zero would look like "unset"
QUIET_S = 0.5  # the estimate settles before the first request, as on a rig that is switched on
START_REQUESTS = (Request(RequestKind.ARM), Request(RequestKind.SWING_UP))


@record
class SimulatedTick:
    """A tick's record, the truth at its time, and how long it took to compute."""

    record: TickRecord
    truth: State
    timing: TickTiming


Disturb = Callable[[int, VirtualRig], tuple[Request, ...]]


def undisturbed(_now_ns: int, _rig: VirtualRig) -> tuple[Request, ...]:
    """Nobody pushes, nobody asks."""
    return ()


class VirtualRun:
    """A simulated rig and its controller; the same seed and settings give the same records.

    ``disturb(now_ns, rig)`` is called before each tick: it may push the plant and returns what an
    operator asks for.
    """

    def __init__(
        self,
        config: Config,
        seed: int,
        *,
        start: State | None = None,
        tap: Tap | None = None,
        on_frame: Callable[[Frame], None] | None = None,
        disturb: Disturb = undisturbed,
        requests: tuple[Request, ...] = START_REQUESTS,
        planner: TimedPlanner | None = None,
    ) -> None:
        self._config = config
        self._disturb = disturb
        self._requests = requests
        self._planner = TimedPlanner(planner_rules(config)) if planner is None else planner
        self.rig = VirtualRig(
            rig_rules(config),
            seed,
            hint=lambda t_ns: self.core.hint(t_ns),
            start=start,
            t_ns=START_NS,
            tap=tap,
            on_frame=on_frame,
        )
        self.homed: HomingResult | None = self.rig.homing if config.sim.homed else None
        self.core = ControlCore(settings_of(config), homed=self.homed, planner=self._planner)

    def ticks(self) -> Iterator[SimulatedTick]:
        """Endless ticks: arm, home if need be, swing up, balance."""
        period_ns = round(self._config.controller.period_s * NANOSECONDS)
        quiet = round(QUIET_S / self._config.controller.period_s)
        now_ns = START_NS
        index = 0
        while True:
            now_ns += period_ns
            requests = self._requests if index == quiet else ()
            requests += self._disturb(now_ns, self.rig)
            up = LinkEvent(now_ns, Link.MOTOR, LinkState.UP, "simulated")
            yield self.step(now_ns, requests, (up,) if index == 0 else ())
            index += 1

    def step(
        self,
        now_ns: int,
        requests: tuple[Request, ...] = (),
        said: tuple[Measurement, ...] = (),
        budget: int | None = None,
    ) -> SimulatedTick:
        """One tick at ``now_ns``; ``said`` is heard before what the rig measured.

        ``budget`` is the number of Newton steps, the configured one if not given.
        """
        measurements = self.rig.advance(now_ns)
        if said:
            measurements = (*said, *measurements)
        steps = self._config.optimizer.newton_steps if budget is None else budget
        return self._tick(TickInput(now_ns, measurements, requests, steps))

    def _tick(self, tick: TickInput) -> SimulatedTick:
        truth = self.rig.truth(tick.now_ns)
        begin = time.perf_counter_ns()
        record = self.core.tick(tick)
        compute_ns = time.perf_counter_ns() - begin
        self.rig.send(tick.now_ns, record.command)
        self.core.after_tick()
        timing = TickTiming(tick.now_ns, 0, compute_ns, self._planner.take_elapsed_ns())
        return SimulatedTick(record, truth, timing)
