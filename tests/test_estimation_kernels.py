"""The arithmetic under the filter against independent oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracles.reference_filter import step_with_jacobian

from cartpole.config.schema import Config
from cartpole.estimation.kernels import rounded_moments
from cartpole.model.dynamics import rig_step
from cartpole.model.jacobian import rig_step_jacobian
from cartpole.model.parameters import ModelParameters
from cartpole.rules.model import model_of


def full(values: tuple[float, ...]) -> np.ndarray:
    pv, vv, tv, tt, to, ov, ot, oo = values[4:]
    return np.array([[1, pv, 0, 0], [0, vv, 0, 0], [0, tv, tt, to], [0, ov, ot, oo]], dtype=float)


@pytest.mark.parametrize("coulomb", [0.0, 0.4])
def test_jacobian_of_the_step_against_sixth_order_differences(coulomb: float) -> None:
    model = ModelParameters(coulomb_rad_s2=coulomb)
    par, rng = model.coefficients, np.random.default_rng(0)
    weights = ((1, 0.75), (2, -0.15), (3, 1 / 60))
    checked = 0
    for _ in range(300):
        x = rng.uniform(-1, 1, 4) * [0.4, 1.0, 6.0, 15.0]
        u, h, e = rng.uniform(-1, 1), rng.uniform(1e-4, 0.01), 2e-4
        size = abs(u - x[1]) / model.motor_acceleration_m_s2 - model.tau_s
        kinks = [size, size - h / 2, size - h]
        if min(map(abs, kinks)) < 2e-3 or abs(abs(x[3]) - 0.02) < 2e-2:
            continue  # the step itself has a corner there
        checked += 1
        values = rig_step_jacobian(tuple(x), u, h, par)
        same = rig_step(tuple(x), u, h, par)
        np.testing.assert_allclose(np.array(values[:4]), np.array(same), rtol=0, atol=1e-15)
        found = np.zeros((4, 4))
        for j in range(4):
            for k, weight in weights:
                shift = np.eye(4)[j] * k * e
                up = np.array(rig_step(tuple(x + shift), u, h, par))
                down = np.array(rig_step(tuple(x - shift), u, h, par))
                found[:, j] += weight / e * (up - down)
        np.testing.assert_allclose(full(values), found, rtol=0, atol=1e-8)
    assert checked > 100


def test_jacobian_against_the_plain_one_corners_included() -> None:
    model, rng = model_of(Config()), np.random.default_rng(1)
    for _ in range(200):
        x = rng.uniform(-1, 1, 4) * [0.4, 1.0, 6.0, 15.0]
        u, h = x[1] + rng.choice([0.0, 0.2, 0.42, -0.45, 1.0]), 0.01
        values = rig_step_jacobian(tuple(x), u, h, model.coefficients)
        state, jacobian = step_with_jacobian(model, np.array([*x, 0.1, 0.2]), u, h)
        np.testing.assert_allclose(values[:4], state[:4], rtol=0, atol=1e-13)
        np.testing.assert_allclose(full(values), jacobian[:4, :4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("miss", [0.0, 0.4, -1.3, 2.5, 4.0, -6.0])
@pytest.mark.parametrize("half", [0.3, 1.0, 3.0])
def test_rounded_reading_against_quadrature(miss: float, half: float) -> None:
    sigma = 0.8
    y = np.linspace(miss - half, miss + half, 200_001)
    density = np.exp(-0.5 * (y / sigma) ** 2)
    mass = density.sum()
    mean = float((y * density).sum() / mass)
    variance = float(((y - mean) ** 2 * density).sum() / mass)
    shift, share = rounded_moments(miss, half, sigma)
    assert shift == pytest.approx(mean, abs=1e-4)
    assert share == pytest.approx(1.0 - variance / sigma**2, abs=1e-4)


def test_rounded_reading_far_out_stays_finite() -> None:
    for miss in (15.0, -20.0):
        shift, share = rounded_moments(miss, 1.0, 1.0)
        assert math.isfinite(shift)
        assert abs(miss) - 1.0 < abs(shift) < abs(miss)
        assert 0.99 < share <= 1.0
