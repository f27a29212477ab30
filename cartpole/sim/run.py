"""The loop in virtual time: simulated rig and controller, as fast as the machine allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cartpole.control.core import ControlCore
from cartpole.control.stopwatch import TimedPlanner
from cartpole.messages import (
    NANOSECONDS,
    Link,
    LinkEvent,
    LinkState,
    Request,
    RequestKind,
    TickInput,
    TickRecord,
    TickTiming,
)
from cartpole.sim.camera import State
from cartpole.sim.rig import Tap, VirtualRig

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.frame import Frame

START_NS = NANOSECONDS  # virtual time begins at one second: zero would look like "unset"
START_REQUESTS = (Request(RequestKind.ARM), Request(RequestKind.SWING_UP))


@dataclass(frozen=True, slots=True)
class SimulatedTick:
    """A tick's record, the truth at its time, and how long it took to compute."""

    record: TickRecord
    truth: State
    timing: TickTiming


Disturb = Callable[[int, VirtualRig], tuple[Request, ...]]


def simulate(
    config: Config,
    seed: int,
    *,
    start: State | None = None,
    tap: Tap | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    disturb: Disturb | None = None,
) -> Iterator[SimulatedTick]:
    """Endless ticks of a run that arms, homes if it must, and swings up.

    ``disturb(now_ns, rig)`` is called before each tick: it may push the plant and returns what an
    operator asks for. The same seed and settings give the same records, bit for bit.
    """
    cores: list[ControlCore] = []
    rig = VirtualRig(
        config,
        seed,
        hint=lambda t_ns: cores[0].hint(t_ns) if cores else None,
        start=start,
        t_ns=START_NS,
        tap=tap,
        on_frame=on_frame,
    )
    planner = TimedPlanner(config)
    core = ControlCore(config, homed=rig.homing if config.sim.homed else None, planner=planner)
    cores.append(core)
    period_ns = round(config.controller.period_s * NANOSECONDS)
    # Half a second without commands lets the estimate settle, as it has on a rig that is switched on.
    quiet = round(0.5 / config.controller.period_s)
    index = 0
    while True:
        now_ns = START_NS + (index + 1) * period_ns
        requests = START_REQUESTS if index == quiet else ()
        if disturb is not None:
            requests += disturb(now_ns, rig)
        measurements = rig.advance(now_ns)
        if index == 0:
            up = LinkEvent(now_ns, Link.MOTOR, LinkState.UP, "simulated")
            measurements = (up, *measurements)
        tick = TickInput(now_ns, measurements, requests, config.optimizer.newton_steps)
        truth = rig.truth(now_ns)
        begin = time.perf_counter_ns()
        record = core.tick(tick)
        compute_ns = time.perf_counter_ns() - begin
        rig.send(now_ns, record.command)
        core.after_tick()
        solver_ns = planner.take_elapsed_ns()
        yield SimulatedTick(record, truth, TickTiming(now_ns, 0, compute_ns, solver_ns))
        index += 1
