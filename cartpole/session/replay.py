"""Recorded inputs into the same controller: nothing changed gives the same bits, or says where not.

With changed settings the measurements stay those of the recording, so a replay shows what the
estimator and the controller would have said at each tick, not where the rig would have gone.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cartpole.errors import SessionError
from cartpole.messages import NANOSECONDS, Request, TickInput
from cartpole.rules.control import config_of, settings_of
from cartpole.session.code import refuse_requested_code
from cartpole.session.codec import encode, plan_line
from cartpole.session.resume import FAILURES, Core, CoreFactory, Resumption, controller
from cartpole.session.summary import SummaryBuilder
from cartpole.session.ticks import COMPARED, SELDOM_READ

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import DetectionHint, Settings, TickRecord
    from cartpole.session.reader import Session
    from cartpole.session.recorded import RecordedTick
    from cartpole.session.ticks import Gap

STATE_SIGNALS = ("p_m", "v_m_s", "theta_rad", "omega_rad_s")
READ_AHEAD = 100  # ticks
MOST_KEPT = 100_000  # ticks whose values are kept for a plot
# What another build of the same controller may differ by, over a whole recording: it computes the
# same in another order, or something was mended. More is another behaviour.
OTHER_BUILD = {"p_m": 0.002, "v_m_s": 0.03, "theta_rad": 0.005, "omega_rad_s": 0.1, "u_m_s": 0.1}
SIGNALS = (*STATE_SIGNALS, "u_m_s", "plan_cost", "newton_steps")


Change = Callable[["Config"], "Config"]
# Given the controller, the recorded ticks with the inputs to feed instead.
Inputs = Callable[["Hints"], "Iterator[tuple[RecordedTick, TickInput]]"]


class Hints(Protocol):
    """Who says where the pole is expected."""

    def hint(self, t_ns: int) -> DetectionHint | None:
        """Where the tracker should look."""
        ...


@dataclass(slots=True)
class Difference:
    """The largest difference of a signal and where it is."""

    largest: float = 0.0
    tick: int = -1
    t_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """The first tick that is not the same, and in what."""

    tick: int
    t_s: float
    signals: tuple[str, ...]


@dataclass(slots=True)
class Series:
    """A signal over the ticks compared: time [s] from the recording's first tick, both values."""

    t_s: array[float] = field(default_factory=lambda: array("d"))
    recorded: array[float] = field(default_factory=lambda: array("d"))
    replayed: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class ReplayResult:
    """What a replay found; ``compared`` counts the ticks inside the time window."""

    ticks: int = 0
    compared: int = 0
    duration_s: float = 0.0
    bitwise_equal: bool = True
    first: FirstDifference | None = None
    differences: dict[str, Difference] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    skipped: int = 0
    gaps: list[Gap] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    truncated: bool = False
    changed: bool = False
    same_build: bool = True
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def gap_at(self) -> int | None:
        """The first tick that is missing."""
        return self.gaps[0].first if self.gaps else None

    @property
    def within_tolerance(self) -> bool:
        """Whether estimates and commands are those of the recording, to ``OTHER_BUILD``."""
        found = self.differences
        return all(
            found[name].largest <= most for name, most in OTHER_BUILD.items() if name in found
        )

    def figures(self) -> dict[str, Any]:
        """The summary with what differed, as plain JSON values."""
        first = None if self.first is None else dataclasses.asdict(self.first)
        differences = {name: dataclasses.asdict(d) for name, d in self.differences.items()}
        return {
            **self.summary,
            "compared_ticks": self.compared,
            "first_difference": first,
            "largest_differences": differences,
            "skipped_ticks": self.skipped,
            "within_tolerance": self.within_tolerance,
            "same_build": self.same_build,
            "gap_at_tick": self.gap_at,
            "gaps": [[gap.first, gap.following] for gap in self.gaps],
            "truncated": self.truncated,
            "left_out": self.told,
        }


def replay(
    session: Session,
    change: Change | None = None,
    *,
    make_core: CoreFactory = controller,
    from_s: float = 0.0,
    to_s: float = math.inf,
    inputs: Inputs | None = None,
    on_tick: Callable[[RecordedTick, TickRecord], None] | None = None,
    keep_series: bool = False,
    git: str = "",
    allowed: dict[str, str] | None = None,
) -> ReplayResult:
    """Feed a recording's inputs to the controller and compare what comes out.

    ``change`` maps recorded settings to those to try, also where the recording changes them on the
    way. Times are seconds from the first tick; the window limits what is compared, the controller
    always starts from the recording's beginning. ``inputs`` replaces the recorded inputs, tick by
    tick; ``keep_series`` keeps signals' values for a plot; ``allowed`` is code that the user named
    himself. Where ticks are missing the replay begins again from the next recorded state.
    Raises SessionError if the recording can be entered nowhere, UsageError if it names code.
    """

    def run(unread: frozenset[str]) -> ReplayResult:
        given = _recorded_inputs(session, unread)
        return _replay(
            session,
            change,
            make_core,
            from_s,
            to_s,
            inputs,
            given,
            on_tick,
            keep_series,
            git,
            allowed,
        )

    if keep_series or on_tick is not None:
        return run(SELDOM_READ)
    try:
        return run(COMPARED)  # bytes are compared: only what differs is decoded
    except _UnreadError:
        return run(SELDOM_READ)


class _UnreadError(Exception):
    """What a controller said differs, and what was recorded of it cannot be read."""


def _replay(
    session: Session,
    change: Change | None,
    make_core: CoreFactory,
    from_s: float,
    to_s: float,
    inputs: Inputs | None,
    recorded: Iterator[tuple[RecordedTick, TickInput]],
    on_tick: Callable[[RecordedTick, TickRecord], None] | None,
    keep_series: bool,
    git: str,
    allowed: dict[str, str] | None,
) -> ReplayResult:
    from cartpole.config.load import config_sha256

    config = session.config if change is None else change(session.config)
    resumption = Resumption(session, config, make_core, allowed)
    result = ReplayResult(changed=change is not None or inputs is not None)
    builder = SummaryBuilder(config, git, config_sha256(config))
    flown = _Flown()
    in_force: Settings | None = None  # what was asked for on the way and done
    start_ns: int | None = None
    pairs = inputs(flown) if inputs is not None else recorded
    for tick, given in pairs:
        start_ns = given.now_ns if start_ns is None else start_ns
        t_s = (given.now_ns - start_ns) / NANOSECONDS
        if t_s > to_s:
            break
        if not flown.goes_on(tick):
            if inputs is not None and (flown.core is not None or tick.line.index != 0):
                break  # what the codecs knew before is not in the recording
            flown.core = resumption.enter(tick, in_force)
            flown.restored = tick.state_before is not None
        in_force = _in_force(tick, in_force)
        if flown.core is None:
            result.skipped += 1
            continue
        record = _tick(flown, _changed(given, change, resumption, session), session)
        flown.next = tick.line.index + 1
        result.ticks += 1
        result.duration_s = t_s
        builder.add(record, tick.truth, tick.timing)
        if on_tick is not None:
            on_tick(tick, record)
        if t_s >= from_s:
            _compare(result, tick, record, t_s, keep_series)
    else:
        result.truncated = session.truncated
    result.same_build = git == session.provenance.get("git", git)
    result.gaps, result.told = list(session.account.gaps), session.told()
    if result.ticks == 0:
        raise SessionError(_why_nothing(session, result, inputs is not None))
    if result.compared == 0:
        end = f"{min(to_s, result.duration_s):g} s"
        raise SessionError(f"{session.path}: no tick from {from_s:g} s on: it was flown to {end}")
    result.summary = builder.result(str(session.path), bitwise_equal=result.bitwise_equal)
    return result


class _Flown:
    """The controller that flies just now; raw inputs ask it where to look."""

    def __init__(self) -> None:
        self.core: Core | None = None
        self.restored = False
        self.next = 0

    def goes_on(self, tick: RecordedTick) -> bool:
        """Whether the controller is ready for this tick."""
        return self.core is not None and tick.line.index == self.next

    def hint(self, t_ns: int) -> DetectionHint | None:
        """See ``Core``."""
        return None if self.core is None else self.core.hint(t_ns)


def _in_force(tick: RecordedTick, before: Settings | None) -> Settings | None:
    for request, answer in zip(tick.input.requests, tick.line.answers, strict=False):
        if request.settings is not None and answer.ok:
            before = request.settings
    return before


def _why_nothing(session: Session, result: ReplayResult, raw: bool) -> str:
    if result.skipped or raw:
        if raw and session.state is not None:
            return (
                f"{session.path} was begun in mid-run: what the codecs knew before is not in it; "
                "replay its inputs"
            )
        first = session.metadata.get("part", {}).get("first", "its first file")
        hint = f"; it continues a recording: replay {first}" if session.first_number != 1 else ""
        said = (
            f"{session.path} can be entered at none of its {session.account.whole} ticks: what the "
            f"controller remembered before is not recorded{hint}"
        )
        return "; ".join([said, *result.told])
    return "; ".join([f"{session.path} holds no whole tick", *result.told])


def _tick(flown: _Flown, given: TickInput, session: Session) -> TickRecord:
    core = flown.core
    assert core is not None
    if not flown.restored:
        return core.tick(given)
    try:
        return core.tick(given)
    except FAILURES as error:  # a core raises nothing on inputs: the state is no core's
        raise SessionError(
            f"{session.path}: no controller goes on from its state ({error})"
        ) from None


def _recorded_inputs(
    session: Session, unread: frozenset[str]
) -> Iterator[tuple[RecordedTick, TickInput]]:
    """Read in blocks: reading and controlling by turns would push each other out of the caches."""
    ticks = session.ticks(unread)
    while block := list(itertools.islice(ticks, READ_AHEAD)):
        for tick in block:
            yield tick, tick.input


def _changed(
    given: TickInput, change: Change | None, resumption: Resumption, session: Session
) -> TickInput:
    if not given.requests or all(request.settings is None for request in given.requests):
        return given

    def map_request(request: Request) -> Request:
        if request.settings is None or change is None:
            return request
        changed = settings_of(change(config_of(request.settings)))
        return dataclasses.replace(request, settings=changed)

    given = dataclasses.replace(given, requests=tuple(map(map_request, given.requests)))
    refuse_requested_code(given, resumption.allowed, str(session.path))
    return given


def differing(tick: RecordedTick, record: TickRecord) -> list[str]:
    """In what a tick is not as it was recorded, bit for bit; nothing if it is."""
    estimate, plan, exact = record.estimate, record.plan, tick.exact
    unequal = []
    if exact.get("/estimate") != (None if estimate is None else encode(estimate)):
        unequal.append("estimate")
    if exact.get("/plan") != (None if plan is None else encode(plan_line(plan))):
        unequal.append("plan")
    if exact["/command"] != encode(record.command):
        unequal.append("command")
    if record.mode is not tick.line.mode:
        unequal.append("mode")
    return unequal


def _compare(
    result: ReplayResult, tick: RecordedTick, record: TickRecord, t_s: float, keep_series: bool
) -> None:
    result.compared += 1
    unequal = differing(tick, record)
    if unequal or keep_series:
        _measure(result, tick, record, t_s, keep_series and result.compared <= MOST_KEPT)
    if unequal:
        result.bitwise_equal = False
        if result.first is None:
            result.first = FirstDifference(tick.line.index, t_s, tuple(unequal))


def _measure(
    result: ReplayResult, tick: RecordedTick, record: TickRecord, t_s: float, keep_series: bool
) -> None:
    """Take the values of both runs: largest differences, and series if wanted."""
    try:
        old_values, new_values = _recorded_values(tick), _values(record)
    except SessionError:
        raise _UnreadError from None
    for name in SIGNALS:
        old, now = old_values.get(name, math.nan), new_values.get(name, math.nan)
        if keep_series:
            series = result.series.setdefault(name, Series())
            series.t_s.append(t_s)
            series.recorded.append(old)
            series.replayed.append(now)
        difference = result.differences.setdefault(name, Difference())
        if math.isfinite(now - old) and abs(now - old) > difference.largest:
            difference.largest = abs(now - old)
            difference.tick, difference.t_s = tick.line.index, t_s


def _recorded_values(tick: RecordedTick) -> dict[str, float]:
    values = {"u_m_s": tick.command.velocity_m_s}
    if tick.estimate is not None:
        values.update(zip(STATE_SIGNALS, tick.estimate.state, strict=True))
    if tick.plan is not None:
        values["plan_cost"] = tick.plan.cost
        values["newton_steps"] = tick.plan.newton_steps
    return values


def _values(record: TickRecord) -> dict[str, float]:
    values = {"u_m_s": float(record.command.velocity_m_s)}
    if record.estimate is not None:
        values.update(zip(STATE_SIGNALS, map(float, record.estimate.state), strict=True))
    if record.plan is not None:
        values["plan_cost"] = float(record.plan.cost)
        values["newton_steps"] = float(record.plan.newton_steps)
    return values
