"""The faults the core knows: how severe, what each means, what to do next; and their latch."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from cartpole.messages import Fault, Severity


@dataclass(frozen=True, slots=True)
class FaultKind:
    """How a fault ends and what a person reads about it."""

    severity: Severity
    meaning: str
    next_step: str


CATALOGUE = MappingProxyType(
    {
        "camera lost": FaultKind(
            Severity.DEGRADED,
            "no fresh picture; the encoders alone carry the estimate",
            "check the camera's plug and the ring light",
        ),
        "camera rejected": FaultKind(
            Severity.DEGRADED,
            "pictures arrive, but their measurements do not fit",
            "look for reflections with `cartpole doctor camera`",
        ),
        "camera delay": FaultKind(
            Severity.WARNING,
            "pictures are older, or younger, than camera.latency_s says",
            "run `cartpole calibrate latency`",
        ),
        "state stale": FaultKind(
            Severity.BRAKE,
            "no sensor has said anything new",
            "check the plugs of camera and encoder board, then reset and home",
        ),
        "encoder lost": FaultKind(
            Severity.BRAKE,
            "the encoder board fell silent",
            "check its plug, then reset and home: its counts may have restarted",
        ),
        "encoder garbled": FaultKind(
            Severity.BRAKE,
            "three bursts of bytes in a row did not decode",
            "check cable, baud rate and encoder.protocol, then reset and home",
        ),
        "motor lost": FaultKind(
            Severity.BRAKE,
            "the motor driver's port is gone",
            "check its plug and power, then reset and home",
        ),
        "driver refuses": FaultKind(
            Severity.BRAKE,
            "the driver answered two commands with no",
            "read its status with `cartpole doctor board`",
        ),
        "missed counts": FaultKind(
            Severity.BRAKE,
            "camera and cart encoder disagree about the position",
            "check belt and encoder, then reset and home",
        ),
        "tick late": FaultKind(
            Severity.BRAKE,
            "the controller did not run for a tenth of a second",
            "free the processor; see `cartpole doctor`",
        ),
        "outside track": FaultKind(
            Severity.BRAKE,
            "the cart is beyond its position limit",
            "move it back by hand, then reset and home",
        ),
        "no control": FaultKind(
            Severity.BRAKE,
            "no plan, and neither LQR nor energy control may fly from here",
            "reset; if it comes again, replay the session",
        ),
        "homing failed": FaultKind(
            Severity.BRAKE,
            "homing found numbers that cannot be",
            "see the event's text, then reset and home",
        ),
        "velocity stuck": FaultKind(
            Severity.OFF,
            "the cart does not move as commanded",
            "check motor, belt and power; then reset and home",
        ),
        "limit switch": FaultKind(
            Severity.OFF,
            "an end switch was hit",
            "push the cart back to the middle, then reset and home",
        ),
        "emergency stop": FaultKind(
            Severity.OFF,
            "the e-stop is pressed",
            "release it when it is safe, then reset and home",
        ),
        "board rebooted": FaultKind(
            Severity.OFF,
            "the board restarted while in use",
            "check its supply, then reset and home",
        ),
        "board fault": FaultKind(
            Severity.OFF,
            "the board latched a fault of its own",
            "read it with `cartpole doctor board`, then reset and home",
        ),
    }
)


class FaultLatch:
    """Remembers every fault since the last reset; the most severe one decides."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def raise_fault(self, t_ns: int, name: str, detail: str = "") -> Fault | None:
        """Latch a fault of the catalogue; ``None`` if it is latched already."""
        if name in self._faults:
            return None
        kind = CATALOGUE[name]
        meaning = f"{kind.meaning} ({detail})" if detail else kind.meaning
        fault = Fault(t_ns, name, kind.severity, meaning, kind.next_step)
        self._faults[name] = fault
        return fault

    def drop(self, name: str) -> bool:
        """Forget a fault that only degrades, once its cause is gone."""
        fault = self._faults.get(name)
        if fault is None or fault.severity > Severity.DEGRADED:
            return False
        del self._faults[name]
        return True

    def clear(self) -> None:
        """An operator's reset."""
        self._faults.clear()

    def restore(self, faults: tuple[Fault, ...]) -> None:
        """Go on with these latched, in the order they came."""
        self._faults = {fault.name: fault for fault in faults}

    @property
    def worst(self) -> Severity:
        """The most severe latched fault; WARNING if there is none."""
        return max((fault.severity for fault in self._faults.values()), default=Severity.WARNING)

    @property
    def latched(self) -> tuple[Fault, ...]:
        """Every latched fault in the order they came."""
        return tuple(self._faults.values())
