"""What the equations of motion leave out: tried one by one, believed only by what was held out.

A drive that is stronger one way, cogs or sticks, a track that is tilted, a belt with play: each
explains *something* in any recording. So each is fitted on a part of the recordings and kept only
if it predicts the rest, by some nats in sum and nowhere worse by more than chance, and where the
cart is a tenth of a second on; then the others are tried again beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cartpole.learning.innovations import Track, filtered, likelihood, prediction_error
from cartpole.learning.motion import Model
from cartpole.learning.sysid import Progress, folds, learn

# What a residual adds to the model, and where its fit begins.
RESIDUALS: dict[str, dict[str, float]] = {
    "asymmetry": {"asymmetry": 0.02},
    "tilt": {"tilt_rad": 0.005},
    "stiction": {"stiction_m_s2": 0.3},
    "cogging": {"cogging_sin_m_s2": 0.1, "cogging_cos_m_s2": 0.1, "cogging_pitch_m": 0.02},
    "backlash": {"backlash_m": 0.001, "belt_hz": 20.0, "belt_damping": 0.3},
}
# Plays and swings of a belt from which its fit may begin: the likeliest of them.
PLAYS_M, BELTS_HZ = (0.0002, 0.0005, 0.001, 0.002, 0.004), (12.0, 25.0)
# Fitted anew with every residual: what it may have been mistaken for.
BESIDE = ("tau_s", "delay_s", "gain", "cart_noise")
LEAST_NATS = 8.0  # by which the held-out likelihood must grow
FOLD_NATS = 3.0  # by which no fold may lose
# Share of the held-out prediction's error that must go: innovations hang together, and by their
# likelihood alone one rig in ten without flaws had one.
LEAST_CLOSER = 0.05
PEAKS = 4  # pitches of the scan that are fitted
LONGEST_PITCH_M, SHORTEST_PITCH_M = 0.1, 0.004
# Settings of the simulated rig that a residual becomes.
TRUTH = {
    "tilt_rad": "sim.track_tilt_rad",
    "stiction_m_s2": "sim.drive_stiction_m_s2",
    "backlash_m": "sim.belt_backlash_m",
}
MOST_BELT_HZ = 50.0  # that the simulated rig's belt swings at


@dataclass(frozen=True, slots=True)
class Found:
    """A residual, the nats that it gained on what was held out, and whether it is believed.

    ``closer`` is the share that it takes off the errors of the cart predicted there. Of one that is
    believed, the model and ``sigma`` of its own numbers, by all recordings.
    """

    name: str
    nats: float
    worst_fold: float
    closer: float
    model: Model
    sigma: dict[str, float]

    @property
    def believed(self) -> bool:
        """By what was held out alone: its likelihood, and what is predicted there."""
        return self.likelier and self.closer > LEAST_CLOSER

    @property
    def likelier(self) -> bool:
        """By the held-out likelihood."""
        return self.nats > LEAST_NATS and self.worst_fold > -FOLD_NATS


def scan(tracks: Sequence[Track], model: Model) -> list[float]:
    """Pitches [m] at which the cart's innovations go with its place, the most telling first."""
    density = np.arange(1.0 / LONGEST_PITCH_M, 1.0 / SHORTEST_PITCH_M, 0.4)
    power = np.zeros(len(density))
    for track in tracks:
        white = np.clip(filtered(track, model.array())[1][:, 0], -5.0, 5.0)
        wave = np.exp(-2j * math.pi * np.outer(density, track.p_m))
        power += np.abs(wave @ white) ** 2 / max(1, len(white))
    inner = np.r_[False, (power[1:-1] > power[:-2]) & (power[1:-1] >= power[2:]), False]
    peaks = np.flatnonzero(inner)
    best = peaks[np.argsort(power[peaks])[::-1][:PEAKS]]
    return [float(1.0 / density[i]) for i in best]


def fitted(tracks: Sequence[Track], base: Model, name: str) -> Model:
    """The likeliest model with this residual."""
    first = RESIDUALS[name]
    begins = [replace(base, **first)]
    if name == "cogging":
        begins = [replace(base, **first | {"cogging_pitch_m": one}) for one in scan(tracks, base)]
    if name == "backlash":
        begins = [likeliest_play(tracks, begins[0])]
    unknown = (*first, *BESIDE)
    all_found = [learn(tracks, begin, unknown, intervals=False) for begin in begins or [base]]
    return min(all_found, key=lambda found: found.value).model


def likeliest_play(tracks: Sequence[Track], first: Model) -> Model:
    """Where the fit of a belt begins."""
    plays = [
        replace(first, backlash_m=play, belt_hz=hertz) for play in PLAYS_M for hertz in BELTS_HZ
    ]
    return min(plays, key=lambda one: sum(likelihood(track, one) for track in tracks))


def plains(tracks: Sequence[Track], base: Model) -> list[Model]:
    """By what each fold's inside makes of the model without another residual."""
    return [learn(inside, base, BESIDE, intervals=False).model for inside, _out in folds(tracks)]


def tried(
    tracks: Sequence[Track], base: Model, name: str, known: Sequence[Model] | None = None
) -> Found:
    """A residual on every fold, fitted inside, judged outside, up to the first fold that refuses
    it; ``known`` are the ``plains`` of ``base``. The model is still ``base``."""
    gains, errors = [], np.zeros(2)
    for (inside, outside), plain in zip(folds(tracks), known or plains(tracks, base), strict=True):
        with_it = fitted(inside, plain, name)
        gains.append(
            sum(likelihood(track, plain) - likelihood(track, with_it) for track in outside)
        )
        if gains[-1] <= -FOLD_NATS:
            break
        for track in outside:
            errors += [prediction_error(track, one)[0] ** 2 for one in (plain, with_it)]
    closer = 1.0 - math.sqrt(errors[1] / errors[0]) if errors[0] > 0.0 else 0.0
    return Found(name, float(sum(gains)), float(min(gains)), closer, base, {})


def whole(tracks: Sequence[Track], found: Found) -> Found:
    """The same with its model by all recordings, and the intervals of its own numbers."""
    name = found.name
    learned = learn(tracks, fitted(tracks, found.model, name), (*RESIDUALS[name], *BESIDE))
    own = {key: learned.sigma[key] for key in RESIDUALS[name]}
    return replace(found, model=learned.model, sigma=own)


def residuals(
    tracks: Sequence[Track],
    base: Model,
    names: Sequence[str] = tuple(RESIDUALS),
    progress: Progress = lambda _done, _what: None,
) -> tuple[Model, list[Found], list[Found]]:
    """(model with all that is believed, believed, not believed): the best first, then again."""
    believed: list[Found] = []
    left = list(names)
    refused: list[Found] = []
    done = 0
    while left:
        refused, known = [], plains(tracks, base)
        for name in left:
            progress(min(0.95, done / (2.0 * len(names))), name)
            refused.append(tried(tracks, base, name, known))
            done += 1
        best = max(refused, key=lambda found: found.nats if found.believed else -math.inf)
        if not best.believed:
            break
        believed.append(whole(tracks, best))
        base = believed[-1].model
        left.remove(best.name)
        refused.remove(best)
    progress(1.0, "done")
    return base, believed, refused


def truth_settings(model: Model) -> dict[str, float]:
    """Settings by which the simulated rig has these residuals, too."""
    values = {key: float(getattr(model, name)) for name, key in TRUTH.items()}
    values = {key: value for key, value in values.items() if value != 0.0}
    if model.belt_hz > 0.0:
        values["sim.belt_hz"] = min(model.belt_hz, MOST_BELT_HZ)
        values["sim.belt_damping"] = min(model.belt_damping, 2.0)
    cogging = math.hypot(model.cogging_sin_m_s2, model.cogging_cos_m_s2)
    if cogging > 0.0:
        values["sim.drive_cogging_m_s2"] = cogging
        values["sim.drive_cogging_pitch_m"] = model.cogging_pitch_m
    return values
