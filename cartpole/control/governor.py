"""The governor: last before the wire, never bypassed.

It knows nothing of plans. Whatever it is asked, the command it returns is finite, inside the
speed limit, no further from the previous one than the acceleration limit allows in a tick, and
small enough that the cart, braked from the next tick on, stops inside the position limit.
"""

from __future__ import annotations

import math
from dataclasses import replace

from cartpole.messages import HomingResult
from cartpole.model.parameters import ModelParameters
from cartpole.record import record


@record
class GovernorLimits:
    """SI. ``lag_s`` is taken longer than configured, since a slower drive runs further; ``gain`` is
    the speed of the cart for a command of one, never below one.
    """

    velocity_m_s: float
    acceleration_m_s2: float
    position_m: float
    stop_m: float
    margin_m: float
    lag_s: float
    notice_s: float
    period_s: float
    gain: float = 1.0


LAG_FACTOR = 1.3  # a drive this much slower than configured still stops in time


def within(limits: GovernorLimits, homed: HomingResult | None) -> GovernorLimits:
    """The limits on the track that homing found, if that is shorter than the configured one."""
    if homed is None or not 0.0 < homed.travel_m < 2.0 * limits.stop_m:
        return limits
    return replace(limits, stop_m=homed.travel_m / 2)


def for_model(limits: GovernorLimits, model: ModelParameters) -> GovernorLimits:
    """The limits for a drive that was found slower, or stronger, than the settings say.

    A driver that ramps its commands by itself brakes no harder than that: no command asks for more.
    """
    lag_s, gain = max(limits.lag_s, LAG_FACTOR * model.tau_s), max(1.0, model.gain)
    rate = min(limits.acceleration_m_s2, model.motor_acceleration_m_s2)
    if (lag_s, gain, rate) == (limits.lag_s, limits.gain, limits.acceleration_m_s2):
        return limits
    return replace(limits, lag_s=lag_s, gain=gain, acceleration_m_s2=rate)


def narrowed(limits: GovernorLimits, by_m: float) -> GovernorLimits:
    """The limits where the position is known no better than ``by_m``."""
    return replace(
        limits,
        position_m=max(limits.position_m - by_m, 0.0),
        stop_m=max(limits.stop_m - by_m, 0.0),
    )


def slew(
    desired: float, previous: float, limits: GovernorLimits, elapsed_s: float | None = None
) -> float:
    """``desired`` moved to within the acceleration of the time since ``previous`` was sent.

    After a stall the command goes on from where it was, by no more than a period's, unless it
    brakes: then the stall counts whole. The board may have stopped the drive in the meantime, and
    would be told to drive on.
    """
    period_s, acceleration = limits.period_s, limits.acceleration_m_s2
    elapsed_s = period_s if elapsed_s is None else elapsed_s
    step = acceleration * min(elapsed_s, period_s)
    braking = max(step, min(acceleration * elapsed_s, abs(previous)))
    down, up = (braking, step) if previous > 0.0 else (step, braking)
    return min(max(desired, previous - down), previous + up)


def braking_travel(command: float, limits: GovernorLimits) -> float:
    """Area under the command [m] when ``command`` is held a tick and then ramped to zero.

    Sum of the staircase u, u - a dt, ... down to zero.
    """
    step = limits.acceleration_m_s2 * limits.period_s
    whole = math.floor(abs(command) / step)
    return limits.period_s * ((whole + 1) * abs(command) - step * whole * (whole + 1) / 2)


def _largest_command(room: float, limits: GovernorLimits) -> float:
    """The largest command, up to the speed limit, whose braking travel fits into ``room`` [m]."""
    if room <= 0.0:
        return 0.0
    if room >= braking_travel(limits.velocity_m_s, limits):
        return limits.velocity_m_s
    step = limits.acceleration_m_s2 * limits.period_s
    # With n whole steps below u, travel(u) = dt ((n + 1) u - step n (n + 1) / 2).
    steps = 0
    while limits.period_s * step * (steps + 1) * (steps + 2) / 2 <= room:
        steps += 1
    return room / (limits.period_s * (steps + 1)) + step * steps / 2


def outward_bound(
    position: float, velocity: float, in_flight_m: float, limits: GovernorLimits
) -> float:
    """Largest command towards +p; ``position`` and ``velocity`` as seen along that direction.

    For a first-order lag the cart comes to rest at p + tau v + (area under all commands still to
    act), exactly; ``in_flight_m`` is the area of those already sent.
    """
    moving = max(velocity, 0.0)
    rest = position + limits.lag_s * moving + min(limits.lag_s, 0.02) * min(velocity, 0.0)
    room = (limits.position_m - rest - in_flight_m) / limits.gain
    bound = _largest_command(room, limits)
    # I2: if the host falls silent now, the drive keeps this speed for notice_s, then brakes.
    to_stop = limits.stop_m - limits.margin_m - position - in_flight_m
    if to_stop <= 0.0:
        return min(bound, 0.0)
    reach = limits.acceleration_m_s2 * (limits.notice_s + limits.lag_s)
    silent = -reach + math.sqrt(reach * reach + 2.0 * limits.acceleration_m_s2 * to_stop)
    return min(bound, silent)


@record
class Governed:
    """A command that may go out, and what limited it ("" if nothing did)."""

    velocity_m_s: float
    limited_by: str


def govern(
    desired: float,
    previous: float,
    cart: tuple[float, float] | None,
    in_flight_m: float,
    limits: GovernorLimits,
    elapsed_s: float | None = None,
) -> Governed:
    """Bound ``desired`` [m/s].

    ``cart`` is (p, v) when the command is about to act, ``None`` while the position is unknown
    (homing): then only speed and acceleration are bounded. ``previous`` is the last command, sent
    ``elapsed_s`` ago (a period where nothing is said).
    """
    reason = ""
    if not math.isfinite(desired):
        desired, reason = 0.0, "not finite"
    clamped = min(max(desired, -limits.velocity_m_s), limits.velocity_m_s)
    if clamped != desired:
        reason = "speed"
    if cart is not None and all(math.isfinite(x) for x in cart):
        position, velocity = cart
        high = outward_bound(position, velocity, in_flight_m, limits)
        low = -outward_bound(-position, -velocity, -in_flight_m, limits)
        bounded = min(max(clamped, low), high) if low <= high else 0.0
        if bounded != clamped:
            reason = "track"
        clamped = bounded
    command = slew(clamped, previous, limits, elapsed_s)
    if command != clamped:
        reason = reason or "acceleration"
    # Below a nanometre a second, zero is meant: zero on the wire is exactly zero.
    return Governed(command if abs(command) > 1e-9 else 0.0, reason)
