"""One tick of a recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.messages import Plan, TickInput, TickRecord
from cartpole.session.channels import CHANNELS
from cartpole.session.codec import decoder, trajectory_arrays

if TYPE_CHECKING:
    from cartpole.messages import Command, Estimate, Fault, TickTiming
    from cartpole.session.channels import PlanLine, TickLine, Trajectory, Truth

DECODE = {topic: decoder(kind) for topic, kind in CHANNELS.items()}
# Of which a tick has one at most.
SINGLE = ("/estimate", "/plan", "/command", "/truth", "/timing", "/plan_trajectory")

Vector4 = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class RecordedTick:
    """One tick as recorded; ``exact`` is the JSON of estimate, plan and command as written.

    They are decoded when they are asked for, and kept in ``decoded``: whoever only compares bytes
    needs none of them. ``state_before`` is what the controller remembered before the tick (JSON),
    where that was recorded. Reading one that does not fit raises SessionError.
    """

    line: TickLine
    input: TickInput
    faults: tuple[Fault, ...]
    exact: dict[str, bytes]
    decoded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    state_before: bytes | None = None

    @property
    def estimate(self) -> Estimate | None:
        """What the filter said."""
        found: Estimate | None = self._of("/estimate")
        return found

    @property
    def plan(self) -> PlanLine | None:
        """The plan without its arrays."""
        found: PlanLine | None = self._of("/plan")
        return found

    @property
    def command(self) -> Command:
        """What was sent."""
        found: Command = self._of("/command")
        return found

    @property
    def truth(self) -> Vector4 | None:
        """A simulated rig's own state at the tick."""
        truth: Truth | None = self._of("/truth")
        return None if truth is None else truth.state

    @property
    def timing(self) -> TickTiming | None:
        """How late it was and what it took."""
        found: TickTiming | None = self._of("/timing")
        return found

    def _of(self, topic: str) -> Any:
        if topic in self.decoded:
            return self.decoded[topic]
        data = self.exact.get(topic)
        found = None if data is None else DECODE[topic](data)
        self.decoded[topic] = found
        return found

    @property
    def trajectory(self) -> Trajectory | None:
        """The whole plan, kept of every fifth one."""
        data = self.exact.get("/plan_trajectory")
        return None if data is None else DECODE["/plan_trajectory"](data)

    def record(self) -> TickRecord:
        """The tick's record; a plan whose arrays were not kept has empty ones."""
        return self._record(self.trajectory)

    def record_without_arrays(self) -> TickRecord:
        """The tick's record with an empty plan: much faster where arrays are not needed."""
        return self._record(None)

    def _record(self, trajectory: Trajectory | None) -> TickRecord:
        line = self.line
        return TickRecord(
            line.index,
            self.input,
            line.mode,
            line.armed,
            line.homed,
            self.estimate,
            self._plan(trajectory),
            self.command,
            line.target_m,
            self.faults,
            line.events,
            line.answers,
        )

    def _plan(self, trajectory: Trajectory | None) -> Plan | None:
        plan = self.plan
        if plan is None:
            return None
        if trajectory is not None:
            times, states, inputs = trajectory_arrays(trajectory)
        else:
            times, states, inputs = np.empty(0), np.empty((0, 5)), np.empty(0)
        return Plan(
            plan.start_ns,
            plan.status,
            plan.newton_steps,
            plan.kkt_residual,
            plan.cost,
            plan.candidate,
            times,
            states,
            inputs,
        )
