"""One run of the campaign: the daemon's own core on a rig that lies, breaks and is watched.

Everything that is judged comes from the rig's truth, from the wire's bytes and from the records;
the core does not know that it is tried.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cartpole.campaign.checks import Asking, Found, Kept, Silence, recorded
from cartpole.campaign.draw import Draw
from cartpole.campaign.judge import Flown, Outcome, judge
from cartpole.campaign.strikes import STRIKES, Board, Hand
from cartpole.control.modes import FLYING
from cartpole.control.timed_planner import TimedPlanner
from cartpole.messages import (
    NANOSECONDS,
    FloatArray,
    Link,
    LinkEvent,
    LinkState,
    Mode,
    Plan,
    PlanStatus,
    Request,
    RequestKind,
    Severity,
)
from cartpole.model.parameters import ModelParameters
from cartpole.rules.optimizer import planner_rules
from cartpole.session.invariants import Invariants, Seen, Violation, WireCommands
from cartpole.sim.run import QUIET_S, START_NS, SimulatedTick, VirtualRun

if TYPE_CHECKING:
    from cartpole.config.schema import Config

FLIGHT_S = 20.0
READY_BY_S = 40.0  # a run that does not swing up by then was refused
MISHEARD = "I2 where the drive misheard its command"
READY_TICKS = 5  # an operator who looks before asking for the swing-up
GOOD = (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)
Watcher = Callable[[SimulatedTick], None]


class TroubledPlanner(TimedPlanner):
    """The configured planner, whose next plan comes to ``status`` where one is set."""

    status: PlanStatus | None = None

    def plan(
        self,
        state: FloatArray,
        reference: FloatArray,
        newton_budget: int,
        start_ns: int,
        model: ModelParameters | None = None,
    ) -> Plan:
        """See ``PlanMaker``."""
        plan = super().plan(state, reference, newton_budget, start_ns, model)
        return plan if self.status is None else replace(plan, status=self.status)


class _Run:
    """One flight while it flies."""

    def __init__(self, draw: Draw, config: Config, watch: Watcher | None) -> None:
        self.draw, self.config = draw, config
        self.strike = STRIKES[draw.strike] if draw.strike is not None else None
        self.planner = TroubledPlanner(planner_rules(config))
        self.wire: list[tuple[int, float]] = []
        self._words = WireCommands(config)
        self.run = VirtualRun(config, draw.seed, tap=self._tap, requests=(), planner=self.planner)
        self.board = Board() if config.motor.protocol == "bridge" else None
        self.invariants = Invariants(config)
        self._silence, self._asking = Silence(config), Asking(config)
        self.kept = Kept(config, self.run, draw.seed) if recorded(draw.seed) else None
        self.own_plans = True  # no plan was spoilt from outside
        self.outcome = Outcome(self.strike, draw.strike_at_s)
        self.violations: list[Violation] = []
        self.counts: dict[str, Counter[str]] = {
            "modes": Counter(), "plan_statuses": Counter(), "fallbacks": Counter(),
            "faults": Counter(), "left_out": Counter(),
        }  # fmt: skip
        self._watch = watch
        self._period_ns = round(config.controller.period_s * NANOSECONDS)
        # A silent drive holds its speed, lags, brakes no harder than its ramp; and some more.
        true, sim = self.run.rig.plant.parameters, config.sim
        held_s = config.safety.board_timeout_s + sim.commands_burst_s + true.delay_s
        self._coast_s = held_s + true.tau_s + 0.05
        hardest = min(true.motor_acceleration_m_s2, sim.drive_ramp_m_s2 or math.inf)
        self._brake = 0.5 / hardest
        self._near_end_m = config.rig.track_length_m / 2 - 0.02
        self._command: Any = None
        self._struck_ns: int | None = None
        self.first_flying_ns: int | None = None

    def _tap(self, t_ns: int, link: str, direction: str, data: bytes) -> None:
        if (link, direction) == ("motor", "out"):
            if self._obeys:
                self._note(t_ns, self._silence.before(t_ns, self.run.rig.plant))
            self.wire += [(t_ns, u) for u in self._words.feed(data)]

    @property
    def _obeys(self) -> bool:
        """Whether the drive does what it is told."""
        return self.strike is None or self.strike.obeys or self._struck_ns is None

    def _note(self, t_ns: int, found: Iterable[Found]) -> None:
        self.violations += [Violation(name, -1, t_ns, why) for name, why in found]

    def fly(self) -> int:
        """Fly to the end; the last tick's time."""
        now_ns, index, ready = START_NS, 0, 0
        quiet = round(QUIET_S * NANOSECONDS / self._period_ns)
        while True:
            hand = Hand(self.run.rig, self.board, now_ns=now_ns + self._period_ns,
                        period_ns=self._period_ns)  # fmt: skip
            if index == quiet:
                hand.requests.append(Request(RequestKind.ARM))
            ready = ready + 1 if self.run.core.mode is Mode.READY else 0
            if ready == READY_TICKS:
                hand.requests.append(Request(RequestKind.SWING_UP))
            if self.first_flying_ns is not None:
                flown_s = (now_ns - self.first_flying_ns) / NANOSECONDS
                hand.requests.extend(self._asking.request(self.run.core, flown_s))
            self._strike(hand)
            now_ns = hand.now_ns + hand.pause_ns
            if self._tick(now_ns, hand, first=index == 0):
                return now_ns
            index += 1

    def _strike(self, hand: Hand) -> None:
        if self.strike is None:
            return
        if self._struck_ns is None:
            since = self.first_flying_ns
            due = since is not None and (
                hand.now_ns >= since + round(self.draw.strike_at_s * NANOSECONDS)
            )
            if not (due or self.strike.from_start):
                return
            self._struck_ns = hand.now_ns
        since_s = (hand.now_ns - self._struck_ns) / NANOSECONDS
        self.strike.act(hand, since_s, self.draw.size, self.draw.side)

    def _tick(self, now_ns: int, hand: Hand, *, first: bool = False) -> bool:
        """One tick; whether the run is over."""
        said = list(hand.said)
        if first:
            said.append(LinkEvent(now_ns, Link.MOTOR, LinkState.UP, "simulated"))
        if self.board is not None:
            said += self.board.say(now_ns, self._command)
        self.planner.status = hand.plan_status
        self.wire.clear()
        tick = self.run.step(now_ns, tuple(hand.requests), tuple(said), hand.budget)
        self._command = tick.record.command
        if self.board is not None:
            self.board.hear(tick.record.command)
        self._note(now_ns, self._asking.after(self.run.core))
        self.own_plans &= hand.plan_status is None
        if self.kept is not None:
            self.kept.take(tick)
        self._judge(tick)
        if self._watch is not None:
            self._watch(tick)
        return self.outcome.over(now_ns, self._limit_ns())

    def _limit_ns(self) -> int:
        if self.first_flying_ns is None:
            return START_NS + round(READY_BY_S * NANOSECONDS)
        return self.first_flying_ns + round(FLIGHT_S * NANOSECONDS)

    def _judge(self, tick: SimulatedTick) -> None:
        record = tick.record
        now_ns = record.input.now_ns
        seen = Seen(
            commands=tuple(self.wire),
            farthest_m=self._farthest(tick) if self._obeys else 0.0,
            rest_margin_m=None if self.strike is None else self.strike.rest_margin_m,
        )
        self.violations += self.invariants.check(record, tick.truth, seen)
        if self.first_flying_ns is None and record.mode is Mode.SWING_UP:
            self.first_flying_ns = now_ns
        self.counts["modes"][record.mode.value] += 1
        if record.plan is not None:
            self.counts["plan_statuses"][record.plan.status.name] += 1
            if record.mode in FLYING and record.plan.status not in GOOD:
                bridged = record.mode is not Mode.LQR_FALLBACK
                self.counts["fallbacks"]["last good plan" if bridged else "feedback"] += 1
        self.outcome.take(tick, self._struck_ns)
        for fault in record.faults:
            self.counts["faults"].setdefault(fault.name, 1)

    def _farthest(self, tick: SimulatedTick) -> float:
        """How far the cart would go if no command followed; cheap where that is far from ends.

        What was sent before was held against the ends in its own tick.
        """
        p, v = tick.truth[0], tick.truth[1]
        u = tick.record.command.velocity_m_s
        for side in (1.0, -1.0):
            speed = max(side * v, side * u, 0.0)
            if side * p + speed * (self._coast_s + speed * self._brake) >= self._near_end_m:
                if self.run.rig.misheard:  # what the host sent would have kept the promise
                    self.counts["left_out"][MISHEARD] += 1
                    break
                timeout_s = self.config.safety.board_timeout_s
                return self.run.rig.plant.farthest_if_silent(timeout_s)
        return abs(p)

    def try_again(self, now_ns: int) -> str:
        """I10: the cause gone and a reset, the rig homes again within a second; else what is wrong.

        Only asked of a run that ended in FAULT.
        """
        trouble = self.run.rig.trouble
        for name in trouble.__slots__:
            setattr(trouble, name, getattr(type(trouble)(), name))
        if self.board is not None:
            self.board = Board(boot_id=self.board.boot_id)
        asked: dict[int, tuple[Request, ...]] = {
            25: (Request(RequestKind.RESET),),
            30: (Request(RequestKind.ARM),),
        }
        for k in range(75):
            now_ns += self._period_ns
            hand = Hand(self.run.rig, self.board, now_ns=now_ns)
            hand.requests.extend(asked.get(k, ()))
            if k == 0:
                hand.said += [
                    LinkEvent(now_ns, link, LinkState.UP, "plugged in again")
                    for link in (Link.ENCODER, Link.MOTOR, Link.CAMERA)
                ]
            self._tick(now_ns, hand)
            if self.run.core.mode in (Mode.HOMING, Mode.READY):
                return ""
        return f"after a reset it stays in {self.run.core.mode.value}"


def fly(draw: Draw, base: Config, watch: Watcher | None = None) -> Flown:
    """Fly one draw over the settings ``base``; ``watch`` is shown every tick."""
    flown = Flown(draw.seed, draw.names, draw.strike)
    begin = time.perf_counter()
    config = draw.config(base)
    run = _Run(draw, config, watch)
    now_ns = run.fly()
    outcome = run.outcome
    flown.upright_s = outcome.upright_s(run.first_flying_ns)
    judge(flown, outcome)
    if run.run.core.mode is Mode.FAULT and (run.strike is None or run.strike.obeys):
        late = run.try_again(now_ns)
        if late and not _outside(run):
            run.violations.append(Violation("I10", -1, now_ns, late))
    if run.kept is not None:
        run.violations += [
            Violation(name, -1, now_ns, why) for name, why in run.kept.judge(replayed=run.own_plans)
        ]
    tally = Counter(violation.invariant for violation in run.violations)
    flown.violations = dict(tally)
    if run.violations:
        first = run.violations[0]
        at_s = (first.t_ns - START_NS) / NANOSECONDS
        flown.first_violation = f"{first.invariant} at {at_s:.2f} s: {first.why}"
    for name, counter in run.counts.items():
        setattr(flown, name, dict(counter))
    sim = config.sim
    flown.mismatch = (
        (sim.length_m or config.pole.length_m) / config.pole.length_m,
        (sim.tau_s or config.motor.tau_s) / config.motor.tau_s,
    )
    flown.simulated_s = (now_ns - START_NS) / NANOSECONDS
    flown.wall_s = time.perf_counter() - begin
    flown.why = _why(flown)
    return flown


def _outside(run: _Run) -> bool:
    """Whether the cart came to rest on a switch, where nobody lets it home."""
    return any(fault.severity is Severity.OFF for fault in run.outcome.last_faults) and any(
        run.run.rig.plant.limits(run.run.rig.plant.t_ns)
    )


def _why(flown: Flown) -> str:
    """What failed in a run, in a few words; empty if nothing did."""
    if flown.violations:
        return flown.first_violation
    if flown.fault is None:
        if flown.causes:
            return f"without a fault: {', '.join(flown.causes)}"
        up = flown.upright_s
        if up is None or not math.isfinite(up):
            return "not upright at the end"
        return "" if up <= 8.0 else f"upright only after {up:.1f} s"
    named = f" ({', '.join(flown.causes)})" if flown.causes else ""
    if not flown.end_right:
        return f"{flown.fault} ended in {flown.end}{named}"
    return "" if flown.cause_right else f"{flown.fault} was named {', '.join(flown.causes)}"
