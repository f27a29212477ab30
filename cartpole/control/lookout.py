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
from cartpole.estimation.delay import Delay
from cartpole.messages import Estimate, Link, LinkEvent, LinkState, Measurement, Mode

CONSISTENCY_EVERY = 50  # ticks


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
        if observer.initialised:
            due = memory.index % CONSISTENCY_EVERY == 0
            for finding in observer.findings() if due else ():
                self._standing.latch(now_ns, finding.name, finding.detail)
            self._hear_of_stamps(now_ns, due=due)
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

    def _hear_of_stamps(self, now_ns: int, *, due: bool) -> None:
        verdict = self._observer.judge_delay(now_ns, due=due)
        if verdict is Delay.RIGHT:
            self._standing.drop("camera delay")
        elif verdict is Delay.WRONG:
            late_ms = 1000.0 * self._observer.camera_late_s
            self._standing.latch(now_ns, "camera delay", f"by {late_ms:+.1f} ms")
