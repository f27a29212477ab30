"""What a calibration knows of a rig at hand, and what of it a motion looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cartpole.errors import DeviceLost
from cartpole.messages import BoardStatus, Command, LinkEvent, LinkState, Measurement
from firmware_bridge.protocol import BoardFault

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.session.writer import SessionWriter
    from cartpole.vision.frame import Frame


class Bench(Protocol):
    """A rig at hand: once a period, what it measured and a command."""

    def wait(self) -> tuple[int, tuple[Measurement, ...]]:
        """Wait for the next tick; its time and everything that arrived since the last."""

    def send(self, command: Command) -> None:
        """Put a command on the wire."""

    def frames(self) -> list[Frame]:
        """The camera's pictures since the last call, if it has one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the host knows of the rig when it chooses a command; SI by the configured scales."""

    p_m: float
    v_m_s: float
    theta_rad: float
    omega_rad_s: float
    limit_low: bool
    limit_high: bool
    cart_counts: int


Progress = Callable[[str, float], None]  # name of the motion, seconds since it began
Keep = Callable[["Config", str], "SessionWriter"]  # opens the recording of a part


def quiet(_name: str, _seconds: float) -> None:
    """Nobody is told."""


class Interrupted(DeviceLost):
    """The board heard nothing for a while: the host was late, and nothing is wrong with the rig."""


def stops(one: Measurement) -> None:
    """Raise DeviceLost, or Interrupted, for what a motion must not go on after."""
    why = _trouble(one)
    if not why:
        return
    late = isinstance(one, BoardStatus) and one.fault_code in (
        BoardFault.HEARTBEAT,
        BoardFault.LINK,
    )
    raise (Interrupted if late else DeviceLost)(f"{why}; the cart was stopped")


def _trouble(one: Measurement) -> str:
    """Why a motion cannot go on after this; empty if it can."""
    if isinstance(one, LinkEvent) and one.state is LinkState.DOWN:
        return f"{one.link} lost: {one.detail}"
    if isinstance(one, BoardStatus) and one.estop:
        return "the emergency stop is pressed"
    if isinstance(one, BoardStatus) and one.fault_code:
        return f"the board switched the drive off (its fault code {one.fault_code})"
    return ""
