"""Which motions and fits a command asks for, in the right order, on any rig or recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from calibration import procedures
from calibration.bench import Interrupted
from calibration.passes import fit_pictures
from calibration.recording import Recording
from calibration.result import CalibrationResult
from cartpole.config.load import with_values
from cartpole.errors import DeviceLost, IdentificationError, UsageError

if TYPE_CHECKING:
    from calibration.guide import Guide
    from calibration.place import Place
    from calibration.procedures import Move
    from calibration.sight import Pictures
    from cartpole.config.schema import Config

PARTS = ("encoder", "motor", "camera", "latency", "pole")
LIGHT = "light"  # what the camera needs before it: exposure and threshold
WITH_PICTURES = ("camera", "latency", LIGHT)
SWING_HEIGHT = 1.94  # 160 degrees: so far for the readout to show
TURN_HEIGHT = 2.6  # turning over: the faster the pole, the less its random pushes matter
SWING_S = 20.0
REST_S = 30.0  # viscous and dry friction separate only in so long a decay
SMALL_S = 16.0  # of a smaller swing, where that was not enough
COAST_S = 8.0  # of turning over
LOOKS = 3  # at most, each by the exposure that the one before asked for
LIGHT_PICTURES = 32
LIGHT_HEIGHT, LIGHT_S = 0.6, 2.0  # a moderate swing
STANDS_S = 0.4  # a cart that was told to has come to rest by then
TRIES = 3  # of a part on a busy host
MOST_REVERSALS = 3  # of motor and encoder, tried one after the other
FAST_M_S2 = 50.0  # slews that show the motor's own limit

Done = Callable[[float], None]  # how many of the parts are finished
# A rig ready to be led through a part; leaving stops it and closes the recording.
Lead = Callable[["Config", str], AbstractContextManager["Guide"]]


def nobody(_done: float) -> None:
    """Nobody counts."""


def calibrate_recording(what: str, recording: Recording, config: Config) -> list[CalibrationResult]:
    """Fit what was recorded; of ``all``, what the recording can give."""
    if what != "all":
        return [fit_one(what, recording, config)]
    results = []
    for one in PARTS:
        try:
            results.append(fit_one(one, recording, config))
        except IdentificationError as error:
            results.append(CalibrationResult({}, 0.0, {one: str(error)}))
    return results


@dataclass(slots=True)
class Way:
    """A rig's way through the parts: where the cart was left."""

    lead: Lead
    place: Place | None = None

    @contextmanager
    def part(self, config: Config, part: str) -> Iterator[Guide]:
        """A guide that knows what place the part before has measured; calms the pole behind it."""
        with self.lead(config, part) as guide:
            guide.arrive(self.place)
            self.place = None  # should this part end in between, nobody knows it
            yield guide
            guide.keep()
            if (place := guide.place()) is None:
                return  # nor is it known which way cart and pole go
            guide.ready()
            if part != "encoder":  # there the counts of a turn are not known before the fit
                guide.follow(procedures.calm(guide.config))
            guide.follow(procedures.centre(guide.config))
            guide.follow(procedures.hold(STANDS_S))  # else it rolls on, unseen by the next part
            self.place = guide.place() or place


def calibrate_rig(
    what: str, config: Config, lead: Lead, done: Done = nobody
) -> Iterator[CalibrationResult]:
    """Move a rig and fit, one part after the other; ``all`` hands each result to the next.

    A part of ``all`` whose recording carries no fit is refused, and the next one led all the same;
    only without its encoders a rig cannot be led. Raises UsageError for a part that the rig cannot
    show, DeviceError, IdentificationError; the motor is stopped whatever happens.
    """
    way = Way(lead)
    for number, part in enumerate(parts_of(what, config)):
        try:
            found = _patiently(part, config, way)
        except IdentificationError as error:
            if what != "all" or part == "encoder":
                raise
            found = CalibrationResult({}, 0.0, {part: str(error)})
        config = with_values(config, found.settings())
        done(number + 1)
        yield found


def parts_of(what: str, config: Config) -> tuple[str, ...]:
    """The parts that a rig of these settings can show; UsageError if that is none."""
    if config.encoder.protocol == "none":
        raise UsageError("encoder.protocol is none: a rig is calibrated by its encoders")
    if config.camera.source == "none" and what in WITH_PICTURES:
        raise UsageError(f"camera.source is none: calibrate {what} needs pictures")
    if what != "all":
        return (what,)
    return tuple(one for one in PARTS if one not in WITH_PICTURES or config.camera.source != "none")


def fit_one(part: str, recording: Recording, config: Config) -> CalibrationResult:
    """One of PARTS from a recording."""
    return replace(_fit(part, recording, config), source=_named(recording))


def _fit(part: str, recording: Recording, config: Config) -> CalibrationResult:
    if part == "encoder":
        from calibration.encoder import calibrate_encoder

        return calibrate_encoder(recording, config)
    if part == "motor":
        from calibration.motor import calibrate_motor

        return calibrate_motor(recording, config.motor)
    if part == "pole":
        from calibration.pole_report import calibrate_pole

        return calibrate_pole(recording.free())
    from calibration.camera import calibrate_camera
    from calibration.latency import calibrate_latency

    if part == "camera":
        return with_light(fit_pictures(calibrate_camera, recording, config), recording)
    return fit_pictures(calibrate_latency, recording.at_rest(), config)


def with_light(result: CalibrationResult, recording: Recording) -> CalibrationResult:
    """With threshold and exposure from the pictures, where they were kept."""
    pictures = recording.pictures
    if pictures is None:
        return result
    try:
        light = fit_light(pictures)
    except IdentificationError as error:
        return replace(result, refused=result.refused | {"camera.threshold": str(error)})
    return replace(
        result,
        estimates=light.estimates | result.estimates,
        refused=light.refused | result.refused,
        notes=(*light.notes, *result.notes),
        draw=light.draw,
    )


def fit_light(pictures: Pictures) -> CalibrationResult:
    """Threshold, exposure and gain by some of the pictures; raises IdentificationError."""
    from calibration.picture import draw_levels, levels_from_pictures

    few = pictures.evenly(LIGHT_PICTURES)
    seen = list(zip((one.pixels() for one in few.kept), few.detections(few.camera), strict=True))
    result = levels_from_pictures(seen, few.camera)
    return replace(result, draw=partial(draw_levels, seen, few.camera))


def _named(recording: Recording) -> str:
    return f"{recording.name} sha256 {recording.sha256[:16]}" if recording.sha256 else ""


def moving_settings(part: str, config: Config) -> Config:
    """What a part is recorded with: faster slews than in operation show the motor's own limit."""
    if part == "motor":
        return with_values(config, {"rig.acceleration_limit_m_s2": FAST_M_S2})
    return config


def moves(part: str, config: Config) -> tuple[Move, ...]:
    """The motions that are recorded for a part."""
    if part == "encoder":
        return (procedures.hold(1.0), procedures.sweep(config), procedures.hold(1.0))
    if part == "motor":
        return (
            procedures.hold(0.2),
            procedures.chirp(config),
            procedures.centre(config),
            procedures.steps(config),
            procedures.hold(0.3),
        )
    if part == LIGHT:
        return (procedures.swing_then_rest(config, LIGHT_HEIGHT, LIGHT_S),)
    if part == "camera":
        return (
            procedures.hold(0.3),
            procedures.swing_then_rest(config, SWING_HEIGHT, 0.4),
            procedures.swing_and_drive(config, SWING_S),
            procedures.centre(config),
        )
    if part == "pole":
        return (
            procedures.hold(0.3),
            procedures.swing_then_rest(config, TURN_HEIGHT, REST_S),
            procedures.smaller_swing(config, SMALL_S),
        )
    return (procedures.hold(0.3), procedures.swing_then_rest(config, SWING_HEIGHT, SWING_S))


def lit(config: Config, way: Way) -> Config:
    """Settings with exposure and threshold for the light that there is."""
    from calibration.picture import settled

    for _ in range(LOOKS):
        with way.part(config, LIGHT) as guide:
            _move(guide, LIGHT)
        pictures = guide.keep().pictures
        if pictures is None:
            raise DeviceLost("the camera shows no pictures; try `cartpole doctor camera`")
        found = fit_light(pictures)
        done = settled(found, config.camera)
        config = with_values(config, found.settings())
        if done:
            break
    return config


def _patiently(part: str, config: Config, way: Way) -> CalibrationResult:
    """A part, begun anew where the host was so late that the board switched the drive off."""
    once = partial(_encoder, config, way) if part == "encoder" else partial(_led, part, config, way)
    for _ in range(TRIES - 1):
        try:
            return once()
        except Interrupted:
            continue
    return once()


def _led(part: str, config: Config, way: Way) -> CalibrationResult:
    """Any part but the encoders."""
    if part == "camera":
        config = lit(config, way)
    with way.part(moving_settings(part, config), part) as guide:
        _move(guide, part)
    return fit_one(part, guide.keep(), config)


def _move(guide: Guide, part: str) -> None:
    """From a known place, with the pole at rest, record the part's motions."""
    guide.find_place()
    guide.settle(may_move=True)
    guide.begin()
    for move in moves(part, guide.config):
        guide.follow(move)


def _encoder(config: Config, way: Way) -> CalibrationResult:
    """Sweep, learn the signs, then let the pole go over the top.

    Once more if something is reversed: a motor that goes against the counts in the first
    centimetre (or its encoder, where a switch shows that the cart went as it was told), or a cart
    that is at the wrong switch, whose motor and encoder are both reversed (the board too must know
    which switch lies ahead).
    """
    for _ in range(MOST_REVERSALS):
        with way.part(config, "encoder") as guide:
            guide.settle(may_move=False)
            guide.begin()
            sweep = procedures.Sweep(config)
            guide.follow(procedures.hold(1.0))
            guide.follow(sweep.move())
            if not sweep.failed:
                guide.follow(procedures.hold(1.0))
                guide.zero_between_switches()
                _turn_over(guide)
                guide.keep()
            else:
                guide.ready()  # by now it stands
                switches = guide.switches()
        if not sweep.failed:
            return fit_one("encoder", guide.keep(), config)
        alone = sweep.encoder_alone(*switches)
        if not alone:
            config = with_values(config, {"motor.sign": -config.motor.sign})
        if alone or sweep.both_reversed:
            config = with_values(config, {"encoder.cart_sign": -config.encoder.cart_sign})
    raise DeviceLost(sweep.failed)


def _turn_over(guide: Guide) -> None:
    """With what the sweep has shown, swing the pole over the top and let it turn."""
    from calibration.encoder import known_so_far

    guide.ready()  # off while this thinks
    known = known_so_far(guide.recording(), guide.config)
    if known:
        guide.believe(with_values(guide.config, known))
        guide.ready()
        guide.follow(procedures.turn_over(guide.config, COAST_S))
