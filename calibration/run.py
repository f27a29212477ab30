"""Which motions and fits a command asks for, in the right order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from calibration import procedures
from calibration.recording import Recording
from calibration.result import CalibrationResult
from calibration.simulated import Recorder, assemble
from cartpole.config.load import with_values
from cartpole.errors import IdentificationError

if TYPE_CHECKING:
    from cartpole.config.schema import Config

ALL = ("encoder", "motor", "camera", "latency", "pole")
SWING_HEIGHT = 1.94  # 160 degrees: so far for the readout to show
TURN_HEIGHT = 2.6  # turning over: the faster the pole, the less its random pushes matter
SWING_S = 20.0
REST_S = 30.0  # viscous and dry friction separate only in so long a decay
PASSES = 2  # pictures are measured again with the lens and the times found
Done = Callable[[float], None]  # how many of the parts are finished


def calibrate_recording(what: str, recording: Recording, config: Config) -> list[CalibrationResult]:
    """Fit what was recorded; of ``all``, what the recording can give."""
    if what != "all":
        return [fit_one(what, recording, config)]
    results = []
    for one in ALL:
        try:
            results.append(fit_one(one, recording, config))
        except IdentificationError as error:
            results.append(CalibrationResult({}, 0.0, {one: str(error)}))
    return results


def fit_one(what: str, recording: Recording, config: Config) -> CalibrationResult:
    """One of ALL from a recording."""
    if what == "encoder":
        from calibration.encoder import calibrate_encoder

        return calibrate_encoder(recording, config)
    if what == "motor":
        from calibration.motor import calibrate_motor

        return calibrate_motor(recording, config.motor)
    if what == "camera":
        from calibration.camera import calibrate_camera

        return calibrate_camera(recording, config)
    if what == "latency":
        from calibration.latency import calibrate_latency

        return calibrate_latency(recording, config)
    from calibration.pole import calibrate_pole

    return calibrate_pole(recording)


def calibrate_simulated(
    what: str, config: Config, seed: int, done: Done = lambda _parts: None
) -> list[CalibrationResult]:
    """Move the simulated rig in virtual time and fit; ``all`` hands each result to the next."""
    results: list[CalibrationResult] = []
    config = pinned(config)
    steps = {"encoder": sweep, "motor": drive, "pole": swing}
    for one in ALL if what == "all" else (what,):
        if one in ("camera", "latency"):
            found, config = look(config, seed, (one,))
        else:
            found = [steps[one](config, seed)]
            config = with_values(config, found[0].settings())
        results += found
        done(len(ALL) if what != "all" else ALL.index(one) + 1)
    return results


def pinned(config: Config) -> Config:
    """The same rig with its truth written out, so that new beliefs do not change it."""
    pole, motor, camera, sim = config.pole, config.motor, config.camera, config.sim
    beliefs = {
        "length_m": pole.length_m,
        "damping_1_s": pole.damping_1_s,
        "coulomb_rad_s2": pole.coulomb_rad_s2,
        "upright_offset_rad": 0.0,
        "tau_s": motor.tau_s,
        "delay_s": motor.delay_s,
        "acceleration_m_s2": motor.acceleration_m_s2,
        "counts_per_m_s": motor.counts_per_m_s,
        "dead_band_counts": motor.dead_band_counts,
        "cart_counts_per_m": config.encoder.cart_counts_per_m,
        "lens_k1": camera.lens_k1,
        "readout_s": camera.readout_s,
        "camera_latency_s": camera.latency_s,
    }
    values = {f"sim.{k}": v for k, v in beliefs.items() if getattr(sim, k) is None}
    return with_values(config, values)


def sweep(config: Config, seed: int) -> CalibrationResult:
    """Between the switches."""
    recorder = Recorder(config, seed)
    recorder.follow(procedures.hold(0.5))
    recorder.follow(procedures.sweep(config), guarded=False)
    return fit_one("encoder", recorder.recording("sweep"), config)


def drive(config: Config, seed: int) -> CalibrationResult:
    """Chirp and steps; faster slews than in operation are asked for, to see the motor's limit."""
    fast = with_values(config, {"rig.acceleration_limit_m_s2": 50.0})
    recorder = Recorder(fast, seed + 1)
    for programme in (
        procedures.hold(0.2),
        procedures.chirp(fast),
        procedures.centre(fast),
        procedures.steps(fast),
        procedures.hold(0.3),
    ):
        recorder.follow(programme)
    return fit_one("motor", recorder.recording("chirp and steps"), fast)


def swing(config: Config, seed: int) -> CalibrationResult:
    """A push and a long decay."""
    recorder = Recorder(config, seed + 2)
    recorder.follow(procedures.hold(0.3))
    recorder.follow(procedures.swing_then_rest(config, TURN_HEIGHT, REST_S))
    return fit_one("pole", recorder.recording("swing", recorder.now_s - REST_S), config)


def look(
    config: Config, seed: int, wanted: tuple[str, ...]
) -> tuple[list[CalibrationResult], Config]:
    """Pictures of a swing, measured again with what the pass before has found."""
    recorder = Recorder(config, seed + 3, pictures=True)
    recorder.follow(procedures.hold(0.3))
    moving = wanted == ("camera",)
    rest = 0.4 if moving else SWING_S
    recorder.follow(procedures.swing_then_rest(config, SWING_HEIGHT, rest))
    since = recorder.now_s - (0.0 if moving else SWING_S)
    if moving:
        recorder.follow(procedures.swing_and_drive(config, SWING_S))
    results: list[CalibrationResult] = []
    for _ in range(PASSES):
        results = []
        for what in wanted:
            result = fit_one(what, seen_by(recorder, config, since), config)
            results.append(result)
            config = with_values(config, result.settings())
    return results, config


def seen_by(recorder: Recorder, config: Config, since_s: float) -> Recording:
    """Encoders and the tracker's answers under ``config`` from a time on."""
    start_ns = recorder.start_ns(since_s)
    homing = recorder.rig.homing
    return assemble(
        [one for one in recorder.samples if one.t_ns >= start_ns],
        recorder.commands,
        recorder.sight(config, since_s),
        config,
        "swing",
        (homing.cart_zero_counts, homing.pole_zero_counts),
    )
