"""Cost and dynamics of a plan in PyTorch, and the band of their KKT matrix.

The Lagrangian is a sum over stages that meet only in the identity x_{k+1} - f(x_k). So probes
that repeat every stage (a comb whose teeth are one stage apart) find the whole band: six of them,
one for each of (p, v, theta, omega, u, w), where a band of half width ten would need 21. The system
is replicated once per probe, so that one backward call gives all products with the Hessian. Probes
of the multipliers are not needed: by symmetry their columns are the multipliers' rows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cartpole.errors import ConfigError
from cartpole.messages import FloatArray
from cartpole.optimizer import layout as _

if TYPE_CHECKING:
    from cartpole.optimizer.problem import Problem

Tensor = torch.Tensor
PROBES = 6
POLE_PROBES = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """What a cost sees; tensors of equal shape, one value per stage (and probe). SI.

    ``u`` is the velocity command held during the stage, ``w`` its rate, ``reference`` the cart's
    target, ``upright`` the odd multiple of pi that the plan swings up to.
    """

    p: Tensor
    v: Tensor
    theta: Tensor
    omega: Tensor
    u: Tensor
    w: Tensor
    reference: Tensor
    upright: Tensor


CostFunction = Callable[[Stage], Tensor]
PoleFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class UserModel:
    """What a user may replace: cost per second, terminal cost, the pole's acceleration."""

    cost: CostFunction | None = None
    terminal: CostFunction | None = None
    pole_acceleration: PoleFunction | None = None


def load_user_model(where: str) -> UserModel:
    """The model that ``file.py:function`` names; empty for an empty name. Raises ConfigError."""
    if not where:
        return UserModel()
    path, colon, name = where.rpartition(":")
    file = Path(path)
    if not colon or not file.is_file():
        raise ConfigError(f"optimizer.user_cost {where!r}: not an existing file.py:function")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"optimizer.user_cost {where!r}: {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"optimizer.user_cost {where!r}: {error}") from error
    cost: Any = getattr(module, name, None)
    if not callable(cost):
        raise ConfigError(f"optimizer.user_cost {where!r}: no function {name} in {file}")
    return UserModel(
        cost, getattr(module, "terminal", None), getattr(module, "pole_acceleration", None)
    )


@dataclass(frozen=True, slots=True)
class Derivatives:
    """At one iterate; orders (p, v, theta, omega, u, w) and (theta, omega, e).

    ``gradient`` (N, 6) and ``hessian`` (N, 6, 6) of the stage costs, ``jacobian`` (N, 2, 3) and
    ``curvature`` (N, 3, 3) of the pole's steps (the latter times the multipliers),
    ``last_gradient`` (5,) and ``last_hessian`` (5, 5) of the terminal cost over (p, ..., u).
    """

    gradient: FloatArray
    hessian: FloatArray
    jacobian: FloatArray
    curvature: FloatArray
    last_gradient: FloatArray
    last_hessian: FloatArray


class TorchModel:
    """Evaluates cost, dynamics and their derivatives at the trial rows of a workspace."""

    def __init__(self, problem: Problem, user: UserModel) -> None:
        torch.set_num_threads(1)
        n = problem.horizon
        self._n = n
        self._user = user
        self._probes = torch.eye(6, dtype=torch.float64)[:, None, :].expand(PROBES, n, 6)
        self._pole_probes = torch.eye(3, dtype=torch.float64)[:, None, :].expand(POLE_PROBES, n, 3)
        self._last_probes = torch.eye(5, dtype=torch.float64)
        self.update(problem)

    def update(self, problem: Problem) -> None:
        """Other weights; the horizon stays."""
        w = problem.weights
        self._weights = torch.tensor(
            [w.position, w.velocity, w.angle, w.rate_of_angle, w.command, w.rate],
            dtype=torch.float64,
        )
        self._periodic = problem.periodic
        self._terminal = torch.tensor(problem.terminal, dtype=torch.float64)

    def evaluate(self, ws: FloatArray, sc: FloatArray) -> float:
        """Cost at the trial rows; writes the pole's defects into CTH and COM."""
        n = self._n
        rows = ws.reshape(-1, _.STRIDE)
        # Copies: PyTorch keeps what its graph needs, the workspace moves on.
        x = torch.from_numpy(rows[_.TP : _.TW + 1, : n + 1].T.copy())
        self._h, middle, end = torch.from_numpy(rows[[_.H, _.RM, _.R1], :n])
        self._reference = torch.from_numpy(rows[_.REF, : n + 1].copy())
        self._upright = torch.tensor(float(sc[_.THETA_REF]), dtype=torch.float64)
        stage = x[:n].expand(PROBES, n, 6).clone().requires_grad_()
        pole = torch.stack((x[:n, 2], x[:n, 3], x[:n, 4] - x[:n, 1]), dim=1)
        pole = pole.expand(POLE_PROBES, n, 3).clone().requires_grad_()
        last = torch.cat((x[n, :4], x[n - 1, 4:5])).expand(5, 5).clone().requires_grad_()
        costs = self._h * self._cost(self._stage(stage, self._reference[:n]))
        ends = self._terminal_cost(last)
        steps = self._step(pole, middle, end, sc)
        self._graph = (stage, pole, last, costs, ends, steps)
        ahead = steps[0].detach().numpy()
        rows[_.CTH, :n] = ahead[:, 0] - rows[_.TTH, 1 : n + 1]
        rows[_.COM, :n] = ahead[:, 1] - rows[_.TOM, 1 : n + 1]
        return float(costs[0].detach().sum() + ends[0].detach())

    def derivatives(self, ws: FloatArray) -> Derivatives:
        """At the point of the last ``evaluate``, with the multipliers in TLTH and TLOM."""
        n = self._n
        stage, pole, last, costs, ends, steps = self._graph
        rows = ws.reshape(-1, _.STRIDE)
        weights = torch.from_numpy(rows[_.TLTH : _.TLOM + 1, 1 : n + 1].T.copy())
        multipliers = weights.expand(POLE_PROBES, n, 2).clone().requires_grad_()
        lagrangian = costs.sum() + ends.sum() + (steps * multipliers).sum()
        g_stage, g_pole, g_last = torch.autograd.grad(
            lagrangian, (stage, pole, last), create_graph=True
        )
        product = (
            (g_stage * self._probes).sum()
            + (g_pole * self._pole_probes).sum()
            + (g_last * self._last_probes).sum()
        )
        h_stage, h_pole, h_last, jacobian = torch.autograd.grad(
            product, (stage, pole, last, multipliers), materialize_grads=True
        )
        return Derivatives(
            g_stage[0].detach().numpy(),
            h_stage.transpose(0, 1).contiguous().numpy(),
            jacobian.permute(1, 2, 0).contiguous().numpy(),
            h_pole.transpose(0, 1).contiguous().numpy(),
            g_last[0].detach().numpy(),
            h_last.numpy(),
        )

    def _stage(self, x: Tensor, reference: Tensor) -> Stage:
        """A stage's view of (..., 6)."""
        p, v, theta, omega, u, w = x.unbind(-1)
        return Stage(p, v, theta, omega, u, w, reference.expand_as(p), self._upright.expand_as(p))

    def _cost(self, s: Stage) -> Tensor:
        """Cost per second."""
        if self._user.cost is not None:
            return self._user.cost(s)
        position, velocity, angle, rate_of_angle, command, rate = self._weights
        off, away = s.theta - s.upright, s.p - s.reference
        turn = 2.0 * (1.0 + s.theta.cos()) if self._periodic else off * off
        cost: Tensor = (
            position * away * away + velocity * s.v * s.v + angle * turn
            + rate_of_angle * s.omega * s.omega + command * s.u * s.u + rate * s.w * s.w
        )  # fmt: skip
        return cost

    def _terminal_cost(self, x: Tensor) -> Tensor:
        """(5,) from (5, 5): one value per probe."""
        reference = self._reference[self._n]
        if self._user.terminal is not None:
            rate = torch.zeros_like(x[:, :1])
            return self._user.terminal(self._stage(torch.cat((x, rate), dim=1), reference))
        zero = torch.zeros((), dtype=torch.float64)
        y = x - torch.stack((reference, zero, self._upright, zero, zero))
        cost: Tensor = 0.5 * ((y @ self._terminal) * y).sum(-1)
        return cost

    def _step(self, x: Tensor, middle: Tensor, end: Tensor, sc: FloatArray) -> Tensor:
        """(theta, omega) after each step, (..., N, 2), by the classical Runge-Kutta method."""
        h = self._h
        theta, omega, e = x.unbind(-1)
        coupling, gravity = float(sc[_.COUPLING]), float(sc[_.GRAVITY])
        damping = float(sc[_.DAMPING])
        a1 = float(sc[_.SCALE]) * e
        a2, a4 = a1 * middle, a1 * end

        def push(th: Tensor, om: Tensor, a: Tensor) -> Tensor:
            if self._user.pole_acceleration is not None:
                return self._user.pole_acceleration(th, om, a)
            return -coupling * (gravity * th.sin() + a * th.cos()) - damping * om

        k1 = push(theta, omega, a1)
        o2 = omega + 0.5 * h * k1
        k2 = push(theta + 0.5 * h * omega, o2, a2)
        o3 = omega + 0.5 * h * k2
        k3 = push(theta + 0.5 * h * o2, o3, a2)
        o4 = omega + h * k3
        k4 = push(theta + h * o3, o4, a4)
        return torch.stack(
            (
                theta + h / 6.0 * (omega + 2.0 * (o2 + o3) + o4),
                omega + h / 6.0 * (k1 + 2.0 * (k2 + k3) + k4),
            ),
            dim=-1,
        )


def in_y(gradient: FloatArray, hessian: FloatArray) -> tuple[FloatArray, FloatArray]:
    """From (..., v, ..., u, ...) to (..., v, ..., e, ...) with u = v + e; copies."""
    gradient, hessian = gradient.copy(), hessian.copy()
    gradient[..., 1] += gradient[..., 4]
    hessian[..., 1, :] += hessian[..., 4, :]
    hessian[..., :, 1] += hessian[..., :, 4]
    return gradient, hessian


def convex(hessian: FloatArray) -> FloatArray:
    """(..., m, m) with negative eigenvalues raised to zero; what is convex stays bit for bit."""
    if not np.isfinite(hessian).all():
        return hessian
    values, vectors = np.linalg.eigh(hessian)
    if values.min() >= 0.0:
        return hessian
    raised = np.maximum(values, 0.0)[..., None, :]
    return np.asarray((vectors * raised) @ np.swapaxes(vectors, -1, -2))
