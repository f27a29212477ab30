"""The heart: ``ControlCore.tick(TickInput) -> TickRecord``.

No clock, no thread, no device, no file: the live daemon, the simulator in virtual time, the replay
and the fault campaign all run this object. What a tick does, in order: requests, measurements,
estimate, watch, mode, desired command, governor.

It is rules over memory: what it was told (``CoreRules``) and what it remembers (``CoreMemory``).
New settings are new rules over the same memory; a copy of the memory is a snapshot.
"""

from __future__ import annotations

import numpy as np

from cartpole.control.change import changed, limits_changed, refusal
from cartpole.control.faults import worst
from cartpole.control.governor import for_model, govern, narrowed, within
from cartpole.control.homing_records import HomingPhase, HomingStep
from cartpole.control.lookout import Lookout
from cartpole.control.memory import CoreMemory
from cartpole.control.modes import DRIVEN, FLYING, Happening
from cartpole.control.observer import Observer
from cartpole.control.pilot import Flight, Pilot, PilotMemory
from cartpole.control.planning import PlanMaker, RigPlanner
from cartpole.control.reference import Target
from cartpole.control.rules import CoreRules
from cartpole.control.standing import Standing
from cartpole.control.watch import Watch
from cartpole.control.watch_records import WatchMemory
from cartpole.errors import SessionError
from cartpole.messages import (
    NANOSECONDS,
    Answer,
    Command,
    DetectionHint,
    EncoderSample,
    Estimate,
    HomingResult,
    Mode,
    Plan,
    Request,
    RequestKind,
    Settings,
    Severity,
    TickInput,
    TickRecord,
)
from cartpole.recall import check, copied, refill

CAMERA_ROOM_M = 0.01  # with three sigma of the position: kept free while the camera alone sees it
CAMERA_SIGMAS = 3.0


class ControlCore:
    """One rig's controller.

    ``homed`` skips homing when its result is known already; ``planner`` replaces the configured one
    (a timed or a failing one).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        homed: HomingResult | None = None,
        planner: PlanMaker | None = None,
    ) -> None:
        rules: CoreRules = settings.rules
        self._planner = planner if planner is not None else RigPlanner(rules.pilot.planner)
        self._memory = CoreMemory(
            Target.fresh(rules.target),
            WatchMemory(),
            Observer.fresh(rules.observer, homed),
            PilotMemory(),
        )
        self._heard: list[EncoderSample] = []  # since the last tick
        self._events: list[str] = []
        self._follow(settings)
        self._pilot.reset()

    def _follow(self, settings: Settings) -> None:
        """Rules over the memory as it is."""
        self._settings = settings
        rules: CoreRules = settings.rules
        self._rules = rules
        memory = self._memory
        memory.pilot.planner = self._planner.memory
        self._standing = Standing(memory, rules.balance_angle_rad, self._events)
        self._observer = Observer(rules.observer, memory.observer)
        self._watch = Watch(rules.watch, memory.watch)
        self._lookout = Lookout(memory, self._standing, self._watch, self._observer)
        self._target = Target(rules.target, memory.target)
        self._pilot = Pilot(rules.pilot, memory.pilot, self._planner)

    @property
    def settings(self) -> Settings:
        """What is in force, live changes included."""
        return self._settings

    @property
    def rules(self) -> CoreRules:
        """What the settings in force tell the parts."""
        return self._rules

    @property
    def mode(self) -> Mode:
        """The present mode."""
        return self._memory.mode

    @property
    def homed(self) -> HomingResult | None:
        """What homing found; ``None`` before."""
        return self._observer.homed

    def hint(self, t_ns: int) -> DetectionHint | None:
        """Where the tracker should look at ``t_ns``; ``None`` while nothing is known."""
        return self._observer.hint(t_ns)

    def tick(self, tick: TickInput) -> TickRecord:
        """Advance to ``tick.now_ns``; raises nothing on any measurement."""
        memory = self._memory
        memory.index += 1
        self._events.clear()
        now = tick.now_ns
        answers = tuple(self._handle(request, now) for request in tick.requests)
        for measurement in tick.measurements:
            if self._lookout.absorb(measurement, now) and isinstance(measurement, EncoderSample):
                self._heard.append(measurement)
        estimate = self._observer.estimate(now)
        self._lookout.look(now, estimate)
        self._standing.advance(estimate, now)
        plan, command = self._command(tick, estimate)
        self._heard.clear()
        memory.sent_m_s, memory.sent_ns = command.velocity_m_s, now
        self._observer.add_command(now, command.velocity_m_s, driven=command.enable)
        return TickRecord(
            index=memory.index,
            input=tick,
            mode=memory.mode,
            armed=memory.armed,
            homed=self._observer.is_homed,
            estimate=estimate,
            plan=plan,
            command=command,
            target_m=self._target.at(now),
            faults=memory.faults,
            events=tuple(self._events),
            answers=answers,
        )

    def after_tick(self) -> None:
        """Work that may wait until the command is out: preparing the next plan."""
        if self.mode in FLYING:
            self._pilot.after()

    def state(self) -> CoreMemory:
        """All that is remembered, copied: to be asked between ``after_tick`` and ``tick``.

        SessionError in flight with a planner that cannot tell what it remembers.
        """
        memory = self._memory
        if memory.pilot.planner is None and memory.mode in FLYING:
            backend = self._rules.pilot.backend
            raise SessionError(f"the {backend} backend cannot be recorded from mid-flight: stop")
        return copied(memory)

    def restore(self, state: CoreMemory) -> None:
        """Go on from a state of a core with the same settings; SessionError if it is none."""
        self._pilot.expect(state.pilot)
        check(state, self._memory)
        if state.pilot.planner is None:
            self._planner.reset()
        else:
            self._planner.expect(state.pilot.planner)
        refill(self._memory, state)
        self._follow(self._settings)

    def fork(self) -> ControlCore:
        """A core that goes on from here by itself; see ``state``."""
        twin = ControlCore(self._settings)
        twin.restore(self.state())
        return twin

    # Requests

    def _handle(self, request: Request, now_ns: int) -> Answer:
        kind = request.kind
        if kind is RequestKind.ARM:
            return self._arm(now_ns)
        if kind in (RequestKind.STOP, RequestKind.DISARM):
            return self._stop(now_ns, kind.value)
        if kind is RequestKind.SWING_UP:
            return self._want_swing_up(now_ns)
        if kind is RequestKind.HOME:
            return self._want_homing(now_ns)
        if kind is RequestKind.RESET:
            return self._reset(now_ns)
        if kind is RequestKind.TARGET:
            return self._standing.tell(self._target.hold(request.value))
        if kind is RequestKind.REFERENCE and request.reference is not None:
            return self._standing.tell(self._target.follow(request.reference, now_ns))
        if kind is RequestKind.CONFIG and request.settings is not None:
            return self._reconfigure(request.settings, now_ns)
        return self._standing.refuse(f"{kind.value} refused: it came without what it asks for")

    def _arm(self, now_ns: int) -> Answer:
        if self.mode is not Mode.DISARMED:
            reset = ", reset first" if self.mode is Mode.FAULT else ""
            return self._standing.refuse(f"arm refused: {self.mode.value}{reset}")
        obstacles = self._watch.obstacles(now_ns, self._observer.is_homed)
        if obstacles:
            return self._standing.refuse(f"arm refused: {'; '.join(obstacles)}")
        self._memory.armed = True
        self._watch.rest(now_ns)
        armed = self._standing.done("armed")
        if not self._observer.is_homed:
            return Answer(True, f"{armed.text}, {self._begin_homing(now_ns).text}")
        self._standing.enter(Happening.ARM, now_ns)
        return armed

    def _begin_homing(self, now_ns: int) -> Answer:
        self._observer.forget()
        self._memory.homing = self._rules.homing.start(now_ns)
        self._standing.enter(Happening.HOME, now_ns)
        return self._standing.done("homing")

    def _stop(self, now_ns: int, why: str) -> Answer:
        self._memory.swing_up_wanted = False
        self._memory.armed = False
        self._standing.enter(Happening.STOP, now_ns)
        return self._standing.done(f"{why}: braking" if self.mode is Mode.SAFE_STOP else why)

    def _want_swing_up(self, now_ns: int) -> Answer:
        if self.mode is Mode.HOMING:
            self._memory.swing_up_wanted = True
            return Answer(True, "swing-up follows homing")
        if not self._standing.enter(Happening.SWING_UP, now_ns):
            return self._standing.refuse(f"swing-up refused: {self.mode.value}, arm first")
        self._pilot.reset()
        self._memory.flight_source = "none"
        return Answer(True, "swinging up")

    def _want_homing(self, now_ns: int) -> Answer:
        if self._observer.camera_only:
            return self._standing.done("homing is not needed: the camera sees the position")
        if self.mode is Mode.READY:
            return self._begin_homing(now_ns)
        if self.mode is Mode.DISARMED:
            self._observer.homed = None
            return self._arm(now_ns)
        return self._standing.refuse(f"homing refused: {self.mode.value}")

    def _reset(self, now_ns: int) -> Answer:
        if not self._standing.enter(Happening.RESET, now_ns):
            return self._standing.done("reset: no fault is latched")
        self._memory.faults = ()
        self._observer.forget()
        self._pilot.reset()
        return self._standing.done("reset: home again before use")

    def _reconfigure(self, settings: Settings, now_ns: int) -> Answer:
        """All of the settings or nothing of them (I9)."""
        why = refusal(self._settings, settings, self.mode)
        if why:
            self._standing.note(f"settings refused: {why}")
            return Answer(False, why)
        keys = sorted(changed(self._settings, settings))
        answer = self._standing.done(
            f"settings changed: {', '.join(keys)}" if keys else "settings unchanged"
        )
        limits = limits_changed(self._settings, settings)
        self.adopt(settings)
        homed = self._observer.homed
        if limits and homed is not None and not self._rules.homing.believes(homed):
            self._observer.forget()
            self._standing.note("homing is outside the new tolerances: home again")
        if limits and self._rules.board_keeps_limits:
            self._watch.expect_limits(now_ns)
        return answer

    def adopt(self, settings: Settings) -> None:
        """Take over settings in every part, whatever the mode; asks nobody."""
        self._planner.update(settings.rules.pilot.planner)
        if settings.rules.observer.learner != self._rules.observer.learner:
            self._observer.relearn(settings.rules.observer)
        self._follow(settings)
        moved = self._target.conform()
        if moved is not None:
            self._standing.tell(moved)

    # Mode and command

    def _command(self, tick: TickInput, estimate: Estimate | None) -> tuple[Plan | None, Command]:
        now = tick.now_ns
        acts_ns = now + round(self._observer.model.delay_s * NANOSECONDS)
        predicted = self._observer.predict(acts_ns) if estimate is not None else None
        cart = (predicted[0], predicted[1]) if predicted is not None else None
        plan, desired, at_switch = None, 0.0, False
        if self.mode is Mode.HOMING:
            step = self._home(now)
            desired, cart, at_switch = step.velocity_m_s, step.cart, step.at_switch
        elif self.mode in FLYING and predicted is not None:
            plan, desired = self._fly(tick, predicted, acts_ns)
        if self._watch.blind(now, estimate):
            desired = 0.0  # a hole: braked through (I4), and latched if it lasts
        if worst(self._memory.faults) >= Severity.BRAKE and self.mode in DRIVEN:
            self._standing.advance(estimate, now)  # raised by homing or planning: it acts at once
            desired = 0.0
        enable = self.mode in DRIVEN or self.mode is Mode.SAFE_STOP
        if not enable:
            # Disarmed: no fault is latched here any more, so let none be on the board.
            clear = self.mode is Mode.DISARMED
            return plan, Command(now, self._memory.index, 0.0, False, desired, clear_fault=clear)
        if self.mode is Mode.SAFE_STOP:
            cart = None  # the ramp to zero is already the hardest braking there is
        limits = for_model(within(self._rules.governor, self.homed), self._observer.model)
        if self._observer.doubted and estimate is not None:
            limits = narrowed(limits, CAMERA_ROOM_M + CAMERA_SIGMAS * estimate.sigma[0])
        elapsed_s = (now - self._memory.sent_ns) / NANOSECONDS
        governed = govern(desired, self._memory.sent_m_s, cart, 0.0, limits, max(elapsed_s, 0.0))
        command = Command(
            now,
            self._memory.index,
            governed.velocity_m_s,
            True,
            desired,
            governed.limited_by,
            homing=at_switch,
        )
        return plan, command

    def _fly(
        self, tick: TickInput, predicted: tuple[float, float, float, float], acts_ns: int
    ) -> tuple[Plan | None, float]:
        state = np.array([*predicted, self._memory.sent_m_s])
        self._pilot.fit(self._observer.model)
        reference = self._target.over(acts_ns, self._pilot.times_s)
        flight = self._pilot.fly(
            state, reference, tick.newton_budget, acts_ns, self._observer.model
        )
        self._tell_source(self._memory.flight_source, flight)
        self._memory.flight_source = flight.source
        if flight.source == "none":
            self._standing.latch(tick.now_ns, "no control", "")
        return flight.plan, flight.velocity_m_s

    def _tell_source(self, before: str, flight: Flight) -> None:
        """Who flies, when that changes, and why it is not the plan."""
        if flight.source == before:
            return
        if flight.source in ("bridge", "lqr", "energy"):
            why = "settings" if flight.plan is None else f"plan {flight.plan.status.name.lower()}"
            self._standing.note(f"flown by {flight.source}: {why}")
        elif before in ("bridge", "lqr", "energy"):
            self._standing.note("flown by plans again")

    def _home(self, now_ns: int) -> HomingStep:
        homing = self._rules.homing
        before = self._memory.homing or homing.start(now_ns)
        step = homing.step(before, now_ns, tuple(self._heard), self._memory.sent_m_s)
        self._memory.homing = step.state
        if step.state.phase is not before.phase:
            self._standing.note(f"homing: {step.state.phase.value}")
        if step.state.phase is HomingPhase.FAILED:
            why = f"{step.state.failure}: {step.state.advice}"
            self._standing.latch(now_ns, "homing failed", why)
        if step.result is not None:
            self._take_homing(step.result, now_ns)
        return step

    def _take_homing(self, result: HomingResult, now_ns: int) -> None:
        memory = self._memory
        self._observer.homed = result
        self._observer.learn_homing(result)
        found = f"{result.travel_m:.3f} m between the switches, gain {result.gain:.3f}"
        self._standing.note(f"homed: {found}")
        if result.ramp_m_s2:
            self._standing.latch(now_ns, "drive ramp differs", f"{result.ramp_m_s2:.1f} m/s² found")
        self._standing.enter(Happening.HOMED, now_ns)
        if memory.swing_up_wanted:
            memory.swing_up_wanted = False
            self._want_swing_up(now_ns)
