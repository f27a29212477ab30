"""The motions that make good recordings, as functions of time and of what is seen.

A motion's programme answers a velocity [m/s], or None when it is done. The governor has the last
word: it bounds speed, slew and way, whatever is asked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cartpole.control import calm as calming
from cartpole.control.homing_words import both_pressed, switch_stays
from cartpole.errors import DeviceLost

if TYPE_CHECKING:
    from cartpole.config.schema import Config

SWEEP_M_S = 0.12
SWEEP_GIVES_UP_S = 60.0
STUCK_S = 0.7  # told to move for so long ...
STUCK_COUNTS = 10  # ... and this far at most: it does not move
CENTRE_GAIN_1_S = 1.5
KEPT_HEIGHT = 1.94  # 160 degrees
CALM_RAD = 0.05  # swings up to this need no help
CALM_S = 12.0
EXCITED = 2.0  # of height: what was to calm the pole drives it (wrong zero, sign or delay)
TOP_HEIGHT = 2.0
CENTRED_S = 0.3  # after the swing: back to the middle meanwhile
TURNS_RAD = 6.0 * math.pi  # without turning back: with friction a pole does so sooner
FAR_HEIGHT, SMALL_HEIGHT = 0.6, 0.3  # of swings of 66 and of 46 degrees
FIRST_M = 0.01  # by now the cart must go as it is told
BACKWARD = 0.5  # of that way, against its counts: something is reversed
LEAVES_S = 0.8  # a switch that was the wrong one
RELEASED_S = 1.5  # a left switch that stays pressed so long under a cart that leaves it
OVER_RAD = 1.25 * math.pi  # past the top, though a turn be a fifth off
PUMP_S = 20.0
LEAD_S = 0.08  # makes up for the delays of drive and encoder


class View(Protocol):
    """What a programme may look at."""

    @property
    def p_m(self) -> float: ...
    @property
    def v_m_s(self) -> float: ...
    @property
    def theta_rad(self) -> float: ...
    @property
    def omega_rad_s(self) -> float: ...
    @property
    def limit_low(self) -> bool: ...
    @property
    def limit_high(self) -> bool: ...
    @property
    def cart_counts(self) -> int: ...


Programme = Callable[[float, View], float | None]


@dataclass(frozen=True, slots=True)
class Move:
    """A programme and about how long it takes; ``guarded`` ones keep to the middle of the track,
    the others may reach a switch and go slowly."""

    name: str
    programme: Programme
    about_s: float
    guarded: bool = True


def hold(duration_s: float) -> Move:
    """Stand still."""

    def programme(t: float, _seen: View) -> float | None:
        return 0.0 if t < duration_s else None

    return Move("stand still", programme, duration_s, guarded=False)


def centre(config: Config) -> Move:
    """Back to the middle, by the configured scale."""
    slow = 0.3 * config.rig.velocity_limit_m_s

    def programme(t: float, seen: View) -> float | None:
        if t > 8.0 or (abs(seen.p_m) < 0.01 and t > 0.1):
            return None
        return min(max(-CENTRE_GAIN_1_S * seen.p_m, -slow), slow)

    return Move("to the middle", programme, 1.0)


def chirp(config: Config, duration_s: float = 7.0) -> Move:
    """0.5 to 4 Hz about the middle, position amplitude a third of what the track allows."""
    low_hz, high_hz = 0.5, 4.0
    speed = min(
        0.6 * config.rig.velocity_limit_m_s,
        2.0 * math.pi * low_hz * 0.35 * config.rig.position_limit_m,
    )
    rate = (high_hz - low_hz) / duration_s

    def programme(t: float, seen: View) -> float | None:
        if t > duration_s:
            return None
        wave = math.cos(2.0 * math.pi * (low_hz + 0.5 * rate * t) * t)
        return speed * wave - 0.5 * seen.p_m

    return Move("chirp", programme, duration_s)


def steps(config: Config) -> Move:
    """Jumps to and fro at full speed, then slow ones that show the dead band."""
    full, reach = 0.9 * config.rig.velocity_limit_m_s, 0.45 * config.rig.position_limit_m
    plan: list[tuple[float, float]] = []
    for share in (1.0, 1.0, 1.0, 0.6):
        speed = share * full
        run = 2.0 * reach / speed
        plan += [(speed, 0.5 * run), (-speed, run), (speed, 0.5 * run), (0.0, 0.12)]
    for speed in (0.02, 0.05, 0.1):
        plan += [(speed, 0.35), (-speed, 0.7), (speed, 0.35), (0.0, 0.1)]

    def programme(t: float, _seen: View) -> float | None:
        for speed, length in plan:
            if t < length:
                return speed
            t -= length
        return None

    return Move("steps", programme, sum(length for _, length in plan))


def swing_then_rest(config: Config, height: float, rest_s: float) -> Move:
    """Pump the pole with the cart to an energy, then stand still and let it swing.

    ``height`` is 1 - cos of the angle that it then reaches, if the pole's length is known; beyond 2
    it turns over. A pole that was not to and does so over and over is braked: a delay of its angle
    would look like another zero.
    """
    speed = 0.8 * config.rig.velocity_limit_m_s
    brake = _turning(config)
    state = {"released": -1.0, "rests": -1.0}

    def programme(t: float, seen: View) -> float | None:
        energy = height_of(config, seen)
        if state["released"] < 0.0 and (energy > height or t > 20.0):
            state["released"] = state["rests"] = t
        if state["released"] >= 0.0:
            since = t - state["rests"]
            if since <= CENTRED_S:
                return -2.0 * seen.p_m
            wish = brake(t - state["released"], seen) if height < TOP_HEIGHT else None
            if wish is not None:
                state["rests"] = t - CENTRED_S  # it rests from here on
                return wish
            return 0.0 if since <= rest_s else None
        if t < 0.25:
            return speed
        push = speed * min(1.0, max(0.15, 3.0 * (height - energy)))
        # Work on the pole is -vdot omega cos theta; v = -k sin theta makes it positive.
        return -push * math.sin(seen.theta_rad + LEAD_S * seen.omega_rad_s) - seen.p_m

    return Move("pole swings", programme, 4.0 + rest_s)


def swing_and_drive(config: Config, duration_s: float) -> Move:
    """The cart to and fro over the track while the pole swings: for lens and homography.

    The cart keeps the pole swinging far, and below the top: a pole that turns gathers speed.
    """
    reach = 0.6 * config.rig.position_limit_m
    speed = min(0.5 * config.rig.velocity_limit_m_s, 1.2)

    def programme(t: float, seen: View) -> float | None:
        if t > duration_s:
            return None
        # At a rate that grows, lest cart and pole go in step and a place always mean an angle.
        goal = reach * math.copysign(1.0, math.sin(2.0 * math.pi * t * (0.25 + 0.006 * t)))
        drive = min(max(3.0 * (goal - seen.p_m), -speed), speed)
        push = 0.3 * speed * min(max(4.0 * (KEPT_HEIGHT - height_of(config, seen)), -1.0), 1.0)
        return drive - push * math.sin(seen.theta_rad + LEAD_S * seen.omega_rad_s)

    return Move("pole swings, cart drives", programme, duration_s)


def height_of(config: Config, seen: View) -> float:
    """The pole's energy as 1 - cos of the angle that it can reach; beyond 2 it turns over."""
    coupling_gravity = 1.5 / config.pole.length_m * 9.81
    return 0.5 * seen.omega_rad_s**2 / coupling_gravity + 1.0 - math.cos(seen.theta_rad)


def turn_over(config: Config, rest_s: float) -> Move:
    """Pump the pole until it has gone over the top, then stand still and let it turn."""
    speed = 0.8 * config.rig.velocity_limit_m_s
    released_s = -1.0

    def programme(t: float, seen: View) -> float | None:
        nonlocal released_s
        if released_s < 0.0 and (abs(seen.theta_rad) > OVER_RAD or t > PUMP_S):
            released_s = t
        if released_s >= 0.0:
            return 0.0 if t - released_s < rest_s else None
        if t < 0.25:
            return speed
        return -0.5 * speed * math.sin(seen.theta_rad + LEAD_S * seen.omega_rad_s) - seen.p_m

    return Move("pole over the top", programme, 5.0 + rest_s)


def calm(config: Config) -> Move:
    """Take the pole's swing away with the cart, down to CALM_RAD; where it turns over, too."""
    return Move("calm the pole", _calming(config, 1.0 - math.cos(CALM_RAD)), 5.0)


def smaller_swing(config: Config, rest_s: float) -> Move:
    """Where the pole still swings far, make it swing less, then stand still and let it swing.

    A pole that hardly loses height shows its two frictions only by swings of two sizes.
    """
    brake = _calming(config, SMALL_HEIGHT)
    begun, released_s = False, -1.0

    def programme(t: float, seen: View) -> float | None:
        nonlocal begun, released_s
        if not begun and height_of(config, seen) < FAR_HEIGHT:
            return None
        begun = True
        if released_s < 0.0:
            wish = brake(t, seen)
            if wish is not None:
                return wish
            released_s = t
        since = t - released_s
        if since > rest_s:
            return None
        return 0.0 if since > 0.3 else -2.0 * seen.p_m

    return Move("pole swings less", programme, 2.0)  # most poles do not need it


def _turning(config: Config) -> Programme:
    """Brake a pole that turns over and over until it swings back; None while it swings."""
    brake = _calming(config, 0.0)
    begun_rad, way, braking = math.nan, 0.0, False

    def programme(t: float, seen: View) -> float | None:
        nonlocal begun_rad, way, braking
        if way * seen.omega_rad_s <= 0.0:  # it has turned back, or this is the first look
            begun_rad, way, braking = seen.theta_rad, seen.omega_rad_s, False
        braking |= abs(seen.theta_rad - begun_rad) > TURNS_RAD
        return brake(t, seen) if braking else None

    return programme


def _calming(config: Config, enough: float) -> Programme:
    """Take the pole's height away until it is ``enough``, or what was to take it adds to it."""
    coupling, fastest = 1.5 / config.pole.length_m, 0.6 * config.rig.velocity_limit_m_s
    lead_s, least = LEAD_S, math.inf

    def programme(t: float, seen: View) -> float | None:
        nonlocal least
        height = height_of(config, seen)
        least = min(least, height)
        if height < enough or t > CALM_S or height > least + EXCITED:
            return None
        wish = calming.velocity(
            seen.theta_rad,
            seen.omega_rad_s,
            coupling,
            lead_s=lead_s,
            fastest_m_s=fastest,
            room_m=config.rig.position_limit_m,
        )
        return wish + calming.spring((seen.p_m, seen.v_m_s), lead_s)

    return programme


class Sweep:
    """To the left switch, to the right one, and back to the middle, whatever the encoder's scale.

    Raises DeviceLost if the cart does not move, or a switch says what cannot be. Ends at once, and
    says why, where the cart goes against its counts (in the first centimetre), reaches the right
    switch when told left, or stays at a switch that it was told to leave.
    """

    def __init__(self, config: Config) -> None:
        self.against_counts = self.wrong_switch = False
        self._active = config.encoder.switch_active
        self._counts = config.encoder.cart_sign * FIRST_M * config.encoder.cart_counts_per_m
        self._leg, self._low, self._high = 0, 0, 0
        self._moved_s, self._moved_counts, self._pressed_s = 0.0, 0, -1.0
        self._wrong_s, self._away = 0.0, SWEEP_M_S
        self._left_right = False  # whether the cart was seen away from the right switch
        self._begun: tuple[int, float] | None = None  # counts and direction of the first way
        self._before = (False, False)  # both switches when it began
        self._sign = config.encoder.cart_sign
        self._leaving: int | None = None  # counts at the wrong switch
        self._gone = 0.0  # counts since then, in the direction that was told

    def move(self) -> Move:
        """As a guide follows it."""
        return Move("from switch to switch", self, 18.0, guarded=False)

    @property
    def failed(self) -> str:
        """Why it ended early; empty if it did not."""
        if self.against_counts:
            return "the cart moves against its counts: motor.sign or encoder.cart_sign is reversed"
        if self.wrong_switch:
            told, reached = ("left", "right") if self._away > 0.0 else ("right", "left")
            return f"told to go {told} the cart is at the {reached} switch: motor.sign is reversed"
        return ""

    @property
    def both_reversed(self) -> bool:
        """Whether the cart, on its way from the wrong switch, went as it was told by its counts."""
        return self.wrong_switch and self._gone * self._sign > 0.0

    def encoder_alone(self, low: bool, high: bool) -> bool:
        """Whether a cart that went against its counts did go as it was told: by the switches (now
        and before that way), which no sign can turn round."""
        if not self.against_counts or self._begun is None:
            return False
        if self._begun[1] < 0.0:
            return (low and not self._before[0]) or (self._before[1] and not high)
        return (high and not self._before[1]) or (self._before[0] and not low)

    def __call__(self, t: float, seen: View) -> float | None:
        """The programme."""
        self._judge(t, seen)
        self._left_right |= not seen.limit_high
        speed = self._next(t, seen)
        if speed and self._begun is None:
            self._begun = seen.cart_counts, math.copysign(1.0, speed)
            self._before = seen.limit_low, seen.limit_high
        if self._begun is not None and self._leg <= 1:
            counts, direction = self._begun
            gone = (seen.cart_counts - counts) * direction / self._counts
            if gone < -BACKWARD:
                self.against_counts = True
                return None
            if gone > 1.0:
                self._counts = math.copysign(math.inf, self._counts)  # it goes as it is told
        return speed

    def _judge(self, t: float, seen: View) -> None:
        if abs(seen.cart_counts - self._moved_counts) > STUCK_COUNTS or t == 0.0:
            self._moved_s, self._moved_counts = t, seen.cart_counts
        if t - self._moved_s > STUCK_S:
            if self._at_wrong_end(seen) and not self.wrong_switch:
                self.wrong_switch, self._wrong_s, self._moved_s = True, t, t
                self._away = -SWEEP_M_S if seen.limit_low else SWEEP_M_S
                return
            raise DeviceLost(
                "the cart does not move: motor power, e-stop, belt, the encoder's plug, or a limit "
                "switch that is pressed and not seen"
            )
        if t > SWEEP_GIVES_UP_S:
            raise DeviceLost("no limit switch after a minute; check both with `cartpole doctor`")
        if seen.limit_low and seen.limit_high:
            raise DeviceLost("; ".join(both_pressed(self._active)))
        if self._leg == 0 and t > RELEASED_S and seen.limit_low and not self.wrong_switch:
            raise DeviceLost("; ".join(switch_stays("left", self._active)))

    def _at_wrong_end(self, seen: View) -> bool:
        """Whether it stands at a switch from which it was told to go away."""
        return (self._leg == 0 and seen.limit_low) or (self._leg == 1 and seen.limit_high)

    def _next(self, t: float, seen: View) -> float | None:
        if self.wrong_switch:  # what waits for the pole to hang still must not wait here
            self._leaving = seen.cart_counts if self._leaving is None else self._leaving
            self._gone = (seen.cart_counts - self._leaving) * math.copysign(1.0, self._away)
            return self._away if t - self._wrong_s < LEAVES_S else None
        if self._leg == 0:  # away from the left switch first, so that its edge is seen
            self._pressed_s = t if seen.limit_low else self._pressed_s
            if self._pressed_s >= 0.0 and t - self._pressed_s < 0.4:
                return SWEEP_M_S
            self._leg = 1
        if self._leg == 1:
            # At first a cart may stand there, and need a while to come away.
            if seen.limit_high and (self._left_right or t > 1.0):
                self.wrong_switch, self._wrong_s = True, t
                return self._away
            if not seen.limit_low:
                return -SWEEP_M_S
            self._leg, self._low = 2, seen.cart_counts
        if self._leg == 2:
            if not seen.limit_high:
                return SWEEP_M_S
            self._leg, self._high = 3, seen.cart_counts
        if abs(seen.cart_counts - self._high) >= 0.5 * abs(self._high - self._low):
            return None
        return -SWEEP_M_S


def sweep(config: Config) -> Move:
    """See ``Sweep``."""
    return Sweep(config).move()
