"""A model from several recordings at once: the likeliest, judged on what was held out.

The joint likelihood of all recordings is maximised over the model and the strength of the
disturbances, from several starts, by Fisher's scoring: the innovations' variances move with the
unknowns, and least squares alone would favour whatever makes them large. Intervals come from the
information. Every recording is held out once: what helps only where it was fitted is no knowledge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cartpole.errors import IdentificationError
from cartpole.learning.innovations import Track, innovations, likelihood
from cartpole.learning.motion import Model
from cartpole.messages import FloatArray

Progress = Callable[[float, str], None]
NORMAL_95 = 1.959964
# Unknown: (how it is scaled, least, most). "log" unknowns move by shares, others by the number.
SCALES: dict[str, tuple[str | float, float, float]] = {
    "length_m": ("log", 0.05, 3.0),
    "damping_1_s": (0.05, 0.0, 5.0),
    "coulomb_rad_s2": (0.1, 0.0, 20.0),
    "tau_s": ("log", 0.002, 0.5),
    "delay_s": (0.005, 0.0, 0.1),
    "gain": ("log", 0.3, 3.0),
    "cart_noise": ("log", 1e-4, 10.0),
    "pole_noise": ("log", 1e-4, 10.0),
    "asymmetry": (0.05, -1.0, 1.0),
    "tilt_rad": (0.02, -0.3, 0.3),
    "cogging_sin_m_s2": (0.5, -20.0, 20.0),
    "cogging_cos_m_s2": (0.5, -20.0, 20.0),
    "cogging_pitch_m": ("log", 1e-3, 0.3),
    "stiction_m_s2": (0.2, 0.0, 10.0),
    "backlash_m": (0.0005, 0.0, 0.02),
    "belt_hz": ("log", 2.0, 80.0),
    "belt_damping": ("log", 0.01, 3.0),
}
UNKNOWN = (
    "length_m", "damping_1_s", "coulomb_rad_s2", "tau_s", "delay_s", "gain", "cart_noise",
    "pole_noise",
)  # fmt: skip
NOISE = ("cart_noise", "pole_noise")
STEP = 0.1  # of a logarithm: one unit of the search
SPREAD = 0.3  # of the starts, as shares
STEPS = 40  # of scoring, from one start
DAMPING = 1e-3
FARTHEST = 8.0  # units of the search that one step may move an unknown
SETTLED_NATS = 1e-3  # that a step must gain
NUDGE = 0.02  # of a difference, in units of the search
LAGS = 20  # samples over which innovations may hang together


@dataclass(frozen=True, slots=True)
class Learned:
    """The likeliest model; ``sigma`` of each unknown, -ln L, and the curves of all starts."""

    model: Model
    sigma: dict[str, float]
    value: float
    curves: tuple[tuple[float, ...], ...]

    def interval(self, name: str) -> tuple[float, float]:
        """95 %."""
        value, half = float(getattr(self.model, name)), NORMAL_95 * self.sigma[name]
        return value - half, value + half


def learn(
    tracks: Sequence[Track],
    first: Model,
    unknown: Sequence[str] = UNKNOWN,
    *,
    starts: int = 1,
    seed: int = 0,
    intervals: bool = True,
    progress: Progress = lambda _done, _what: None,
) -> Learned:
    """The likeliest model of all ``tracks`` together, from ``first`` and starts about it."""
    rng = np.random.default_rng(seed)
    best: Learned | None = None
    curves = []
    for start in range(starts):
        z = _scaled(first, unknown)
        if start > 0:
            z = z + SPREAD * rng.uniform(-1.0, 1.0, len(z)) / STEP
        model, curve = _descend(tracks, _model(first, unknown, z), unknown)
        curves.append(tuple(curve))
        if math.isfinite(curve[-1]) and (best is None or curve[-1] < best.value):
            best = Learned(model, {}, curve[-1], ())
        progress((start + 1) / starts, f"start {start + 1}: {curve[-1]:.1f}")
    if best is None:
        raise IdentificationError("no start led to a model that can have made these recordings")
    sigma = _sigmas(tracks, best.model, unknown) if intervals else {}
    return replace(best, sigma=sigma, curves=tuple(curves))


def _descend(
    tracks: Sequence[Track], model: Model, unknown: Sequence[str]
) -> tuple[Model, list[float]]:
    """Fisher's scoring with Levenberg's damping, from one start: the model, -ln L on the way."""
    lows, highs = np.transpose([_bounds(name) for name in unknown])
    z = np.clip(_scaled(model, unknown), lows, highs)
    model = _model(model, unknown, z)
    curve, damping = [_total(tracks, model)], DAMPING
    for _step in range(STEPS):
        scores, information = scored(tracks, model, unknown)
        slope = scores.sum(axis=0)
        free = ~((z <= lows) & (slope > 0.0) | (z >= highs) & (slope < 0.0))
        if not (np.isfinite(information).all() and np.isfinite(slope).all() and free.any()):
            break
        inner, pull = information[np.ix_(free, free)], slope[free]
        gain = 0.0
        while damping < 1e8:
            grown = inner + damping * np.diag(np.diag(inner) + 1e-9)
            move = -np.linalg.solve(grown, pull)
            trial = z.copy()
            trial[free] += move * min(1.0, FARTHEST / np.abs(move).max())
            trial = np.clip(trial, lows, highs)
            found = _model(model, unknown, trial)
            value = _total(tracks, found)
            if value < curve[-1]:
                gain, z, model = curve[-1] - value, trial, found
                curve.append(value)
                damping = max(1e-6, 0.1 * damping)
                break
            damping *= 10.0
        if gain < SETTLED_NATS:
            break
    return model, curve


def _total(tracks: Sequence[Track], model: Model) -> float:
    return sum(likelihood(track, model) for track in tracks)


def _slopes(function: Callable[[FloatArray], FloatArray], z: FloatArray) -> FloatArray:
    """Central differences: steps small beside what matters, large beside the filter's own kinks."""
    columns = [(function(z + d) - function(z - d)) / (2.0 * NUDGE) for d in np.eye(len(z)) * NUDGE]
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class Held:
    """-ln L of what was held out, fold by fold, before and after."""

    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Nats that the new model is better by."""
        return sum(self.before) - sum(self.after)

    @property
    def better(self) -> bool:
        """Better in sum, and in no fold worse by more than chance."""
        return self.gain > 0.0 and all(
            new - old < 3.0 for old, new in zip(self.before, self.after, strict=True)
        )


def folds(tracks: Sequence[Track]) -> list[tuple[list[Track], list[Track]]]:
    """(learn from, hold out): each recording once, or the halves of a single one."""
    parts = list(tracks) if len(tracks) > 1 else list(tracks[0].halves())
    return [([one for one in parts if one is not out], [out]) for out in parts]


def held_out(tracks: Sequence[Track], before: Model, unknown: Sequence[str] = UNKNOWN) -> Held:
    """Each fold learned without what is held out; ``before`` gets its own noise there, too."""
    old, new = [], []
    for inside, outside in folds(tracks):
        known = learn(inside, before, NOISE, intervals=False).model
        found = learn(inside, known, unknown, intervals=False).model
        old.append(sum(likelihood(track, known) for track in outside))
        new.append(sum(likelihood(track, found) for track in outside))
    return Held(tuple(old), tuple(new))


def _scaled(model: Model, unknown: Sequence[str]) -> FloatArray:
    """Unknowns as the search moves them."""
    out = []
    for name in unknown:
        scale, low, high = SCALES[name]
        value = min(max(float(getattr(model, name)), low), high)
        out.append(math.log(value) / STEP if isinstance(scale, str) else value / scale)
    return np.array(out)


def _model(first: Model, unknown: Sequence[str], z: FloatArray) -> Model:
    values = {}
    for name, one in zip(unknown, z.tolist(), strict=True):
        scale, low, high = SCALES[name]
        value = math.exp(min(STEP * one, 50.0)) if isinstance(scale, str) else one * scale
        values[name] = min(max(value, low), high)
    return replace(first, **values)


def _bounds(name: str) -> tuple[float, float]:
    scale, low, high = SCALES[name]
    if isinstance(scale, str):
        return math.log(low) / STEP, math.log(high) / STEP
    return low / scale, high / scale


def _sigmas(tracks: Sequence[Track], model: Model, unknown: Sequence[str]) -> dict[str, float]:
    """Standard deviations from the information, grown by what the innovations are too large or hang
    together."""
    scores, information = scored(tracks, model, unknown)
    covariance = np.linalg.pinv(information)
    middle = scores.T @ scores
    for lag in range(1, LAGS + 1):  # Newey and West, Econometrica 55, 1987
        cross = scores[: -2 * lag].T @ scores[2 * lag :]
        middle += (1.0 - lag / (LAGS + 1)) * (cross + cross.T)
    grown = covariance @ middle @ covariance
    return {
        name: math.sqrt(max(grown[i, i], covariance[i, i])) * _unit(model, name)
        for i, name in enumerate(unknown)
    }


def scored(
    tracks: Sequence[Track], model: Model, unknown: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Each innovation's slope of -ln L (n, k), and the information (k, k), in units of the search.

    With innovation nu of variance S, both of which move with the unknowns (nu', S'):
    slope = nu nu' / S + S' / (2 S) (1 - nu^2 / S), information = sum nu' nu' / S + S' S' / (2 S^2)
    (Cavanaugh and Shumway, Statistics & Probability Letters 26, 1996).
    """

    def both(z: FloatArray) -> FloatArray:
        q = _model(model, unknown, z).array()
        parts = [innovations(track, q) for track in tracks]
        return np.concatenate([np.stack((w.ravel(), s.ravel())) for w, s in parts], axis=1).ravel()

    z = _scaled(model, unknown)
    white = both(z).reshape(2, -1)[0]
    by_white, by_log = _slopes(both, z).reshape(2, -1, len(z))
    moved = by_white + 0.5 * white[:, None] * by_log  # nu' / sqrt(S)
    scores = white[:, None] * moved + 0.5 * by_log * (1.0 - white[:, None] ** 2)
    return scores, moved.T @ moved + 0.5 * by_log.T @ by_log


def _unit(model: Model, name: str) -> float:
    """What one unit of the search is."""
    scale = SCALES[name][0]
    return STEP * float(getattr(model, name)) if isinstance(scale, str) else scale


def bound(tracks: Sequence[Track], model: Model, unknown: Sequence[str]) -> dict[str, float]:
    """Cramer and Rao's: standard deviations that no estimate without bias goes below, if ``model``
    is the truth."""
    _scores, information = scored(tracks, model, unknown)
    covariance = np.linalg.inv(information)
    return {
        name: math.sqrt(covariance[i, i]) * _unit(model, name) for i, name in enumerate(unknown)
    }
