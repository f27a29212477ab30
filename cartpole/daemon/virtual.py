"""A whole run in virtual time: simulated rig, controller, summary and, if wanted, a recording."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.errors import SessionError
from cartpole.messages import NANOSECONDS, Mode, TickRecord
from cartpole.session.provenance import provenance
from cartpole.session.summary import SummaryBuilder
from cartpole.sim.run import VirtualRun

if TYPE_CHECKING:
    from cartpole.config.schema import Config

STATE_EVERY_TICKS = 1500
GIVE_UP_S = 120.0  # homing that takes longer than this never ends


def run_virtual(
    config: Config,
    duration_s: float,
    summary: SummaryBuilder,
    record: Path | None = None,
    advance: Callable[[float], None] = lambda _done: None,
) -> TickRecord:
    """Run until ``duration_s`` after the first tick of SWING_UP; returns the last record.

    A run that ends in FAULT, or never reaches SWING_UP, stops early. Raises SessionError if the
    recording cannot be created.
    """
    if record is None:
        return _fly(VirtualRun(config, config.sim.seed), config, duration_s, summary.add, advance)
    from cartpole.session.writer import SessionWriter

    with SessionWriter(record, config, provenance(config), live=False) as writer:
        run = VirtualRun(config, config.sim.seed, tap=writer.put_raw, on_frame=writer.put_frame)
        writer.put_start(run.homed)

        def keep(*tick: object) -> None:
            summary.add(*tick)  # type: ignore[arg-type]
            writer.put_tick(*tick)  # type: ignore[arg-type]
            record = tick[0]
            assert isinstance(record, TickRecord)
            if writer.wants_state or record.index % STATE_EVERY_TICKS == STATE_EVERY_TICKS - 1:
                with contextlib.suppress(SessionError):  # a planner that cannot tell
                    writer.put_state(record.input.now_ns, run.core.state())

        return _fly(run, config, duration_s, keep, advance)


def _fly(
    run: VirtualRun,
    config: Config,
    duration_s: float,
    keep: Callable[..., None],
    advance: Callable[[float], None],
) -> TickRecord:
    started_ns: int | None = None
    first_ns: int | None = None
    for tick in run.ticks():
        now_ns = tick.record.input.now_ns
        first_ns = now_ns if first_ns is None else first_ns
        if started_ns is None and tick.record.mode is Mode.SWING_UP:
            started_ns = now_ns
        keep(tick.record, tick.truth, tick.timing)
        since_ns = first_ns if started_ns is None else started_ns
        elapsed_s = (now_ns - since_ns) / NANOSECONDS + config.controller.period_s
        advance(elapsed_s)
        limit_s = GIVE_UP_S if started_ns is None else duration_s
        # A hair less than the limit: whole ticks only.
        if elapsed_s >= limit_s - 1e-6 or tick.record.mode is Mode.FAULT:
            return tick.record
    raise AssertionError("the simulation is endless")
