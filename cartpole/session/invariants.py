"""What must hold in every tick of every run, whatever broke: I1, I2, I4, I6 and I7.

I1  on the wire |v| <= v_max and |dv| <= a_max dt; a drive that is off is commanded zero
I2  moving outward, the way to the stop is at least |v| (t_d + tau) + v^2 / (2 a) + the margin
I4  no non-zero command comes from a state older than the stale limit
I6  a latched fault clears only by a reset, and the most severe one rules
I7  only finite commands leave, exactly one a tick, sequence strictly growing, no bursts
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from cartpole.control.change import refusal
from cartpole.messages import NANOSECONDS, Fault, Mode, RequestKind, Settings, Severity
from cartpole.rules.control import config_of, settings_of

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import TickRecord

INVARIANTS = ("I1", "I2", "I4", "I6", "I7")
_ROUNDING = 1e-9
# A filter's velocity is not the truth: so much way to the stop may be missing by its error alone.
_ESTIMATE_ERROR_M = 0.003
_SHORTEST_PERIOD = 0.25  # of the configured one; two commands closer than this are a burst

Vector4 = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    tick: int
    t_ns: int
    why: str


class Invariants:
    """Holds records against the invariants, one after the other."""

    def __init__(self, config: Config) -> None:
        self._previous: TickRecord | None = None
        self._take_limits(settings_of(config))

    def _take_limits(self, told: Settings) -> None:
        self._settings, config = told, config_of(told)
        self._velocity = config.rig.velocity_limit_m_s
        self._acceleration = min(config.rig.acceleration_limit_m_s2, config.motor.acceleration_m_s2)
        self._slew = config.rig.acceleration_limit_m_s2 * config.controller.period_s
        self._period_ns = config.controller.period_s * NANOSECONDS
        self._stop = config.rig.track_length_m / 2
        self._margin = config.safety.stop_margin_m
        notice_s = config.safety.board_timeout_s + config.controller.period_s
        self._reach_s = notice_s + config.motor.tau_s
        self._stale_ns = config.safety.stale_state_s * NANOSECONDS

    def check(self, record: TickRecord, truth: Vector4 | None = None) -> list[Violation]:
        """What the next record violates; ``truth`` is a simulated rig's state at its time."""
        for told in self._taken_over(record):
            self._take_limits(told)
        found = [
            *self._wire(record),
            *self._way_to_stop(record, truth),
            *self._age(record),
            *self._faults(record),
            *self._sequence(record),
        ]
        self._previous = record
        now = record.input.now_ns
        return [Violation(name, record.index, now, why) for name, why in found]

    def _taken_over(self, record: TickRecord) -> Iterable[Settings]:
        """The settings that the core took over in this tick."""
        mode = Mode.DISARMED if self._previous is None else self._previous.mode
        for request, answer in zip_longest(record.input.requests, record.answers):
            if request.settings is None:
                continue
            # A recording from before there were answers: what the core decides by.
            if answer.ok if answer else not refusal(self._settings, request.settings, mode):
                yield request.settings

    def _wire(self, record: TickRecord) -> Iterable[tuple[str, str]]:
        command = record.command
        u = command.velocity_m_s
        if abs(u) > self._velocity + _ROUNDING:
            yield "I1", f"command {u:.6g} m/s beyond {self._velocity} m/s"
        if not command.enable and u != 0.0:
            yield "I1", f"the drive is off but commanded {u:.6g} m/s"
        if not command.enable:
            return
        if self._previous is None and record.index > 0:
            return  # begun in mid-run: what went before is unknown
        before = self._previous.command.velocity_m_s if self._previous is not None else 0.0
        if abs(u - before) > self._slew + _ROUNDING:
            yield "I1", f"command steps by {u - before:.6g} m/s, {self._slew:.6g} allowed"

    def _way_to_stop(self, record: TickRecord, truth: Vector4 | None) -> Iterable[tuple[str, str]]:
        if not record.command.enable or record.mode is Mode.HOMING or not record.homed:
            return
        state = truth
        allowance = 0.0
        if state is None:
            if record.estimate is None or not record.estimate.valid:
                return
            state, allowance = record.estimate.state, _ESTIMATE_ERROR_M
        p, v = state[0], state[1]
        if p * v <= 0.0:
            return
        way = self._stop - abs(p)
        speed = abs(v)
        needed = speed * self._reach_s + speed * speed / (2 * self._acceleration) + self._margin
        if way < needed - allowance - _ROUNDING:
            yield "I2", f"{way:.4f} m to the stop at {speed:.4f} m/s, {needed:.4f} m needed"

    def _age(self, record: TickRecord) -> Iterable[tuple[str, str]]:
        # Homing steers by the counts alone, and braking must not wait for a state.
        if record.command.velocity_m_s == 0.0 or record.mode in (Mode.HOMING, Mode.SAFE_STOP):
            return
        estimate = record.estimate
        if estimate is None:
            yield "I4", "a command without a state"
            return
        ages = [age for age in (estimate.camera_age_ns, estimate.encoder_age_ns) if age >= 0]
        if not ages or min(ages) > self._stale_ns:
            age = f"{min(ages) / 1e6:.1f} ms" if ages else "unknown"
            yield "I4", f"a command from a state whose newest measurement is {age} old"

    def _faults(self, record: TickRecord) -> Iterable[tuple[str, str]]:
        worst = max((fault.severity for fault in record.faults), default=Severity.WARNING)
        if worst is Severity.OFF and (record.command.enable or record.mode is not Mode.FAULT):
            yield "I6", f"a fault that turns the drive off is latched in {record.mode.value}"
        if worst is Severity.BRAKE and record.mode not in (
            Mode.SAFE_STOP,
            Mode.FAULT,
            Mode.DISARMED,
        ):
            yield "I6", f"a fault that brakes is latched in {record.mode.value}"
        if self._previous is None:
            return
        if any(request.kind is RequestKind.RESET for request in record.input.requests):
            return
        still = {_key(fault) for fault in record.faults}
        for fault in self._previous.faults:
            if fault.severity >= Severity.BRAKE and _key(fault) not in still:
                yield "I6", f"{fault.name!r} cleared without a reset"

    def _sequence(self, record: TickRecord) -> Iterable[tuple[str, str]]:
        command, previous = record.command, self._previous
        if not math.isfinite(command.velocity_m_s):
            yield "I7", "a command that is no number"
        if previous is None:
            return
        if record.index != previous.index + 1:
            yield "I7", f"tick {record.index} follows tick {previous.index}"
        if command.sequence <= previous.command.sequence:
            yield "I7", f"sequence {command.sequence} follows {previous.command.sequence}"
        if command.t_ns - previous.command.t_ns < _SHORTEST_PERIOD * self._period_ns:
            apart = (command.t_ns - previous.command.t_ns) / 1e6
            yield "I7", f"two commands {apart:.2f} ms apart"


def _key(fault: Fault) -> tuple[str, int]:
    return fault.name, fault.t_ns
