"""Synthetic event streams with their truth: what the filter is measured on.

A rig with white disturbances on the cart's acceleration and on the pole, a camera that is late and
sometimes wrong, encoders that round. Only the truth is random; the filter must know the noise from
its config alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from cartpole.messages import (
    NANOSECONDS,
    OMEGA,
    THETA,
    Detection,
    DetectionStatus,
    EncoderSample,
    FloatArray,
    P,
    V,
)
from cartpole.model.dynamics import rig_step
from cartpole.model.parameters import Coefficients, ModelParameters
from cartpole.rules.model import true_model

if TYPE_CHECKING:
    from cartpole.config.schema import Config

GRID_S = 5e-4  # step of the truth
TICK_S = 0.02  # commands change this often
Motion = Literal["swing", "upright"]


@dataclass(frozen=True, slots=True)
class Sensors:
    """What the sensors do to the truth; a rate of 0 leaves a sensor out."""

    camera_hz: float = 150.0
    camera_sigma_rad: float = 0.0015
    camera_sigma_m: float = 0.001
    camera_latency_s: float = 0.012
    camera_jitter_s: float = 0.003
    camera_loss: float = 0.05
    camera_outliers: float = 0.01
    camera_offset_rad: float = 0.0
    stamp_error_s: float = 0.0  # frames are older than their stamps by this
    encoder_hz: float = 200.0
    encoder_latency_s: float = 0.0016
    pole_zero_counts: float = 0.0  # what the pole encoder reads too much


@dataclass(frozen=True, slots=True)
class CommandSent:
    """A velocity command at the moment it goes to the wire."""

    t_ns: int
    velocity_m_s: float


Arrival = tuple[int, Detection | EncoderSample | CommandSent]


@dataclass(frozen=True, slots=True)
class Stream:
    """Events in order of arrival, and the truth.

    ``truth`` is (n, 4), rows (p, v, theta, omega) at ``start_ns + GRID_S * row``.
    """

    start_ns: int
    truth: FloatArray
    arrivals: tuple[Arrival, ...]

    @property
    def end_ns(self) -> int:
        """Time of the last row of the truth; late events arrive after it."""
        return self.start_ns + round((len(self.truth) - 1) * GRID_S * NANOSECONDS)

    def state_at(self, t_ns: int) -> FloatArray:
        """The true state at ``t_ns``, interpolated to third order, shape (4,)."""
        place = (t_ns - self.start_ns) * 1e-9 / GRID_S
        k = min(max(int(place), 0), len(self.truth) - 2)
        s = place - k
        a, b = self.truth[k], self.truth[k + 1]
        out: FloatArray = (1.0 - s) * a + s * b
        for x, rate in ((P, V), (THETA, OMEGA)):
            bend = b[x] - a[x]
            left, right = GRID_S * a[rate] - bend, GRID_S * b[rate] - bend
            out[x] += s * (1.0 - s) * ((1.0 - s) * left - s * right)
        return out


@njit(cache=True, nogil=True)
def _plant(
    truth: FloatArray,
    sent: FloatArray,
    kicks: FloatArray,
    swing: bool,
    gains: FloatArray,
    limits: tuple[float, float],
    model: Coefficients,
    delay: int,
    tick: int,
) -> None:
    """Fill truth (n, 4) and the commands sent (n,) for white kicks (n, 2) [m/s, rad/s]."""
    coupling, gravity = model.coupling, model.gravity
    u = 0.0
    for k in range(truth.shape[0] - 1):
        p, v, theta, omega = truth[k]
        if k % tick == 0:
            up = theta - math.pi
            if swing:
                # Pump to 0.9 of the upright energy, keep to the middle.
                energy = 0.5 * omega * omega - coupling * gravity * math.cos(theta)
                lack = max(-1.0, min(1.0, 0.9 * coupling * gravity - energy))
                wish = -lack * math.copysign(limits[0], omega * math.cos(theta)) - 1.5 * p
            else:
                wish = gains[0] * p + gains[1] * v + gains[2] * up + gains[3] * omega
            wish = max(u - limits[1], min(u + limits[1], wish))
            u = max(-limits[0], min(limits[0], wish))
        sent[k] = u
        acts = sent[k - delay] if k >= delay else 0.0
        p, v, theta, omega = rig_step((p, v, theta, omega), acts, GRID_S, model)
        v += kicks[k, 0]
        omega += kicks[k, 1] - coupling * math.cos(theta) * kicks[k, 0]
        truth[k + 1, P], truth[k + 1, V] = p, v
        truth[k + 1, THETA], truth[k + 1, OMEGA] = theta, omega


def _simulate(
    config: Config, motion: Motion, duration_s: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Truth (n, 4) and command in force for sending (n,) on the grid."""
    model: ModelParameters = true_model(config)
    n = round(duration_s / GRID_S) + 1
    truth, sent = np.zeros((n, 4)), np.zeros(n)
    truth[0, THETA] = 0.1 if motion == "swing" else math.pi + 0.01
    power = np.array([config.sim.cart_disturbance, config.sim.pole_disturbance])
    kicks = rng.standard_normal((n, 2)) * power * math.sqrt(GRID_S)
    limits = (
        config.rig.velocity_limit_m_s,
        config.rig.acceleration_limit_m_s2 * TICK_S,
    )
    par = model.coefficients
    _plant(
        truth,
        sent,
        kicks,
        motion == "swing",
        _balance_gains(model),
        limits,
        par,
        round(model.delay_s / GRID_S),
        round(TICK_S / GRID_S),
    )
    return truth, sent


def _balance_gains(model: ModelParameters) -> FloatArray:
    """Feedback (p, v, theta - pi, omega) -> velocity command that balances, by Riccati equation."""
    from scipy.linalg import expm, solve_discrete_are

    c, tau = model.coupling_1_m, model.tau_s + model.delay_s
    a = np.zeros((5, 5))
    a[0, 1], a[1, 1], a[1, 4] = 1.0, -1.0 / tau, 1.0 / tau
    a[2, 3], a[3, 2], a[3, 3] = 1.0, c * model.gravity_m_s2, -model.damping_1_s
    a[3, 1], a[3, 4] = -c / tau, c / tau
    step = expm(a * TICK_S)
    f, g = step[:4, :4], step[:4, 4:]
    cost = solve_discrete_are(f, g, np.diag([10.0, 0.1, 10.0, 0.1]), np.array([[1.0]]))
    gain: FloatArray = -np.linalg.solve(g.T @ cost @ g + 1.0, g.T @ cost @ f)[0]
    return gain


def make_stream(
    config: Config,
    motion: Motion,
    duration_s: float,
    seed: int,
    sensors: Sensors | None = None,
    start_ns: int = NANOSECONDS,
) -> Stream:
    """A stream of ``duration_s`` seconds; the same seed gives the same truth for any sensors."""
    sensors = sensors or Sensors()
    root = np.random.default_rng(seed)
    truth, sent = _simulate(config, motion, duration_s, root)
    stream = Stream(start_ns, truth, ())
    tick = round(TICK_S / GRID_S)
    arrivals: list[Arrival] = []
    for k in range(0, len(truth), tick):
        t_ns = start_ns + round(k * GRID_S * NANOSECONDS)
        arrivals.append((t_ns, CommandSent(t_ns, float(sent[k]))))
    end_ns = start_ns + round(duration_s * NANOSECONDS)
    arrivals += _encoder(config, stream, sensors, end_ns)
    arrivals += _camera(stream, sensors, end_ns, np.random.default_rng((seed, 1)))
    arrivals.sort(key=lambda arrival: arrival[0])
    return replace(stream, arrivals=tuple(arrivals))


def _times(start_ns: int, end_ns: int, rate_hz: float) -> npt.NDArray[np.int64]:
    """Sampling instants [ns]."""
    if rate_hz <= 0.0:
        return np.zeros(0, dtype=np.int64)
    count = int((end_ns - start_ns) * 1e-9 * rate_hz)
    return start_ns + np.round(np.arange(count) * (NANOSECONDS / rate_hz)).astype(np.int64)


def _encoder(config: Config, stream: Stream, sensors: Sensors, end_ns: int) -> list[Arrival]:
    """Both encoders' counts."""
    scale = config.encoder
    out: list[Arrival] = []
    for t in _times(stream.start_ns, end_ns, sensors.encoder_hz).tolist():
        state = stream.state_at(t)
        arrival_ns = t + round(sensors.encoder_latency_s * NANOSECONDS)
        cart = round(float(state[P]) * scale.cart_counts_per_m)
        pole_counts = float(state[THETA]) / (2.0 * math.pi) * scale.pole_counts_per_turn
        pole = round(pole_counts + sensors.pole_zero_counts)
        out.append((arrival_ns, EncoderSample(t, arrival_ns, cart, pole)))
    return out


def _camera(
    stream: Stream, sensors: Sensors, end_ns: int, rng: np.random.Generator
) -> list[Arrival]:
    """Frames: late by a random time, some lost, some nonsense."""
    out: list[Arrival] = []
    late_ns = round(sensors.stamp_error_s * NANOSECONDS)
    for sequence, t in enumerate(_times(stream.start_ns, end_ns, sensors.camera_hz).tolist()):
        noise, lost = rng.standard_normal(3), rng.random(2)
        nonsense = rng.uniform(-math.pi, math.pi)
        if lost[0] < sensors.camera_loss:
            continue
        state = stream.state_at(t - late_ns)
        theta = float(state[THETA]) + sensors.camera_offset_rad
        theta += sensors.camera_sigma_rad * float(noise[0])
        if lost[1] < sensors.camera_outliers:
            theta = float(nonsense)
        latency_s = max(1e-3, sensors.camera_latency_s + sensors.camera_jitter_s * float(noise[2]))
        arrival_ns = t + round(latency_s * NANOSECONDS)
        detection = Detection(
            t_ns=t,
            arrival_ns=arrival_ns,
            sequence=sequence,
            status=DetectionStatus.OK,
            theta_rad=math.remainder(theta, 2.0 * math.pi),
            p_m=float(state[P]) + sensors.camera_sigma_m * float(noise[1]),
            sigma_theta_rad=sensors.camera_sigma_rad,
            sigma_p_m=sensors.camera_sigma_m,
            confidence=1.0,
        )
        out.append((arrival_ns, detection))
    return out


def to_reading(config: Config, sample: EncoderSample) -> tuple[float, float]:
    """Cart [m] and pole [rad] as a sample's counts tell them."""
    turns = sample.pole_counts / config.encoder.pole_counts_per_turn
    return sample.cart_counts / config.encoder.cart_counts_per_m, 2.0 * math.pi * turns
