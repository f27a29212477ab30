"""The filter once more, in plain NumPy: what the compiled one is held against, and easier to read.

Matrices instead of written-out sparsity, a sorted list instead of a ring, all snapshots kept. It is
written from the same equations, not from the same code, and leaves out what does not change the
estimate (running means, evidence for a delay error, frozen pictures).
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cartpole.estimation import layout as at
from cartpole.estimation.filter import most_rate_rad_s
from cartpole.messages import NANOSECONDS, OMEGA, THETA, Detection, FloatArray, P, V
from cartpole.model.dynamics import COULOMB_BLEND_RAD_S
from cartpole.model.parameters import ModelParameters
from cartpole.rules.model import model_of

if TYPE_CHECKING:
    from cartpole.config.schema import Config

H_CART = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
H_ENCODER = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 1.0])
H_CAMERA = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])


@dataclass(frozen=True)
class Event:
    """A command or a measurement; ``half`` are half bins of rounded readings (0: not rounded)."""

    t_ns: int
    kind: int
    values: tuple[float, float]
    variances: tuple[float, float] = (math.inf, math.inf)
    half: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Snapshot:
    """All the fold knows at ``t_ns``; ``state`` (6,), ``cov`` (6, 6)."""

    t_ns: int
    state: FloatArray
    cov: FloatArray
    command: float = 0.0
    in_a_row: tuple[int, ...] = (0,) * at.CHANNELS
    accepted_ns: tuple[int, ...] = (-1,) * at.CHANNELS
    rejected: int = 0
    kept: tuple[tuple[float, int], ...] = ((0.0, -1),) * at.CHANNELS  # a refusal, when
    agreed: tuple[int, ...] = (0,) * at.CHANNELS
    strange: tuple[int, ...] = (0,) * at.CHANNELS
    first_ns: tuple[int, ...] = (-1,) * at.CHANNELS  # of the refusals in a row
    first_share: tuple[float, ...] = (0.0,) * at.CHANNELS  # of its bound, then
    cart_nis: float = 1.0  # running mean, of the cart's counts
    line: tuple[float, float] = (0.0, 0.0)  # rate of refused frames that agree, and over which span

    @property
    def restless(self) -> float:
        """How many times the cart's disturbance is what the settings say."""
        return 1.0 + at.MORE * max(0.0, self.cart_nis - at.RESTLESS) ** 2


@dataclass
class ReferenceFilter:
    """Rewinding extended Kalman filter; start it with :meth:`reset`, ask it with :meth:`look`."""

    config: Config
    events: list[Event] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model: ModelParameters = model_of(self.config)

    def reset(
        self, t_ns: int, state: tuple[float, ...], sigma: tuple[float, ...], command: float = 0.0
    ) -> None:
        """Start from a known (p, v, theta, omega)."""
        noise = self.config.estimator
        mean = np.array([*state, self.config.pole.upright_offset_rad, 0.0])
        deviation = np.array([*sigma, noise.offset_sigma_rad, noise.pole_zero_sigma_rad])
        self.events = [Event(t_ns, at.START, (0.0, 0.0))]
        self.snapshots = [Snapshot(t_ns, mean, np.diag(deviation**2), command)]

    def add_command(self, t_ns: int, velocity_m_s: float) -> None:
        """A command sent at ``t_ns``."""
        acts_ns = t_ns + round(self.model.delay_s * NANOSECONDS)
        self._insert(Event(acts_ns, at.COMMAND, (velocity_m_s, 0.0)))

    def add_encoder(self, t_ns: int, p_m: float, theta_rad: float) -> None:
        """Rounded readings of both encoders."""
        half = np.array(
            [
                0.5 / self.config.encoder.cart_counts_per_m,
                math.pi / self.config.encoder.pole_counts_per_turn,
            ]
        )
        soft = (at.EDGE * half) ** 2
        self._insert(
            Event(t_ns, at.ENCODER, (p_m, theta_rad), (soft[0], soft[1]), (half[0], half[1]))
        )

    def add_camera(self, detection: Detection) -> None:
        """A frame's measurement."""
        noise = self.config.estimator
        sigma_p = max(detection.sigma_p_m, noise.camera_sigma_m)
        sigma_theta = max(detection.sigma_theta_rad, noise.camera_sigma_rad)
        values = (detection.p_m, detection.theta_rad)
        self._insert(Event(detection.t_ns, at.CAMERA, values, (sigma_p**2, sigma_theta**2)))

    def look(self, t_ns: int) -> Snapshot:
        """What is known at ``t_ns``."""
        while len(self.snapshots) < len(self.events):
            event = self.events[len(self.snapshots)]
            if event.t_ns > t_ns:
                break
            before = self._propagate(self.snapshots[-1], event.t_ns)
            self.snapshots.append(self._apply(before, event))
        return self._propagate(self.snapshots[-1], t_ns)

    def _insert(self, event: Event) -> None:
        place = bisect.bisect(self.events, (event.t_ns, event.kind), key=lambda e: (e.t_ns, e.kind))
        self.events.insert(place, event)
        del self.snapshots[place:]

    def _propagate(self, known: Snapshot, t_ns: int) -> Snapshot:
        span = (t_ns - known.t_ns) * 1e-9
        if span <= 0.0:
            return known
        pieces = math.ceil(span / at.MAX_STEP_S)
        state, cov = known.state, known.cov
        for _ in range(pieces):
            state, cov = self._step(state, cov, known.command, span / pieces, known.restless)
        return replace(known, t_ns=t_ns, state=state, cov=cov)

    def _step(
        self, state: FloatArray, cov: FloatArray, u: float, h: float, restless: float
    ) -> tuple[FloatArray, FloatArray]:
        noise, c = self.config.estimator, self.model.coupling_1_m
        new, f = step_with_jacobian(self.model, state, u, h)
        q = np.zeros((6, 6))
        cart_end = np.array([0.0, 1.0, 0.0, -c * math.cos(new[THETA]), 0.0, 0.0])
        cart_start = f @ np.array([0.0, 1.0, 0.0, -c * math.cos(state[THETA]), 0.0, 0.0])
        pole_end = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
        pole_start = f @ pole_end
        for sigma, a, b in (
            (math.sqrt(restless) * noise.cart_noise_m_s2, cart_end, cart_start),
            (noise.pole_noise_rad_s, pole_end, pole_start),
        ):
            cross = 0.5 * (np.outer(a, b) + np.outer(b, a))
            q += sigma**2 * h / 3.0 * (np.outer(a, a) + cross + np.outer(b, b))
        q[at.OFFSET, at.OFFSET] = noise.offset_noise_rad**2 * h
        cov = f @ cov @ f.T + q
        return new, 0.5 * (cov + cov.T)  # an unstable model would amplify what is not symmetric

    def _apply(self, known: Snapshot, event: Event) -> Snapshot:
        if event.kind == at.COMMAND:
            return replace(known, command=event.values[0])
        if event.kind == at.ENCODER:
            for channel, h in ((at.ENCODER_P, H_CART), (at.ENCODER_THETA, H_ENCODER)):
                known = self._count(known, event, channel, h)
            return known
        return self._frame(known, event)

    def _count(self, known: Snapshot, event: Event, channel: int, h: FloatArray) -> Snapshot:
        k = channel - at.ENCODER_P
        rate = known.state[V if channel == at.ENCODER_P else OMEGA]
        variance = event.variances[k] + (rate * self.config.estimator.encoder_jitter_s) ** 2
        far = event.values[k] - float(h @ known.state)
        miss = far if channel == at.ENCODER_P else _nearest(far)
        known, accepted = self._gate(known, channel, miss, h, variance, event.half[k])
        if not accepted:
            return known
        state = known.state.copy()
        state[THETA] += far - miss
        expected = float(h @ known.cov @ h) + variance
        shift, share = rounded_moments(miss, event.half[k], math.sqrt(expected))
        return _updated(replace(known, state=state), channel, h, shift, share, expected)

    def _frame(self, known: Snapshot, event: Event) -> Snapshot:
        channels = [(at.CAMERA_THETA, 1, H_CAMERA)]
        if not _trusted(known, at.ENCODER_P):
            channels.append((at.CAMERA_P, 0, H_CART))
        for channel, k, h in channels:
            miss = event.values[k] - float(h @ known.state)
            miss = _nearest(miss) if channel == at.CAMERA_THETA else miss
            known, accepted = self._gate(known, channel, miss, h, event.variances[k], 0.0)
            if not accepted:
                return known
        for channel, k, h in channels:
            miss = event.values[k] - float(h @ known.state)
            miss = _nearest(miss) if channel == at.CAMERA_THETA else miss
            expected = float(h @ known.cov @ h) + event.variances[k]
            known = _updated(known, channel, h, miss, 1.0, expected)
        return known

    def _gate(
        self,
        known: Snapshot,
        channel: int,
        miss: float,
        h: FloatArray,
        variance: float,
        half: float,
    ) -> tuple[Snapshot, bool]:
        spread = math.sqrt(h @ known.cov @ h + variance)
        if abs(miss) <= self.config.estimator.gate_sigma * spread + half:
            return known, True
        bound = self.config.estimator.gate_sigma * spread + half
        known = self._compare(known, channel, miss, bound)
        counts = list(known.in_a_row)
        counts[channel] += 1
        known = replace(known, in_a_row=tuple(counts))
        after = self.config.estimator.reopen_after
        agreed = known.agreed[channel] >= at.AGREE or counts[channel] >= at.PATIENCE * after
        hit = (
            channel == at.ENCODER_THETA
            and known.agreed[channel] >= at.HIT_AGREE
            and abs(miss) > at.HIT_GROWS * known.first_share[channel] * bound
        )
        later = counts[channel] >= after and agreed
        if self._early(known, channel, hit) or not (hit or later):
            return replace(known, rejected=known.rejected + 1), False
        cov = known.cov.copy()
        if channel == at.CAMERA_THETA and _counted(known):
            cov[at.OFFSET, at.OFFSET] += miss**2
        else:
            place, rate = (P, V) if channel in (at.ENCODER_P, at.CAMERA_P) else (THETA, OMEGA)
            last = known.accepted_ns[channel]
            gap = 0.1 if last < 0 else max(1e-3, (known.t_ns - last) * 1e-9)
            cov[place, place] += miss**2
            speed = abs(miss) / gap
            cov[rate, rate] += (min(speed, self._most_rate()) if rate == OMEGA else speed) ** 2
        return replace(known, cov=cov), True

    @staticmethod
    def _early(known: Snapshot, channel: int, hit: bool) -> bool:
        """Whether one sensor disagrees with the other for too short a time to say which sticks."""
        first_ns, seen_ns = known.first_ns[channel], known.accepted_ns[at.CAMERA_THETA]
        left = _left(known, at.CAMERA_THETA, at.ENCODER_THETA)
        vouched = not left and seen_ns - first_ns >= at.VOUCH_NS
        seen = _lately(known, at.CAMERA_THETA) and not left and not hit
        alone = (channel == at.CAMERA_THETA and _counted(known)) or (
            channel == at.ENCODER_THETA and (vouched or seen)
        )
        return alone and known.t_ns - first_ns < at.STILL_NS

    def _most_rate(self) -> float:
        return most_rate_rad_s(self.model, self.config.rig.velocity_limit_m_s)

    def _compare(self, known: Snapshot, channel: int, miss: float, bound: float) -> Snapshot:
        before, when_ns = known.kept[channel]
        turns = channel in (at.ENCODER_THETA, at.CAMERA_THETA)
        far = _nearest(miss - before) if turns else miss - before
        most = self._most_rate() if turns else 3.0 * self.config.rig.velocity_limit_m_s
        span = (known.t_ns - when_ns) * 1e-9
        near = abs(far) <= bound + most * span
        alone = channel == at.CAMERA_THETA and not _lately(known, at.ENCODER_THETA)
        if alone and known.agreed[channel] > 0:  # two make a line, a third must lie on it
            rate, before_s = known.line
            bend = 2.0 * self.model.coupling_1_m * self.model.gravity_m_s2 * span
            most = bound * (1.0 + span / before_s) + bend * (span + before_s)
            near = abs(_nearest(far - rate * span)) <= most
        agreed, strange, kept = list(known.agreed), list(known.strange), list(known.kept)
        if known.in_a_row[channel] == 0:
            first = list(known.first_ns)
            first[channel], agreed[channel] = known.t_ns, 0
            shares = list(known.first_share)
            shares[channel] = abs(miss) / bound
            known = replace(known, first_ns=tuple(first), first_share=tuple(shares))
        elif near:
            agreed[channel] += 1
            known = replace(known, line=(far / span, span)) if alone else known
        else:
            strange[channel] += 1
            if strange[channel] < 2:
                return replace(known, strange=tuple(strange))
            agreed[channel] = 0
        kept[channel], strange[channel] = (miss, known.t_ns), 0
        return replace(known, kept=tuple(kept), agreed=tuple(agreed), strange=tuple(strange))


def _nearest(angle: float) -> float:
    return angle - 2.0 * math.pi * math.floor(angle / (2.0 * math.pi) + 0.5)


def _lately(known: Snapshot, channel: int) -> bool:
    last = known.accepted_ns[channel]
    return last >= 0 and known.t_ns - last <= at.FRESH_NS


def _trusted(known: Snapshot, channel: int) -> bool:
    return _lately(known, channel) and known.in_a_row[channel] == 0


def _left(known: Snapshot, channel: int, other: int) -> bool:
    """Whether a channel has left the model, by more than one reading that agrees with no other."""
    if known.in_a_row[channel] != 1:
        return known.in_a_row[channel] > 1
    miss, jump = known.kept[channel][0], known.kept[other][0]
    return abs(_nearest(miss - jump)) < at.ALIKE * abs(jump)


def _counted(known: Snapshot) -> bool:
    return _lately(known, at.ENCODER_THETA) and not _left(known, at.ENCODER_THETA, at.CAMERA_THETA)


def _updated(
    known: Snapshot, channel: int, h: FloatArray, shift: float, share: float, expected: float
) -> Snapshot:
    gain = known.cov @ h / expected
    in_a_row, accepted = list(known.in_a_row), list(known.accepted_ns)
    in_a_row[channel], accepted[channel] = 0, known.t_ns
    nis = known.cart_nis
    if channel == at.ENCODER_P:
        nis += at.AVERAGE * (shift * shift / expected - share * nis)
    return replace(
        known,
        cart_nis=nis,
        state=known.state + gain * shift,
        cov=known.cov - share * expected * np.outer(gain, gain),
        in_a_row=tuple(in_a_row),
        accepted_ns=tuple(accepted),
    )


def rounded_moments(miss: float, half: float, sigma: float) -> tuple[float, float]:
    """Shift of the mean and lost share of the variance of N(0, sigma^2) cut to miss ± half."""
    if half == 0.0:
        return miss, 1.0
    low, high = (abs(miss) - half) / sigma, (abs(miss) + half) / sigma
    if low < -7.0:
        return 0.0, 0.0
    mass = 0.5 * (math.erfc(low / math.sqrt(2.0)) - math.erfc(high / math.sqrt(2.0)))
    density = np.exp(-0.5 * np.array([low, high]) ** 2) / math.sqrt(2.0 * math.pi) / mass
    mean = density[0] - density[1]
    share = mean**2 - low * density[0] + high * density[1]
    return math.copysign(mean * sigma, miss), min(max(share, 0.0), 1.0)


def step_with_jacobian(
    model: ModelParameters, state: FloatArray, u: float, h: float
) -> tuple[FloatArray, FloatArray]:
    """The state (6,) after a step of h seconds and the step's derivative (6, 6)."""
    c, g, tau = model.coupling_1_m, model.gravity_m_s2, model.tau_s
    limit, error = model.motor_acceleration_m_s2, u - state[V]
    clipped = min(h, max(0.0, (abs(error) - limit * tau) / limit))

    def servo(time: float) -> tuple[float, float]:
        if time <= clipped and clipped > 0.0:
            return math.copysign(limit, error), 0.0
        decay = math.exp(-(time - clipped) / tau)
        return math.copysign(min(abs(error) / tau, limit), error) * decay, -decay / tau

    pole, tangent = state[[THETA, OMEGA]], np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    slope, by_start = np.zeros(2), np.zeros((2, 3))
    change, change_by = np.zeros(2), np.zeros((2, 3))
    for part, weight in ((0.0, 1.0), (0.5, 2.0), (0.5, 2.0), (1.0, 1.0)):
        a, a_by_v = servo(part * h)
        theta, omega = pole + part * h * slope
        here = tangent + part * h * by_start
        blend = omega / COULOMB_BLEND_RAD_S
        friction = model.coulomb_rad_s2 / COULOMB_BLEND_RAD_S if abs(blend) < 1.0 else 0.0
        sine, cosine = math.sin(theta), math.cos(theta)
        slope = np.array(
            [
                omega,
                -c * (g * sine + a * cosine)
                - model.damping_1_s * omega
                - model.coulomb_rad_s2 * max(-1.0, min(1.0, blend)),
            ]
        )
        by_pole = np.array(
            [[0.0, 1.0], [-c * (g * cosine - a * sine), -model.damping_1_s - friction]]
        )
        by_start = by_pole @ here
        by_start[1, 0] -= c * cosine * a_by_v
        change += weight / 6.0 * slope
        change_by += weight / 6.0 * by_start

    rest, push = h - clipped, math.copysign(limit, error) if clipped > 0.0 else 0.0
    decay, left = math.exp(-rest / tau), math.copysign(min(abs(error), limit * tau), error)
    new, f = state.copy(), np.eye(6)
    new[P] += state[V] * clipped + 0.5 * push * clipped**2 + u * rest - left * tau * (1.0 - decay)
    new[V] = u - left * decay if rest > 0.0 else state[V] + push * clipped
    new[[THETA, OMEGA]] += h * change
    f[P, V], f[V, V] = clipped + tau * (1.0 - decay), decay
    f[THETA : OMEGA + 1, V : OMEGA + 1] = tangent + h * change_by
    return new, f
