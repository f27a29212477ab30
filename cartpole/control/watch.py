"""The watch: turns what the devices say, or fail to say, into names of faults.

Who is to blame is decided before anything is named. A board is silent only if the host itself ran,
and the board's reader too; bytes that arrive without sense are not silence; a frame that the filter
refuses is no evidence against the encoders.
"""

from __future__ import annotations

from cartpole.control.drive_watch import DriveMemory, follow, stuck
from cartpole.control.watch_records import Down, Looked, WatchMemory, WatchRules
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

LATE_TICK_S = 0.1
GAP_PERIODS = 1.5  # a tick later than this was held up by the host
REFUSED_IN_A_ROW = 2
REJECTED_IN_A_ROW = 5
MOVED_COUNTS = 3
COARSE_M_S = 0.03  # a count in a tick may be this much
ONE_COUNT_SHARE = 0.3  # of the speed limit: further off is one wrong count, which no filter takes
DISAGREE_M, DISAGREE_S = 0.005, 0.2
SOONEST_S = 0.1  # by more for shorter: what jumped is named by then, what goes on drifts
ALONE_S = 1.0  # the camera alone may carry the estimate so long
UNANSWERED_S = 0.1  # commands that a board does not acknowledge, a drive that it keeps off
SLOW_ANSWER_MS = 8.0  # beyond this somebody between board and program holds bytes back
HOLE_TICKS = 2  # after the stale limit a hole is braked through, not latched

FaultName = tuple[str, str]  # (name in the catalogue, detail)


class Watch:
    """Rules over what must be remembered between two ticks; time is an argument."""

    def __init__(self, rules: WatchRules, memory: WatchMemory) -> None:
        self._rules, self._memory = rules, memory
        self._period_ns = rules.period_s * NANOSECONDS
        self._stale_ns = round(rules.stale_s * NANOSECONDS)
        # Older than this the newest measurement is beyond a hole that is braked through.
        self._lost_ns = self._stale_ns + round(HOLE_TICKS * self._period_ns)

    def expect_limits(self, now_ns: int) -> None:
        """The drive's board keeps limits of its own: no arming before it says it has the new."""
        self._is_down(Link.MOTOR, "the board has not confirmed the new limits")
        self._memory.limits_since_ns = now_ns

    def unbelievable(self, measurement: Measurement, now_ns: int) -> str:
        """Why a reading must not be used at all; "" if it may."""
        memory = self._memory
        if not isinstance(measurement, (EncoderSample, Detection)):
            return ""
        ahead_ns = max(measurement.t_ns, measurement.arrival_ns) - now_ns
        if ahead_ns > self._period_ns:
            return f"a reading from {ahead_ns / 1e6:.0f} ms in the future is not used"
        if isinstance(measurement, EncoderSample):
            memory.counts = (measurement.cart_counts, measurement.pole_counts)
            memory.counts_ns = measurement.t_ns
            return ""
        if measurement.status is not DetectionStatus.OK:
            return ""
        theta, place, cart, pole = memory.frame
        moved = abs(memory.counts[0] - cart) + abs(memory.counts[1] - pole)
        if (measurement.theta_rad, measurement.p_m) != (theta, place):
            memory.frame = (measurement.theta_rad, measurement.p_m, *memory.counts)
        elif moved > MOVED_COUNTS:
            return "the camera shows the same picture again while the rig moves"
        return ""

    def strange(self, why: str) -> bool:
        """Note why the last reading was not used; whether that is news."""
        news = why not in ("", self._memory.unbelieved)
        self._memory.unbelieved = why
        return news

    def absorb(self, measurement: Measurement) -> list[FaultName]:
        """One measurement, in the order they came."""
        memory = self._memory
        if isinstance(measurement, EncoderSample):
            memory.newest_encoder_ns = max(memory.newest_encoder_ns, measurement.t_ns)
            took_ns = measurement.arrival_ns - measurement.t_ns
            memory.longest_answer_ns = max(took_ns, memory.longest_answer_ns * 63 // 64)
            memory.low, memory.high = measurement.limit_low, measurement.limit_high
            memory.switch_seen |= measurement.limit_low or measurement.limit_high
            memory.garbled = 0
            return []
        if isinstance(measurement, Detection):
            if measurement.status is DetectionStatus.OK:
                memory.newest_camera_ns = max(memory.newest_camera_ns, measurement.t_ns)
            return []
        if isinstance(measurement, BoardStatus):
            return self._board_status(measurement)
        return self._link_event(measurement)

    def _board_status(self, status: BoardStatus) -> list[FaultName]:
        faults: list[FaultName] = []
        memory = self._memory
        if memory.boot_id is not None and status.boot_id != memory.boot_id:
            faults.append(("board rebooted", f"boot {status.boot_id}"))
        memory.boot_id = status.boot_id
        memory.board = status
        memory.switch_seen |= status.limit_low or status.limit_high
        if status.acknowledged_sequence > memory.answered:
            memory.answered, memory.answered_ns = status.acknowledged_sequence, status.t_ns
        if status.estop:
            faults.append(("emergency stop", ""))
        if status.fault_code:
            faults.append(("board fault", f"code {status.fault_code}"))
        return faults

    def _link_event(self, event: LinkEvent) -> list[FaultName]:
        memory = self._memory
        if event.state is LinkState.UP:
            if event.link is Link.MOTOR and event.t_ns <= memory.limits_since_ns:
                return []  # said before the board was told the new limits
            self._is_up(event.link)
            memory.refused = 0
            return []
        if event.state is LinkState.GARBLED:
            memory.garbled += event.link is Link.ENCODER
            return []
        if event.state is LinkState.STARVED:
            memory.starved_ns, memory.starved_why = event.t_ns, event.detail
            return []
        if event.state is LinkState.REFUSED:
            memory.refused += 1
            refuses = memory.refused >= REFUSED_IN_A_ROW
            return [("driver refuses", event.detail)] if refuses else []
        self._is_down(event.link, event.detail)
        names = {Link.MOTOR: "motor lost", Link.CAMERA: "camera lost"}
        return [(names[event.link], event.detail)] if event.link in names else []

    def _is_up(self, link: Link) -> None:
        self._memory.down = tuple(one for one in self._memory.down if one.link is not link)

    def _is_down(self, link: Link, why: str) -> None:
        """In the place where it was named first."""
        down = {one.link: one.why for one in self._memory.down} | {link: why}
        self._memory.down = tuple(Down(*one) for one in down.items())

    def _why_down(self, link: Link) -> str:
        return next((one.why for one in self._memory.down if one.link is link), "")

    def check(self, now_ns: int, looked: Looked) -> list[FaultName]:
        """Once a tick while armed."""
        memory = self._memory
        faults = self._own_gap(now_ns)
        faults += self._ages(now_ns, looked)
        if memory.switch_seen and not looked.homing:
            faults.append(("limit switch", ""))
        memory.switch_seen = False
        faults += self._answers(now_ns, looked)
        faults += self._speed(looked)
        faults += self._position(now_ns, looked)
        return faults

    def rest(self, now_ns: int) -> None:
        """Once a tick while disarmed: nothing is a fault, nothing is remembered."""
        memory = self._memory
        memory.last_tick_ns = now_ns
        memory.drive = DriveMemory()
        memory.switch_seen = False
        memory.disagree_since_ns = memory.alone_since_ns = memory.off_since_ns = -1
        memory.answered_ns = -1

    # Age and cause

    def _own_gap(self, now_ns: int) -> list[FaultName]:
        memory = self._memory
        before, memory.last_tick_ns = memory.last_tick_ns, now_ns
        gap_ns = now_ns - before
        if before < 0 or gap_ns <= GAP_PERIODS * self._period_ns:
            return []
        memory.gap_ns, memory.gap_end_ns = gap_ns, now_ns
        if gap_ns <= LATE_TICK_S * NANOSECONDS:
            return []
        memory.drive = DriveMemory()  # its board has stopped the drive by itself
        return [("tick late", f"no tick for {gap_ns / 1e6:.0f} ms")]

    def _stale(self, newest_ns: int, now_ns: int) -> bool:
        return newest_ns < 0 or now_ns - newest_ns > self._stale_ns

    def _lost(self, newest_ns: int, now_ns: int) -> bool:
        """Stale beyond a hole that is braked through."""
        return newest_ns < 0 or now_ns - newest_ns > self._lost_ns

    def blind(self, now_ns: int, estimate: Estimate | None) -> bool:
        """Whether nothing accepted is young enough to fly by (I4): the cart is braked meanwhile."""
        if estimate is None:
            return self._rules.has_encoder and self._stale(self._memory.newest_encoder_ns, now_ns)
        age_ns = _youngest_ns(estimate)
        return age_ns < 0 or age_ns > self._stale_ns

    def _ages(self, now_ns: int, looked: Looked) -> list[FaultName]:
        memory, rules = self._memory, self._rules
        estimate, faults = looked.estimate, list[FaultName]()
        camera = self.camera_back(now_ns)
        if rules.has_encoder:
            alone = camera and estimate is not None and not looked.homing
            faults += self._encoder_age(now_ns, alone, looked.doubted)
        elif rules.has_camera and self._lost(memory.newest_camera_ns, now_ns):
            faults.append(self._host(memory.newest_camera_ns, now_ns) or ("state stale", ""))
        heard = camera or not self._stale(memory.newest_encoder_ns, now_ns)
        if estimate is not None and heard and _youngest_ns(estimate) > self._lost_ns:
            faults.append(("state stale", "measurements arrive and are refused"))
        if rules.has_camera and rules.has_encoder and not camera:
            faults.append(("camera lost", ""))
        elif looked.camera_misfits >= REJECTED_IN_A_ROW:
            faults.append(("camera rejected", f"{looked.camera_misfits} in a row"))
        return faults

    def _encoder_age(self, now_ns: int, camera: bool, doubted: bool) -> list[FaultName]:
        memory = self._memory
        if not doubted and not self._stale(memory.newest_encoder_ns, now_ns):
            memory.alone_since_ns = -1
            return []
        if memory.alone_since_ns < 0:
            memory.alone_since_ns = now_ns
        alone_s = (now_ns - memory.alone_since_ns) / NANOSECONDS
        if camera and alone_s <= ALONE_S:
            return [("encoder silent", self._silence(now_ns))]
        if camera or doubted or self._lost(memory.newest_encoder_ns, now_ns):
            return [self._host(memory.newest_encoder_ns, now_ns) or self._board(now_ns)]
        return []

    def _host(self, newest_ns: int, now_ns: int) -> FaultName | None:
        """The host as the cause, if it did not run itself or did not run a reader."""
        memory = self._memory
        since_ns = max(newest_ns, now_ns - 3 * self._stale_ns)
        if memory.gap_end_ns > since_ns:
            return "tick late", f"the host stood still for {memory.gap_ns / 1e6:.0f} ms"
        if memory.starved_ns > since_ns:
            return "host starved", memory.starved_why
        return None

    def _board(self, now_ns: int) -> FaultName:
        if self._memory.garbled:
            return "encoder garbled", f"{self._memory.garbled} bursts since the last good sample"
        return "encoder lost", self._silence(now_ns)

    def _silence(self, now_ns: int) -> str:
        memory = self._memory
        down = self._why_down(Link.ENCODER)
        if down:
            return down
        if memory.newest_encoder_ns < 0:
            return "no sample"
        if not self._stale(memory.newest_encoder_ns, now_ns):
            return "its counts do not agree with the camera"
        age = (now_ns - memory.newest_encoder_ns) / 1e6
        took = memory.longest_answer_ns / 1e6
        slow = f"; answers had taken up to {took:.0f} ms: see `cartpole doctor`"
        return f"no sample for {age:.0f} ms{slow if took > SLOW_ANSWER_MS else ''}"

    def camera_back(self, now_ns: int) -> bool:
        """Whether pictures are fresh again."""
        return self._rules.has_camera and not self._stale(self._memory.newest_camera_ns, now_ns)

    # Board, drive, position

    def _answers(self, now_ns: int, looked: Looked) -> list[FaultName]:
        """A board that acknowledges commands, and says whether its drive is on, is held to it."""
        memory, board = self._memory, self._memory.board
        if board is None or board.acknowledged_sequence < 0 or not looked.enabled:
            memory.off_since_ns = -1
            memory.answered_ns = now_ns
            return []
        faults: list[FaultName] = []
        if memory.answered_ns < 0:
            memory.answered_ns = now_ns
        silent_s = (now_ns - memory.answered_ns) / NANOSECONDS
        if looked.sequence > memory.answered and silent_s > UNANSWERED_S:
            what = self._host(memory.answered_ns, now_ns)
            told = ("no response", f"command {memory.answered} was the last one acknowledged")
            faults.append(what or told)
        if board.enabled:
            memory.off_since_ns = -1
        elif memory.off_since_ns < 0:
            memory.off_since_ns = now_ns
        elif now_ns - memory.off_since_ns > UNANSWERED_S * NANOSECONDS:
            faults.append(("no response", "the board keeps its drive off"))
        return faults

    def _speed(self, looked: Looked) -> list[FaultName]:
        """Whether the cart comes nearer to the commanded speed."""
        memory, rules = self._memory, self._rules.drive
        if looked.estimate is None:
            memory.drive = DriveMemory()
            return []
        seen, believed = self._counted_speed(looked.doubted), looked.estimate.state[1]
        if seen is None or abs(seen - believed) > ONE_COUNT_SHARE * rules.velocity_limit_m_s:
            seen = believed
        memory.drive = follow(memory.drive, rules, looked.command_m_s, seen)
        if not stuck(memory.drive, rules):
            return []
        return [("velocity stuck", f"{seen:.2f} m/s seen, {looked.command_m_s:.2f} m/s commanded")]

    def _counted_speed(self, doubted: bool) -> float | None:
        """The cart's speed by its counts alone; the estimate believes in the drive, too.

        ``None`` where the counts are silent, or too coarse to say a speed in a tick.
        """
        memory, rules = self._memory, self._rules
        before, then_ns = memory.judged
        memory.judged = (memory.counts[0], memory.counts_ns)
        span_s = (memory.counts_ns - then_ns) / NANOSECONDS
        scale = abs(rules.cart_counts_per_m)
        if doubted or then_ns < 0 or scale * COARSE_M_S * rules.period_s < 1.0:
            return None
        if not 0.2 * rules.period_s < span_s < 5.0 * rules.period_s:
            return None
        return (memory.counts[0] - before) / rules.cart_counts_per_m / span_s

    def _position(self, now_ns: int, looked: Looked) -> list[FaultName]:
        memory, estimate, residual = self._memory, looked.estimate, looked.camera_residual_m
        faults: list[FaultName] = []
        if estimate is not None and abs(estimate.state[0]) > self._rules.position_limit_m + 0.02:
            faults.append(("outside track", f"p = {estimate.state[0]:.3f} m"))
        if residual is None or abs(residual) < DISAGREE_M:
            memory.disagree_since_ns = -1
            return faults
        if memory.disagree_since_ns < 0:
            memory.disagree_since_ns = now_ns
        lasted_s = (now_ns - memory.disagree_since_ns) / NANOSECONDS
        if lasted_s >= SOONEST_S and lasted_s * abs(residual) >= DISAGREE_S * DISAGREE_M:
            faults.append(("missed counts", f"{1000 * residual:.1f} mm apart"))
        return faults

    def obstacles(self, now_ns: int, homed: bool) -> list[str]:
        """Why arming must be refused right now; empty if nothing stands against it.

        One pressed switch is no obstacle to homing, which leaves it.
        """
        memory, rules = self._memory, self._rules
        reasons = [f"{one.link.value} is down: {one.why}" for one in memory.down
                   if one.link in (Link.ENCODER, Link.MOTOR)]  # fmt: skip
        if rules.has_encoder and self._stale(memory.newest_encoder_ns, now_ns):
            reasons.append("no fresh encoder sample")
        if not rules.has_encoder and self._stale(memory.newest_camera_ns, now_ns):
            reasons.append("no fresh picture")
        if memory.low and memory.high:
            reasons.append(
                "both limit switches read pressed: "
                f"is encoder.switch_active ({rules.switch_active}) right?"
            )
        elif homed and (memory.low or memory.high):
            side = "left" if memory.low else "right"
            reasons.append(f"the {side} limit switch is pressed: push the cart to the middle")
        if memory.board is not None and memory.board.estop:
            reasons.append("the e-stop is pressed")
        if memory.board is not None and memory.board.fault_code:
            reasons.append(f"the board has latched fault {memory.board.fault_code}")
        return reasons


def _youngest_ns(estimate: Estimate) -> int:
    """Age of the newest measurement that the filter took; -1 if it took none."""
    camera_ns, encoder_ns = estimate.camera_age_ns, estimate.encoder_age_ns
    if camera_ns < 0 or encoder_ns < 0:
        return max(camera_ns, encoder_ns)
    return min(camera_ns, encoder_ns)
