"""A fit that is wrong is not believed: noise, edges, walls, colour, parts that disagree."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.fit import Parameter, Residual, fit
from calibration.judge import judge
from cartpole.messages import FloatArray

X = np.linspace(0.0, 1.0, 400)
NOISE = np.random.default_rng(1).normal(0.0, 1.0, 400)


def parameters(low: float = -9.0, high: float = 9.0, wall: bool = False) -> list[Parameter]:
    return [
        Parameter("level", "m", 0.5, low, high, 1.0, wall=wall),
        Parameter("slope", "m", 0.5, -9.0, 9.0, 1.0),
    ]


def line(left_over: FloatArray, level: float = 1.0) -> Residual:
    def residual(values: FloatArray) -> FloatArray:
        return np.asarray((values[0] + values[1] * X - level - 2.0 * X) / 0.1 + left_over)

    return residual


def doubts(left_over: FloatArray, unknowns: list[Parameter], level: float = 1.0) -> str:
    return "; ".join(judge(fit(line(left_over, level), unknowns)).doubts)


def test_a_good_fit_is_believed_and_not_widened() -> None:
    found = fit(line(NOISE), parameters())
    verdict = judge(found)
    assert not verdict.doubts
    assert verdict.fit.sigma("slope") == found.sigma("slope")


def test_noise_that_does_not_explain_the_residuals() -> None:
    assert "chi2/dof" in doubts(3.0 * NOISE, parameters())


def test_an_unknown_on_the_edge_of_its_search() -> None:
    assert "level stands on the edge" in doubts(NOISE, parameters(high=0.8))
    assert "edge" not in doubts(NOISE, parameters(low=0.0, wall=True), level=0.001)


def test_data_that_press_against_a_wall_of_physics() -> None:
    assert "would have to be -" in doubts(NOISE, parameters(low=0.0, wall=True), level=-1.0)


def test_what_is_left_hangs_together() -> None:
    slow = np.convolve(NOISE, np.ones(8) / np.sqrt(8.0), mode="same")
    assert "hangs together" in doubts(slow, parameters())


def test_halves_that_disagree() -> None:
    kink = np.abs(X - 0.5)
    bent = fit(line(0.5 * NOISE + 5.0 * kink), parameters())
    verdict = judge(bent)
    assert verdict.parts > 1.0
    assert verdict.fit.sigma("slope") > bent.sigma("slope")
    assert judge(bent, begins=(0, 200)).parts == pytest.approx(verdict.parts)
    assert "halves" in doubts(0.5 * NOISE + 20.0 * kink, parameters())
