"""Every fault that the campaign injects: what it does, how it must end, what it must be called.

A fault acts through what a rig can do (`cartpole.sim.trouble`), what a host can do (ticks that come
late, plans that fail) or what a board can say; the core is never told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cartpole.messages import (
    NANOSECONDS,
    BoardStatus,
    Command,
    DetectionStatus,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    PlanStatus,
    Request,
    RequestKind,
)

if TYPE_CHECKING:
    from cartpole.sim.rig import VirtualRig
    from cartpole.sim.trouble import Trouble


class End(StrEnum):
    """Where a run is after its fault."""

    RUN = "RUN"  # flies on, nothing latched
    DEGRADED = "DEG"  # flies on, a fault that degrades or warns is named
    BRAKED = "S1"
    OFF = "S0"
    REFUSED = "REFUSE"  # never armed, or the request refused
    STOPPED = "STOP"  # asked to


@dataclass(slots=True)
class Board:
    """What a drive's board of its own says of itself, one status a tick."""

    boot_id: int = 1
    estop: bool = False
    fault_code: int = 0
    refuses: bool = False
    acknowledges: bool = True
    acknowledged: int = -1

    def hear(self, command: Command) -> None:
        """A command arrived."""
        if self.acknowledges:
            self.acknowledged = command.sequence

    def say(self, now_ns: int, command: Command | None) -> list[Measurement]:
        """Its status, and a refusal where it refuses."""
        enabled = command is not None and command.enable and not (self.estop or self.fault_code)
        velocity = command.velocity_m_s if command is not None and enabled else 0.0
        said: list[Measurement] = [
            BoardStatus(
                t_ns=now_ns,
                boot_id=self.boot_id,
                enabled=enabled,
                fault_code=self.fault_code,
                velocity_m_s=velocity,
                estop=self.estop,
                acknowledged_sequence=self.acknowledged,
            )
        ]
        if self.refuses:
            said.append(LinkEvent(now_ns, Link.MOTOR, LinkState.REFUSED, "the driver said no"))
        return said


@dataclass(slots=True)
class Hand:
    """What a fault may do in the tick before which it is called."""

    rig: VirtualRig
    board: Board | None
    said: list[Measurement] = field(default_factory=list)  # heard by the core in this tick
    requests: list[Request] = field(default_factory=list)
    pause_ns: int = 0  # the host does not run for so long
    budget: int | None = None  # Newton steps of this tick
    plan_status: PlanStatus | None = None  # what this tick's plan comes to
    now_ns: int = 0
    period_ns: int = 20_000_000

    @property
    def trouble(self) -> Trouble:
        """What is broken on the rig."""
        return self.rig.trouble


# ``act(hand, since_s, size, side)`` is called once a tick from the strike on.
Act = Callable[[Hand, float, float, int], None]
Settle = Callable[[float, int], Mapping[str, Any]]


def _no_settings(_size: float, _side: int) -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault; ``row`` is its number in the table of docs/safety.md.

    ``ends`` are the ends that are right, ``causes`` the names of which one must be given.
    ``settings`` are laid over the run's; ``homed`` is false where homing must meet the fault,
    ``from_start`` true where it is there before arming. ``obeys`` is false where the drive itself
    does not: then no promise about where the cart rests holds; ``rest_margin_m`` stands in for the
    settings' margin where the position itself is wrong.
    """

    row: int
    ends: tuple[End, ...]
    causes: tuple[str, ...]
    act: Act
    settings: Settle = _no_settings
    homed: bool = True
    from_start: bool = False
    obeys: bool = True
    rest_margin_m: float | None = None


def _during(seconds: float, act: Act) -> Act:
    """``act`` for so long, then the rig as it was."""

    def limited(hand: Hand, since_s: float, size: float, side: int) -> None:
        if since_s < seconds:
            act(hand, since_s, size, side)
        else:
            _mend(hand.trouble)

    return limited


def _once(act: Act) -> Act:
    """``act`` in the first tick only."""

    def first(hand: Hand, since_s: float, size: float, side: int) -> None:
        if since_s == 0.0:
            act(hand, since_s, size, side)

    return first


def _mend(trouble: Trouble) -> None:
    """As if nothing had ever been broken."""
    fresh = type(trouble)()
    for name in trouble.__slots__:
        setattr(trouble, name, getattr(fresh, name))


def _set(**fields: Any) -> Act:
    """Break these fields of the rig's trouble."""

    def act(hand: Hand, _since_s: float, _size: float, _side: int) -> None:
        for name, value in fields.items():
            setattr(hand.trouble, name, value)

    return act


def _says(link: Link, state: LinkState, text: str) -> Act:
    def act(hand: Hand, _since_s: float, _size: float, _side: int) -> None:
        hand.said.append(LinkEvent(hand.now_ns, link, state, text))

    return act


def _both(*acts: Act) -> Act:
    def act(hand: Hand, since_s: float, size: float, side: int) -> None:
        for one in acts:
            one(hand, since_s, size, side)

    return act


def _reflection(hand: Hand, _since_s: float, size: float, side: int) -> None:
    hand.trouble.reflection_rad = side * (0.6 + 2.0 * size)


def _garbage(hand: Hand, since_s: float, size: float, _side: int) -> None:
    number = int(1e6 * size) + round(since_s * 1000)
    hand.trouble.encoder_says = bytes((number * k + 17 * k * k) % 251 for k in range(1, 24)) + b"\n"


def _stamps(hand: Hand, _since_s: float, size: float, side: int) -> None:
    hand.trouble.stamps_shift_ns = side * round((0.1 + 3600.0 * size) * NANOSECONDS)


def _turned(hand: Hand, _since_s: float, size: float, side: int) -> None:
    hand.trouble.turned_rad = side * (0.03 + 0.05 * size)
    hand.trouble.moved_m = side * (0.01 + 0.02 * size)


def _cart_slips(hand: Hand, _since_s: float, size: float, side: int) -> None:
    hand.rig.plant.encoders.cart.slip(side * round(20000.0 * (0.007 + 0.005 * size)))


def _pole_slips(hand: Hand, _since_s: float, size: float, side: int) -> None:
    hand.rig.plant.encoders.pole.slip(side * round(20 + 40 * size))


def _pole_sticks(hand: Hand, _since_s: float, _size: float, _side: int) -> None:
    hand.rig.plant.encoders.pole.stick(hand.now_ns + 60 * NANOSECONDS)


def _pole_hit(hand: Hand, _since_s: float, size: float, side: int) -> None:
    hand.rig.plant.push(pole_rad_s=side * (0.3 + 0.4 * size))


def _press(hand: Hand, _since_s: float, _size: float, side: int) -> None:
    """A press of 5 ms that ends before the tick: it is seen in a sample or not at all."""
    trouble = hand.trouble
    trouble.switches = (True, None) if side < 0 else (None, True)
    hand.said.extend(hand.rig.advance(hand.now_ns - hand.period_ns + 7_000_000))
    trouble.switches = (None, None)


def _carried(least_m: float, most_m: float) -> Act:
    """Before anything begins a hand leaves the cart so far beyond its position limit."""

    def act(hand: Hand, since_s: float, size: float, side: int) -> None:
        if since_s == 0.0:
            beyond = least_m + (most_m - least_m) * size
            hand.rig.plant.carry(side * (hand.rig.position_limit_m + beyond))

    return act


def _reader_starved(hand: Hand, since_s: float, _size: float, _side: int) -> None:
    """The host does not run the encoder's reader, which says so when it runs again."""
    hand.trouble.encoder_silent = since_s < 0.2
    if 0.04 <= since_s < 0.22:
        starved = LinkState.STARVED
        hand.said.append(LinkEvent(hand.now_ns, Link.ENCODER, starved, "the reader did not run"))


def _board(**fields: Any) -> Act:
    def act(hand: Hand, _since_s: float, _size: float, _side: int) -> None:
        for name, value in fields.items():
            setattr(hand.board, name, value)

    return act


def _pause(low_ms: float, high_ms: float) -> Act:
    def act(hand: Hand, _since_s: float, size: float, _side: int) -> None:
        hand.pause_ns = round((low_ms + (high_ms - low_ms) * size) * 1e6)

    return act


def _plans(status: PlanStatus) -> Act:
    def act(hand: Hand, _since_s: float, _size: float, _side: int) -> None:
        hand.plan_status = status

    return act


def _no_time(hand: Hand, _since_s: float, _size: float, _side: int) -> None:
    hand.budget = 0


def _little_time(hand: Hand, _since_s: float, _size: float, _side: int) -> None:
    hand.budget = 1


def _ask(kind: RequestKind) -> Act:
    def act(hand: Hand, _since_s: float, _size: float, _side: int) -> None:
        hand.requests.append(Request(kind))

    return act


def _bridge(_size: float, _side: int) -> Mapping[str, Any]:
    return {"motor.protocol": "bridge"}


def _reversed_motor(_size: float, _side: int) -> Mapping[str, Any]:
    return {"sim.motor_sign": -1}


def _reversed_encoder(_size: float, _side: int) -> Mapping[str, Any]:
    return {"sim.cart_sign": -1}


def _wrong_unit(size: float, _side: int) -> Mapping[str, Any]:
    # The board knows counts of another encoder: ten or a hundred times as many to the metre.
    return {"sim.cart_counts_per_m": 2000.0 if size < 0.5 else 200.0}


def _no_camera(_size: float, _side: int) -> Mapping[str, Any]:
    return {"camera.source": "none"}


def _no_encoder(_size: float, _side: int) -> Mapping[str, Any]:
    return {"encoder.protocol": "none"}


def _homed(_size: float, _side: int) -> Mapping[str, Any]:
    return {"sim.homed": True}


def _never(_hand: Hand, _since_s: float, _size: float, _side: int) -> None:
    """The fault is in the settings."""


RUN, DEG = (End.RUN,), (End.DEGRADED,)
FLIES = (End.RUN, End.DEGRADED)
S1, S0 = (End.BRAKED,), (End.OFF,)
REFUSED = (End.REFUSED,)
CAMERA = ("camera lost", "camera rejected")
ENCODER = ("encoder lost", "encoder silent")
# A count that stands may first look as one that jumped.
SLIPPED, STUCK = ("pole encoder slipped",), ("pole encoder stuck", "pole encoder slipped")

STRIKES: Mapping[str, Strike] = MappingProxyType({
    "camera unplugged": Strike(1, DEG, CAMERA, _both(
        _set(camera_silent=True),
        _once(_says(Link.CAMERA, LinkState.DOWN, "unplugged")))),
    "camera frozen": Strike(2, DEG, CAMERA, _set(camera_says=DetectionStatus.FROZEN)),
    "camera hole": Strike(3, FLIES, CAMERA, _during(0.06, _set(camera_silent=True))),
    "camera dark": Strike(4, DEG, CAMERA, _set(camera_says=DetectionStatus.NO_BLOB)),
    "flash": Strike(5, RUN, (), _during(0.02, _set(camera_says=DetectionStatus.SATURATED))),
    "reflection": Strike(6, DEG, CAMERA, _reflection),
    "frame stamps jump": Strike(7, FLIES, CAMERA, _during(0.02, _stamps)),
    "frame stamps off": Strike(7, DEG, CAMERA, _stamps),
    "garbage": Strike(8, RUN, (), _during(0.02, _garbage)),
    "garbage for good": Strike(9, S1, ("encoder garbled", *ENCODER), _garbage),
    "cart encoder slips": Strike(12, S1, ("missed counts",), _once(_cart_slips),
        rest_margin_m=-0.008),
    "encoder unplugged": Strike(13, S1, ENCODER, _both(
        _set(encoder_silent=True),
        _once(_says(Link.ENCODER, LinkState.DOWN, "unplugged")))),
    "motor unplugged": Strike(13, S1, ("motor lost",), _both(
        _set(motor_deaf=True),
        _once(_says(Link.MOTOR, LinkState.DOWN, "unplugged")))),
    "driver refuses": Strike(15, S1, ("driver refuses",), _board(refuses=True), _bridge),
    "no acknowledgement": Strike(19, S1, ("no response", "motor lost"),
        _board(acknowledges=False), _bridge),
    "board reboots": Strike(16, S0, ("board rebooted",), _board(boot_id=2), _bridge),
    "board fault": Strike(16, S0, ("board fault",), _board(fault_code=3), _bridge),
    "wrong units": Strike(17, REFUSED, ("homing failed",), _never, _wrong_unit, homed=False),
    "drive runs on": Strike(18, S0, ("velocity stuck", "limit switch"), _set(drive_held=True),
        obeys=False),
    "drive dead": Strike(18, S0, ("velocity stuck",), _set(drive_dead=True), obeys=False),
    "plan not finite": Strike(20, RUN, (), _during(0.06, _plans(PlanStatus.NOT_FINITE))),
    "plan stalls": Strike(21, RUN, (), _during(0.04, _plans(PlanStatus.STALLED))),
    "no plan for long": Strike(21, RUN, (), _during(0.2, _plans(PlanStatus.FACTORISATION))),
    "solver late": Strike(22, RUN, (), _during(0.04, _no_time)),
    "little time": Strike(22, RUN, (), _during(0.2, _little_time)),
    "infeasible": Strike(24, RUN, (), _during(0.04, _plans(PlanStatus.INFEASIBLE_START))),
    "left outside": Strike(24, REFUSED, ("outside track",), _carried(0.03, 0.05), _homed,
        from_start=True),
    "nobody may fly": Strike(24, S1, ("no control",), _both(
        _carried(0.006, 0.014),
        _plans(PlanStatus.FACTORISATION)), _homed, from_start=True),
    "starved 50 ms": Strike(27, RUN, (), _once(_pause(30.0, 70.0))),
    "starved": Strike(27, S1, ("tick late", "host starved"), _once(_pause(130.0, 500.0))),
    "reader starved": Strike(49, S1, ("host starved",), _reader_starved, _no_camera),
    "asked to stop": Strike(30, (End.STOPPED,), (), _once(_ask(RequestKind.STOP))),
    "pole hit": Strike(37, RUN, (), _once(_pole_hit)),
    "switch pressed 5 ms": Strike(38, S0, ("limit switch",), _once(_press)),
    "e-stop": Strike(41, S0, ("emergency stop",), _board(estop=True), _bridge),
    "pole encoder slips": Strike(45, FLIES, SLIPPED, _once(_pole_slips)),
    "pole encoder sticks": Strike(45, (End.DEGRADED, End.BRAKED), STUCK, _once(_pole_sticks)),
    "camera pushed": Strike(46, DEG, ("camera moved",), _turned),
    "switches read pressed": Strike(47, REFUSED, ("homing failed",), _set(switches=(True, True)),
        homed=False, from_start=True),
    "left switch stuck": Strike(47, REFUSED, ("homing failed",), _set(switches=(True, None)),
        homed=False, from_start=True),
    "motor reversed": Strike(48, REFUSED, ("homing failed",), _never, _reversed_motor, homed=False),
    "encoder reversed": Strike(48, REFUSED, ("homing failed",), _never, _reversed_encoder,
        homed=False),
    "encoder hole": Strike(50, FLIES, ENCODER, _during(0.05, _set(encoder_silent=True))),
    "encoder silent": Strike(50, S1, ENCODER, _set(encoder_silent=True)),
    "only camera unplugged": Strike(1, S1, ("state stale",), _set(camera_silent=True),
        _no_encoder),
    "nothing measures": Strike(50, S1, (*ENCODER, "state stale"), _set(encoder_silent=True),
        _no_camera),
})  # fmt: skip


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Faults by name in the order of the table; all of them for none. KeyError: an unknown one."""
    wanted = list(names)
    for name in wanted:
        if name not in STRIKES:
            raise KeyError(name)
    return tuple(name for name in STRIKES if not wanted or name in wanted)
