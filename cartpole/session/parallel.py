"""An unchanged replay on several processors: parts between recorded states are flown at once.

Each part begins with what the controller remembered there, and what it remembers at the part's end
must be, bit for bit, what the next part begins with: then the parts together are the whole. If
anything at all is not as it was recorded there is no result, and ``cartpole.session.replay``, tick
after tick, says what it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import marshal
import math
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from cartpole.errors import CartpoleError
from cartpole.messages import NANOSECONDS
from cartpole.realtime import freeze_garbage, thaw_garbage
from cartpole.session.channels import CHANNELS
from cartpole.session.code import refuse_requested_code
from cartpole.session.packing import pack, state_index
from cartpole.session.recorded import DECODE
from cartpole.session.replay import Change, Inputs, ReplayResult, differing, replay
from cartpole.session.resume import FAILURES, Resumption, remembering
from cartpole.session.summary import SummaryBuilder, TickFigures, tick_figures
from cartpole.session.ticks import COMPARED

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from cartpole.messages import TickRecord
    from cartpole.session.reader import Session
    from cartpole.session.recorded import RecordedTick

SHORTEST_S = 12.0  # a part for which another process is worth while
MOST_PROCESSES = 8
LOADING_S = 0.3
_BATCH = 500  # ticks' figures handed over at once


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def timed_replay(
    session: Session,
    change: Change | None = None,
    *,
    from_s: float = 0.0,
    to_s: float | None = None,
    inputs: Inputs | None = None,
    on_tick: Callable[[RecordedTick, TickRecord], None] | None = None,
    keep_series: bool = False,
    git: str = "",
    allowed: dict[str, str] | None = None,
) -> tuple[ReplayResult, float]:
    """What ``cartpole.session.replay.replay`` finds, the quickest way, and how many times faster
    than real time that was; loading compiled kernels, once a start, does not count."""
    with contextlib.suppress(CartpoleError):  # the first ticks for nothing: all is loaded then
        replay(session, change, to_s=LOADING_S, git=git, allowed=allowed)
    begin = time.perf_counter()
    # Nothing here makes cycles worth looking for; the search would cost a third of the time.
    freeze_garbage()
    try:
        result = None
        plain = change is None and inputs is None and on_tick is None and not keep_series
        if plain and from_s == 0.0 and to_s is None:
            result = replay_in_parts(session, processors(), git=git, allowed=allowed)
        if result is None:
            result = replay(
                session,
                change,
                from_s=from_s,
                to_s=math.inf if to_s is None else to_s,
                inputs=inputs,
                on_tick=on_tick,
                keep_series=keep_series,
                git=git,
                allowed=allowed,
            )
    finally:
        thaw_garbage()
    elapsed = time.perf_counter() - begin
    return result, round(result.duration_s / max(elapsed, 1e-9), 1)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A recorded state: after tick ``index``; messages published later belong to the next part."""

    t_ns: int
    index: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Part:
    begin: _Cut | None
    end: _Cut | None

    @property
    def between(self) -> tuple[float, float]:
        """The times [ns] after the first and up to the second of which its messages were said."""
        begin = -math.inf if self.begin is None else self.begin.t_ns
        return begin, math.inf if self.end is None else self.end.t_ns


class _Unlike(Exception):
    """Something is not as it was recorded."""


def replay_in_parts(
    session: Session,
    processes: int,
    *,
    git: str = "",
    allowed: dict[str, str] | None = None,
) -> ReplayResult | None:
    """What :func:`cartpole.session.replay.replay` says of a recording that is whole and replays bit
    for bit; None where it cannot be divided or is not so. Arguments as there."""
    try:
        parts = _parts(session, min(processes, MOST_PROCESSES))
    except CartpoleError:  # a state or a request that is none
        return None
    if len(parts) < 2:
        return None
    others = [_Child(session, part, allowed) for part in parts[1:]]
    try:
        return _gather(session, parts[0], others, git, allowed)
    except (_Unlike, CartpoleError, *FAILURES):
        return None
    finally:
        for child in others:
            child.stop()


def _gather(
    session: Session,
    first: _Part,
    others: list[_Child],
    git: str,
    allowed: dict[str, str] | None,
) -> ReplayResult:
    from cartpole.config.load import config_sha256

    builder = SummaryBuilder(session.config, git, config_sha256(session.config))
    figures = itertools.chain(_fly(session, first, allowed), *(child.figures() for child in others))
    result = ReplayResult(same_build=git == session.provenance.get("git", git))
    start_ns = now_ns = 0
    for tick in figures:
        now_ns = tick.now_ns
        start_ns = start_ns if result.ticks else now_ns
        result.ticks += 1
        builder.take(tick)
    result.compared = result.ticks
    result.duration_s = (now_ns - start_ns) / NANOSECONDS
    session.account.whole = result.ticks
    result.summary = builder.result(str(session.path), bitwise_equal=True)
    return result


def _parts(session: Session, processes: int) -> list[_Part]:
    """As many as there are processes, cut at the states that divide the time best."""
    states: list[_Cut] = []
    first_ns = last_ns = 0
    changed = False  # a part that begins later would have to know the settings of the requests
    wanted = frozenset({"/state", "/tick", "/request"})
    for topic, _, now_ns, data in session.messages(frozenset(CHANNELS) - wanted):
        if topic == "/tick":
            first_ns = min(first_ns or now_ns, now_ns)
            last_ns = max(last_ns, now_ns)
        elif topic == "/state" and not changed:
            states.append(_Cut(now_ns, state_index(data), hashlib.sha256(data).hexdigest()))
        elif topic == "/request":
            changed = changed or DECODE[topic](data).config is not None
    parts = min(processes, int((last_ns - first_ns) / NANOSECONDS / SHORTEST_S))
    cuts: list[_Cut] = []
    for k in range(1, parts):
        wished = first_ns + k * (last_ns - first_ns) // parts
        best = min(states, key=lambda one: abs(one.t_ns - wished), default=None)
        if best is not None and first_ns < best.t_ns < last_ns and best not in cuts:
            cuts.append(best)
    ends = [None, *sorted(cuts, key=lambda cut: cut.index), None]
    return [_Part(begin, end) for begin, end in itertools.pairwise(ends)]


def _fly(session: Session, part: _Part, allowed: dict[str, str] | None) -> Iterator[TickFigures]:
    """The part's figures, each when it is known to be as recorded."""
    resumption = Resumption(session, session.config, allowed=allowed)
    core = None
    following = None if part.begin is None else part.begin.index + 1
    for tick in session.ticks(COMPARED, part.between, following):
        if core is None:
            core = resumption.enter(tick)
            following = tick.line.index if following is None else following
        if core is None or tick.line.index != following:
            raise _Unlike
        refuse_requested_code(tick.input, resumption.allowed, str(session.path))
        record = core.tick(tick.input)
        if differing(tick, record):
            raise _Unlike
        following += 1
        yield tick_figures(record, tick.truth, tick.timing)
    if core is None or session.told():
        raise _Unlike
    first, last = session.claimed
    if part.begin is None and first not in (None, session.account.first):
        raise _Unlike
    if part.end is None and last not in (None, session.account.following - 1):
        raise _Unlike
    if part.end is not None:
        state = pack(remembering(core))
        if following != part.end.index + 1 or hashlib.sha256(state).hexdigest() != part.end.sha256:
            raise _Unlike


class _Child:
    """A process that flies a part; its figures come by a file that has no name."""

    def __init__(self, session: Session, part: _Part, allowed: dict[str, str] | None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        sys.stdout.flush()
        sys.stderr.flush()
        context = multiprocessing.get_context("fork")  # with the kernels that are loaded already
        self._process: BaseProcess = context.Process(
            target=_work, args=(session, part, allowed, self._file), daemon=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which it does not use
            self._process.start()

    def figures(self) -> Iterator[TickFigures]:
        """What it found, when it is done; ``_Unlike`` if that is not a whole part."""
        self._process.join()
        if self._process.exitcode != 0:
            raise _Unlike
        self._file.seek(0)
        while batch := marshal.load(self._file):
            yield from map(TickFigures._make, batch)

    def stop(self) -> None:
        """End it, whatever it does."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()
        self._file.close()


def _work(session: Session, part: _Part, allowed: dict[str, str] | None, file: IO[bytes]) -> None:
    try:
        batch: list[tuple[object, ...]] = []
        for tick in _fly(session, part, allowed):
            batch.append(tuple(tick))
            if len(batch) == _BATCH:
                marshal.dump(batch, file)
                batch = []
        marshal.dump(batch, file)
        if batch:
            marshal.dump([], file)
        file.flush()
    except (_Unlike, CartpoleError, OSError, *FAILURES):
        os._exit(1)
