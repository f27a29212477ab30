"""What may be said of a pole: its fit judged, its friction never negative, its slips named."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from calibration.fit import Fit, implausible, unidentified
from calibration.judge import Verdict, judge
from calibration.pole import SWING, PoleFit, fit_pole
from calibration.recording import Motion, Recording
from calibration.result import CalibrationResult, Estimate
from calibration.slips import CLEARLY, LEAST_GAIN, another_reading, likely_slip, other_counts
from cartpole.errors import IdentificationError
from cartpole.session.columns import POSITION, TIME, Layout

LENGTH, DAMPING, DRY = "pole.length_m", "pole.damping_1_s", "pole.coulomb_rad_s2"
CART_SCALE = "cart scale"
SCALE, SKEW = "encoder.pole_scale", "encoder.pole_skew_s"
USEFUL_SCALE, USEFUL_SKEW_S = 0.01, 0.002  # half widths below which they are worth a setting
MOST = {SCALE: 1.25, SKEW: 0.06}
# Half widths that no interval falls below: the integration's steps, a bearing that is not ideal.
LEAST_HALF = {DAMPING: 5e-4, DRY: 2e-3}
# The length's, relative; and where the sensors' scales were fitted, too: halves of 24 recordings of
# one rig scatter by .15 %, whatever their own intervals say.
LEAST_LENGTH, LEAST_UNSCALED = 2e-4, 3e-3
ROUNDED_TIMES = 1.5  # by which intervals grow where times were written with few digits
BETTER = 0.1  # of gain: a slip that explains a doubtful fit makes it fit better
KNOWN_SCALE = 0.1  # relative: a scale known less well is told with its interval
# Beyond its interval: from here on a cart's scale that is not 1 is told, and from here on there is
# no length. The sensor of a rig that was read with care was .035 off.
TOLD_SCALE, OPEN_SCALE = 0.01, 0.045
BELIEF_SIGMA = 4.0  # how far a sensor may be from what is believed of it


@dataclass(frozen=True, slots=True)
class Judged:
    """A pole's fit with its verdict and every reason against it."""

    found: PoleFit
    verdict: Verdict
    doubts: tuple[str, ...]

    @property
    def fit(self) -> Fit:
        """With intervals as wide as the verdict asks."""
        return self.verdict.fit


def calibrate_pole(recording: Recording) -> CalibrationResult:
    """Length [m], damping [1/s], dry friction [rad/s^2], the angle sensor's scale and skew.

    A fit that fails its judgement gives no number and says why, with the slip that explains it.
    Raises IdentificationError if there is no motion of a pole in it at all.
    """
    motion = recording.motion
    if motion is None:
        raise IdentificationError(
            f"{recording.name}: no cart position and pole angle; record with the encoders on"
        )
    try:
        judged, refused = _fitted(motion)
    except IdentificationError as error:
        said = likely_slip(recording.source, motion)
        result = None if said else _with_other_counts(motion)
        if result is not None:
            return result
        why = f"{said} (as it stands: {error})" if said else str(error)
        raise IdentificationError(why) from None
    if judged.doubts:
        doubts = "; ".join(judged.doubts)
        least = max(LEAST_GAIN, judged.found.gain() + BETTER)
        if said := likely_slip(recording.source, motion, least):
            return _refused(judged, motion, f"{said} (as it stands: {doubts})")
        return _with_other_counts(motion) or _refused(judged, motion, doubts)
    if recording.source is not None:  # nobody knows from a table how its columns are meant
        least = judged.found.gain() + CLEARLY
        if said := another_reading(recording.source, motion, least):
            return _refused(judged, motion, said)
        if _scale_is_off(judged.fit, OPEN_SCALE):
            refused = refused | {LENGTH: scale_or_clock(judged.fit, recording.source.layout)}
    return _result(judged, _estimates(judged, refused), refused, motion)


def _with_other_counts(motion: Motion) -> CalibrationResult | None:
    """What a wrong scale of the angle leaves right, if with another the recording fits."""
    other = other_counts(motion)
    if other is None:
        return None
    factor, fitted = other
    scaled = _judged(fitted.found)
    spread = _relative_spread(scaled.fit)
    about = f"{factor:.2g} ± {factor * spread:.1g}" if spread > KNOWN_SCALE else f"{factor:.2g}"
    says = f"the angles are {about} times too large (the counts of another encoder?)"
    refused = {DRY: f"{says}; correct the counts a turn first", **unidentified(scaled.fit)}
    result = _result(scaled, _estimates(scaled, refused), refused, motion)
    note = f"{says}: with that {fitted.says}; length and damping do not depend on it"
    return replace(result, notes=(note, *result.notes), flags=("counts",))


def _relative_spread(result: Fit) -> float:
    """Half the 95 % interval of the angle's scale, over the scale."""
    scale = result.estimate("angle scale")
    return (scale.ci95[1] - scale.value) / scale.value


def _refused(judged: Judged, motion: Motion, why: str) -> CalibrationResult:
    return _result(judged, {}, dict.fromkeys((LENGTH, DAMPING, DRY), why), motion)


def _fitted(motion: Motion) -> tuple[Judged, dict[str, str]]:
    """The fit to report, and the parameters that it cannot show."""
    judged = _judged(fit_pole(motion))
    refused = unidentified(judged.fit)
    if DRY in refused or DAMPING in refused:
        # Friction is then one number: leave the dry part at zero.
        why = refused.get(DRY, "not separable from damping here; " + SWING)
        judged = _judged(fit_pole(motion, dry=False, start=judged.found))
        refused = {DRY: why, **unidentified(judged.fit)}
    return judged, refused


def _judged(found: PoleFit) -> Judged:
    motion = found.setup.motion
    verdict = judge(found.fit, motion.begins, samples=found.samples)
    if motion.jitter_s > 0.0:  # errors of neighbouring times hang together
        wide = replace(verdict.fit, covariance=ROUNDED_TIMES**2 * verdict.fit.covariance)
        verdict = replace(verdict, fit=wide)
    return Judged(found, verdict, (*verdict.doubts, *_physics(found)))


def _physics(found: PoleFit) -> list[str]:
    """Reasons against a fit that only a pole has."""
    out = []
    gain = found.gain()
    if gain < LEAST_GAIN:
        out.append(f"no pole explains this motion better than random pushes do ({gain:.2f})")
    why = implausible(LENGTH, found.fit.value(LENGTH), 0.06, 2.5, 0.5)
    if why:
        out.append(why)
    values, motion = found.values, found.setup.motion
    for name in ("angle scale", "cart scale"):
        if name in values and abs(values[name] - 1.0) > BELIEF_SIGMA * motion.scale_sigma:
            out.append(f"the {name} would be {values[name]:.3g}")
    if abs(values["offset"]) > BELIEF_SIGMA * motion.anchor_sigma_rad:
        out.append(f"the angle's zero would be off by {math.degrees(values['offset']):.1f} degrees")
    return out


def _estimates(judged: Judged, refused: dict[str, str]) -> dict[str, Estimate]:
    out = {}
    for one in judged.fit.parameters:
        if one.name.startswith("pole.") and one.name not in refused:
            found = at_least(judged.fit.estimate(one.name), _least_half(one.name, judged))
            out[one.name] = not_negative(found) if one.wall else found
    return out | _sensor(judged)


def _least_half(name: str, judged: Judged) -> float:
    if name != LENGTH:
        return LEAST_HALF[name]
    unscaled = judged.found.setup.motion.scale_sigma > 0.0
    share = LEAST_UNSCALED if unscaled else LEAST_LENGTH
    return share * judged.fit.value(LENGTH)


def _sensor(judged: Judged) -> dict[str, Estimate]:
    """What the settings have a place for, of a sensor that nobody scaled: one that is right upright
    (``cartpole.control.observer.rescaled``), and is not latched together with the cart's."""
    out: dict[str, Estimate] = {}
    values = judged.found.values
    if judged.found.setup.motion.anchor_rad != math.pi:
        return out
    for name, setting, useful in (
        ("angle scale", SCALE, USEFUL_SCALE),
        ("skew", SKEW, USEFUL_SKEW_S),
    ):
        if name in values:
            one = judged.fit.estimate(name)
            if one.ci95[1] - one.value < useful and abs(one.value) < MOST[setting]:
                out[setting] = one
    return out


def at_least(one: Estimate, half: float) -> Estimate:
    """With an interval no narrower than the model itself is good for."""
    half = max(half, 0.5 * (one.ci95[1] - one.ci95[0]))
    return replace(one, ci95=(one.value - half, one.value + half))


def not_negative(one: Estimate) -> Estimate:
    """Of a quantity that cannot be: the interval ends at zero."""
    return replace(one, value=max(0.0, one.value), ci95=(max(0.0, one.ci95[0]), one.ci95[1]))


def _result(
    judged: Judged, estimates: dict[str, Estimate], refused: dict[str, str], motion: Motion
) -> CalibrationResult:
    fit, found = judged.fit, judged.found
    used = found.setup.motion
    residuals = fit.residuals[: found.samples]
    return CalibrationResult(
        estimates,
        fit.chi2_dof,
        refused,
        tuple(_notes(judged, motion)),
        residuals=(used.t_s, residuals),
    )


def _scale_is_off(fit: Fit, least: float) -> bool:
    """Whether the cart's scale, where it is unknown, differs from 1 by more than its interval and
    this: with times f times too large a pole seems f^2 longer and its cart pushes f^2 harder."""
    if not any(one.name == CART_SCALE for one in fit.parameters):
        return False
    scale = fit.estimate(CART_SCALE)
    return not scale.ci95[0] - least < 1.0 < scale.ci95[1] + least


def scale_or_clock(fit: Fit, layout: Layout) -> str:
    """Why the length is not known then, and the mappings by which it would be."""
    scale, length = fit.value(CART_SCALE), fit.value(LENGTH)
    said = []
    for quantity, factor, then_m in (
        (POSITION, scale, length),
        (TIME, 1.0 / math.sqrt(scale), length / scale),
    ):
        column = layout.columns[quantity]
        meant = column.scale * factor
        mended = replace(column, unit=f"{meant:.4g}", scale=meant)
        said.append(
            f"{quantity}s are {1.0 / factor:.3f} times too large and it is {then_m:.4g} m "
            f"(--map {Layout(layout.name, {**layout.columns, quantity: mended}).text()})"
        )
    return "which no fit can tell: " + ", or ".join(said)


def _notes(judged: Judged, motion: Motion) -> list[str]:
    fit, found = judged.fit, judged.found
    offset = fit.estimate("offset")
    zero, half = math.degrees(offset.value), math.degrees(offset.value - offset.ci95[0])
    push, angle = math.sqrt(found.noise.pole), 1e3 * math.sqrt(found.noise.angle)
    notes = [
        f"angle zero: the pole hangs at {zero:+.3f} ± {half:.3f} deg",
        f"random pushes {push:.3g} rad/s per sqrt(s), angle noise {angle:.3g} mrad",
        f"neighbouring residuals correlate by {judged.verdict.correlation:.2f}",
        f"parts of the recording differ by {judged.verdict.parts:.2f} of what chance allows",
    ]
    for name in ("angle scale", "cart scale"):
        if name in found.values:
            scale = fit.estimate(name)
            notes.append(f"{name} {scale.value:.4f} ± {scale.value - scale.ci95[0]:.4f}")
    if "skew" in found.values:
        skew = fit.estimate("skew")
        notes.append(
            f"the angle is {1e3 * skew.value:+.2f} ± {1e3 * (skew.value - skew.ci95[0]):.2f} ms "
            "older than the position"
        )
    if _scale_is_off(fit, TOLD_SCALE):
        longer = fit.value(CART_SCALE)
        notes.append(
            f"positions seem {1.0 / longer:.3f} times too large; were it the clock instead, which "
            f"no fit can tell, times would be {math.sqrt(longer):.3f} times too large and the "
            f"length {fit.value(LENGTH) / longer:.4g} m"
        )
    if len(motion.begins) > 1:
        notes.append(f"{len(motion.begins)} runs, one fit")
    if len(used := found.setup.motion.t_s) < len(motion.t_s):
        notes.append(f"the first {used[-1] - used[0]:.0f} s of {motion.t_s[-1]:.0f} s were used")
    if motion.jitter_s > 0.0:
        notes.append(f"times are rounded: each may be off by {1e3 * motion.jitter_s:.2g} ms")
    coupling = 1.5 / fit.value("pole.length_m")
    notes.append(
        f"c = m d / J = {coupling:.4g} 1/m: a pole that is no rod moves as this rod does; its "
        f"centre of mass d metres from the pivot, its own inertia is m d ({1 / coupling:.4g} - d)"
    )
    return notes
