"""What devices, watch and observer say, turned into faults that are latched, or over.

Over the core's memory, once for every measurement and once a tick; what it finds, it tells
``Standing``.
"""

from __future__ import annotations

from cartpole.control.memory import CoreMemory
from cartpole.control.modes import DRIVEN, FLYING
from cartpole.control.observer import Observer
from cartpole.control.standing import Standing
from cartpole.control.watch import Watch
from cartpole.control.watch_records import Looked
from cartpole.messages import OMEGA, Estimate, Link, LinkEvent, LinkState, Measurement, Mode

CONSISTENCY_EVERY = 50  # ticks
DELAY_STRIKES = 3  # in a row: a swing-up's transients are not the camera's delay
LARGE_DELAY_S, LARGE_TICKS = 0.003, 3  # of what is as large they make fewer, twice, while the pole
TELLS_RAD_S = 1.0  # ... is as fast
SAME_SHARE = 0.5  # two opinions that differ by less are one


class Lookout:
    """Between the parts that notice and the one that latches."""

    def __init__(
        self, memory: CoreMemory, standing: Standing, watch: Watch, observer: Observer
    ) -> None:
        self._memory, self._standing = memory, standing
        self._watch, self._observer = watch, observer

    def absorb(self, measurement: Measurement, now_ns: int) -> bool:
        """Give a measurement to watch and observer; whether it can be believed."""
        strange = self._watch.unbelievable(measurement, now_ns)
        if self._watch.strange(strange):
            self._standing.note(strange)
        if strange:
            return False
        for name, detail in self._watch.absorb(measurement):
            self._latch_in_use(measurement.t_ns, name, detail)
        self._observer.take(measurement)
        if isinstance(measurement, LinkEvent):
            self._absorb_link(measurement)
        return True

    def _latch_in_use(self, t_ns: int, name: str, detail: str) -> None:
        if self._memory.armed or self._memory.mode in DRIVEN:
            self._standing.latch(t_ns, name, detail)

    def _absorb_link(self, event: LinkEvent) -> None:
        self._standing.note(f"{event.link.value} {event.state.value}: {event.detail}")
        if event.link is not Link.ENCODER or event.state is not LinkState.DOWN:
            return
        if self._memory.mode in FLYING and self._watch.camera_back(event.t_ns):
            self._observer.doubt()  # flown by the camera until the counts agree with it again
            return
        self._latch_in_use(event.t_ns, "encoder lost", event.detail)
        if self._observer.homed is not None:
            self._observer.forget()  # the board may have restarted

    def look(self, now_ns: int, estimate: Estimate | None) -> None:
        """Once a tick, after its measurements."""
        memory, observer = self._memory, self._observer
        if memory.mode not in DRIVEN:
            self._watch.rest(now_ns)
            return
        looked = Looked(
            estimate=estimate,
            command_m_s=memory.sent_m_s,
            sequence=memory.index - 1,
            enabled=memory.armed,
            camera_residual_m=observer.residual_m(now_ns),
            camera_misfits=observer.misfits,
            doubted=observer.doubted,
            homing=memory.mode is Mode.HOMING,
        )
        for name, detail in self._watch.check(now_ns, looked):
            self._standing.latch(now_ns, name, detail)
            if name == "encoder silent":
                observer.doubt()
        for name in observer.culprits(now_ns):
            self._standing.latch(now_ns, name, "")
        if memory.index % CONSISTENCY_EVERY == 0 and observer.initialised:
            for finding in observer.findings():
                self._standing.latch(now_ns, finding.name, finding.detail)
            self._check_delay(now_ns)
        if estimate is not None and abs(estimate.state[OMEGA]) > TELLS_RAD_S:
            self._check_large_delay(now_ns)
        self._see_what_is_over(now_ns)

    def _see_what_is_over(self, now_ns: int) -> None:
        if not self._memory.faults:
            return
        if self._watch.camera_back(now_ns) and self._standing.drop("camera lost"):
            self._standing.note("camera is back")
        if not self._observer.doubted and self._standing.drop("encoder silent"):
            self._standing.note("the encoder board is back, its counts agree with the camera")
        if self._observer.misfits == 0:
            self._standing.drop("camera rejected")

    def _check_delay(self, now_ns: int) -> None:
        error_s = self._observer.camera_delay_error_s()
        if error_s is None:
            self._memory.delay_strikes = 0
            if self._observer.camera_late_s == 0.0:
                self._standing.drop("camera delay")
            else:  # it was found in a swing, and roughly
                self._observer.correct_delay()
            return
        self._memory.delay_strikes += 1
        if self._memory.delay_strikes >= DELAY_STRIKES:
            self._name_delay(now_ns)

    def _check_large_delay(self, now_ns: int) -> None:
        """A delay that is certain, and found again from what came after, is wrong.

        What a model that is still to be learned leaves looks like one, too, but does not come back.
        """
        memory, error_s = self._memory, self._observer.camera_delay_error_s(LARGE_DELAY_S)
        memory.delay_ticks = memory.delay_ticks + 1 if error_s is not None else 0
        if error_s is None or memory.delay_ticks < LARGE_TICKS:
            return
        first_s, memory.delay_opinion_s, memory.delay_ticks = memory.delay_opinion_s, 0.0, 0
        if abs(error_s - first_s) < SAME_SHARE * abs(first_s):
            self._name_delay(now_ns)
        else:
            memory.delay_opinion_s = error_s
            self._observer.doubt_delay()

    def _name_delay(self, now_ns: int) -> None:
        self._observer.correct_delay()
        late_ms = 1000.0 * self._observer.camera_late_s
        self._standing.latch(now_ns, "camera delay", f"by {late_ms:+.1f} ms")
