"""What ``cartpole learn`` does: from recordings to figures, and to settings that pass the gate.

Settings are proposed only after something that they were not learned from has spoken for them:
recordings held out, then flights of the learned rig by the settings of before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.sessions import load_recording
from cartpole.config.load import with_values
from cartpole.errors import IdentificationError, UsageError
from cartpole.learning import recorded
from cartpole.learning.closed_loop import (
    WORSE,
    Flown,
    Verdict,
    believed,
    fly,
    gate,
    truth,
)
from cartpole.learning.innovations import Model, Track, prediction_error, track_of
from cartpole.learning.residual import residuals, truth_settings
from cartpole.learning.sysid import NOISE, UNKNOWN, Held, Learned, Progress, held_out, learn
from cartpole.learning.tune import HELD_OUT, tune
from cartpole.session.code import refuse_code
from cartpole.session.reader import open_session

if TYPE_CHECKING:
    from cartpole.config.schema import Config

PARTS = ("sysid", "residual", "cost", "dynamics", "tune")
# Settings that a model becomes, and their name in it.
SETTINGS = {
    "pole.length_m": "length_m",
    "pole.damping_1_s": "damping_1_s",
    "pole.coulomb_rad_s2": "coulomb_rad_s2",
    "motor.tau_s": "tau_s",
    "motor.delay_s": "delay_s",
}
STARTS = 3
GATE_SEEDS = HELD_OUT[:16]
TUNED = 0.98  # of the index that tuned weights may cost: less gain is none
KNOWN = 0.2  # relative sigma beyond which a number is not worth a setting


@dataclass(slots=True)
class Outcome:
    """What was learned. ``values`` go into the settings file, if ``verdict`` lets them; ``first``
    is where the search for a model begins."""

    part: str
    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    curves: tuple[tuple[float, ...], ...] = ()
    flights: tuple[Flown, Flown] | None = None
    first: Model = field(default_factory=Model)

    @property
    def writable(self) -> bool:
        """Whether there is something that passed."""
        return bool(self.values) and self.verdict is not None and self.verdict.passed

    @property
    def why(self) -> str:
        """Why nothing may be written."""
        return (self.verdict and self.verdict.why) or "nothing was found that is better"


def run(part: str, paths: Sequence[Path], config: Config, seed: int, progress: Progress) -> Outcome:
    """One part of the command. Raises SessionError, IdentificationError, UsageError."""
    if part not in PARTS:
        raise UsageError(f"learn {part}: one of {', '.join(PARTS)}")
    if config.optimizer.user_model:
        raise UsageError("learning is of the rig's own equations, not of optimizer.user_model")
    outcome = Outcome(part)
    if part in ("cost", "dynamics"):
        _imitate(outcome, paths, config, seed, progress)
    else:
        tracks = [track_of(load_recording(path, config)[0]) for path in paths]
        outcome.first = calibrated(tracks, config, paths)
        {"sysid": _sysid, "residual": _residual, "tune": _tune}[part](
            outcome, tracks, config, seed, progress
        )
    outcome.figures["settings"] = dict(outcome.values)
    if outcome.verdict is not None:
        one = outcome.verdict
        outcome.figures["gate"] = {"before": one.before, "after": one.after, "refused": one.why}
        outcome.lines.append(
            f"held-out flights: index {one.before:.3f} before, {one.after:.3f} after"
            + (f"; refused: {one.why}" if one.why else "")
        )
    return outcome


def calibrated(tracks: Sequence[Track], config: Config, paths: Sequence[Path]) -> Model:
    """Where the search begins: the settings, bettered by what calibration makes of a recording."""
    from calibration.run import calibrate_recording

    first = believed(config)
    values: dict[str, float] = {}
    for path in paths:
        for part in ("motor", "pole"):
            try:
                found = calibrate_recording(part, *load_recording(path, config))
            except IdentificationError:
                continue
            for one in found:
                values |= {k: float(v) for k, v in one.settings().items() if k in SETTINGS}
    better = replace(first, **{SETTINGS[key]: value for key, value in values.items()})
    plain = learn(tracks, first, NOISE, intervals=False)
    with_it = learn(tracks, better, NOISE, intervals=False)
    return with_it.model if with_it.value < plain.value else plain.model


def _sysid(
    outcome: Outcome, tracks: list[Track], config: Config, seed: int, progress: Progress
) -> None:
    learned = learn(tracks, outcome.first, starts=STARTS, seed=seed, progress=progress)
    held = held_out(tracks, believed(config))
    _tell_model(outcome, learned, held)
    outcome.values = proposed(learned, config)
    outcome.curves = learned.curves
    judge(outcome, config, learned.model, held)


def proposed(learned: Learned, config: Config) -> dict[str, float]:
    """Settings by a learned model; numbers that the recordings do not tell stay as they are."""
    values: dict[str, float] = {}
    for key, name in SETTINGS.items():
        value, sigma = float(getattr(learned.model, name)), learned.sigma[name]
        told = sigma < KNOWN * value or (name in ("damping_1_s", "coulomb_rad_s2") and sigma < 0.05)
        if told:
            values[key] = float(f"{max(0.0, value):.5g}")
    gain, sigma = learned.model.gain, learned.sigma["gain"]
    if abs(gain - 1.0) > 2.0 * sigma:
        values["motor.counts_per_m_s"] = float(f"{config.motor.counts_per_m_s / gain:.6g}")
    return values


def judge(outcome: Outcome, config: Config, model: Model, held: Held) -> None:
    """The gate of a model: recordings held out first, then flights."""
    if not held.better:
        why = f"recordings held out are {-held.gain:.1f} nats less likely by what was learned"
        outcome.verdict = Verdict(0.0, 0.0, why)
        return
    outcome.verdict = gate(config, outcome.values, model, GATE_SEEDS, WORSE)
    _fly_both(outcome, config, model)


def _fly_both(outcome: Outcome, config: Config, model: Model) -> None:
    rig = truth(config, model)
    after = with_values(rig, outcome.values)
    outcome.flights = (fly(rig, GATE_SEEDS[0]), fly(after, GATE_SEEDS[0]))


def _tell_model(outcome: Outcome, learned: Learned, held: Held) -> None:
    for name in UNKNOWN:
        low, high = learned.interval(name)
        value = float(getattr(learned.model, name))
        outcome.lines.append(f"{name:16s} {value:10.5g}  95 % {low:.5g} to {high:.5g}")
        outcome.figures[name] = {"value": value, "ci95": [low, high]}
    outcome.figures["held_out_nats"] = held.gain
    outcome.lines.append(f"held out: {held.gain:.1f} nats more likely")


def _residual(
    outcome: Outcome, tracks: list[Track], config: Config, seed: int, progress: Progress
) -> None:
    base = learn(tracks, outcome.first, seed=seed, intervals=False).model
    model, good, bad = residuals(tracks, base, progress=progress)
    for one in (*good, *bad):
        said = "believed" if one.believed else "not believed"
        outcome.lines.append(f"{one.name:10s} {one.nats:8.1f} nats on what was held out: {said}")
        outcome.figures[one.name] = {"nats": one.nats, "believed": one.believed}
    errors = [(prediction_error(track, base), prediction_error(track, model)) for track in tracks]
    before, after = (max(pair[i][0] for pair in errors) for i in (0, 1))
    outcome.figures["prediction_m"] = {"before": before, "after": after}
    outcome.lines.append(
        f"cart a tenth of a second on: {before:.2e} m off before, {after:.2e} after"
    )
    outcome.values = {k: float(f"{v:.5g}") for k, v in truth_settings(model).items()}
    if good:  # they make the simulated rig truer and the controller no other
        outcome.verdict = Verdict(before, after, "" if after <= before else "no better prediction")


def _tune(
    outcome: Outcome, tracks: list[Track], config: Config, seed: int, progress: Progress
) -> None:
    base = learn(tracks, outcome.first, seed=seed, intervals=False).model
    found = tune(config, base, progress=progress)
    outcome.figures["training"] = {"before": found.before, "after": found.after}
    outcome.lines.append(f"training flights: index {found.before:.3f}, then {found.after:.3f}")
    outcome.values, outcome.curves = found.values, (found.curve,)
    if found.values:
        outcome.verdict = gate(config, found.values, base, HELD_OUT, TUNED)
        _fly_both(outcome, config, base)


def _imitate(
    outcome: Outcome, paths: Sequence[Path], config: Config, seed: int, progress: Progress
) -> None:
    """Weights (cost) or the model (dynamics) by which the recorded plans were made."""
    shown, aside = [], []
    for path in paths:
        session = open_session(path)
        refuse_code(session.config, {}, str(path))
        found = recorded.examples(session)
        shown += found[::2]
        aside += found[1::2]
    keys = recorded.COST if outcome.part == "cost" else recorded.DYNAMICS
    fitted = recorded.imitate(config, shown, keys, starts=STARTS, seed=seed, progress=progress)
    outcome.values = {key: float(f"{value:.5g}") for key, value in fitted.values.items()}
    outcome.curves = (fitted.curve,)
    before, after = recorded.held_out(config, outcome.values, aside)
    outcome.figures["commands_m_s"] = {"before": before, "after": after}
    outcome.lines += [f"{key:36s} {value:.5g}" for key, value in outcome.values.items()]
    outcome.lines.append(f"other plans' commands: {before:.2e} m/s off before, {after:.2e} after")
    if not after < before:
        outcome.verdict = Verdict(before, after, "other plans are imitated no better")
        return
    model = believed(with_values(config, _model_only(outcome.values)))
    outcome.verdict = gate(config, outcome.values, model, GATE_SEEDS, WORSE)
    _fly_both(outcome, config, model)


def _model_only(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if key in SETTINGS}
