"""A rig of wood and metal under a calibration programme, in real time.

The governor's speed, slew and track bounds stand before every command; silence of the encoder
board, a limit switch inside the guarded part, or the end of this program stops the motor.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from calibration import procedures
from calibration.recording import Recording
from calibration.result import CalibrationResult
from calibration.run import ALL, REST_S, SWING_HEIGHT, SWING_S, TURN_HEIGHT, fit_one
from calibration.simulated import Progress, Seen, assemble
from cartpole.config.load import with_values
from cartpole.control.governor import govern, limits_from
from cartpole.daemon.pacing import Pacer
from cartpole.errors import DeviceLost
from cartpole.messages import (
    NANOSECONDS,
    Command,
    Detection,
    DetectionStatus,
    EncoderSample,
    LinkEvent,
    LinkState,
)
from firmware_bridge.rig_links import RigLinks, open_links

if TYPE_CHECKING:
    from calibration.procedures import Programme
    from cartpole.config.schema import Config
    from cartpole.vision.process import CameraProcess

CAMERA_PARTS = ("camera", "latency")
FIRST_SAMPLE_S = 5.0  # a board may be booting
RATE_SAMPLES = 5
STILL_S = 1.0
STILL_COUNTS = 3
PATIENCE_S = 180.0
CAMERA_READY_S = 180.0


class LiveRecorder:
    """As :class:`calibration.simulated.Recorder`, for started links and an optional camera."""

    def __init__(
        self, config: Config, links: RigLinks, camera: CameraProcess | None = None
    ) -> None:
        self.config = config
        self._links, self._camera = links, camera
        self._samples: list[EncoderSample] = []
        self._detections: list[Detection] = []
        self._commands: list[tuple[int, float]] = []
        self._zero = (0.0, 0.0)
        self._last, self._sequence = 0.0, 0
        self._limits = replace(
            limits_from(config), acceleration_m_s2=config.rig.acceleration_limit_m_s2
        )
        self._stale_ns = round(config.safety.stale_state_s * NANOSECONDS)

    def wait(self) -> None:
        """Wait until the pole hangs still; here and now are the zeros. Raises DeviceLost."""
        begin_ns = still_ns = time.monotonic_ns()
        low = high = 0
        while True:
            time.sleep(0.01)
            now_ns = time.monotonic_ns()
            self._poll()
            if not self._samples:
                if now_ns - begin_ns > FIRST_SAMPLE_S * NANOSECONDS:
                    raise DeviceLost("the encoder board does not answer; try `cartpole doctor`")
                still_ns = now_ns
                continue
            count = self._samples[-1].pole_counts
            if max(high, count) - min(low, count) > STILL_COUNTS:
                low = high = count
                still_ns = now_ns
            low, high = min(low, count), max(high, count)
            if now_ns - still_ns > STILL_S * NANOSECONDS and len(self._samples) > RATE_SAMPLES:
                break
            if now_ns - begin_ns > PATIENCE_S * NANOSECONDS:
                raise DeviceLost("the pole does not come to rest; hold it still and start again")
        self._zero = (float(self._samples[-1].cart_counts), 0.5 * (low + high))

    def see(self) -> Seen:
        """Position and rates from the last encoder samples, by the configured scales."""
        encoder = self.config.encoder
        new, old = self._samples[-1], self._samples[-RATE_SAMPLES]
        to_m = encoder.cart_sign / encoder.cart_counts_per_m
        to_rad = encoder.pole_sign * 2.0 * math.pi / encoder.pole_counts_per_turn
        span = max(1, new.t_ns - old.t_ns) / NANOSECONDS
        return Seen(
            (new.cart_counts - self._zero[0]) * to_m,
            (new.cart_counts - old.cart_counts) * to_m / span,
            (new.pole_counts - self._zero[1]) * to_rad,
            (new.pole_counts - old.pole_counts) * to_rad / span,
            new.limit_low,
            new.limit_high,
        )

    def follow(
        self, programme: Programme, *, guarded: bool = True, progress: Progress | None = None
    ) -> None:
        """Fly a programme to its end; raises DeviceLost, with the motor stopped, if it cannot."""
        pacer = Pacer(self.config.controller.period_s)
        start_ns = time.monotonic_ns()
        try:
            while True:
                now_ns = pacer.wait().now_ns
                self._poll()
                if now_ns - self._samples[-1].t_ns > self._stale_ns:
                    raise DeviceLost("the encoder board fell silent; the cart was stopped")
                seen = self.see()
                if guarded and (seen.limit_low or seen.limit_high):
                    raise DeviceLost("the cart reached a limit switch and was stopped; home it")
                t = (now_ns - start_ns) / NANOSECONDS
                wanted = programme(t, seen)
                if wanted is None:
                    return
                self._send(now_ns, wanted, (seen.p_m, seen.v_m_s) if guarded else None)
                if progress is not None:
                    progress(t)
        finally:
            self._put(time.monotonic_ns(), 0.0)

    def recording(self, name: str, last_s: float = math.inf) -> Recording:
        """What was kept, or the last seconds of it."""
        since_ns = 0
        if math.isfinite(last_s):
            since_ns = self._samples[-1].t_ns - round(last_s * NANOSECONDS)
        return assemble(
            [one for one in self._samples if one.t_ns >= since_ns],
            [one for one in self._commands if one[0] >= since_ns],
            [one for one in self._detections if one.t_ns >= since_ns],
            self.config,
            name,
            self._zero,
        )

    def _send(self, now_ns: int, wanted: float, cart: tuple[float, float] | None) -> None:
        flying = self._last * self.config.motor.delay_s
        self._put(now_ns, govern(wanted, self._last, cart, flying, self._limits).velocity_m_s)

    def _put(self, now_ns: int, velocity: float) -> None:
        self._sequence += 1
        self._last = velocity
        self._commands.append((now_ns, velocity))
        self._links.send(Command(now_ns, self._sequence, velocity, True, velocity))

    def _poll(self) -> None:
        for one in self._links.poll():
            if isinstance(one, EncoderSample):
                self._samples.append(one)
            elif isinstance(one, LinkEvent) and one.state is LinkState.DOWN and self._last:
                raise DeviceLost(f"{one.link}: {one.detail}; the cart was stopped")
        if self._camera is not None:
            for found in self._camera.poll():
                if isinstance(found, Detection) and found.status is DetectionStatus.OK:
                    self._detections.append(found)


def calibrate_live(
    what: str,
    config: Config,
    done: Callable[[float], None],
    *,
    encoder_port: str | None = None,
    motor_port: str | None = None,
) -> list[CalibrationResult]:
    """Move the rig and fit, one part after the other; ``all`` hands each result to the next.

    Before each part the cart stands in the middle and the pole hangs. The ports stand in for the
    configured ones. Raises DeviceError, IdentificationError; the motor is stopped whatever happens.
    """
    results: list[CalibrationResult] = []
    parts = [one for one in ALL if one not in CAMERA_PARTS or config.camera.source != "none"]
    for number, one in enumerate(parts if what == "all" else [what]):
        moving = _settings_for(one, config)
        programmes, last_s = _motions(one, moving)
        with contextlib.ExitStack() as stack:
            camera = _camera(moving, stack) if one in CAMERA_PARTS else None
            links = open_links(moving, encoder_port=encoder_port, motor_port=motor_port)
            stack.callback(links.close)
            links.start()
            recorder = LiveRecorder(moving, links, camera)
            recorder.wait()
            for programme, guarded in programmes:
                recorder.follow(programme, guarded=guarded)
        result = fit_one(one, recorder.recording(one, last_s), moving)
        results.append(result)
        config = with_values(config, result.settings())
        done(number + 1)
    return results


def _settings_for(what: str, config: Config) -> Config:
    """The motor's own limit shows only in slews faster than those of operation."""
    fast = {"rig.acceleration_limit_m_s2": 50.0} if what == "motor" else {}
    return with_values(config, fast)


def _motions(what: str, config: Config) -> tuple[tuple[tuple[Programme, bool], ...], float]:
    """Programmes, each with whether the track is guarded, and how much of the end is fitted."""
    centre = (procedures.centre(config), True)
    if what == "encoder":
        return ((procedures.sweep(config), False),), math.inf
    if what == "motor":
        chirp, steps = procedures.chirp(config), procedures.steps(config)
        return ((chirp, True), centre, (steps, True), centre), math.inf
    if what == "camera":
        swing = procedures.swing_then_rest(config, SWING_HEIGHT, 0.4)
        drive = procedures.swing_and_drive(config, SWING_S)
        return ((swing, True), (drive, True), centre), SWING_S
    height, rest_s = (TURN_HEIGHT, REST_S) if what == "pole" else (SWING_HEIGHT, SWING_S)
    return ((procedures.swing_then_rest(config, height, rest_s), True),), rest_s


def _camera(config: Config, stack: contextlib.ExitStack) -> CameraProcess:
    from cartpole.vision.process import CameraProcess

    camera = CameraProcess(config.camera, None)
    stack.callback(camera.close)
    camera.start()
    camera.wait_ready(CAMERA_READY_S)
    return camera
