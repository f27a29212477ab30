"""What must hold in every tick of every run, whatever broke: I1, I2, I4, I6 and I7.

I1  on the wire |v| <= v_max and |dv| <= a_max dt; a drive that is off is commanded zero
I2  if the host died in this tick, the cart would come to rest before the switch, margin kept
I4  no non-zero command comes from a state older than the stale limit
I6  a latched fault clears only by a reset, the most severe one rules, and the wire obeys
I7  only finite commands leave, exactly one a tick, sequence strictly growing, no bursts

What the core says of itself is not believed where something else tells: ``Seen`` holds the
commands read from the wire's bytes and, from a simulated rig's truth, how far the cart would go.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise, zip_longest
from typing import TYPE_CHECKING

from cartpole.control.change import refusal
from cartpole.messages import (
    NANOSECONDS,
    Detection,
    DetectionStatus,
    EncoderSample,
    Fault,
    Mode,
    RequestKind,
    Settings,
    Severity,
)
from cartpole.model.dynamics import cart_step
from cartpole.record import record
from cartpole.rules.control import config_of, settings_of
from firmware_bridge.arduino_ascii import LineSplitter
from firmware_bridge.sabertooth_text import SabertoothText, parse_command

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import TickRecord
    from cartpole.session.reader import Session

INVARIANTS = ("I1", "I2", "I4", "I6", "I7")
_ROUNDING = 1e-9
# An estimate is not the truth: so much way may be missing by its error alone, and by its sigma.
_ESTIMATE_ERROR_M = 0.003
_SIGMAS = 3.0
_SHORTEST_PERIOD = 0.25  # of the configured one; two commands closer than this are a burst
_ON_TIME = 0.9  # of the period; a tick that is no earlier may change the command by a whole step
_COAST_STEP_S = 0.01

Vector4 = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    tick: int
    t_ns: int
    why: str


@record
class Seen:
    """What was seen from outside between this tick and the next.

    ``commands`` are (when, m/s) as the wire's bytes say; ``farthest_m`` the largest |p| of a cart
    whose host died now, from the true state; ``rest_margin_m`` how far from the switch it must end.
    ``None`` where nobody saw.
    """

    commands: tuple[tuple[int, float], ...] | None = None
    farthest_m: float | None = None
    rest_margin_m: float | None = None


NOTHING_SEEN = Seen()


class WireCommands:
    """Commands out of the bytes that went to a motor driver that takes text."""

    def __init__(self, config: Config) -> None:
        self._driver = SabertoothText.from_config(config.motor)
        self._splitter = LineSplitter()

    def feed(self, data: bytes) -> list[float]:
        """Velocities [m/s], as the configured driver understands them."""
        found = (parse_command(line) for line in self._splitter.split(data))
        return [self._driver.velocity_m_s(units) for _, units in filter(None, found)]


class Invariants:
    """Holds records against the invariants, one after the other."""

    def __init__(self, config: Config) -> None:
        self._previous: TickRecord | None = None
        self._wire_before: tuple[int, float] | None = None
        self._heard_ns = -1
        self._take_limits(settings_of(config))

    def _take_limits(self, told: Settings) -> None:
        self._settings, config = told, config_of(told)
        self._velocity = config.rig.velocity_limit_m_s
        self._acceleration = min(config.rig.acceleration_limit_m_s2, config.motor.acceleration_m_s2)
        self._period_ns = config.controller.period_s * NANOSECONDS
        self._slew = config.rig.acceleration_limit_m_s2 / NANOSECONDS
        self._stop = config.rig.track_length_m / 2
        self._margin = config.safety.stop_margin_m
        self._timeout_s = config.safety.board_timeout_s + config.motor.delay_s
        self._ramps = config.motor.protocol == "bridge"  # the text driver stops at once
        self._motor = (config.motor.tau_s, config.motor.acceleration_m_s2)
        # The driver's units are whole: a command on the wire is rounded.
        self._quantum = 1.0 / config.motor.counts_per_m_s
        self._stale_ns = config.safety.stale_state_s * NANOSECONDS

    def check(
        self, record: TickRecord, truth: Vector4 | None = None, seen: Seen = NOTHING_SEEN
    ) -> list[Violation]:
        """What the next record violates; ``truth`` is a simulated rig's state at its time."""
        for told in self._taken_over(record):
            self._take_limits(told)
        found = [
            *self._commanded(record),
            *self._wire(record, seen),
            *self._way_to_stop(record, truth, seen),
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

    def _step_allowed(self, elapsed_ns: float) -> float:
        """The largest change of the command that the elapsed time allows [m/s]."""
        if elapsed_ns >= _ON_TIME * self._period_ns:
            return self._slew * max(elapsed_ns, self._period_ns)
        return self._slew * (elapsed_ns + (1.0 - _ON_TIME) * self._period_ns)

    def _commanded(self, record: TickRecord) -> Iterable[tuple[str, str]]:
        command = record.command
        u = command.velocity_m_s
        if abs(u) > self._velocity + _ROUNDING:
            yield "I1", f"command {u:.6g} m/s beyond {self._velocity} m/s"
        if not command.enable and u != 0.0:
            yield "I1", f"the drive is off but commanded {u:.6g} m/s"
        if not command.enable:
            return
        previous = self._previous
        if previous is None and record.index > 0:
            return  # begun in mid-run: what went before is unknown
        before = previous.command.velocity_m_s if previous is not None else 0.0
        elapsed_ns = record.input.now_ns - previous.input.now_ns if previous else self._period_ns
        allowed = self._step_allowed(elapsed_ns)
        if abs(u - before) > allowed + _ROUNDING:
            yield "I1", f"command steps by {u - before:.6g} m/s, {allowed:.6g} allowed"

    def _wire(self, record: TickRecord, seen: Seen) -> Iterable[tuple[str, str]]:
        if seen.commands is None:
            return
        if len(seen.commands) != 1:
            yield "I7", f"{len(seen.commands)} commands on the wire in one tick"
        severe = max((fault.severity for fault in record.faults), default=Severity.WARNING)
        for t_ns, u in seen.commands:
            if abs(u) > self._velocity + self._quantum:
                yield "I1", f"{u:.6g} m/s on the wire, {self._velocity} m/s allowed"
            before = self._wire_before
            self._wire_before = (t_ns, u)
            if before is None or u == 0.0:
                continue
            if abs(u - before[1]) > self._step_allowed(t_ns - before[0]) + 2 * self._quantum:
                yield "I1", f"the wire steps from {before[1]:.6g} to {u:.6g} m/s"
            if severe is Severity.OFF or (
                severe is Severity.BRAKE and abs(u) > abs(before[1]) + self._quantum
            ):
                yield "I6", f"{u:.6g} m/s on the wire with {record.faults[-1].name!r} latched"

    def _way_to_stop(
        self, record: TickRecord, truth: Vector4 | None, seen: Seen
    ) -> Iterable[tuple[str, str]]:
        if not record.command.enable or record.mode is Mode.HOMING or not record.homed:
            return
        margin, farthest = self._margin, seen.farthest_m
        if seen.rest_margin_m is not None:
            margin = seen.rest_margin_m
        if farthest is None:
            state = truth
            if state is None:
                estimate = record.estimate
                if estimate is None or not estimate.valid:
                    return
                state = estimate.state
                margin -= _ESTIMATE_ERROR_M + _SIGMAS * estimate.sigma[0]
            farthest = self._farthest(state[0], state[1], record.command.velocity_m_s)
        if farthest > self._stop - margin + _ROUNDING:
            yield "I2", f"if the host died now the cart would go to {farthest:.4f} m"

    def _farthest(self, p: float, v: float, u: float) -> float:
        """Largest |p| when ``u`` is held for the board's time-out and then given up."""
        if abs(p) + max(abs(v), abs(u)) * (self._timeout_s + 0.5) < self._stop - self._margin:
            return abs(p)  # far from any switch: nothing to compute
        far, held_s = abs(p), self._timeout_s
        drop = self._acceleration * _COAST_STEP_S if self._ramps else abs(u)
        while abs(v) > 1e-3 or held_s > 0.0:
            p, v = cart_step(p, v, u, _COAST_STEP_S, *self._motor)
            far = max(far, abs(p))
            held_s -= _COAST_STEP_S
            if held_s <= 0.0:
                u = math.copysign(max(abs(u) - drop, 0.0), u)
        return far

    def _age(self, record: TickRecord) -> Iterable[tuple[str, str]]:
        for item in record.input.measurements:
            fresh = isinstance(item, EncoderSample) or (
                isinstance(item, Detection) and item.status is DetectionStatus.OK
            )
            if fresh:  # a stamp of the future is no younger than what brought it
                self._heard_ns = max(self._heard_ns, min(item.t_ns, item.arrival_ns))  # type: ignore[union-attr]
        # Homing steers by the counts alone, and braking must not wait for a state.
        braking = record.command.requested_m_s == 0.0
        if record.command.velocity_m_s == 0.0 or braking or record.mode is Mode.HOMING:
            return
        estimate = record.estimate
        if estimate is None:
            yield "I4", "a command without a state"
            return
        now_ns = record.input.now_ns
        ages = [age for age in (estimate.camera_age_ns, estimate.encoder_age_ns) if age >= 0]
        if not ages or min(ages) > self._stale_ns:
            age = f"{min(ages) / 1e6:.1f} ms" if ages else "unknown"
            yield "I4", f"a command from a state whose newest measurement is {age} old"
        elif self._heard_ns >= 0 and now_ns - self._heard_ns > self._stale_ns:
            age = f"{(now_ns - self._heard_ns) / 1e6:.1f} ms"
            yield "I4", f"a command {age} after the last thing that anything measured"

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


def wire_of(session: Session) -> list[tuple[int, float]]:
    """The commands in the recorded bytes, where the driver takes text; else none."""
    if session.config.motor.protocol != "sabertooth_text":
        return []
    words = WireCommands(session.config)
    pieces = (p for p in session.raw() if (p.link, p.direction) == ("motor", "out"))
    return [(piece.t_ns, u) for piece in pieces for u in words.feed(piece.data)]


def held_against(session: Session, wire: list[tuple[int, float]]) -> Iterator[list[Violation]]:
    """What each tick violates."""
    invariants, taken = Invariants(session.config), 0
    for tick, following in pairwise(chain(session.ticks(), (None,))):
        if tick is None:
            return
        until = following.input.now_ns if following is not None else None
        first = taken
        while taken < len(wire) and (until is None or wire[taken][0] < until):
            taken += 1
        mine = tuple(c for c in wire[first:taken] if c[0] >= tick.input.now_ns)
        # The last tick, and ports that open or close, write of their own accord.
        seen = Seen(mine) if wire and following is not None and len(mine) == 1 else Seen()
        yield invariants.check(tick.record_without_arrays(), tick.truth, seen)
