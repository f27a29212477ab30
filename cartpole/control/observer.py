"""The observer: measurements into the estimate, through homing's zero and the filter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from cartpole.estimation.aside import Aside, AsideMemory
from cartpole.estimation.delay import STAMPS_S, TELLS_RAD_S, Delay, DelayMemory
from cartpole.estimation.filter import StateFilter
from cartpole.estimation.learner import (
    DRY,
    LENGTH,
    Finding,
    Learner,
    LearnerMemory,
    LearnerRules,
)
from cartpole.estimation.records import FilterMemory, FilterRules
from cartpole.estimation.stamps import StampMemory, StampRules
from cartpole.messages import (
    NANOSECONDS,
    OMEGA,
    Detection,
    DetectionHint,
    DetectionStatus,
    EncoderSample,
    Estimate,
    HomingResult,
    Measurement,
)

FIRST_SIGMA = (0.001, 0.05, 0.02, 0.5)  # m, m/s, rad, rad/s: what homing knows
SURE_M = 0.003  # a frame less sure of the position says nothing against the encoder
FRESH_NS = 100_000_000  # an older frame says nothing of the encoder as it is now
FITS_SIGMAS = 5.0
FITS_RAD = 0.05  # a frame this near to the estimate's angle shows this pole ...
FITS_S = 0.01  # ... and shows it at about this time
PLACED_BY = 5  # frames that tell where a camera stands that was pushed
AGREES_M = 0.005  # counts that came back agree with the camera within this ...
AGREES_RAD = 0.06
AGREES_TIMES = 3  # ... so many times in a row

# Homing's coupling: how much more than it says it may be off, at least, and at most to be used [a
# share]; its dry friction [rad/s²].
HOMING_DOUBT, LEAST_COUPLING_SIGMA, MOST_COUPLING_SIGMA = 1.2, 0.01, 0.1
HOMING_DRY_SIGMA = 0.1
SLIPPED_ZERO_RAD = 0.3  # how well the pole's zero is known once its encoder slipped

CULPRITS = ("pole encoder slipped", "pole encoder stuck", "camera moved", "missed counts")

Four = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ObserverRules:
    """Scales of the encoders, the rules of filter and learner, how well both zeros are known;
    ``camera_only``: there are no encoders."""

    filter: FilterRules
    learner: LearnerRules
    stamps: StampRules
    upright_offset_rad: float
    offset_sigma_rad: float
    pole_zero_sigma_rad: float
    camera_only: bool
    cart_counts_per_m: float
    cart_sign: int
    pole_counts_per_turn: float
    pole_sign: int
    pole_scale: float = 1.0
    pole_skew_s: float = 0.0
    board_blocks: bool = False  # the board stops the cart at a pressed switch before we do


def rescaled(theta_rad: float, scale: float) -> float:
    """The true angle where a sensor, right upright, reads ``scale`` times the way from there."""
    turn = 2.0 * math.pi
    upright = turn * math.floor(theta_rad / turn) + math.pi
    return upright + (theta_rad - upright) / scale


@dataclass(slots=True)
class ObserverMemory:
    """Homing's result, the newest frame's position less the estimate's, whether the drive is on."""

    filter: FilterMemory
    learner: LearnerMemory
    homed: HomingResult | None = None
    stamps: StampMemory = field(default_factory=StampMemory)
    residual_m: float | None = None
    driven: bool = False
    camera_off_m: float = 0.0  # where a camera that was pushed reads too much ...
    placed: int = PLACED_BY  # ... by so many frames
    delay: DelayMemory = field(default_factory=DelayMemory)
    guilty: tuple[int, int, int] = (0, 0, 0)  # times told, see ``StateFilter.culprits``
    aside: AsideMemory = field(default_factory=AsideMemory)
    aside_by: Aside = Aside.NOTHING  # why frames lie aside all at once, if it was not told yet
    residual_ns: int = -1
    misfits: int = 0  # frames in a row that show another angle than the encoder
    doubted: bool = False  # the counts must agree with the camera before they count again
    agreed: int = 0


class Observer:
    """Owns filter, learner and the encoders' zero, which is known already or comes from homing."""

    def __init__(self, rules: ObserverRules, memory: ObserverMemory) -> None:
        self._rules, self._memory = rules, memory
        self._filter = StateFilter(rules.filter, memory.filter)
        self._learner = Learner(rules.learner, memory.learner)
        self.model = self._learner.model  # in force until a tick's end
        self._filter.believe(self.model)

    @staticmethod
    def fresh(rules: ObserverRules, homed: HomingResult | None) -> ObserverMemory:
        """Nothing measured yet."""
        return ObserverMemory(StateFilter.fresh(rules.filter), Learner.fresh(rules.learner), homed)

    @property
    def camera_only(self) -> bool:
        """Whether the camera alone sees the position."""
        return self._rules.camera_only

    @property
    def homed(self) -> HomingResult | None:
        """What the counts mean."""
        return self._memory.homed

    @homed.setter
    def homed(self, result: HomingResult | None) -> None:
        self._memory.homed = result

    @property
    def misfits(self) -> int:
        """How many frames in a row showed another angle than the pole's encoder."""
        return self._memory.misfits

    @property
    def doubted(self) -> bool:
        """Whether the counts are not used until they agree with the camera."""
        return self._memory.doubted

    def residual_m(self, now_ns: int) -> float | None:
        """How far a fresh frame that fits lies from the estimate; ``None``: there is none.

        Nor is there while the camera may have been pushed, which is told once the pole is slow.
        """
        memory = self._memory
        if memory.residual_m is None or now_ns - memory.residual_ns > FRESH_NS:
            return None
        pushed = abs(memory.residual_m) >= AGREES_M and self._filter.jumped(now_ns)
        return None if pushed else memory.residual_m

    def doubt(self) -> None:
        """The encoder board fell silent in flight: what it says next is held against the camera."""
        self._memory.doubted, self._memory.agreed = True, 0

    @property
    def is_homed(self) -> bool:
        """Whether positions mean anything."""
        return self.camera_only or self.homed is not None

    @property
    def initialised(self) -> bool:
        """Whether there is an estimate."""
        return self._filter.initialised

    def findings(self) -> tuple[Finding, ...]:
        """What of the model settled elsewhere than the settings say; each is told once."""
        return self._learner.findings()

    def culprits(self, now_ns: int) -> tuple[str, ...]:
        """Names of the faults of the sensors that were found guilty since the last call."""
        if not self._filter.initialised:
            return ()
        memory = self._memory
        found, told = self._filter.culprits(now_ns), memory.guilty
        aside, memory.aside_by = memory.aside_by, Aside.NOTHING
        if found == told and aside is Aside.NOTHING:
            return ()
        memory.guilty = tuple(map(max, found, told))  # type: ignore[assignment]
        if found[0] > told[0]:
            self._learner.rest()  # its zero is another
        if found[2] > told[2]:
            self._place_anew()
        guilty = [n > before for n, before in zip(found, told, strict=True)]
        guilty[2] |= aside is Aside.PUSHED
        guilty.append(aside is Aside.JUMPED)
        return tuple(name for name, one in zip(CULPRITS, guilty, strict=True) if one)

    def _place_anew(self) -> None:
        """The camera was moved: the next frames tell where it stands."""
        memory = self._memory
        memory.residual_m, memory.placed, memory.aside = None, 0, AsideMemory()

    def learn_homing(self, found: HomingResult) -> None:
        """What the pole's own swing showed meanwhile; lag, gain and delay were learned in passing.

        Its viscous friction is seen too coarsely to be worth a word.
        """
        self._learner.ramped(found.ramp_m_s2)
        if not 0.0 < found.coupling_sigma_1_m < MOST_COUPLING_SIGMA * found.coupling_1_m:
            return
        share = HOMING_DOUBT * found.coupling_sigma_1_m / found.coupling_1_m
        sigma = math.hypot(share, LEAST_COUPLING_SIGMA)
        self._learner.told(LENGTH, math.log(found.coupling_1_m), sigma)
        self._learner.told(DRY, max(0.0, found.dry_rad_s2), HOMING_DRY_SIGMA)

    def relearn(self, rules: ObserverRules) -> None:
        """The settings' model is another: what was learned began with the old one."""
        self._memory.learner = Learner.fresh(rules.learner)

    def forget(self) -> None:
        """The counts mean nothing until the next homing, nor does the estimate."""
        memory, self.homed = self._memory, None
        memory.guilty, memory.camera_off_m, memory.placed = (0, 0, 0), 0.0, PLACED_BY
        memory.aside, memory.aside_by = AsideMemory(), Aside.NOTHING
        self._learner.rest()
        memory.doubted, memory.misfits = False, 0
        memory.residual_m, memory.residual_ns = None, -1
        memory.filter = StateFilter.fresh(self._rules.filter)
        self._filter = StateFilter(self._rules.filter, memory.filter)
        self._filter.believe(self.model)

    def _take_encoder(self, sample: EncoderSample) -> None:
        """Counts of both encoders."""
        encoder, zero = self._rules, self.homed
        self._memory.stamps.take(
            sample.t_ns, sample.cart_counts / encoder.cart_counts_per_m, encoder.stamps
        )
        jitter_s = self._memory.stamps.jitter_s
        self._filter.stamps_jitter(jitter_s)
        self._learner.stamps_jitter(jitter_s)
        if zero is None:
            cart = encoder.cart_sign * sample.cart_counts / encoder.cart_counts_per_m
            self._learn_cart(sample, cart)
            return
        # A count n stands for anything from n to n + 1: its middle is the best guess.
        position = encoder.cart_sign * (sample.cart_counts + 0.5 - zero.cart_zero_counts)
        turns = encoder.pole_sign * (sample.pole_counts + 0.5 - zero.pole_zero_counts)
        p = position / encoder.cart_counts_per_m
        theta = 2.0 * math.pi * turns / encoder.pole_counts_per_turn
        if encoder.pole_scale != 1.0:
            theta = rescaled(theta, encoder.pole_scale)
        if encoder.pole_skew_s and self._filter.initialised:
            theta += encoder.pole_skew_s * self._filter.predict(sample.t_ns)[OMEGA]
        if self._memory.doubted and not self._agrees(sample.t_ns, p, theta):
            return
        if not self._filter.initialised:
            self._filter.reset(sample.t_ns, (p, 0.0, theta, 0.0), FIRST_SIGMA)
        self._filter.add_encoder(sample.t_ns, p, theta)
        slipped, stuck, _ = self._memory.guilty
        if stuck or not self._follows(sample):
            self._learn_cart(sample, p)
            return
        zero_sigma = SLIPPED_ZERO_RAD if slipped else encoder.pole_zero_sigma_rad
        self._learner.add_both(sample.t_ns, p, theta, zero_sigma)

    def _take_detection(self, detection: Detection) -> None:
        """What a frame shows."""
        if not self.is_homed:
            return
        if self._memory.camera_off_m != 0.0:
            detection = replace(detection, p_m=detection.p_m - self._memory.camera_off_m)
        if self._memory.delay.late_ns != 0:
            detection = replace(detection, t_ns=detection.t_ns - self._memory.delay.late_ns)
        told = detection.status is DetectionStatus.OK and self._filter.initialised
        fits = told and self._fits(detection)
        if told and not self.camera_only:
            self._witness(detection, fits=fits)
        self._filter.add_camera(detection)
        if fits and self.camera_only:
            self._learn_frame(detection)

    def _agrees(self, t_ns: int, p_m: float, theta_rad: float) -> bool:
        """Whether counts that came back are those that went, by what the camera has seen since."""
        memory = self._memory
        p, _, theta, omega = self._filter.predict(t_ns)
        near = abs(p_m - p) < AGREES_M and abs(theta_rad - theta) < AGREES_RAD + FITS_S * abs(omega)
        memory.agreed = memory.agreed + 1 if near else 0
        memory.doubted = memory.agreed < AGREES_TIMES
        return not memory.doubted

    def _fits(self, detection: Detection) -> bool:
        """Whether a frame shows this pole as it is now."""
        _, _, theta, omega, offset = self._filter.seen(detection.t_ns)
        off = math.remainder(detection.theta_rad - theta - offset, 2.0 * math.pi)
        most = max(FITS_RAD, FITS_SIGMAS * detection.sigma_theta_rad) + FITS_S * abs(omega)
        return abs(off) <= most

    def _witness(self, detection: Detection, *, fits: bool) -> None:
        """What a frame says for or against the encoders: nothing, unless it shows this pole now."""
        memory = self._memory
        if memory.doubted:
            return
        memory.misfits = 0 if fits else memory.misfits + 1
        if not fits or detection.sigma_p_m >= SURE_M:
            return
        p, v, _, _ = self._filter.predict(detection.t_ns)
        apart_m = detection.p_m - p
        if memory.placed < PLACED_BY:  # a mean over these frames
            memory.placed += 1
            memory.camera_off_m += apart_m / memory.placed
            return
        jumped_ns = self._filter.cart_jumped_ns(detection.t_ns)
        why = memory.aside.judge(
            detection.t_ns, apart_m, detection.sigma_p_m, v, memory.stamps.jitter_s, jumped_ns
        )
        if why is not Aside.NOTHING:
            memory.aside_by = why
        if why is Aside.PUSHED:
            self._place_anew()
            return
        lately_m = memory.aside.lately_m  # a mean: one frame scatters
        late_s = min(STAMPS_S, self._filter.delay(detection.t_ns).bound_s)
        beyond_m = max(0.0, abs(lately_m) - late_s * abs(v))
        memory.residual_m, memory.residual_ns = math.copysign(beyond_m, lately_m), detection.t_ns

    def take(self, measurement: Measurement) -> None:
        """Any measurement; those that say nothing of the state are passed over."""
        if isinstance(measurement, EncoderSample):
            self._take_encoder(measurement)
        elif isinstance(measurement, Detection):
            self._take_detection(measurement)

    def add_command(self, t_ns: int, velocity_m_s: float, *, driven: bool = True) -> None:
        """A command [m/s] went out at ``t_ns``; ``driven``: to a drive that is on.

        It ends a tick: what was learned by now is the model in force from here to the next one,
        also for a hint that somebody may ask for in between, or may not.
        """
        self._filter.add_command(t_ns, velocity_m_s)
        self._memory.driven = driven
        if driven:
            self._learner.add_command(t_ns, velocity_m_s)
        else:
            self._learner.rest()
        model = self._learner.model
        if model is not self.model:
            self.model = model
            self._filter.believe(model)

    def _follows(self, sample: EncoderSample) -> bool:
        """Whether the cart follows what was sent."""
        blocked = self._rules.board_blocks and (sample.limit_low or sample.limit_high)
        return self._memory.driven and not blocked

    def _learn_cart(self, sample: EncoderSample, p_m: float) -> None:
        """Learn from a count of the cart alone, while it follows what was sent."""
        if self._follows(sample):
            self._learner.add_cart(sample.t_ns, p_m)
        elif self._memory.driven:
            self._learner.rest()

    def _learn_frame(self, seen: Detection) -> None:
        """Learn from a frame where there are no encoders: its offset takes the zero's place."""
        rules, whole = self._rules, max(seen.sigma_p_m, seen.sigma_theta_rad) < math.inf
        if not self._memory.driven or not whole:
            return
        theta = seen.theta_rad - rules.upright_offset_rad
        self._learner.add_both(
            seen.t_ns, seen.p_m, theta, rules.offset_sigma_rad,
            seen.sigma_p_m, seen.sigma_theta_rad,
        )  # fmt: skip

    def estimate(self, now_ns: int) -> Estimate | None:
        """The state at ``now_ns``; ``None`` while nothing is known."""
        return self._filter.estimate(now_ns) if self._filter.initialised else None

    def predict(self, t_ns: int) -> Four:
        """(p, v, theta, omega) at ``t_ns``, through the commands in flight."""
        return self._filter.predict(t_ns)

    def hint(self, t_ns: int) -> DetectionHint | None:
        """Where the tracker should look at ``t_ns``; ``None`` while nothing is known."""
        return self._filter.hint(t_ns) if self._filter.initialised else None

    @property
    def camera_late_s(self) -> float:
        """By how much frames were found to be older than their stamps; it is taken off them."""
        return self._memory.delay.late_ns / NANOSECONDS

    def judge_delay(self, now_ns: int, *, due: bool) -> Delay:
        """What is certain of the frames' stamps by now; see ``DelayMemory``."""
        fast = abs(self._filter.seen(now_ns)[OMEGA]) > TELLS_RAD_S
        if not due and not fast:
            return Delay.NOTHING
        seen, jitter_s = self._filter.delay(now_ns), self._memory.stamps.jitter_s
        verdict = self._memory.delay.judge(seen, jitter_s, due=due, fast=fast)
        if verdict in (Delay.ANEW, Delay.WRONG):
            self._filter.forget_delay(offset=verdict is Delay.WRONG)
        return verdict
