"""The watch: turns what the devices say, or fail to say, into names of faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from cartpole.recall import require

if TYPE_CHECKING:
    from cartpole.config.schema import Config

LATE_TICK_S = 0.1
GARBLED_IN_A_ROW = 3
REFUSED_IN_A_ROW = 2
DISAGREE_M = 0.005
DISAGREE_S = 0.2
SPEED_MISMATCH = 0.3  # of the speed limit: twice what ±10 % gain and ±30 % lag explain

FaultName = tuple[str, str]  # (name in the catalogue, detail)


@dataclass(frozen=True, slots=True)
class WatchState:
    """The watch's memory; ``down`` are the devices that are, for the reasons beside them."""

    down: tuple[Link, ...]
    reasons: tuple[str, ...]
    garbled: int
    refused: int
    newest_encoder_ns: int
    newest_camera_ns: int
    switch: bool
    model_speed: float
    mismatch_since_ns: int
    disagree_since_ns: int
    last_tick_ns: int
    limits_since_ns: int
    boot_id: int | None = None
    board: BoardStatus | None = None


class Watch:
    """Holds what must be remembered between two ticks; time is an argument."""

    def __init__(self, config: Config) -> None:
        self.update(config)
        self._down: dict[Link, str] = {}
        self._garbled = 0
        self._refused = 0
        self._boot_id: int | None = None
        self._board: BoardStatus | None = None
        self._newest_encoder_ns = -1
        self._newest_camera_ns = -1
        self._switch = False
        self._model_speed = 0.0
        self._mismatch_since_ns = -1
        self._disagree_since_ns = -1
        self._last_tick_ns = -1
        self._limits_since_ns = -1

    def update(self, config: Config) -> None:
        """Take over settings; what is remembered of the devices stays."""
        self._stale_ns = round(config.safety.stale_state_s * NANOSECONDS)
        self._has_encoder = config.encoder.protocol != "none"
        self._has_camera = config.camera.source != "none"
        self._lag_error_ns = round(config.safety.lag_error_s * NANOSECONDS)
        self._mismatch_m_s = SPEED_MISMATCH * config.rig.velocity_limit_m_s
        self._tau_s = config.motor.tau_s
        self._motor_limit = config.motor.acceleration_m_s2
        self._period_s = config.controller.period_s
        self._position_limit_m = config.rig.position_limit_m

    def state(self) -> WatchState:
        """All that is remembered."""
        return WatchState(
            tuple(self._down),
            tuple(self._down.values()),
            self._garbled,
            self._refused,
            self._newest_encoder_ns,
            self._newest_camera_ns,
            self._switch,
            self._model_speed,
            self._mismatch_since_ns,
            self._disagree_since_ns,
            self._last_tick_ns,
            self._limits_since_ns,
            self._boot_id,
            self._board,
        )

    def restore(self, state: WatchState) -> None:
        """Go on from a state under the same settings; SessionError if it is none."""
        require(len(state.down) == len(state.reasons), "the devices that are down")
        self._down = dict(zip(state.down, state.reasons, strict=True))
        self._garbled, self._refused = state.garbled, state.refused
        self._boot_id, self._board = state.boot_id, state.board
        self._newest_encoder_ns = state.newest_encoder_ns
        self._newest_camera_ns = state.newest_camera_ns
        self._switch, self._model_speed = state.switch, state.model_speed
        self._mismatch_since_ns = state.mismatch_since_ns
        self._disagree_since_ns = state.disagree_since_ns
        self._last_tick_ns, self._limits_since_ns = state.last_tick_ns, state.limits_since_ns

    def expect_limits(self, now_ns: int) -> None:
        """The drive's board keeps limits of its own: no arming before it says it has the new."""
        self._down[Link.MOTOR] = "the board has not confirmed the new limits"
        self._limits_since_ns = now_ns

    def absorb(self, measurement: Measurement) -> list[FaultName]:
        """One measurement, in the order they came."""
        if isinstance(measurement, EncoderSample):
            self._newest_encoder_ns = max(self._newest_encoder_ns, measurement.t_ns)
            self._switch = measurement.limit_low or measurement.limit_high
            self._garbled = 0
            return []
        if isinstance(measurement, Detection):
            if measurement.status is DetectionStatus.OK:
                self._newest_camera_ns = max(self._newest_camera_ns, measurement.t_ns)
            return []
        if isinstance(measurement, BoardStatus):
            return self._board_status(measurement)
        return self._link_event(measurement)

    def _board_status(self, status: BoardStatus) -> list[FaultName]:
        faults: list[FaultName] = []
        if self._boot_id is not None and status.boot_id != self._boot_id:
            faults.append(("board rebooted", f"boot {status.boot_id}"))
        self._boot_id = status.boot_id
        self._board = status
        if status.estop:
            faults.append(("emergency stop", ""))
        if status.fault_code:
            faults.append(("board fault", f"code {status.fault_code}"))
        return faults

    def _link_event(self, event: LinkEvent) -> list[FaultName]:
        if event.state is LinkState.UP:
            if event.link is Link.MOTOR and event.t_ns <= self._limits_since_ns:
                return []  # said before the board was told the new limits
            self._down.pop(event.link, None)
            self._refused = 0
            return []
        if event.state is LinkState.GARBLED:
            self._garbled += event.link is Link.ENCODER
            if self._garbled >= GARBLED_IN_A_ROW:
                return [("encoder garbled", event.detail)]
            return []
        if event.state is LinkState.REFUSED:
            self._refused += 1
            return [("driver refuses", event.detail)] if self._refused >= REFUSED_IN_A_ROW else []
        self._down[event.link] = event.detail
        names = {Link.ENCODER: "encoder lost", Link.MOTOR: "motor lost", Link.CAMERA: "camera lost"}
        return [(names[event.link], event.detail)] if event.link in names else []

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
        if self._last_tick_ns >= 0 and now_ns - self._last_tick_ns > LATE_TICK_S * NANOSECONDS:
            gap = (now_ns - self._last_tick_ns) / 1e6
            faults.append(("tick late", f"{gap:.0f} ms"))
        self._last_tick_ns = now_ns
        faults += self._ages(now_ns)
        if estimate is not None and self._starved(estimate):
            faults.append(("state stale", "measurements arrive and are refused"))
        if self._switch and not homing:
            faults.append(("limit switch", ""))
        faults += self._speed(now_ns, estimate, command_m_s)
        faults += self._position(now_ns, estimate, camera_residual_m)
        return faults

    def rest(self, now_ns: int) -> None:
        """Once a tick while disarmed: nothing is a fault, nothing is remembered."""
        self._last_tick_ns = now_ns
        self._model_speed = 0.0
        self._mismatch_since_ns = self._disagree_since_ns = -1

    def _stale(self, newest_ns: int, now_ns: int) -> bool:
        return newest_ns < 0 or now_ns - newest_ns > self._stale_ns

    def _ages(self, now_ns: int) -> list[FaultName]:
        encoder = self._has_encoder and not self._stale(self._newest_encoder_ns, now_ns)
        camera = self._has_camera and not self._stale(self._newest_camera_ns, now_ns)
        if self._has_encoder and not encoder:
            return [("encoder lost", "no sample")]
        if not encoder and not camera:
            return [("state stale", "")]
        return [("camera lost", "")] if self._has_camera and not camera else []

    def _starved(self, estimate: Estimate) -> bool:
        """Whether nothing was accepted into the estimate for too long (I4)."""
        ages = [age for age in (estimate.camera_age_ns, estimate.encoder_age_ns) if age >= 0]
        return bool(ages) and min(ages) > self._stale_ns

    def camera_back(self, now_ns: int) -> bool:
        """Whether pictures are fresh again."""
        return not self._stale(self._newest_camera_ns, now_ns)

    def _speed(self, now_ns: int, estimate: Estimate | None, command_m_s: float) -> list[FaultName]:
        """Compare the seen speed with the lag model of what was commanded."""
        _, self._model_speed = cart_step(
            0.0, self._model_speed, command_m_s, self._period_s, self._tau_s, self._motor_limit
        )
        if estimate is None or abs(estimate.state[1] - self._model_speed) < self._mismatch_m_s:
            self._mismatch_since_ns = -1
            return []
        if self._mismatch_since_ns < 0:
            self._mismatch_since_ns = now_ns
        if now_ns - self._mismatch_since_ns < self._lag_error_ns:
            return []
        detail = f"{estimate.state[1]:.2f} m/s seen, {self._model_speed:.2f} m/s expected"
        return [("velocity stuck", detail)]

    def _position(
        self, now_ns: int, estimate: Estimate | None, camera_residual_m: float | None
    ) -> list[FaultName]:
        faults: list[FaultName] = []
        if estimate is not None and abs(estimate.state[0]) > self._position_limit_m + 0.02:
            faults.append(("outside track", f"p = {estimate.state[0]:.3f} m"))
        if camera_residual_m is None or abs(camera_residual_m) < DISAGREE_M:
            self._disagree_since_ns = -1
            return faults
        if self._disagree_since_ns < 0:
            self._disagree_since_ns = now_ns
        if now_ns - self._disagree_since_ns >= DISAGREE_S * NANOSECONDS:
            faults.append(("missed counts", f"{1000 * camera_residual_m:.1f} mm apart"))
        return faults

    def obstacles(self, now_ns: int) -> list[str]:
        """Why arming must be refused right now; empty if nothing stands against it."""
        reasons = [f"{link.value} is down: {why}" for link, why in self._down.items()
                   if link in (Link.ENCODER, Link.MOTOR)]  # fmt: skip
        if self._has_encoder and self._stale(self._newest_encoder_ns, now_ns):
            reasons.append("no fresh encoder sample")
        if not self._has_encoder and self._stale(self._newest_camera_ns, now_ns):
            reasons.append("no fresh picture")
        if self._board is not None and self._board.estop:
            reasons.append("the e-stop is pressed")
        return reasons
