"""Cost and dynamics of a plan in PyTorch, and the band of their KKT matrix.

The Lagrangian is a sum over stages that meet only in the identity x_{k+1} - f(x_k). So probes
that repeat every stage (a comb whose teeth are one stage apart) find the whole band: six of them,
one for each of (p, v, theta, omega, u, w), where a band of half width ten would need 21. The system
is replicated once per probe, so that one backward call gives all products with the Hessian. Probes
of the multipliers are not needed: by symmetry their columns are the multipliers' rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cartpole.errors import ConfigError
from cartpole.messages import FloatArray
from cartpole.model.user_file import load_function
from cartpole.optimizer.compiled.layout import *

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
    cost, module = load_function("optimizer.user_cost", where)
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


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an evaluation depends on, in the order of the traced program.

    ``x`` (N + 1, 6) over (p, v, theta, omega, u, w); ``profile`` (3, N) the rows H, RM, R1;
    ``reference`` (N + 1,); ``multipliers`` (N, 2); ``weights`` (6,); ``terminal`` (5, 5);
    ``numbers`` (5,): upright, scale, coupling, gravity, damping.
    """

    x: Tensor
    profile: Tensor
    reference: Tensor
    multipliers: Tensor
    weights: Tensor
    terminal: Tensor
    numbers: Tensor

    def all(self) -> tuple[Tensor, ...]:
        """In order."""
        return (
            self.x, self.profile, self.reference, self.multipliers, self.weights, self.terminal,
            self.numbers,
        )  # fmt: skip


class Program:
    """Cost, dynamics and all derivatives as one function of ``Inputs``, recorded once.

    The recording runs without PyTorch's bookkeeping, nearly three times as fast. A cost whose
    branches depend on values cannot be recorded and runs as it is.
    """

    def __init__(self, horizon: int, user: UserModel) -> None:
        torch.set_num_threads(1)
        self._n = horizon
        self._user = user
        self._run: Callable[..., tuple[Tensor, ...]] = self._eager
        self._record()

    def __call__(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """(cost, steps' ends (N, 2), then the fields of ``Derivatives``)."""
        return self._run(*inputs.all())

    @property
    def recorded(self) -> bool:
        """Whether the recording runs."""
        return self._run != self._eager

    def _record(self) -> None:
        """Replace the function by its recording, if it has one."""
        from torch.fx.experimental.proxy_tensor import make_fx

        n, kind = self._n, torch.float64
        sample = Inputs(
            torch.linspace(0.1, 0.2, 6 * (n + 1), dtype=kind).reshape(n + 1, 6),
            torch.full((3, n), 0.1, dtype=kind),
            torch.zeros(n + 1, dtype=kind),
            torch.ones((n, 2), dtype=kind),
            torch.ones(6, dtype=kind),
            torch.eye(5, dtype=kind),
            torch.ones(5, dtype=kind),
        ).all()
        try:
            self._eager(*sample)
        except Exception as error:
            raise ConfigError(f"optimizer.user_cost cannot be differentiated: {error}") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, about its ways of recording
            try:
                graph = make_fx(lambda *parts: self._eager(*parts))(*sample)
                with torch.no_grad():
                    run = torch.jit.trace(graph, sample, check_trace=False)  # type: ignore[no-untyped-call]
                    for _i in range(3):  # it optimises itself in its first calls
                        run(*sample)
            except Exception:
                return
        self._run = torch.no_grad()(run)

    def _eager(
        self,
        x: Tensor,
        profile: Tensor,
        reference: Tensor,
        multipliers: Tensor,
        weights: Tensor,
        terminal: Tensor,
        numbers: Tensor,
    ) -> tuple[Tensor, ...]:
        n, kind = self._n, torch.float64
        upright = numbers[0]
        stage = x[:n].expand(PROBES, n, 6).clone().requires_grad_()
        pole = torch.stack((x[:n, 2], x[:n, 3], x[:n, 4] - x[:n, 1]), dim=1)
        pole = pole.expand(POLE_PROBES, n, 3).clone().requires_grad_()
        last = torch.cat((x[n, :4], x[n - 1, 4:5])).expand(5, 5).clone().requires_grad_()
        lam = multipliers.expand(POLE_PROBES, n, 2).clone().requires_grad_()
        costs = profile[0] * self._cost(self._stage(stage, reference[:n], upright), weights)
        ends = self._terminal_cost(last, reference[n], upright, terminal)
        steps = self._step(pole, profile, numbers)
        lagrangian = costs.sum() + ends.sum() + (steps * lam).sum()
        g_stage, g_pole, g_last = torch.autograd.grad(
            lagrangian, (stage, pole, last), create_graph=True
        )
        product = (
            (g_stage * torch.eye(6, dtype=kind)[:, None, :]).sum()
            + (g_pole * torch.eye(3, dtype=kind)[:, None, :]).sum()
            + (g_last * torch.eye(5, dtype=kind)).sum()
        )
        h_stage, h_pole, h_last, jacobian = torch.autograd.grad(
            product, (stage, pole, last, lam), materialize_grads=True
        )
        return (
            (costs[0].sum() + ends[0]).detach(),
            steps[0].detach(),
            g_stage[0].detach(),
            h_stage.transpose(0, 1),
            jacobian.permute(1, 2, 0),
            h_pole.transpose(0, 1),
            g_last[0].detach(),
            h_last,
        )

    @staticmethod
    def _stage(x: Tensor, reference: Tensor, upright: Tensor) -> Stage:
        """A stage's view of (..., 6)."""
        p, v, theta, omega, u, w = x.unbind(-1)
        return Stage(p, v, theta, omega, u, w, reference.expand_as(p), upright.expand_as(p))

    def _cost(self, s: Stage, weights: Tensor) -> Tensor:
        """Cost per second."""
        if self._user.cost is not None:
            return self._user.cost(s)
        position, velocity, angle, rate_of_angle, command, rate = weights
        off, away = s.theta - s.upright, s.p - s.reference
        cost: Tensor = (
            position * away * away + velocity * s.v * s.v + angle * off * off
            + rate_of_angle * s.omega * s.omega + command * s.u * s.u + rate * s.w * s.w
        )  # fmt: skip
        return cost

    def _terminal_cost(
        self, x: Tensor, reference: Tensor, upright: Tensor, terminal: Tensor
    ) -> Tensor:
        """(5,) from (5, 5): one value per probe."""
        if self._user.terminal is not None:
            rate = torch.zeros_like(x[:, :1])
            return self._user.terminal(self._stage(torch.cat((x, rate), dim=1), reference, upright))
        zero = torch.zeros((), dtype=torch.float64)
        y = x - torch.stack((reference, zero, upright, zero, zero))
        cost: Tensor = 0.5 * ((y @ terminal) * y).sum(-1)
        return cost

    def _step(self, x: Tensor, profile: Tensor, numbers: Tensor) -> Tensor:
        """(theta, omega) after each step, (..., N, 2), by the classical Runge-Kutta method."""
        h, middle, end = profile
        _upright, scale, coupling, gravity, damping = numbers
        theta, omega, e = x.unbind(-1)
        a1 = scale * e
        a2, a4 = a1 * middle, a1 * end

        def push(th: Tensor, om: Tensor, a: Tensor) -> Tensor:
            if self._user.pole_acceleration is not None:
                return self._user.pole_acceleration(th, om, a)
            pull: Tensor = -coupling * (gravity * th.sin() + a * th.cos()) - damping * om
            return pull

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


class TorchModel:
    """Evaluates cost, dynamics and their derivatives at the trial rows of a workspace."""

    def __init__(self, problem: Problem, program: Program) -> None:
        self._n = problem.horizon
        self._program = program
        self.update(problem)

    def update(self, problem: Problem) -> None:
        """Other weights; the horizon stays."""
        w = problem.weights
        self._weights = torch.tensor(
            [w.position, w.velocity, w.angle, w.rate_of_angle, w.command, w.rate],
            dtype=torch.float64,
        )
        self._terminal = torch.tensor(problem.terminal, dtype=torch.float64)

    def evaluate(self, ws: FloatArray, sc: FloatArray) -> float:
        """Cost at the trial rows and their multipliers; writes the defects into CTH and COM."""
        n = self._n
        rows = ws.reshape(-1, STRIDE)
        numbers = sc[[THETA_REF, SCALE, COUPLING, GRAVITY, DAMPING]]
        # Copies: PyTorch may keep what it is given, the workspace moves on.
        cost, ahead, *rest = self._program(
            Inputs(
                torch.from_numpy(rows[TP : TW + 1, : n + 1].T.copy()),
                torch.from_numpy(rows[[H, RM, R1], :n]),
                torch.from_numpy(rows[REF, : n + 1].copy()),
                torch.from_numpy(rows[TLTH : TLOM + 1, 1 : n + 1].T.copy()),
                self._weights,
                self._terminal,
                torch.from_numpy(numbers),
            )
        )
        rows[CTH, :n] = ahead.numpy()[:, 0] - rows[TTH, 1 : n + 1]
        rows[COM, :n] = ahead.numpy()[:, 1] - rows[TOM, 1 : n + 1]
        self.derivatives = Derivatives(*(np.ascontiguousarray(part.numpy()) for part in rest))
        return float(cost)


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
