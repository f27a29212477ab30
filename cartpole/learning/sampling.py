"""A planner that samples: the cross-entropy method, its soft choice of the best with a gradient.

The limited multi-label projection (Amos, Koltun and Kolter 2019) of scores x (n,) is the point of
{0 < y < 1, sum y = k} nearest in entropy: y = sigmoid(x + nu) with the nu that makes the sum k. It
chooses k of n softly, so that the choice has a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from cartpole.errors import UsageError
from cartpole.messages import FloatArray

REACH = 40.0  # beyond which a sigmoid is 0 or 1


def limited_multi_label(scores: FloatArray, k: float) -> FloatArray:
    """y (n,): softly, the ``k`` largest of ``scores`` (n,)."""
    if not 0.0 < k < len(scores):
        raise UsageError(f"{k:g} of {len(scores)} cannot be chosen")
    low, high = -float(scores.max()) - REACH, -float(scores.min()) + REACH
    nu = brentq(lambda nu: float(expit(scores + nu).sum()) - k, low, high, xtol=1e-14)
    return np.asarray(expit(scores + nu))


def limited_multi_label_back(chosen: FloatArray, seed: FloatArray) -> FloatArray:
    """dl/dscores (n,) from ``chosen`` = y and ``seed`` = dl/dy: (D - D 1 1' D / 1' D 1) seed with
    D = diag(y (1 - y))."""
    d = chosen * (1.0 - chosen)
    return np.asarray(d * (seed - (d @ seed) / d.sum()))


@dataclass(frozen=True, slots=True)
class Sampled:
    """Mean and standard deviation (T,) of the commands, and the mean's cost round by round."""

    mean: FloatArray
    sigma: FloatArray
    costs: tuple[float, ...]


def cross_entropy(
    cost: Callable[[FloatArray], FloatArray],
    mean: FloatArray,
    sigma: FloatArray,
    rng: np.random.Generator,
    *,
    samples: int = 100,
    elite: float = 10.0,
    rounds: int = 10,
    sharpness: float = 20.0,
) -> Sampled:
    """Commands of little ``cost`` ((B, T) -> (B,)), about ``mean`` (T,) at first.

    ``sharpness`` of the choice: at infinity exactly the ``elite`` best count.
    """
    costs = [float(cost(mean[None])[0])]
    for _ in range(rounds):
        tried = mean + sigma * rng.standard_normal((samples, len(mean)))
        paid = cost(tried)
        spread = float(paid.std())
        scores = -sharpness * (paid - paid.min()) / (spread if spread > 0.0 else 1.0)
        share = limited_multi_label(scores, elite) / elite
        mean = share @ tried
        sigma = np.sqrt(share @ (tried - mean) ** 2)
        costs.append(float(cost(mean[None])[0]))
    return Sampled(mean, sigma, tuple(costs))
