"""What the stages hand to each other: frozen records, one way.

``EncoderSample | Detection | BoardStatus | LinkEvent -> Estimate -> Plan -> Command -> TickRecord``

Times are integer nanoseconds of the host's monotonic clock and say when a thing was *true*
(encoder latch, mid-exposure), never when it arrived; arrival is a field of its own. SI units; signs
as in ``docs/architecture.md``: theta 0 hanging, counter-clockwise positive, pi upright, unwrapped;
p positive to the right, 0 in the middle of the track.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from cartpole.record import record

FloatArray = npt.NDArray[np.float64]

NANOSECONDS = 1_000_000_000

# Order of the rig's state vector; U, the last velocity command, is a state: its rate is limited.
P, V, THETA, OMEGA, U = range(5)


class Mode(StrEnum):
    """Where the mode machine is."""

    DISARMED = "DISARMED"
    HOMING = "HOMING"
    READY = "READY"
    SWING_UP = "SWING_UP"
    BALANCE = "BALANCE"
    LQR_FALLBACK = "LQR_FALLBACK"
    SAFE_STOP = "SAFE_STOP"
    FAULT = "FAULT"


class Severity(IntEnum):
    """How a fault ends; the most severe one wins."""

    WARNING = 0
    DEGRADED = 1
    BRAKE = 2  # brake to zero, drive off, latched (S1)
    OFF = 3  # drive off at once, latched (S0)


class DetectionStatus(IntEnum):
    """Why a frame gave a measurement or not."""

    OK = 0
    NO_BLOB = 1
    SATURATED = 2
    AMBIGUOUS = 3  # two candidates and nothing to choose between them
    OUT_OF_FRAME = 4
    FROZEN = 5  # the same picture again while the rig moves
    LOW_CONFIDENCE = 6
    MISFIT = 7  # not one picture of this pole: torn, half, or another object's


class PlanStatus(IntEnum):
    """What the optimizer reached; only the first two may be flown as they are."""

    CONVERGED = 0
    FEASIBLE = 1  # stopped at its budget with a plan inside all limits
    BUDGET = 2  # stopped at its budget, not yet feasible
    STALLED = 3  # the line search found no decrease
    FACTORISATION = 4  # indefinite beyond the largest regularisation
    NOT_FINITE = 5
    INFEASIBLE_START = 6
    NO_BUDGET = 7


class RequestKind(StrEnum):
    """What an operator can ask of the core."""

    ARM = "arm"
    DISARM = "disarm"
    SWING_UP = "swing-up"
    STOP = "stop"
    HOME = "home"
    RESET = "reset"
    TARGET = "target"  # hold the cart at value [m]
    REFERENCE = "reference"  # follow a moving target
    CONFIG = "config"  # take over other settings


class ReferenceShape(StrEnum):
    """Shape of a moving cart target."""

    HOLD = "hold"
    SQUARE = "square"
    SINE = "sine"


@dataclass(frozen=True, slots=True)
class Reference:
    """Cart target p(t) = centre + amplitude * shape(2 pi t / period); metres and seconds."""

    shape: ReferenceShape = ReferenceShape.HOLD
    centre_m: float = 0.0
    amplitude_m: float = 0.0
    period_s: float = 8.0


@record
class EncoderSample:
    """Counts of both encoders, latched at ``t_ns``; counts are unwrapped and unscaled."""

    t_ns: int
    arrival_ns: int
    cart_counts: int
    pole_counts: int
    limit_low: bool = False
    limit_high: bool = False


@record
class Detection:
    """A frame's measurement of the pole in the rig's plane.

    ``theta_rad`` is wrapped to (-pi, pi] and true at ``t_ns`` (the mid-exposure time of the lines
    the pole covers); ``p_m`` is the pivot's position at the same time. A sigma of ``inf`` means
    that quantity was not seen. ``corners_px`` are the rotated rectangle's (x, y) corners for
    overlays. A rolling shutter shows the pole's rate, too; ``corr_*`` are the correlations of the
    three errors. ``residual`` is chi-square a degree of freedom of what was seen against what such
    a pole would look like, ``threshold`` the grey level that parted ground and tape.
    """

    t_ns: int
    arrival_ns: int
    sequence: int
    status: DetectionStatus
    theta_rad: float = 0.0
    p_m: float = 0.0
    sigma_theta_rad: float = float("inf")
    sigma_p_m: float = float("inf")
    confidence: float = 0.0
    corners_px: tuple[tuple[float, float], ...] = ()
    omega_rad_s: float = 0.0
    sigma_omega_rad_s: float = float("inf")
    corr_theta_p: float = 0.0
    corr_theta_omega: float = 0.0
    corr_p_omega: float = 0.0
    residual: float = 0.0
    threshold: int = 0


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """What the drive's board says of itself (the text driver says less and leaves the defaults)."""

    t_ns: int
    boot_id: int = 0
    enabled: bool = False
    fault_code: int = 0
    velocity_m_s: float = 0.0
    estop: bool = False
    limit_low: bool = False
    limit_high: bool = False
    acknowledged_sequence: int = -1


class Link(StrEnum):
    """A device the core depends on, or somebody who depends on it."""

    ENCODER = "encoder"
    MOTOR = "motor"
    CAMERA = "camera"
    RECORDER = "recorder"
    LISTENER = "listener"  # somebody who was shown every tick


class LinkState(StrEnum):
    """What happened to a device."""

    UP = "up"
    DOWN = "down"
    GARBLED = "garbled"  # bytes that do not decode
    REFUSED = "refused"  # the device answered no
    STARVED = "starved"  # not the device: who reads it, or emulates it, was not run by the host


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A device came, went, or spoke nonsense."""

    t_ns: int
    link: Link
    state: LinkState
    detail: str = ""


Measurement = EncoderSample | Detection | BoardStatus | LinkEvent


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings as a core takes them over, whole; made by ``cartpole.rules``.

    ``values`` are all settings by dotted key, ``rules`` the core's (``control.rules.CoreRules``),
    ``live`` and ``disarmed`` the keys that may change at any time, or only while disarmed.
    ``source`` is the tree they were made from: for shells, no core looks into it.
    """

    values: Mapping[str, Any]
    rules: Any = field(repr=False, compare=False)
    live: frozenset[str] = field(repr=False, compare=False)
    disarmed: frozenset[str] = field(repr=False, compare=False)
    source: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Request:
    """Something an operator asked for."""

    kind: RequestKind
    value: float = 0.0
    reference: Reference | None = None
    settings: Settings | None = None


@record
class Estimate:
    """The state at ``t_ns``; ``sigma`` and ``state`` are (p, v, theta, omega) in SI.

    ``ages_ns`` tell how old the newest accepted measurement of each kind was (-1: never).
    """

    t_ns: int
    state: tuple[float, float, float, float]
    sigma: tuple[float, float, float, float]
    upright_offset_rad: float
    camera_age_ns: int
    encoder_age_ns: int
    nis_camera: float = 0.0
    nis_encoder: float = 0.0
    rejected: int = 0
    valid: bool = True


@record
class Plan:
    """A trajectory; ``states`` is (N+1, 5) in the order P, V, THETA, OMEGA, U, ``inputs`` (N,).

    The input is the rate of the velocity command [m/s^2]; step k applies the command
    ``states[k + 1, U]`` from ``start_ns + times_s[k]`` on.
    """

    start_ns: int
    status: PlanStatus
    newton_steps: int
    kkt_residual: float
    cost: float
    candidate: str
    times_s: FloatArray
    states: FloatArray
    inputs: FloatArray


@record
class Command:
    """What goes on the wire: one a tick, sequence strictly growing."""

    t_ns: int
    sequence: int
    velocity_m_s: float
    enable: bool
    requested_m_s: float
    limited_by: str = ""
    homing: bool = False  # the board moves slowly and lets a switch block instead of tripping
    clear_fault: bool = False  # the operator's reset: clear what the board latched (not enabled)


@dataclass(frozen=True, slots=True)
class Fault:
    """A named cause, what it means and what to do about it."""

    t_ns: int
    name: str
    severity: Severity
    meaning: str
    next_step: str


@record
class TickInput:
    """Everything a tick depends on; recording these is recording the run."""

    now_ns: int
    measurements: tuple[Measurement, ...] = ()
    requests: tuple[Request, ...] = ()
    newton_budget: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: whether it was done, and one line for whoever asked."""

    ok: bool
    text: str


@record
class TickRecord:
    """Everything a tick produced; ``answers`` are one for each of the input's requests, in order
    (none in a recording from before there were any)."""

    index: int
    input: TickInput
    mode: Mode
    armed: bool
    homed: bool
    estimate: Estimate | None
    plan: Plan | None
    command: Command
    target_m: float = 0.0
    faults: tuple[Fault, ...] = ()
    events: tuple[str, ...] = field(default=())
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class DetectionHint:
    """Where the pole is expected at ``t_ns``: what the tracker may search around.

    A sigma says how far to look; ``None`` in its place (no hint at all) means the whole frame.
    """

    t_ns: int
    p_m: float
    v_m_s: float
    theta_rad: float
    omega_rad_s: float
    sigma_p_m: float
    sigma_theta_rad: float


@dataclass(frozen=True, slots=True)
class HomingResult:
    """What homing found: the counts at p = 0 and at theta = 0, and what its moves showed.

    ``lag_s`` is the drive's lag and delay together, the four from the coupling on are the pole's by
    its swing, ``ramp_m_s2`` is how fast the driver lets a command rise; zero stands for what was
    not seen (a ``coupling_sigma_1_m`` of zero: no pole was).
    """

    cart_zero_counts: float
    pole_zero_counts: float
    travel_m: float = 0.0
    gain: float = 1.0  # seen over commanded velocity
    lag_s: float = 0.0
    coupling_1_m: float = 0.0
    coupling_sigma_1_m: float = 0.0
    damping_1_s: float = 0.0
    dry_rad_s2: float = 0.0
    ramp_m_s2: float = 0.0


@record
class TickTiming:
    """How a tick went by the clock; no part of ``TickRecord``, so that a replay can be exact.

    ``late_ns`` is from the tick's deadline to its start, ``compute_ns`` from its start to the
    command handed to the wire, ``solver_ns`` the part spent planning (-1: not measured).
    ``missed`` is true when the tick began a period or more late, or overran its period.
    """

    now_ns: int
    late_ns: int
    compute_ns: int
    solver_ns: int = -1
    missed: bool = False
