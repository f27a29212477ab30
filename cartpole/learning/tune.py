"""Weights for this rig's disturbances: a pattern search over flights of the learned rig.

Weights that do well in the flights they were chosen by are partly chosen by chance: a third of what
is gained there is gained elsewhere. So a change is kept only if it gains some percent, and what
counts is flights with other disturbances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cartpole.config.load import with_values
from cartpole.learning.closed_loop import index, truth
from cartpole.learning.innovations import Model
from cartpole.learning.sysid import Progress

if TYPE_CHECKING:
    from cartpole.config.schema import Config

WEIGHTS = ("position", "velocity", "angle", "rate", "command", "command_rate")
# One weight only sets the scale of all: it stays.
PINNED = "angle"
FACTORS = (3.0, 1.7)
KEPT = 0.99  # a change must leave at most this share of the index
TRAINING, HELD_OUT = tuple(range(101, 105)), tuple(range(201, 209))


@dataclass(frozen=True, slots=True)
class Tuned:
    """Weights found, the index by the training flights before and after, and on the way."""

    values: dict[str, float]
    before: float
    after: float
    curve: tuple[float, ...]


def tune(
    config: Config,
    model: Model,
    seeds: Sequence[int] = TRAINING,
    progress: Progress = lambda _done, _what: None,
) -> Tuned:
    """Weights by which the learned rig flies better; the settings' own to begin with."""
    rig = truth(config, model)
    now = {name: float(getattr(config.controller.weights, name)) for name in WEIGHTS}
    free = [name for name in WEIGHTS if name != PINNED]
    best = first = index(rig, seeds)
    curve, done = [best], 0
    most = 2 * len(free) * len(FACTORS)
    for factor in FACTORS:
        for name in free:
            for by in (factor, 1.0 / factor):
                trial = now | {name: min(max(now[name] * by, 1e-5), 1e3)}
                value = index(with_values(rig, settings(trial)), seeds)
                done += 1
                progress(done / most, f"{name}: {min(best, value):.2f}")
                curve.append(min(best, value))
                if value < KEPT * best:
                    best, now = value, trial
                    break
    changed = {
        name: value
        for name, value in now.items()
        if value != float(getattr(config.controller.weights, name))
    }
    return Tuned(
        {k: float(f"{v:.4g}") for k, v in settings(changed).items()}, first, best, tuple(curve)
    )


def settings(weights: dict[str, float]) -> dict[str, float]:
    """As dotted keys."""
    return {f"controller.weights.{name}": value for name, value in weights.items()}
