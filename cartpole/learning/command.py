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
    LOST,
    WORSE,
    Flown,
    Verdict,
    believed,
    fly,
    gate,
    judged_rig,
)
from cartpole.learning.innovations import Track, prediction_error, track_of
from cartpole.learning.motion import Model
from cartpole.learning.residual import Found, residuals, truth_settings
from cartpole.learning.sysid import (
    NOISE,
    NORMAL_95,
    UNKNOWN,
    Held,
    Learned,
    Progress,
    held_out,
    learn,
)
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
CLOSER = 0.9  # of the errors of other plans' commands that imitation must leave at most


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
    outcome.lines += changes(config, outcome.values)
    if outcome.verdict is not None:
        one = outcome.verdict
        outcome.figures["gate"] = {"before": one.before, "after": one.after, "refused": one.why}
        if one.pairs:
            told = [
                f"{value:.3f}" if value < LOST else "falls" for value in (one.before, one.after)
            ]
            outcome.lines.append(f"held-out flights: index {told[0]} before, {told[1]} after")
        outcome.lines.append(f"gate: refused: {one.why}" if one.why else "gate: passed")
    return outcome


def changes(config: Config, values: Mapping[str, float]) -> list[str]:
    """A line for each setting that would be written."""
    before = recorded.flattened(config, list(values))
    return [f"{key:36s} {before[key]:.5g} -> {value:.5g}" for key, value in values.items()]


def _share(progress: Progress, first: float, last: float) -> Progress:
    """A part's own progress as a share of the whole."""
    return lambda done, what: progress(first + (last - first) * min(1.0, done), what)


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
    turn = _share(progress, 0.0, 0.5)
    learned = learn(tracks, outcome.first, starts=STARTS, seed=seed, progress=turn)
    progress(0.5, "recordings held out")
    held = held_out(tracks, believed(config))
    _tell_model(outcome, learned, held)
    outcome.values = proposed(learned, config)
    outcome.curves = learned.curves
    judge(outcome, config, learned.model, held, _share(progress, 0.7, 1.0))


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


def judge(
    outcome: Outcome,
    config: Config,
    model: Model,
    held: Held,
    progress: Progress = lambda _done, _what: None,
) -> None:
    """The gate of a model: recordings held out first, then flights."""
    if not held.better:
        why = f"recordings held out are {-held.gain:.1f} nats less likely by what was learned"
        outcome.verdict = Verdict(0.0, 0.0, why)
        return
    _judge_flights(outcome, config, model, GATE_SEEDS, WORSE, progress)


def _judge_flights(
    outcome: Outcome, config: Config, model: Model, seeds: Sequence[int], most: float,
    progress: Progress,
) -> None:  # fmt: skip
    """The gate's flights, and the first pair of them for the picture."""
    outcome.verdict = gate(config, outcome.values, model, seeds, most, progress)
    rig = judged_rig(config, outcome.values, model)
    after = with_values(rig, outcome.values)
    outcome.flights = (fly(rig, seeds[0]), fly(after, seeds[0]))


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
        outcome.lines.append(
            f"{one.name:10s} {one.nats:8.1f} nats on what was held out, predictions "
            f"{100.0 * one.closer:.0f} % closer: {said}"
        )
        outcome.figures[one.name] = {
            "nats": one.nats, "closer": one.closer, "believed": one.believed
        }  # fmt: skip
        if one.believed:
            _tell_residual(outcome, one)
    errors = [(prediction_error(track, base), prediction_error(track, model)) for track in tracks]
    before, after = (max(pair[i][0] for pair in errors) for i in (0, 1))
    outcome.figures["prediction_m"] = {"before": before, "after": after}
    outcome.lines.append(
        f"cart a tenth of a second on: {before:.2e} m off before, {after:.2e} after"
    )
    outcome.values = {k: float(f"{v:.5g}") for k, v in truth_settings(model).items()}
    if good:  # they make the simulated rig truer and the controller no other
        outcome.verdict = Verdict(before, after, "" if after <= before else "no better prediction")


def _tell_residual(outcome: Outcome, found: Found) -> None:
    """Its numbers with their intervals."""
    for name, sigma in found.sigma.items():
        value, half = float(getattr(found.model, name)), NORMAL_95 * sigma
        low, high = value - half, value + half
        outcome.lines.append(f"  {name:16s} {value:10.5g}  95 % {low:.5g} to {high:.5g}")
        outcome.figures[found.name][name] = {"value": value, "ci95": [low, high]}


def _tune(
    outcome: Outcome, tracks: list[Track], config: Config, seed: int, progress: Progress
) -> None:
    base = learn(tracks, outcome.first, seed=seed, intervals=False).model
    found = tune(config, base, progress=_share(progress, 0.0, 0.7))
    outcome.figures["training"] = {"before": found.before, "after": found.after}
    outcome.lines.append(f"training flights: index {found.before:.3f}, then {found.after:.3f}")
    outcome.values, outcome.curves = found.values, (found.curve,)
    if found.values:
        turn = _share(progress, 0.7, 1.0)
        _judge_flights(outcome, config, base, HELD_OUT, TUNED, turn)


def _imitate(
    outcome: Outcome, paths: Sequence[Path], config: Config, seed: int, progress: Progress
) -> None:
    """Weights (cost) or the model (dynamics) by which the recorded plans were made."""
    shown, aside = [], []
    for path in paths:
        session = open_session(path)
        refuse_code(session.config, {}, str(path))
        plans = recorded.examples(session)
        shown += plans[::2]
        aside += plans[1::2]
    outcome.figures["in_force"] = recorded.common_model(shown)
    if outcome.part == "cost":
        fitted = _weights(outcome, config, shown, seed, _share(progress, 0.0, 0.7))
        outcome.curves, found = (fitted.curve,), fitted.values
    else:
        found = outcome.figures["in_force"]
    outcome.values = {key: float(f"{value:.5g}") for key, value in found.items()}
    old, new = recorded.held_out(config, outcome.values, aside)
    outcome.figures["commands_m_s"] = {"before": old, "after": new}
    outcome.lines.append(f"other plans' commands: {old:.2e} m/s off before, {new:.2e} after")
    if not (found and new < CLOSER * old):
        outcome.verdict = Verdict(old, new, "other plans are hardly imitated better")
        return
    rig = believed(with_values(config, outcome.figures["in_force"]))
    _judge_flights(outcome, config, rig, GATE_SEEDS, WORSE, _share(progress, 0.7, 1.0))


def _weights(
    outcome: Outcome,
    config: Config,
    shown: Sequence[recorded.Example],
    seed: int,
    progress: Progress,
) -> recorded.Imitated:
    """The weights; those that the commands do not tell stay as they are."""
    keys: tuple[str, ...] = recorded.COST
    starts = STARTS
    while True:
        fitted = recorded.imitate(config, shown, keys, starts=starts, seed=seed, progress=progress)
        worst = max(keys, key=fitted.sigma.__getitem__)
        if fitted.sigma[worst] <= KNOWN or len(keys) == 1:
            return fitted
        outcome.lines.append(f"{worst:36s} is not told by these commands: stays")
        keys, starts = tuple(key for key in keys if key != worst), 1
