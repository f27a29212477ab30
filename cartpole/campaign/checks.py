"""More of what a run is held against: I3 by the board, I5 and I8 by a recording, I9 by asking.

I3  the board gives the command up by itself, its time-out after the last one that came
I5  a recording cut off anywhere reads up to its last whole chunk
I8  the recording, replayed, gives every tick again bit for bit
I9  settings are wholly old or wholly new; a limit does not change while the drive is on
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cartpole.control.core import ControlCore
from cartpole.errors import SessionError
from cartpole.messages import NANOSECONDS, Mode, Request, RequestKind, Settings
from cartpole.rules.control import settings_of
from cartpole.session.mcap_scan import scan
from cartpole.session.reader import open_session
from cartpole.session.replay import replay
from cartpole.session.writer import SessionWriter

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.sim.plant import Plant
    from cartpole.sim.run import SimulatedTick, VirtualRun

Found = tuple[str, str]  # invariant, why

SLACK_NS = 2_000_000  # a time-out is looked at no more often than the board's loop turns
RECORDED_EVERY = 256  # of so many seeds two are recorded, one of them with a fault
CUTS = 4
STREAM = 78  # of the random numbers that cut
ASKED_AFTER_S = 1.0  # of flight: other settings are asked for


def recorded(seed: int) -> bool:
    """Whether the run of a seed is recorded, read and replayed: it takes as long as to fly it."""
    return seed % RECORDED_EVERY in (21, 22)


class Silence:
    """I3, from what the drive was told and when; asked before each command is written."""

    def __init__(self, config: Config) -> None:
        sim, safety = config.sim, config.safety
        held_s = safety.board_timeout_s + sim.commands_burst_s
        self._most_ns = round(held_s * NANOSECONDS) + SLACK_NS
        self._last_ns: int | None = None

    def before(self, t_ns: int, plant: Plant) -> Iterator[Found]:
        """At ``t_ns`` the next command is written."""
        last_ns, self._last_ns = self._last_ns, t_ns
        if last_ns is None or t_ns - last_ns <= self._most_ns:
            return
        told_ns, velocity = plant.told
        if velocity != 0.0 or told_ns - last_ns > self._most_ns:
            since_ms = ((t_ns if velocity else told_ns) - last_ns) / 1e6
            yield "I3", f"the board drives on {since_ms:.0f} ms after the last command"


class Asking:
    """I9: in flight, once, for a limit that must not change then and a weight that might."""

    def __init__(self, config: Config) -> None:
        tree = config.model_dump()
        tree["rig"]["velocity_limit_m_s"] *= 0.9
        tree["controller"]["weights"]["angle"] *= 1.1
        self._other = settings_of(type(config).model_validate(tree))
        self._before: Settings | None = None
        self._asked = False

    def request(self, core: ControlCore, flown_s: float) -> tuple[Request, ...]:
        """What is asked for in the next tick."""
        self._before = None
        if self._asked or flown_s < ASKED_AFTER_S or core.mode not in (Mode.SWING_UP, Mode.BALANCE):
            return ()
        self._asked, self._before = True, core.settings
        return (Request(RequestKind.CONFIG, settings=self._other),)

    def after(self, core: ControlCore) -> Iterator[Found]:
        """What is in force after that tick."""
        old, new = self._before, core.settings
        if old is None:
            return
        if new.values != old.values and new.values != self._other.values:
            yield "I9", "settings partly taken over"
        elif new.values != old.values or core.rules.governor != old.rules.governor:
            yield "I9", "a limit changed while the drive was on"


class Kept:
    """I5 and I8: the run's recording, cut off and replayed."""

    def __init__(self, config: Config, run: VirtualRun, seed: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cartpole-campaign-")
        self._path = Path(self._folder.name) / "run.mcap"
        self._writer = SessionWriter(self._path, config, live=False)
        self._writer.put_start(run.homed)
        self._taken: list[int] = []  # times of the ticks
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))

    def take(self, tick: SimulatedTick) -> None:
        """The next tick."""
        self._taken.append(tick.record.input.now_ns)
        self._writer.put_tick(tick.record, tick.truth, tick.timing)

    def judge(self, *, replayed: bool) -> list[Found]:
        """At the end; ``replayed`` where the core's planner was its own all the way."""
        self._writer.close()
        found = list(self._cut())
        if replayed:
            found += self._replayed()
        self._folder.cleanup()
        return found

    def _replayed(self) -> Iterator[Found]:
        try:
            result = replay(open_session(self._path))
        except SessionError as error:  # not a tick of it can be read
            yield "I8", f"it cannot be replayed: {error}"
            return
        if not result.bitwise_equal:
            yield "I8", f"replayed, it differs: {result.first}"

    def _cut(self) -> Iterator[Found]:
        data, regions = self._path.read_bytes(), scan(self._path)
        if _times(self._path) != self._taken:
            yield "I5", "the whole recording does not hold every tick"
        ends = [a + b for a, b in zip(regions.offsets, regions.lengths, strict=True)]
        until = _sure_ends(np.asarray(regions.ends, dtype=np.int64)).tolist()
        first = ends[0] if ends else len(data) - 1
        for cut in self._rng.integers(first, len(data), CUTS).tolist():
            beside = self._path.with_name("cut.mcap")
            beside.write_bytes(data[:cut])
            whole = [t for t, end in zip(until, ends, strict=True) if end <= cut]
            must = [t_ns for t_ns in self._taken if t_ns < max(whole, default=0)]
            read = _times(beside)
            if read[: len(must)] != must:
                yield "I5", f"cut at byte {cut}, {len(read)} of {len(must)} ticks can be read"


def _sure_ends(ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Until when chunks that seem to end at ``ends`` (n,) [ns] hold every tick for sure.

    A frame's stamp that jumped an hour ahead makes its chunk seem to end there: it holds no less
    than the chunks before it.
    """
    later = np.minimum.accumulate(ends[::-1])[::-1]
    return np.maximum.accumulate(np.where(ends > later, 0, ends))


def _times(path: Path) -> list[int]:
    """Of the ticks that can be read [ns]."""
    return [tick.line.now_ns for tick in open_session(path).ticks()]
