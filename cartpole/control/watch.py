"""The watch: turns what the devices say, or fail to say, into names of faults."""

from __future__ import annotations

from dataclasses import dataclass

from cartpole.messages import (
    NANOSECONDS,
    BoardStatus,
    Detection,
    DetectionStatus,
    EncoderSample,
    Estimate,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
)
from cartpole.model.dynamics import cart_step

LATE_TICK_S = 0.1
GARBLED_IN_A_ROW = 3
REFUSED_IN_A_ROW = 2
DISAGREE_M = 0.005
DISAGREE_S = 0.2
SPEED_MISMATCH = 0.3  # of the speed limit: twice what ±10 % gain and ±30 % lag explain

FaultName = tuple[str, str]  # (name in the catalogue, detail)


@dataclass(frozen=True, slots=True)
class WatchRules:
    """What the devices are held against; SI."""

    has_encoder: bool
    has_camera: bool
    stale_s: float
    lag_error_s: float
    velocity_limit_m_s: float
    position_limit_m: float
    period_s: float
    tau_s: float
    motor_acceleration_m_s2: float

    @property
    def stale_ns(self) -> int:
        """How old the newest measurement may be."""
        return round(self.stale_s * NANOSECONDS)


@dataclass(frozen=True, slots=True)
class Down:
    """A device that is down, and why."""

    link: Link
    why: str


@dataclass(slots=True)
class WatchMemory:
    """What was heard of the devices; times are -1 for never."""

    down: tuple[Down, ...] = ()
    garbled: int = 0
    refused: int = 0
    newest_encoder_ns: int = -1
    newest_camera_ns: int = -1
    switch: bool = False
    model_speed: float = 0.0
    mismatch_since_ns: int = -1
    disagree_since_ns: int = -1
    last_tick_ns: int = -1
    limits_since_ns: int = -1
    boot_id: int | None = None
    board: BoardStatus | None = None


class Watch:
    """Rules over what must be remembered between two ticks; time is an argument."""

    def __init__(self, rules: WatchRules, memory: WatchMemory) -> None:
        self._rules, self._memory = rules, memory

    def expect_limits(self, now_ns: int) -> None:
        """The drive's board keeps limits of its own: no arming before it says it has the new."""
        self._is_down(Link.MOTOR, "the board has not confirmed the new limits")
        self._memory.limits_since_ns = now_ns

    def absorb(self, measurement: Measurement) -> list[FaultName]:
        """One measurement, in the order they came."""
        if isinstance(measurement, EncoderSample):
            self._memory.newest_encoder_ns = max(self._memory.newest_encoder_ns, measurement.t_ns)
            self._memory.switch = measurement.limit_low or measurement.limit_high
            self._memory.garbled = 0
            return []
        if isinstance(measurement, Detection):
            if measurement.status is DetectionStatus.OK:
                self._memory.newest_camera_ns = max(self._memory.newest_camera_ns, measurement.t_ns)
            return []
        if isinstance(measurement, BoardStatus):
            return self._board_status(measurement)
        return self._link_event(measurement)

    def _board_status(self, status: BoardStatus) -> list[FaultName]:
        faults: list[FaultName] = []
        if self._memory.boot_id is not None and status.boot_id != self._memory.boot_id:
            faults.append(("board rebooted", f"boot {status.boot_id}"))
        self._memory.boot_id = status.boot_id
        self._memory.board = status
        if status.estop:
            faults.append(("emergency stop", ""))
        if status.fault_code:
            faults.append(("board fault", f"code {status.fault_code}"))
        return faults

    def _link_event(self, event: LinkEvent) -> list[FaultName]:
        if event.state is LinkState.UP:
            if event.link is Link.MOTOR and event.t_ns <= self._memory.limits_since_ns:
                return []  # said before the board was told the new limits
            self._is_up(event.link)
            self._memory.refused = 0
            return []
        if event.state is LinkState.GARBLED:
            self._memory.garbled += event.link is Link.ENCODER
            if self._memory.garbled >= GARBLED_IN_A_ROW:
                return [("encoder garbled", event.detail)]
            return []
        if event.state is LinkState.REFUSED:
            self._memory.refused += 1
            return (
                [("driver refuses", event.detail)]
                if self._memory.refused >= REFUSED_IN_A_ROW
                else []
            )
        self._is_down(event.link, event.detail)
        names = {Link.ENCODER: "encoder lost", Link.MOTOR: "motor lost", Link.CAMERA: "camera lost"}
        return [(names[event.link], event.detail)] if event.link in names else []

    def _is_up(self, link: Link) -> None:
        self._memory.down = tuple(one for one in self._memory.down if one.link is not link)

    def _is_down(self, link: Link, why: str) -> None:
        """In the place where it was named first."""
        down = {one.link: one.why for one in self._memory.down} | {link: why}
        self._memory.down = tuple(Down(*one) for one in down.items())

    def check(
        self,
        now_ns: int,
        estimate: Estimate | None,
        command_m_s: float,
        camera_residual_m: float | None,
        homing: bool,
    ) -> list[FaultName]:
        """Once a tick while armed; ``command_m_s`` is the command that acts by now."""
        faults: list[FaultName] = []
        if (
            self._memory.last_tick_ns >= 0
            and now_ns - self._memory.last_tick_ns > LATE_TICK_S * NANOSECONDS
        ):
            gap = (now_ns - self._memory.last_tick_ns) / 1e6
            faults.append(("tick late", f"{gap:.0f} ms"))
        self._memory.last_tick_ns = now_ns
        faults += self._ages(now_ns)
        if estimate is not None and self._starved(estimate):
            faults.append(("state stale", "measurements arrive and are refused"))
        if self._memory.switch and not homing:
            faults.append(("limit switch", ""))
        faults += self._speed(now_ns, estimate, command_m_s)
        faults += self._position(now_ns, estimate, camera_residual_m)
        return faults

    def rest(self, now_ns: int) -> None:
        """Once a tick while disarmed: nothing is a fault, nothing is remembered."""
        self._memory.last_tick_ns = now_ns
        self._memory.model_speed = 0.0
        self._memory.mismatch_since_ns = self._memory.disagree_since_ns = -1

    def _stale(self, newest_ns: int, now_ns: int) -> bool:
        return newest_ns < 0 or now_ns - newest_ns > self._rules.stale_ns

    def _ages(self, now_ns: int) -> list[FaultName]:
        encoder = self._rules.has_encoder and not self._stale(
            self._memory.newest_encoder_ns, now_ns
        )
        camera = self._rules.has_camera and not self._stale(self._memory.newest_camera_ns, now_ns)
        if self._rules.has_encoder and not encoder:
            return [("encoder lost", "no sample")]
        if not encoder and not camera:
            return [("state stale", "")]
        return [("camera lost", "")] if self._rules.has_camera and not camera else []

    def _starved(self, estimate: Estimate) -> bool:
        """Whether nothing was accepted into the estimate for too long (I4)."""
        ages = [age for age in (estimate.camera_age_ns, estimate.encoder_age_ns) if age >= 0]
        return bool(ages) and min(ages) > self._rules.stale_ns

    def camera_back(self, now_ns: int) -> bool:
        """Whether pictures are fresh again."""
        return not self._stale(self._memory.newest_camera_ns, now_ns)

    def _speed(self, now_ns: int, estimate: Estimate | None, command_m_s: float) -> list[FaultName]:
        """Compare the seen speed with the lag model of what was commanded."""
        _, self._memory.model_speed = cart_step(
            0.0,
            self._memory.model_speed,
            command_m_s,
            self._rules.period_s,
            self._rules.tau_s,
            self._rules.motor_acceleration_m_s2,
        )
        if (
            estimate is None
            or abs(estimate.state[1] - self._memory.model_speed)
            < SPEED_MISMATCH * self._rules.velocity_limit_m_s
        ):
            self._memory.mismatch_since_ns = -1
            return []
        if self._memory.mismatch_since_ns < 0:
            self._memory.mismatch_since_ns = now_ns
        if now_ns - self._memory.mismatch_since_ns < self._rules.lag_error_s * NANOSECONDS:
            return []
        detail = f"{estimate.state[1]:.2f} m/s seen, {self._memory.model_speed:.2f} m/s expected"
        return [("velocity stuck", detail)]

    def _position(
        self, now_ns: int, estimate: Estimate | None, camera_residual_m: float | None
    ) -> list[FaultName]:
        faults: list[FaultName] = []
        if estimate is not None and abs(estimate.state[0]) > self._rules.position_limit_m + 0.02:
            faults.append(("outside track", f"p = {estimate.state[0]:.3f} m"))
        if camera_residual_m is None or abs(camera_residual_m) < DISAGREE_M:
            self._memory.disagree_since_ns = -1
            return faults
        if self._memory.disagree_since_ns < 0:
            self._memory.disagree_since_ns = now_ns
        if now_ns - self._memory.disagree_since_ns >= DISAGREE_S * NANOSECONDS:
            faults.append(("missed counts", f"{1000 * camera_residual_m:.1f} mm apart"))
        return faults

    def obstacles(self, now_ns: int) -> list[str]:
        """Why arming must be refused right now; empty if nothing stands against it."""
        reasons = [f"{one.link.value} is down: {one.why}" for one in self._memory.down
                   if one.link in (Link.ENCODER, Link.MOTOR)]  # fmt: skip
        if self._rules.has_encoder and self._stale(self._memory.newest_encoder_ns, now_ns):
            reasons.append("no fresh encoder sample")
        if not self._rules.has_encoder and self._stale(self._memory.newest_camera_ns, now_ns):
            reasons.append("no fresh picture")
        if self._memory.board is not None and self._memory.board.estop:
            reasons.append("the e-stop is pressed")
        return reasons
