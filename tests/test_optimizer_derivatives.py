"""The pole's step against an independent Runge-Kutta step in complex arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from cartpole.model.derivatives import pole_step_derivatives, sine_cosine
from cartpole.model.dynamics import pole_step
from cartpole.model.parameters import Coefficients

COUPLING, GRAVITY, DAMPING = 2.7, 9.81, 0.07
Complex = npt.NDArray[np.complex128]


def reference_step(y: Complex, scale: float, middle: float, end: float, h: float) -> Complex:
    """(theta, omega)+ of y = (theta, omega, e), written down afresh."""
    a = scale * y[2]

    def rate(s: Complex, now: complex) -> Complex:
        pull = GRAVITY * np.sin(s[0]) + now * np.cos(s[0])
        return np.array([s[1], -COUPLING * pull - DAMPING * s[1]])

    x = y[:2]
    k1 = rate(x, a)
    k2 = rate(x + h / 2 * k1, a * middle)
    k3 = rate(x + h / 2 * k2, a * middle)
    k4 = rate(x + h * k3, a * end)
    return np.asarray(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))


def complex_jacobian(f: Callable[[Complex], Complex], y: npt.NDArray[np.float64]) -> np.ndarray:
    """Complex-step derivative, exact to rounding."""
    columns = []
    for i in range(len(y)):
        step = y.astype(complex)
        step[i] += 1e-30j
        columns.append(f(step).imag / 1e-30)
    return np.array(columns).T


@pytest.mark.parametrize("kind", ["lag", "acceleration"])
def test_step_and_its_derivatives(kind: str) -> None:
    random = np.random.default_rng(3)
    for _ in range(100):
        h = random.uniform(0.005, 0.05)
        tau = random.uniform(0.02, 0.08)
        scale, middle, end = 1 / tau, np.exp(-h / 2 / tau), np.exp(-h / tau)
        if kind == "acceleration":
            scale, middle, end = 1.0, 1.0, 1.0
        y = np.array([random.uniform(-30, 30), random.uniform(-15, 15), random.uniform(-1, 1)])
        weights = random.normal(size=2)

        def f(z: Complex, m: tuple[float, ...] = (scale, middle, end, h)) -> Complex:
            return reference_step(z, *m)

        pole = (COUPLING, GRAVITY, DAMPING)
        first, second = weights.tolist()
        theta, omega, e = y.tolist()
        out = pole_step_derivatives(theta, omega, e, scale, middle, end, h, *pole, first, second)
        assert np.allclose(out[:2], f(y.astype(complex)).real, rtol=0, atol=1e-11)
        jacobian = complex_jacobian(f, y)
        assert np.allclose(out[2:8], jacobian.ravel(), rtol=1e-9, atol=1e-9)

        def gradient(z: npt.NDArray[np.float64], w: np.ndarray = weights) -> np.ndarray:
            return np.asarray(w @ complex_jacobian(f, z))

        d = 2e-3  # sixth-order differences of exact gradients
        hessian = np.zeros((3, 3))
        for i in range(3):
            for j, c in ((1, 45), (2, -9), (3, 1)):
                e = np.eye(3)[i] * d * j
                hessian[i] += c * (gradient(y + e) - gradient(y - e)) / (60 * d)
        size = max(1.0, np.abs(hessian).max())
        upper = hessian[np.triu_indices(3)]
        assert np.allclose(np.array(out[8:14]) / size, upper / size, rtol=0, atol=1e-8)


def test_the_same_step_as_the_plants() -> None:
    a = 3.0
    ours = pole_step_derivatives(0.4, -2.0, a, 1, 1, 1, 0.02, COUPLING, GRAVITY, DAMPING, 0, 0)
    pole = Coefficients(COUPLING, GRAVITY, DAMPING, coulomb=0.0, tau=0.05, limit=8.0)
    plant = pole_step(0.4, -2.0, a, a, a, 0.02, pole)
    assert np.allclose(ours[:2], plant, rtol=0, atol=1e-13)


def test_sine_and_cosine() -> None:
    for angle in np.concatenate([np.linspace(-40, 40, 997), np.pi * np.arange(-9, 9) / 2]):
        assert np.allclose(sine_cosine(angle), (np.sin(angle), np.cos(angle)), rtol=0, atol=1e-14)
    assert np.isnan(sine_cosine(np.nan)[0])
