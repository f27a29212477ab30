"""The heart: ``ControlCore.tick(TickInput) -> TickRecord``.

No clock, no thread, no device, no file: the live daemon, the simulator in virtual time, the replay
and the fault campaign all run this object. What a tick does, in order: requests, measurements,
estimate, watch, mode, desired command, governor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cartpole.config.load import changed_keys
from cartpole.control.change import limits_changed, refusal
from cartpole.control.faults import FaultLatch
from cartpole.control.governor import govern, limits_from
from cartpole.control.homing import Homing, HomingPhase, HomingState
from cartpole.control.modes import DRIVEN, FLYING, Situation, next_mode
from cartpole.control.observer import Observer
from cartpole.control.pilot import Flight, Pilot
from cartpole.control.planning import PlanMaker
from cartpole.control.reference import Target
from cartpole.control.state import CoreState
from cartpole.control.watch import Watch
from cartpole.errors import SessionError
from cartpole.messages import (
    NANOSECONDS,
    Answer,
    Command,
    DetectionHint,
    Estimate,
    HomingResult,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Mode,
    Plan,
    Request,
    RequestKind,
    Severity,
    TickInput,
    TickRecord,
)

if TYPE_CHECKING:
    from cartpole.config.schema import Config

AT_REST_M_S = 0.02
BRAKING_GIVES_UP_S = 1.0
CONSISTENCY_EVERY = 50  # ticks


class ControlCore:
    """One rig's controller.

    ``homed`` skips homing when its result is known already; ``planner`` replaces the configured one
    (a timed or a failing one).
    """

    def __init__(
        self,
        config: Config,
        *,
        homed: HomingResult | None = None,
        planner: PlanMaker | None = None,
    ) -> None:
        self._config = config
        self._observer = Observer(config, homed)
        self._pilot = Pilot(config, planner)
        self._watch = Watch(config)
        self._latch = FaultLatch()
        self._homing = Homing(config)
        self._homing_state: HomingState | None = None
        self._target = Target(config)
        self._limits = limits_from(config)
        self._delay_ns = round(config.motor.delay_s * NANOSECONDS)
        self._mode = Mode.DISARMED
        self._armed = False
        self._swing_up_wanted = False
        self._index = -1
        self._sent_m_s = 0.0
        self._flight = Flight(0.0, None, "none")
        self._stopping_since_ns = -1
        self._events: list[str] = []

    @property
    def config(self) -> Config:
        """The settings in force, live changes included."""
        return self._config

    @property
    def mode(self) -> Mode:
        """The present mode."""
        return self._mode

    @property
    def homed(self) -> HomingResult | None:
        """What homing found; ``None`` before."""
        return self._observer.homed

    def hint(self, t_ns: int) -> DetectionHint | None:
        """Where the tracker should look at ``t_ns``; ``None`` while nothing is known."""
        return self._observer.hint(t_ns)

    def tick(self, tick: TickInput) -> TickRecord:
        """Advance to ``tick.now_ns``; raises nothing on any measurement."""
        self._index += 1
        self._events = []
        now = tick.now_ns
        answers = tuple(self._handle(request, now) for request in tick.requests)
        for measurement in tick.measurements:
            self._absorb(measurement)
        estimate = self._observer.estimate(now)
        self._look_after(now, estimate)
        self._advance_mode(estimate, now)
        plan, command = self._command(tick, estimate)
        self._sent_m_s = command.velocity_m_s
        self._observer.add_command(now, command.velocity_m_s)
        return TickRecord(
            index=self._index,
            input=tick,
            mode=self._mode,
            armed=self._armed,
            homed=self._observer.is_homed,
            estimate=estimate,
            plan=plan,
            command=command,
            target_m=self._target.at(now),
            faults=self._latch.latched,
            events=tuple(self._events),
            answers=answers,
        )

    def after_tick(self) -> None:
        """Work that may wait until the command is out: preparing the next plan."""
        if self._mode in FLYING:
            self._pilot.after()

    def state(self) -> CoreState:
        """All that is remembered, copied: to be asked between ``after_tick`` and ``tick``.

        SessionError in flight with a planner that cannot tell what it remembers.
        """
        pilot = self._pilot.state()
        if pilot.planner is None and self._mode in FLYING:
            backend = self._config.optimizer.backend
            raise SessionError(f"the {backend} backend cannot be recorded from mid-flight: stop")
        return CoreState(
            index=self._index,
            mode=self._mode,
            armed=self._armed,
            swing_up_wanted=self._swing_up_wanted,
            sent_m_s=self._sent_m_s,
            flight_source=self._flight.source,
            stopping_since_ns=self._stopping_since_ns,
            faults=self._latch.latched,
            homing=self._homing_state,
            target=self._target.state(),
            watch=self._watch.state(),
            observer=self._observer.state(),
            pilot=pilot,
        )

    def restore(self, state: CoreState) -> None:
        """Go on from a state of a core with the same settings; SessionError if it is none."""
        self._index, self._mode, self._armed = state.index, state.mode, state.armed
        self._swing_up_wanted = state.swing_up_wanted
        self._sent_m_s = state.sent_m_s
        self._flight = Flight(state.sent_m_s, None, state.flight_source)
        self._stopping_since_ns = state.stopping_since_ns
        self._latch.restore(state.faults)
        self._homing_state = state.homing
        self._target.restore(state.target)
        self._watch.restore(state.watch)
        self._observer.restore(state.observer)
        self._pilot.restore(state.pilot)

    # Requests

    def _handle(self, request: Request, now_ns: int) -> Answer:
        kind = request.kind
        if kind is RequestKind.ARM:
            return self._arm(now_ns)
        if kind in (RequestKind.STOP, RequestKind.DISARM):
            return self._stop(now_ns, kind.value)
        if kind is RequestKind.SWING_UP:
            return self._want_swing_up()
        if kind is RequestKind.HOME:
            return self._want_homing(now_ns)
        if kind is RequestKind.RESET:
            return self._reset()
        if kind is RequestKind.TARGET:
            return self._tell(self._target.hold(request.value))
        if kind is RequestKind.REFERENCE and request.reference is not None:
            return self._tell(self._target.follow(request.reference, now_ns))
        if kind is RequestKind.CONFIG and request.config is not None:
            return self._reconfigure(request.config, now_ns)
        return self._refuse(f"{kind.value} refused: it came without what it asks for")

    def _note(self, text: str) -> None:
        self._events.append(text)

    def _tell(self, answer: Answer) -> Answer:
        """An answer is an event, too."""
        self._note(answer.text)
        return answer

    def _done(self, text: str) -> Answer:
        return self._tell(Answer(True, text))

    def _refuse(self, text: str) -> Answer:
        return self._tell(Answer(False, text))

    def _arm(self, now_ns: int) -> Answer:
        if self._mode is not Mode.DISARMED:
            reset = ", reset first" if self._mode is Mode.FAULT else ""
            return self._refuse(f"arm refused: {self._mode.value}{reset}")
        obstacles = self._watch.obstacles(now_ns)
        if obstacles:
            return self._refuse(f"arm refused: {'; '.join(obstacles)}")
        self._armed = True
        self._watch.rest(now_ns)
        armed = self._done("armed")
        if not self._observer.is_homed:
            return Answer(True, f"{armed.text}, {self._begin_homing(now_ns).text}")
        self._mode = Mode.READY
        return armed

    def _begin_homing(self, now_ns: int) -> Answer:
        self._observer.forget()
        self._homing_state = self._homing.start(now_ns)
        self._mode = Mode.HOMING
        return self._done("homing")

    def _stop(self, now_ns: int, why: str) -> Answer:
        self._swing_up_wanted = False
        self._armed = False
        if self._mode in DRIVEN:
            self._mode = Mode.SAFE_STOP
            self._stopping_since_ns = now_ns
        return self._done(f"{why}: braking" if self._mode is Mode.SAFE_STOP else why)

    def _want_swing_up(self) -> Answer:
        if self._mode is Mode.READY:
            self._pilot.reset()
            self._flight = Flight(0.0, None, "none")
            self._mode = Mode.SWING_UP
            return Answer(True, "swinging up")
        if self._mode is Mode.HOMING:
            self._swing_up_wanted = True
            return Answer(True, "swing-up follows homing")
        return self._refuse(f"swing-up refused: {self._mode.value}, arm first")

    def _want_homing(self, now_ns: int) -> Answer:
        if self._observer.camera_only:
            return self._done("homing is not needed: the camera sees the position")
        if self._mode is Mode.READY:
            return self._begin_homing(now_ns)
        if self._mode is Mode.DISARMED:
            self._observer.homed = None
            return self._arm(now_ns)
        return self._refuse(f"homing refused: {self._mode.value}")

    def _reset(self) -> Answer:
        if self._mode is not Mode.FAULT:
            return self._done("reset: no fault is latched")
        self._latch.clear()
        self._observer.forget()
        self._pilot.reset()
        self._mode = Mode.DISARMED
        return self._done("reset: home again before use")

    def _reconfigure(self, config: Config, now_ns: int) -> Answer:
        """All of ``config`` or nothing of it (I9)."""
        why = refusal(self._config, config, self._mode)
        if why:
            self._note(f"settings refused: {why}")
            return Answer(False, why)
        changed = sorted(changed_keys(self._config, config))
        answer = self._done(
            f"settings changed: {', '.join(changed)}" if changed else "settings unchanged"
        )
        limits = limits_changed(self._config, config)
        self.adopt(config)
        homed = self._observer.homed
        if limits and homed is not None and not self._homing.believes(homed):
            self._observer.forget()
            self._note("homing is outside the new tolerances: home again")
        if limits and config.motor.protocol == "bridge":
            self._watch.expect_limits(now_ns)
        return answer

    def adopt(self, config: Config) -> None:
        """Take over settings in every part, whatever the mode; asks nobody."""
        self._config = config
        self._observer.update(config)
        self._pilot.update(config)
        moved = self._target.update(config)
        if moved is not None:
            self._tell(moved)
        self._limits = limits_from(config)
        self._watch.update(config)
        self._homing = Homing(config)

    # Measurements and faults

    def _absorb(self, measurement: Measurement) -> None:
        for name, detail in self._watch.absorb(measurement):
            if self._armed or self._mode in DRIVEN:
                self._raise(measurement.t_ns, name, detail)
        self._observer.take(measurement)
        if isinstance(measurement, LinkEvent):
            self._absorb_link(measurement)

    def _absorb_link(self, event: LinkEvent) -> None:
        self._note(f"{event.link.value} {event.state.value}: {event.detail}")
        down = event.link is Link.ENCODER and event.state is LinkState.DOWN
        if down and self._observer.homed is not None:
            self._observer.forget()  # the board may have restarted

    def _raise(self, t_ns: int, name: str, detail: str) -> None:
        fault = self._latch.raise_fault(t_ns, name, detail)
        if fault is None:
            return
        self._note(f"{fault.severity.name.lower()}: {name}: {fault.meaning}; {fault.next_step}")
        if fault.severity >= Severity.BRAKE:
            self._armed = False
            self._swing_up_wanted = False

    def _look_after(self, now_ns: int, estimate: Estimate | None) -> None:
        if self._mode not in DRIVEN:
            self._watch.rest(now_ns)
            return
        faults = self._watch.check(
            now_ns,
            estimate,
            self._sent_m_s,
            self._observer.residual_m,
            self._mode is Mode.HOMING,
        )
        for name, detail in faults:
            self._raise(now_ns, name, detail)
        if self._index % CONSISTENCY_EVERY == 0 and self._observer.initialised:
            error_s = self._observer.camera_delay_error_s()
            if error_s is not None:
                self._raise(now_ns, "camera delay", f"by {1000 * error_s:+.1f} ms")
            else:
                self._latch.drop("camera delay")
        if self._watch.camera_back(now_ns) and self._latch.drop("camera lost"):
            self._note("camera is back")

    # Mode and command

    def _advance_mode(self, estimate: Estimate | None, now_ns: int) -> None:
        angle = math.nan
        speed = 0.0
        if estimate is not None:
            angle = math.remainder(estimate.state[2] - math.pi, 2.0 * math.pi)
            speed = estimate.state[1]
        waited = now_ns - self._stopping_since_ns > BRAKING_GIVES_UP_S * NANOSECONDS
        situation = Situation(
            worst=self._latch.worst,
            at_rest=self._sent_m_s == 0.0 and (abs(speed) < AT_REST_M_S or waited),
            flight_source=self._flight.source,
            angle_rad=angle,
            balance_angle_rad=self._config.controller.balance_angle_rad,
        )
        following = next_mode(self._mode, situation)
        if following is not self._mode:
            self._note(f"{self._mode.value} -> {following.value}")
            if following is Mode.SAFE_STOP:
                self._stopping_since_ns = now_ns
            if following in (Mode.FAULT, Mode.DISARMED):
                self._armed = False
        self._mode = following

    def _command(self, tick: TickInput, estimate: Estimate | None) -> tuple[Plan | None, Command]:
        now = tick.now_ns
        acts_ns = now + self._delay_ns
        predicted = self._observer.predict(acts_ns) if estimate is not None else None
        plan, desired = self._desired(tick, predicted, acts_ns)
        enable = self._mode in DRIVEN or self._mode is Mode.SAFE_STOP
        if not enable:
            # Disarmed: no fault is latched here any more, so let none be on the board.
            clear = self._mode is Mode.DISARMED
            return plan, Command(now, self._index, 0.0, False, desired, clear_fault=clear)
        cart = (predicted[0], predicted[1]) if predicted is not None else None
        if self._mode is Mode.SAFE_STOP:
            cart = None  # the ramp to zero is already the hardest braking there is
        governed = govern(desired, self._sent_m_s, cart, 0.0, self._limits)
        command = Command(
            now,
            self._index,
            governed.velocity_m_s,
            True,
            desired,
            governed.limited_by,
            homing=self._mode is Mode.HOMING,
        )
        return plan, command

    def _desired(
        self,
        tick: TickInput,
        predicted: tuple[float, float, float, float] | None,
        acts_ns: int,
    ) -> tuple[Plan | None, float]:
        if self._mode is Mode.HOMING:
            return None, self._home(tick.now_ns)
        if self._mode not in FLYING or predicted is None:
            return None, 0.0
        state = np.array([*predicted, self._sent_m_s])
        reference = self._target.over(acts_ns, self._pilot.times_s)
        self._flight = self._pilot.fly(state, reference, tick.newton_budget, acts_ns)
        self._observer.believe(self._pilot.model)
        if self._flight.source == "none":
            self._raise(tick.now_ns, "no control", "")
        return self._flight.plan, self._flight.velocity_m_s

    def _home(self, now_ns: int) -> float:
        if self._homing_state is None or self._observer.sample is None:
            return 0.0
        step = self._homing.step(self._homing_state, now_ns, self._observer.sample)
        if step.state.phase is not self._homing_state.phase:
            self._note(f"homing: {step.state.phase.value}")
        self._homing_state = step.state
        if step.state.phase is HomingPhase.FAILED:
            self._raise(now_ns, "homing failed", f"{step.state.failure}: {step.state.advice}")
        if step.result is not None:
            self._observer.homed = step.result
            self._note(f"homed: {step.result.travel_m:.3f} m between the switches, "
                       f"gain {step.result.gain:.3f}")  # fmt: skip
            self._mode = Mode.READY
            if self._swing_up_wanted:
                self._swing_up_wanted = False
                self._want_swing_up()
        return step.velocity_m_s
