"""What the watch is told, what it remembers, and what a tick shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cartpole.control.drive_watch import DriveMemory, DriveRules
from cartpole.messages import BoardStatus, Estimate, Link
from cartpole.record import record


@dataclass(frozen=True, slots=True)
class WatchRules:
    """What the devices are held against; SI. ``switch_active`` is the setting, for its advice."""

    has_encoder: bool
    has_camera: bool
    stale_s: float
    position_limit_m: float
    period_s: float
    drive: DriveRules
    cart_counts_per_m: float = 0.0  # signed
    switch_active: str = "high"


@dataclass(frozen=True, slots=True)
class Down:
    """A device that is down, and why."""

    link: Link
    why: str


@record
class Looked:
    """What a tick knows: the estimate, the command that acts by now, and who disagrees.

    ``sequence`` and ``enabled`` are the last command's. ``camera_residual_m`` is how far a fresh
    frame that fits lies from the encoders (``None``: there is none), ``camera_misfits`` how many
    frames in a row did not fit; ``doubted``: the encoders' counts must first agree with the camera.
    """

    estimate: Estimate | None
    command_m_s: float
    sequence: int
    enabled: bool
    camera_residual_m: float | None = None
    camera_misfits: int = 0
    doubted: bool = False
    homing: bool = False


@dataclass(slots=True)
class WatchMemory:
    """What was heard of the devices; times are -1 for never."""

    down: tuple[Down, ...] = (Down(Link.MOTOR, "it has not said that it is up"),)
    garbled: int = 0  # since the last sample
    refused: int = 0
    newest_encoder_ns: int = -1
    newest_camera_ns: int = -1
    longest_answer_ns: int = 0
    low: bool = False
    high: bool = False
    switch_seen: bool = False  # in any sample since the last tick
    drive: DriveMemory = field(default_factory=DriveMemory)
    disagree_since_ns: int = -1
    last_tick_ns: int = -1
    gap_ns: int = 0  # the last long gap between two ticks ...
    gap_end_ns: int = -1  # ... and its end
    starved_ns: int = -1
    starved_why: str = ""
    alone_since_ns: int = -1
    limits_since_ns: int = -1
    answered_ns: int = -1  # when the board last acknowledged a new command
    answered: int = -1
    off_since_ns: int = -1
    frame: tuple[float, float, int, int] = (0.0, 0.0, 0, 0)  # the newest: angle, place, counts
    counts: tuple[int, int] = (0, 0)
    counts_ns: int = -1
    judged: tuple[int, int] = (0, -1)  # cart counts and their time when the speed was last judged
    unbelieved: str = ""
    boot_id: int | None = None
    board: BoardStatus | None = None
