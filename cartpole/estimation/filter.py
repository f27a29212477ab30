"""The state filter: what the control core talks to.

Measurements carry the time at which they were true and may come late and in any order within the
configured history: the filter rewinds to their time, applies them and runs forward again, through
every command edge on the way. What it holds is therefore a function of the *set* of events, not of
their order of arrival. It reads no clock and is deterministic bit for bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cartpole.estimation import kernels
from cartpole.estimation import layout as at
from cartpole.estimation.delay import DelaySeen, delay_of
from cartpole.estimation.learner import LONGEST_DELAY_S
from cartpole.estimation.records import FilterMemory, FilterRules, Whole
from cartpole.estimation.report import culprits_of, estimate_of, hint_of, take_back
from cartpole.messages import (
    NANOSECONDS,
    Detection,
    DetectionHint,
    DetectionStatus,
    Estimate,
    FloatArray,
)

if TYPE_CHECKING:
    from cartpole.model.parameters import ModelParameters

AHEAD_NS = NANOSECONDS // 2  # an encoder sample this far beyond all known times is nonsense
GAP_NS = NANOSECONDS  # after this long without measurements start anew
COMMANDS_KEPT = 256  # commands that may still act after a restart of the filter
ROOT_3 = math.sqrt(3.0)  # half a bin over the deviation of what is spread evenly in it

Four = tuple[float, float, float, float]
UNKNOWN: Four = (math.inf, math.inf, math.inf, math.inf)


def most_rate_rad_s(model: ModelParameters, speed_m_s: float) -> float:
    """More than the rig, or a hand on the pole, can do.

    Falling from upright gives 2 sqrt(c g), a reversal of the cart below 2 c u more; a hand three
    times the first. A camera's aliases, a turn a frame, lie far beyond at any frame rate.
    """
    return 6.0 / model.characteristic_time_s + 2.0 * model.coupling_1_m * speed_m_s


def ring_size(rules: FilterRules) -> int:
    """Slots for twice the events that fall into the history: a power of two."""
    span_s = rules.noise.history_s + LONGEST_DELAY_S
    return 1 << math.ceil(math.log2(2.0 * rules.events_per_s * span_s + 64.0))


class StateFilter:
    """Rewinding extended Kalman filter over (p, v, theta, omega, camera offset).

    It starts by itself with the first measurement of an angle, or by :meth:`reset`. Measurements
    that cannot be used (not finite, stamped in the future, repeated, older than the history) are
    dropped and counted; implausible ones are gated, and the gate opens again after
    ``estimator.reopen_after`` rejections in a row.
    """

    def __init__(self, rules: FilterRules, memory: FilterMemory | None = None) -> None:
        self.memory = kept = memory if memory is not None else self.fresh(rules)
        self._par = np.zeros(at.PARAMETERS)
        self._ring = (kept.when, kept.what, kept.known, kept.stamps, kept.marks, self._par)
        self._rules = rules
        self._looked_ns: int | None = None  # what the scratch row shows, if it still holds
        self._scratch = (kept.known[-1], kept.stamps[-1])
        self._seen = kept.known[-1, : at.OFFSET + 1]  # made once: a view takes as long as a step
        self._set(rules)

    @classmethod
    def fresh(cls, rules: FilterRules) -> FilterMemory:
        """The memory of a filter that has seen nothing; loads its kernels now, not in a tick."""
        slots = ring_size(rules)
        memory = FilterMemory(
            when=np.zeros((slots, 2), dtype=np.int64),
            what=np.zeros((slots, 4)),
            known=np.zeros((slots + 1, at.FLOATS)),
            stamps=np.zeros((slots + 1, at.WHOLE), dtype=np.int64),
            marks=np.zeros(at.MARKS, dtype=np.int64),
            command_times=np.zeros(COMMANDS_KEPT, dtype=np.int64),
            command_values=np.zeros(COMMANDS_KEPT),
        )
        first = cls(rules, memory)
        first.reset(0, (0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0))
        first._insert(1, at.COMMAND, 0.0, 0.0, 0.0, 0.0)
        first._look(1)
        memory.initialised = False
        return memory

    @property
    def initialised(self) -> bool:
        """Whether there is an estimate."""
        return self.memory.initialised

    @property
    def offset(self) -> float:
        """Offset of the camera's angle (measured minus true) at the newest event [rad]."""
        if not self.memory.initialised:
            return self._rules.upright_offset_rad
        self._fold_all()
        return float(self._newest_row()[at.X + at.OFFSET])

    def _set(self, rules: FilterRules) -> None:
        """New settings hold for everything not yet worked in."""
        noise, par = rules.noise, self._par
        par[at.CART_POWER] = noise.cart_noise_m_s2**2
        par[at.POLE_POWER] = noise.pole_noise_rad_s**2
        par[at.OFFSET_POWER] = noise.offset_noise_rad**2
        par[at.GATE], par[at.REOPEN] = noise.gate_sigma, noise.reopen_after
        par[at.JITTER_S] = noise.encoder_jitter_s
        par[at.MOST_SPEED] = 3.0 * rules.velocity_limit_m_s
        par[at.MOST_RATE] = most_rate_rad_s(rules.model, rules.velocity_limit_m_s)
        self.believe(rules.model)

    def believe(self, model: ModelParameters) -> None:
        """Predict with this model; it holds for everything not yet worked in."""
        par = self._par
        self._looked_ns = None
        told = model.coefficients
        par[: len(told)] = told
        par[at.GAIN] = model.gain
        self._delay_ns = round(model.delay_s * NANOSECONDS)
        # A command sent now acts later, yet must not push measurements out of the history.
        history_s = self._rules.noise.history_s + model.delay_s
        par[at.HISTORY_NS] = self._history_ns = round(history_s * NANOSECONDS)

    def stamps_jitter(self, seen_s: float) -> None:
        """What the counts' stamps are off by, as seen; the settings' is the least."""
        jitter_s = max(seen_s, self._rules.noise.encoder_jitter_s)
        if jitter_s != self._par[at.JITTER_S]:
            self._par[at.JITTER_S], self._looked_ns = jitter_s, None

    def reset(self, t_ns: int, state: Four, sigma: Four) -> None:
        """Start from a known state (p, v, theta, omega); commands in flight stay."""
        prior = self._rules.noise.offset_sigma_rad
        self._restart(t_ns, state, sigma, self._rules.upright_offset_rad, prior * prior)

    def add_command(self, t_ns: int, velocity_m_s: float) -> None:
        """A command [m/s] went to the wire at ``t_ns``; it acts ``motor.delay_s`` later."""
        if not math.isfinite(velocity_m_s):
            self.memory.dropped += 1
            return
        acts_ns = t_ns + self._delay_ns
        self.memory.horizon_ns = max(self.memory.horizon_ns, t_ns)
        place = self.memory.commands % COMMANDS_KEPT
        self.memory.command_times[place] = acts_ns
        self.memory.command_values[place] = velocity_m_s
        self.memory.commands += 1
        if self.memory.initialised:
            self._insert(acts_ns, at.COMMAND, velocity_m_s, 0.0, 0.0, 0.0)

    def add_encoder(
        self,
        t_ns: int,
        p_m: float,
        theta_rad: float,
        sigma_p: float | None = None,
        sigma_theta: float | None = None,
    ) -> None:
        """Both encoders at ``t_ns``; a sigma of ``inf`` means there is no such encoder.

        Without a sigma the reading is taken for what it is, rounded to the nearest count.
        ``theta_rad`` counts turns.
        """
        half_p = half_theta = 0.0
        if sigma_p is None:
            half_p = self._rules.half_p_m
            sigma_p = half_p / ROOT_3
        if sigma_theta is None:
            half_theta = self._rules.half_theta_rad
            sigma_theta = half_theta / ROOT_3
        ahead = self.memory.initialised and t_ns - AHEAD_NS > self.memory.horizon_ns
        if ahead or not self._usable(p_m, theta_rad, sigma_p, sigma_theta):
            self.memory.dropped += 1
            return
        self.memory.horizon_ns = max(self.memory.horizon_ns, t_ns)
        if self._fresh(t_ns):
            spread_p = -half_p if half_p > 0.0 else sigma_p * sigma_p
            spread_theta = -half_theta if half_theta > 0.0 else sigma_theta * sigma_theta
            self._insert(t_ns, at.ENCODER, p_m, theta_rad, spread_p, spread_theta)
        else:
            self._start_from(t_ns, at.ENCODER, p_m, theta_rad, sigma_p, sigma_theta)

    def add_camera(self, detection: Detection) -> None:
        """A frame's measurement; only frames with status OK are used."""
        if detection.status is not DetectionStatus.OK:
            return
        noise = self._rules.noise
        sigma_p = max(detection.sigma_p_m, noise.camera_sigma_m)
        sigma_theta = max(detection.sigma_theta_rad, noise.camera_sigma_rad)
        p_m, theta_rad = detection.p_m, detection.theta_rad
        age = detection.arrival_ns - detection.t_ns
        if not 0 <= age <= self._history_ns or not self._usable(
            p_m, theta_rad, sigma_p, sigma_theta
        ):
            self.memory.dropped += 1
            return
        self.memory.horizon_ns = max(self.memory.horizon_ns, detection.arrival_ns)
        t_ns = detection.t_ns
        if self._fresh(t_ns):
            spread_p, spread_theta = sigma_p * sigma_p, sigma_theta * sigma_theta
            self._insert(t_ns, at.CAMERA, p_m, theta_rad, spread_p, spread_theta)
        else:
            self._start_from(t_ns, at.CAMERA, p_m, theta_rad, sigma_p, sigma_theta)

    def estimate(self, now_ns: int) -> Estimate:
        """The state at ``now_ns`` with its uncertainty; not valid before the first measurement."""
        self.memory.horizon_ns = max(self.memory.horizon_ns, now_ns)
        if not self.memory.initialised:
            offset, lost = self._rules.upright_offset_rad, self.memory.dropped
            return Estimate(now_ns, (0.0,) * 4, UNKNOWN, offset, -1, -1, rejected=lost, valid=False)
        row, stamp = self._look(now_ns)
        told = estimate_of(row, stamp, now_ns, self.memory.dropped)
        if told is None:  # cannot be worth anything again: take the next measurement as a start
            self.memory.initialised = False
            return self.estimate(now_ns)
        return told

    def predict(self, t_ns: int) -> Four:
        """(p, v, theta, omega) at ``t_ns``, also ahead, through the commands in flight."""
        if not self.memory.initialised:
            return (0.0, 0.0, 0.0, 0.0)
        self._look(t_ns)
        p, v, theta, omega, _ = self._seen.tolist()
        return (p, v, theta, omega)

    def seen(self, t_ns: int) -> tuple[float, float, float, float, float]:
        """As ``predict``, and the offset of the camera's angle [rad]; there is an estimate."""
        self._look(t_ns)
        p, v, theta, omega, offset = self._seen.tolist()
        return (p, v, theta, omega, offset)

    def hint(self, t_ns: int) -> DetectionHint | None:
        """Where the camera should see the pole at ``t_ns``; ``None``: look everywhere."""
        if not self.memory.initialised:
            return None
        row, _ = self._look(t_ns)
        return hint_of(row, t_ns)

    def culprits(self, now_ns: int) -> tuple[int, int, int]:
        """How often the pole's encoder slipped, stuck, and the camera was moved.

        Of the newest CERTAIN_NS nothing is told: a late measurement may still clear it up.
        """
        row, stamp = self._look(now_ns)
        return culprits_of(row, stamp, now_ns)

    def jumped(self, now_ns: int) -> bool:
        """Whether the camera's offset jumped and nobody can tell yet whether it was pushed."""
        row, _ = self._look(now_ns)
        return bool(row[at.JUMPED] != 0.0)

    def cart_jumped_ns(self, t_ns: int) -> int:
        """When the cart's counts were last believed to have jumped, as of ``t_ns``; -1: never."""
        _, stamp = self._look(t_ns)
        return int(stamp[at.CART_AT])

    def delay(self, t_ns: int) -> DelaySeen:
        """How far the stamps of camera and counts are apart, as seen by ``t_ns``."""
        row, _ = self._look(t_ns)
        return delay_of(row, float(self._par[at.JITTER_S]))

    def forget_delay(self, *, offset: bool) -> None:
        """What was gathered of the frames' delay is void.

        ``offset``: a camera whose offset was freed of late stands as it stood, since wrong stamps
        of a fast pole look like a push.
        """
        self._looked_ns = None
        self.memory.known[:, at.SCORE : at.WEIGHT + 1] = 0.0
        if offset:
            take_back(self.memory.known, self.memory.stamps)

    @staticmethod
    def _usable(p_m: float, theta_rad: float, sigma_p: float, sigma_theta: float) -> bool:
        """Finite where a reading is claimed, and at least one claimed."""
        p_claimed, theta_claimed = sigma_p < math.inf, sigma_theta < math.inf
        return (
            (p_claimed or theta_claimed)
            and sigma_p > 0.0
            and sigma_theta > 0.0
            and (not p_claimed or math.isfinite(p_m))
            and (not theta_claimed or math.isfinite(theta_rad))
        )

    def _fresh(self, t_ns: int) -> bool:
        """Whether the estimate is young enough for a measurement at ``t_ns`` to correct it."""
        if not self.memory.initialised or t_ns - self.memory.newest_ns > GAP_NS:
            return False
        self.memory.newest_ns = max(self.memory.newest_ns, t_ns)
        return True

    def _start_from(
        self, t_ns: int, kind: int, p_m: float, theta_rad: float, sigma_p: float, sigma_theta: float
    ) -> None:
        """Begin with what one measurement says, if of an angle; keep an offset once learned."""
        if sigma_theta == math.inf:
            return
        offset = self._rules.upright_offset_rad
        variance = self._rules.noise.offset_sigma_rad**2
        if self.memory.initialised:
            self._fold_all()
            row = self._newest_row()
            offset = float(row[at.X + at.OFFSET])
            variance = float(row[at.COV + (at.STATES + 1) * at.OFFSET])
        if not sigma_p < math.inf:
            p_m, sigma_p = 0.0, 0.5 * self._rules.track_length_m
        if kind == at.CAMERA:
            # A picture does not tell turns: start between -pi/2 and 3 pi/2, upright is pi.
            theta_rad = (theta_rad - offset + 0.5 * math.pi) % (2.0 * math.pi) - 0.5 * math.pi
            sigma_theta = math.sqrt(sigma_theta * sigma_theta + variance)
        rate = self._rules.velocity_limit_m_s
        self._restart(
            t_ns,
            (p_m, 0.0, theta_rad, 0.0),
            (sigma_p, rate, sigma_theta, at.RATE_SIGMA_RAD_S),
            offset,
            variance,
        )
        if kind == at.CAMERA:
            self.memory.stamps[0, at.ACCEPTED + at.CAMERA_THETA] = t_ns
        else:
            self.memory.stamps[
                0, at.ACCEPTED + at.ENCODER_P : at.ACCEPTED + at.ENCODER_THETA + 1
            ] = t_ns

    def _restart(
        self, t_ns: int, state: Four, sigma: Four, offset: float, offset_variance: float
    ) -> None:
        """Empty the ring but for a base event, and put the commands still in flight back."""
        self._looked_ns = None
        marks = self.memory.marks
        marks[at.FIRST], marks[at.DONE], marks[at.END] = 0, 0, 1
        self.memory.when[0] = (t_ns, at.START)
        row, stamp = self.memory.known[0], self.memory.stamps[0]
        row[:] = 0.0
        row[at.X : at.X + 4], row[at.X + at.OFFSET] = state, offset
        for i, one in enumerate(sigma):
            row[at.COV + (at.STATES + 1) * i] = one * one
        row[at.COV + (at.STATES + 1) * at.OFFSET] = offset_variance
        zero_sigma = self._rules.noise.pole_zero_sigma_rad
        row[at.COV + (at.STATES + 1) * at.ZERO] = zero_sigma * zero_sigma
        row[at.NIS : at.NIS + 4] = 1.0
        row[at.LAST_THETA] = math.nan
        stamp[:] = -1
        stamp[at.TIME] = stamp[at.SAME_SINCE] = t_ns
        self.memory.initialised = True
        self.memory.newest_ns = t_ns
        self.memory.horizon_ns = max(self.memory.horizon_ns, t_ns)
        for acts_ns, velocity in self._commands():
            if acts_ns <= t_ns:
                row[at.INPUT] = velocity
            else:
                self._insert(acts_ns, at.COMMAND, velocity, 0.0, 0.0, 0.0)

    def _commands(self) -> list[tuple[int, float]]:
        """When each kept command acts [ns] and what it is [m/s], oldest first."""
        memory, count = self.memory, self.memory.commands
        places = np.arange(max(0, count - COMMANDS_KEPT), count) % COMMANDS_KEPT
        times, values = memory.command_times[places], memory.command_values[places]
        return list(zip(times.tolist(), values.tolist(), strict=True))

    def _insert(
        self,
        t_ns: int,
        kind: int,
        first: float,
        second: float,
        first_variance: float,
        second_variance: float,
    ) -> None:
        self._looked_ns = None
        status = kernels.insert(
            *self._ring, t_ns, kind, first, second, first_variance, second_variance
        )
        if status != at.TAKEN:
            self.memory.dropped += 1

    def _look(self, t_ns: int) -> tuple[FloatArray, Whole]:
        if t_ns != self._looked_ns:
            kernels.look(*self._ring, t_ns)
            self._looked_ns = t_ns
        return self._scratch

    def _fold_all(self) -> None:
        kernels.fold(*self._ring, self.memory.newest_ns)

    def _newest_row(self) -> FloatArray:
        slot = int(self.memory.marks[at.DONE]) & (len(self.memory.when) - 1)
        row: FloatArray = self.memory.known[slot]
        return row
