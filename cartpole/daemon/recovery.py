"""A simulated rig, on which nothing can break, goes on by itself after a stop; no real one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cartpole.messages import NANOSECONDS, Mode, RequestKind

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import TickRecord

PAUSE_S = 1.0  # a person reads what happened, and a busy machine calms down
MOST = 5  # stops in one run: more are no accident


class Recovery:
    """Asks for reset, homing and swing-up after a latched fault, a few times a run.

    Only where ``sim.recover`` says so and the run began by itself.
    """

    def __init__(self, config: Config) -> None:
        self._wanted = config.sim.recover and config.startup.action == "swing_up"
        self._left = MOST
        self._since_ns = -1

    def goes_on(self, record: TickRecord) -> bool:
        """Whether a run that is stopped by a fault is not over."""
        if not self._wanted or record.mode is not Mode.FAULT:
            self._since_ns = -1
            return False
        return self._left > 0

    def due(self, record: TickRecord) -> tuple[RequestKind, ...]:
        """What to ask for in this tick."""
        now_ns = record.input.now_ns
        if self._since_ns < 0:
            self._since_ns = now_ns
        if now_ns - self._since_ns < PAUSE_S * NANOSECONDS:
            return ()
        self._since_ns = now_ns
        self._left -= 1
        return RequestKind.RESET, RequestKind.ARM, RequestKind.SWING_UP
