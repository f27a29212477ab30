"""Motions of the simulated rig, recorded: the same bytes, counts and pictures as in a run.

Commands pass the governor's speed, slew and track bounds before they reach the motor's driver.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calibration.recording import Commands, Counts, Recording, Sight, motion_from
from cartpole.control.governor import govern, limits_from
from cartpole.messages import NANOSECONDS, Command, Detection, EncoderSample
from cartpole.sim.camera import Shutter
from cartpole.sim.rig import VirtualRig

if TYPE_CHECKING:
    from calibration.procedures import Programme
    from cartpole.config.schema import Config
    from cartpole.vision.frame import Frame

START_NS = NANOSECONDS
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the host knows of the rig when it chooses a command."""

    p_m: float
    v_m_s: float
    theta_rad: float
    omega_rad_s: float
    limit_low: bool
    limit_high: bool


class Recorder:
    """Steps a simulated rig under a programme and keeps what arrives."""

    def __init__(self, config: Config, seed: int, *, pictures: bool = False) -> None:
        blind = config.camera.model_copy(update={"source": "none"})
        self.config = config
        self.rig = VirtualRig(config.model_copy(update={"camera": blind}), seed, t_ns=START_NS)
        self.samples: list[EncoderSample] = []
        self.commands: list[tuple[int, float]] = []
        self.frames: list[Frame] = []
        self._limits = replace(
            limits_from(config), acceleration_m_s2=config.rig.acceleration_limit_m_s2
        )
        self._now_ns = START_NS
        self._sequence = 0
        self._last = 0.0
        self._camera = _Camera(config, seed) if pictures else None

    @property
    def now_s(self) -> float:
        """Virtual time since the beginning."""
        return (self._now_ns - START_NS) / NANOSECONDS

    def start_ns(self, since_s: float) -> int:
        """Host time of a virtual time."""
        return START_NS + round(since_s * NANOSECONDS)

    def see(self) -> Seen:
        """Position and rates from the last encoder samples, by the configured scales."""
        encoder = self.config.encoder
        zero = self.rig.homing
        last = self.samples[-min(len(self.samples), 5) :]
        if len(last) < 2:
            return Seen(0.0, 0.0, 0.0, 0.0, False, False)
        to_m = encoder.cart_sign / encoder.cart_counts_per_m
        to_rad = encoder.pole_sign * 2.0 * math.pi / encoder.pole_counts_per_turn
        span = max(1, last[-1].t_ns - last[0].t_ns) / NANOSECONDS
        new, old = last[-1], last[0]
        return Seen(
            (new.cart_counts - zero.cart_zero_counts) * to_m,
            (new.cart_counts - old.cart_counts) * to_m / span,
            (new.pole_counts - zero.pole_zero_counts) * to_rad,
            (new.pole_counts - old.pole_counts) * to_rad / span,
            new.limit_low,
            new.limit_high,
        )

    def follow(
        self, programme: Programme, *, guarded: bool = True, progress: Progress | None = None
    ) -> None:
        """Fly a programme to its end; ``guarded`` keeps to the track by the governor."""
        period_ns = round(self.config.controller.period_s * NANOSECONDS)
        start_ns = self._now_ns
        while True:
            seen = self.see()
            t = (self._now_ns - start_ns) / NANOSECONDS
            wanted = programme(t, seen)
            if wanted is None:
                return
            cart = (seen.p_m, seen.v_m_s) if guarded else None
            flying = self._last * self.config.motor.delay_s
            out = govern(wanted, self._last, cart, flying, self._limits).velocity_m_s
            self._send(out)
            self._advance(self._now_ns + period_ns)
            if progress is not None:
                progress(t)

    def _send(self, velocity: float) -> None:
        self._sequence += 1
        self._last = velocity
        self.commands.append((self._now_ns, velocity))
        command = Command(self._now_ns, self._sequence, velocity, True, velocity)
        self.rig.send(self._now_ns, command)

    def _advance(self, to_ns: int) -> None:
        camera = self._camera
        while camera is not None and camera.shutter.next_ns <= to_ns:
            t_ns = camera.shutter.next_ns
            self._collect(t_ns)
            frame = camera.expose(self.rig.truth(t_ns))
            if frame is not None:
                self.frames.append(frame)
        self._collect(to_ns)
        self._now_ns = to_ns

    def _collect(self, to_ns: int) -> None:
        arrived = self.rig.advance(to_ns)
        self.samples.extend(one for one in arrived if isinstance(one, EncoderSample))

    def recording(self, name: str, since_s: float = 0.0) -> Recording:
        """What was kept since then, without pictures."""
        return assemble(
            [one for one in self.samples if one.t_ns >= self.start_ns(since_s)],
            self.commands,
            [],
            self.config,
            name,
            zero=(self.rig.homing.cart_zero_counts, self.rig.homing.pole_zero_counts),
        )

    def sight(self, config: Config, since_s: float = 0.0) -> list[Detection]:
        """The pictures measured by the tracker under these settings."""
        from cartpole.vision.tracker import Tracker

        tracker = Tracker(config.camera)
        shift = round((self.config.camera.latency_s - config.camera.latency_s) * NANOSECONDS)
        found = []
        for frame in self.frames:
            if frame.t_ns < self.start_ns(since_s):
                continue
            one = tracker.detect(
                frame.data, frame.t_ns + shift, frame.arrival_ns, frame.sequence, None
            )
            if one.status == 0:
                found.append(one)
        return found


class _Camera:
    """Pictures with the time that the host believes: a stamp less the configured latency."""

    def __init__(self, config: Config, seed: int) -> None:
        from cartpole.sim.eye import Eye

        self.shutter = Shutter(config, seed, START_NS)
        self._eye = Eye(config, seed)
        true = config.sim.camera_latency_s
        late = 0.0 if true is None else true - config.camera.latency_s
        self._late_ns = round(late * NANOSECONDS)

    def expose(self, state: tuple[float, float, float, float]) -> Frame | None:
        shot = self.shutter.expose(state)
        if shot.lost:
            return None
        frame = self._eye.draw(shot)
        return replace(frame, t_ns=frame.t_ns + self._late_ns)


def assemble(
    samples: list[EncoderSample],
    commands: list[tuple[int, float]],
    detections: list[Detection],
    config: Config,
    name: str,
    zero: tuple[float, float] = (0.0, 0.0),
    sha256: str = "",
) -> Recording:
    """Measurements as arrays, by the configured scales; times from the first sample."""
    encoder = config.encoder
    origin = samples[0].t_ns if samples else (detections[0].t_ns if detections else 0)
    time = np.array([(one.t_ns - origin) / NANOSECONDS for one in samples])
    cart = np.array([one.cart_counts for one in samples], dtype=np.float64) - zero[0]
    pole = np.array([one.pole_counts for one in samples], dtype=np.float64) - zero[1]
    motion = counts = None
    if len(samples):
        counts = Counts(
            time,
            cart,
            pole,
            np.array([one.limit_low for one in samples]),
            np.array([one.limit_high for one in samples]),
        )
        cart_step = 1.0 / encoder.cart_counts_per_m
        pole_step = 2.0 * math.pi / encoder.pole_counts_per_turn
        motion = motion_from(
            time,
            cart * cart_step * encoder.cart_sign,
            pole * pole_step * encoder.pole_sign,
            name,
            unwrap=False,
        )
        motion = replace(motion, p_step_m=cart_step, theta_step_rad=pole_step)
    sent = Commands(
        np.array([(t - origin) / NANOSECONDS for t, _ in commands]),
        np.array([u for _, u in commands]),
    )
    sight = None
    if detections:
        sight = Sight(
            np.array([(one.t_ns - origin) / NANOSECONDS for one in detections]),
            np.unwrap([one.theta_rad for one in detections]),
            np.array([one.p_m for one in detections]),
            np.array([one.sigma_theta_rad for one in detections]),
        )
    return Recording(name, sha256, motion, counts, sent if commands else None, sight)
