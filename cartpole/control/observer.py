"""The observer: measurements into the estimate, through homing's zero and the filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cartpole.estimation.filter import StateFilter
from cartpole.estimation.records import FilterMemory
from cartpole.messages import (
    Detection,
    DetectionHint,
    DetectionStatus,
    EncoderSample,
    Estimate,
    HomingResult,
    Measurement,
)
from cartpole.model.parameters import ModelParameters

if TYPE_CHECKING:
    from cartpole.config.schema import Config

FIRST_SIGMA = (0.001, 0.05, 0.02, 0.5)  # m, m/s, rad, rad/s: what homing knows
SURE_M = 0.003  # a frame less sure of the position says nothing against the encoder

Four = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ObserverRules:
    """Scales of the encoders and the filter's rules; ``camera_only``: there are no encoders."""

    filter: Config
    camera_only: bool
    cart_counts_per_m: float
    cart_sign: int
    pole_counts_per_turn: float
    pole_sign: int


@dataclass(slots=True)
class ObserverMemory:
    """Homing's result, the newest sample, the newest frame's position less the estimate's."""

    filter: FilterMemory
    homed: HomingResult | None = None
    sample: EncoderSample | None = None
    residual_m: float | None = None
    model: ModelParameters | None = None


class Observer:
    """Owns the filter and the encoders' zero, which is known already or comes from homing."""

    def __init__(self, rules: ObserverRules, memory: ObserverMemory) -> None:
        self._rules, self._memory = rules, memory
        self._filter = StateFilter(rules.filter, memory.filter)
        if memory.model is not None:
            self._filter.believe(memory.model)

    @staticmethod
    def fresh(rules: ObserverRules, homed: HomingResult | None) -> ObserverMemory:
        """Nothing measured yet."""
        return ObserverMemory(StateFilter.fresh(rules.filter), homed)

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
    def sample(self) -> EncoderSample | None:
        """The newest."""
        return self._memory.sample

    @property
    def residual_m(self) -> float | None:
        """The newest frame's position less the estimate's; ``None`` if it says nothing."""
        return self._memory.residual_m

    @property
    def is_homed(self) -> bool:
        """Whether positions mean anything."""
        return self.camera_only or self.homed is not None

    @property
    def initialised(self) -> bool:
        """Whether there is an estimate."""
        return self._filter.initialised

    def believe(self, model: ModelParameters | None) -> None:
        """Predict with this model from now on; ``None`` leaves the model as it is."""
        if model is not None and model != self._memory.model:
            self._memory.model = model
            self._filter.believe(model)

    def forget(self) -> None:
        """The counts mean nothing until the next homing, nor does the estimate."""
        self.homed = None
        self._memory.model = None
        self._memory.filter = StateFilter.fresh(self._rules.filter)
        self._filter = StateFilter(self._rules.filter, self._memory.filter)

    def _take_encoder(self, sample: EncoderSample) -> None:
        """Counts of both encoders."""
        self._memory.sample = sample
        if self.homed is None:
            return
        encoder, zero = self._rules, self.homed
        # A count n stands for anything from n to n + 1: its middle is the best guess.
        position = encoder.cart_sign * (sample.cart_counts + 0.5 - zero.cart_zero_counts)
        turns = encoder.pole_sign * (sample.pole_counts + 0.5 - zero.pole_zero_counts)
        p = position / encoder.cart_counts_per_m
        theta = 2.0 * math.pi * turns / encoder.pole_counts_per_turn
        if not self._filter.initialised:
            self._filter.reset(sample.t_ns, (p, 0.0, theta, 0.0), FIRST_SIGMA)
        self._filter.add_encoder(sample.t_ns, p, theta)

    def _take_detection(self, detection: Detection) -> None:
        """What a frame shows."""
        if not self.is_homed:
            return
        self._filter.add_camera(detection)
        self._memory.residual_m = None
        usable = detection.status is DetectionStatus.OK and detection.sigma_p_m < SURE_M
        if usable and not self.camera_only and self._filter.initialised:
            self._memory.residual_m = detection.p_m - self._filter.predict(detection.t_ns)[0]

    def take(self, measurement: Measurement) -> None:
        """Any measurement; those that say nothing of the state are passed over."""
        if isinstance(measurement, EncoderSample):
            self._take_encoder(measurement)
        elif isinstance(measurement, Detection):
            self._take_detection(measurement)

    def add_command(self, t_ns: int, velocity_m_s: float) -> None:
        """A command [m/s] went out at ``t_ns``."""
        self._filter.add_command(t_ns, velocity_m_s)

    def estimate(self, now_ns: int) -> Estimate | None:
        """The state at ``now_ns``; ``None`` while nothing is known."""
        return self._filter.estimate(now_ns) if self._filter.initialised else None

    def predict(self, t_ns: int) -> Four:
        """(p, v, theta, omega) at ``t_ns``, through the commands in flight."""
        return self._filter.predict(t_ns)

    def hint(self, t_ns: int) -> DetectionHint | None:
        """Where the tracker should look at ``t_ns``; ``None`` while nothing is known."""
        return self._filter.hint(t_ns) if self._filter.initialised else None

    def camera_delay_error_s(self) -> float | None:
        """By how much frames are older than their stamps say, if that is beyond doubt."""
        consistency = self._filter.consistency()
        return consistency.camera_delay_error_s if consistency.camera_delay_suspect else None
