"""Weights for this rig's disturbances: a search over flights of the learned rig.

Weights that do well in the flights they were chosen by are partly chosen by chance. So all are
flown over the same disturbances; many are tried on few flights and the better ones on more; those
that are left are averaged, which takes off most of what chance chose; and nothing leaves a trust
region about the weights that the owner had. Other flights decide whether the result is taken.

One of the candidates' coordinates is no weight: whether the filter is told the disturbances that
the recordings show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cartpole.config.load import with_values
from cartpole.learning.closed_loop import LOST, indices, truth
from cartpole.learning.motion import Model
from cartpole.learning.sysid import Progress
from cartpole.messages import FloatArray

if TYPE_CHECKING:
    from cartpole.config.schema import Config

# One weight, the angle's, only sets the scale of all: it stays.
WEIGHTS = ("position", "velocity", "rate", "command", "command_rate")
LEAST, MOST = 1e-5, 1e3
SPREAD = 0.6  # of a weight's logarithm, over the first candidates
TRUST = 1.4  # farthest from the owner's weights, in logarithms: a factor of four
# (candidates, flights that each has flown by then): the best of one round go on to the next.
ROUNDS = ((32, 4), (10, 12), (4, 24))
CAP = 5.0  # a flight costs at most this many times the owner's median: one must not decide
TRAINING, HELD_OUT = tuple(range(1001, 1025)), tuple(range(2001, 2033))


@dataclass(frozen=True, slots=True)
class Tuned:
    """Values found, the index by the training flights before and after, and on the way."""

    values: dict[str, float]
    before: float
    after: float
    curve: tuple[float, ...]


class _Search:
    """Candidates z (6,): logarithms of factors on the weights; the filter is told if z[5] > 0."""

    def __init__(self, config: Config, model: Model, seeds: Sequence[int]) -> None:
        self._config, self._model, self._seeds = config, model, seeds
        self._rig = truth(config, model)
        self._flown: dict[bytes, FloatArray] = {}
        self.cap = LOST

    def values(self, z: FloatArray) -> dict[str, float]:
        """As dotted keys."""
        weights = self._config.controller.weights
        found = {
            f"controller.weights.{name}": _rounded(float(getattr(weights, name) * np.exp(by)))
            for name, by in zip(WEIGHTS, z[:5], strict=True)
            if by != 0.0
        }
        if z[5] > 0.0:
            found["estimator.cart_noise_m_s2"] = _rounded(self._model.cart_noise)
            found["estimator.pole_noise_rad_s"] = _rounded(self._model.pole_noise)
        return found

    def cost(self, z: FloatArray, flights: int) -> float:
        """Mean of the first ``flights``; what was flown is not flown again."""
        known = self._flown.get(z.tobytes(), np.empty(0))
        if len(known) < flights:
            rig = with_values(self._rig, self.values(z))
            known = np.r_[known, indices(rig, self._seeds[len(known) : flights])]
            self._flown[z.tobytes()] = known
        return float(np.minimum(known[:flights], self.cap).mean())

    def median(self, z: FloatArray) -> float:
        """Of what was flown."""
        return float(np.median(self._flown[z.tobytes()]))


def tune(
    config: Config,
    model: Model,
    seeds: Sequence[int] = TRAINING,
    progress: Progress = lambda _done, _what: None,
    *,
    rounds: Sequence[tuple[int, int]] = ROUNDS,
) -> Tuned:
    """Weights by which the learned rig flies better; the settings' own to begin with."""
    search, rng = _Search(config, model, seeds), np.random.default_rng(0)
    own = np.zeros(6)
    most = rounds[-1][1]
    search.cost(own, most)
    search.cap = CAP * search.median(own)
    told = own + np.eye(6)[5]
    tried = [own, told] + [
        np.append(np.clip(rng.normal(0.0, SPREAD, 5), -TRUST, TRUST), float(rng.integers(2)))
        for _ in range(rounds[0][0] - 2)
    ]
    curve = []
    total = sum(count * flights for count, flights in rounds)
    done = 0
    for turn, (_count, flights) in enumerate(rounds):
        costs = []
        for z in tried:
            costs.append(search.cost(z, flights))
            done += flights
            progress(min(0.99, done / total), f"{len(tried)} weights, {flights} flights")
        order = np.argsort(costs)
        best = [tried[i] for i in order]
        curve.append(costs[order[0]] / search.cost(own, flights))
        if turn + 1 < len(rounds):
            tried = _next(best, rounds[turn + 1][0], rng)
    progress(1.0, "done")
    chosen = best[0]
    return Tuned(
        search.values(chosen), search.cost(own, most), search.cost(chosen, most), tuple(curve)
    )


def _next(best: Sequence[FloatArray], count: int, rng: np.random.Generator) -> list[FloatArray]:
    """The next round's candidates: half are the best so far, one their mean, the rest about it."""
    kept = list(best[: count // 2])
    middle = np.mean(best[: max(3, count // 2)], axis=0)
    middle[5] = round(middle[5])
    about = [middle]
    while len(kept) + len(about) < count:
        near = middle[:5] + rng.normal(0.0, 0.4 * SPREAD, 5)
        about.append(np.append(np.clip(near, -TRUST, TRUST), middle[5]))
    return kept + about


def _rounded(value: float) -> float:
    return float(f"{min(max(value, LEAST), MOST):.4g}")
