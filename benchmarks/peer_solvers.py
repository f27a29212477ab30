"""CasADi (IPOPT, fatrop) and OSQP on the shared problem, set up as their documentation advises.

Every solver is an object with ``step(state (4,)) -> acceleration``: one tick from the measured
state, warm-started by shifting its own last solution.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LENGTH_M, GRAVITY, DAMPING, STEP_S = 0.5, 9.81, 0.05, 0.02
STATE_WEIGHTS = np.array([2.0, 0.1, 5.0, 0.1])
INPUT_WEIGHT, TERMINAL_FACTOR = 0.01, 10.0
P_MAX, V_MAX, A_MAX = 0.40, 1.5, 12.0
TARGET = np.array([0.0, 0.0, np.pi, 0.0])


def first_guess(n: int, x0: FloatArray) -> tuple[FloatArray, FloatArray]:
    """States (n + 1, 4) with the angle going evenly to the top, and zero inputs (n,)."""
    states = np.linspace(0.0, 1.0, n + 1)[:, None] * (TARGET - x0) + x0
    states[:, 3] = 0.0
    return states, np.zeros(n)


def step_function(ca: Any) -> Any:
    """CasADi function (x, a) -> x+, one Runge-Kutta step."""
    x, a = ca.SX.sym("x", 4), ca.SX.sym("a")

    def rate(s: Any) -> Any:
        drive = GRAVITY * ca.sin(s[2]) + a * ca.cos(s[2])
        return ca.vertcat(s[1], a, s[3], -1.5 / LENGTH_M * drive - DAMPING * s[3])

    h = STEP_S
    k1 = rate(x)
    k2 = rate(x + h / 2 * k1)
    k3 = rate(x + h / 2 * k2)
    k4 = rate(x + h * k3)
    return ca.Function("f", [x, a], [x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)])


def compiled(ca: Any, function: Any, folder: Path) -> Any:
    """The same function through generated C, if a C compiler is there."""
    if shutil.which("gcc") is None:
        return function
    here = Path.cwd()
    os.chdir(folder)
    try:
        name = function.name()
        function.generate(f"{name}.c")
        subprocess.run(
            ["gcc", "-O2", "-march=native", "-fPIC", "-shared", f"{name}.c", "-o", f"{name}.so"],
            check=True,
            capture_output=True,
        )
        return ca.external(name, str(folder / f"{name}.so"))
    finally:
        os.chdir(here)


class CasadiSolver:
    """Multiple shooting, solved to convergence by an interior-point solver at every tick."""

    def __init__(self, n: int, plugin: str, folder: Path) -> None:
        import casadi as ca

        self.n = n
        f = step_function(ca)
        w = ca.MX.sym("w", 5 * n + 4)
        x0 = ca.MX.sym("x0", 4)
        stages = ca.reshape(w[: 5 * n], 5, n)
        x, a, last = stages[:4, :], stages[4, :], w[5 * n :]
        following = ca.horzcat(x[:, 1:], last)
        gaps = following - f.map(n)(x, a)
        # The first state is a variable; fatrop wants its equation after the first gap.
        g = ca.vertcat(gaps[:, 0], x[:, 0] - x0, ca.vec(gaps[:, 1:]))
        off = x - ca.repmat(TARGET, 1, n)
        stage_cost = ca.dot(ca.repmat(STATE_WEIGHTS, 1, n), off**2) + INPUT_WEIGHT * ca.dot(a, a)
        cost = STEP_S * stage_cost
        cost += TERMINAL_FACTOR * ca.dot(STATE_WEIGHTS, (last - TARGET) ** 2)
        limit = np.array([P_MAX, V_MAX, np.inf, np.inf])
        high = np.concatenate([np.tile([*limit, A_MAX], n), limit])
        high[:4] = np.inf
        low = -high
        equality = [True] * (4 * n + 4)
        nlp = {"x": w, "f": cost, "g": g, "p": x0}
        options: dict[str, Any] = {"print_time": False, "error_on_fail": False}
        if plugin == "fatrop":
            options |= {
                "structure_detection": "auto",
                "equality": equality,
                "fatrop": {"print_level": 0, "tol": 1e-6, "mu_init": 1e-2},
            }  # fmt: skip
        else:
            options |= {
                "ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-6, "mu_init": 1e-2,
                          "warm_start_init_point": "yes", "linear_solver": "mumps"},
            }  # fmt: skip
        if shutil.which("gcc") is not None:
            options |= {
                "jit": True,
                "compiler": "shell",
                "jit_options": {"flags": ["-O2", "-march=native"], "compiler": "gcc"},
                "jit_temp_suffix": True,
            }
        here = Path.cwd()
        os.chdir(folder)
        try:
            self.solver = ca.nlpsol("s", plugin, nlp, options)
        finally:
            os.chdir(here)
        self.bounds = {"lbx": low, "ubx": high, "lbg": 0.0, "ubg": 0.0}
        self.reset()

    def reset(self) -> None:
        """Back to the first guess."""
        n = self.n
        states, inputs = first_guess(n, np.zeros(4))
        self.x = np.empty(5 * n + 4)
        self.x[: 5 * n].reshape(n, 5)[:, :4] = states[:n]
        self.x[: 5 * n].reshape(n, 5)[:, 4] = inputs
        self.x[5 * n :] = states[n]
        self.lam_x = np.zeros(5 * n + 4)
        self.lam_g = np.zeros(4 * n + 4)
        self.first = True

    def step(self, state: FloatArray) -> float:
        """One converged solve."""
        if not self.first:
            n = self.n
            self.x[: 5 * n - 1] = self.x[5 : 5 * n + 4]
            self.x[5 * n - 1] = self.x[5 * n - 6]
            self.lam_x[: 5 * n - 1] = self.lam_x[5 : 5 * n + 4]
            self.lam_g[8:-4] = self.lam_g[12:]
        self.first = False
        r = self.solver(x0=self.x, p=state, lam_x0=self.lam_x, lam_g0=self.lam_g, **self.bounds)
        self.x = np.asarray(r["x"]).ravel()
        self.lam_x = np.asarray(r["lam_x"]).ravel()
        self.lam_g = np.asarray(r["lam_g"]).ravel()
        self.cost = float(r["f"])
        return float(self.x[4])


class OsqpSolver:
    """A real-time iteration: linearise about the shifted solution, one OSQP program."""

    def __init__(self, n: int, folder: Path) -> None:
        import casadi as ca
        import osqp
        from scipy import sparse

        self.n = n
        f = step_function(ca)
        x, a = ca.SX.sym("x", 4), ca.SX.sym("a")
        following = f(x, a)
        stage = ca.Function(
            "stage",
            [x, a],
            [ca.vertcat(following, ca.vec(ca.jacobian(following, ca.vertcat(x, a))))],
        )
        lifted = stage.map(n)
        all_x, all_a = ca.MX.sym("x", 4, n), ca.MX.sym("a", 1, n)
        linearise = ca.Function("linearise", [all_x, all_a], [lifted(all_x, all_a)])
        self.linearise = compiled(ca, linearise, folder)
        states, inputs = 4 * (n + 1), n
        weights = np.concatenate(
            [
                np.tile(2 * STEP_S * STATE_WEIGHTS, n),
                2 * TERMINAL_FACTOR * STATE_WEIGHTS,
                np.full(n, 2 * STEP_S * INPUT_WEIGHT),
            ]
        )
        self.q = -weights * np.concatenate([np.tile(TARGET, n + 1), np.zeros(n)])
        # Rows: x_0, then x_{k+1} - A x_k - B a_k, then the limits. Entry i + 1 marks its place.
        eye = np.arange(states)
        k = np.arange(n)[:, None, None]
        r = np.arange(4)[None, None, :]
        c = np.arange(5)[None, :, None]
        row = np.broadcast_to(4 * (k + 1) + r, (n, 5, 4))
        column = np.broadcast_to(np.where(c < 4, 4 * k + c, states + k), (n, 5, 4))
        bound_columns = np.arange(states + inputs)
        rows = np.concatenate([eye, row.ravel(), states + bound_columns])
        columns = np.concatenate([eye, column.ravel(), bound_columns])
        size = len(rows)
        marks = sparse.coo_matrix(
            (np.arange(1.0, size + 1), (rows, columns)), (2 * states + inputs, states + inputs)
        ).tocsc()
        self.order = marks.data.astype(int) - 1
        self.values = np.ones(size)
        self.jacobian = slice(states, states + 20 * n)
        limit = np.array([P_MAX, V_MAX, np.inf, np.inf])
        high = np.concatenate([np.full(4, np.inf), np.tile(limit, n), np.full(n, A_MAX)])
        self.low = np.concatenate([np.zeros(states), -high])
        self.high = np.concatenate([np.zeros(states), high])
        marks.data = self.values[self.order]
        self.solver = osqp.OSQP()
        self.solver.setup(
            sparse.diags(weights, format="csc"), self.q, marks, self.low, self.high,
            verbose=False, eps_abs=1e-3, eps_rel=1e-3, max_iter=4000, warm_starting=True,
        )  # fmt: skip
        self.states, self.inputs = first_guess(n, np.zeros(4))
        self.first = True

    def step(self, state: FloatArray) -> float:
        """One linearisation and one quadratic program (several at the very first tick)."""
        if not self.first:
            self.states[:-1] = self.states[1:]
            self.inputs[:-1] = self.inputs[1:]
        for _ in range(50 if self.first else 1):
            self._iterate(state)
        self.first = False
        return float(self.inputs[0])

    def _iterate(self, state: FloatArray) -> None:
        n = self.n
        out = np.asarray(self.linearise(self.states[:n].T, self.inputs[None, :])).T
        jacobian = out[:, 4:].reshape(n, 5, 4)
        self.values[self.jacobian] = -jacobian.ravel()
        fixed = out[:, :4] - np.einsum("kcr,kc->kr", jacobian[:, :4], self.states[:n])
        fixed -= jacobian[:, 4] * self.inputs[:, None]
        for side in (self.low, self.high):
            side[:4] = state
            side[4 : 4 * (n + 1)] = fixed.ravel()
        self.solver.update(Ax=self.values[self.order], l=self.low, u=self.high)
        x = self.solver.solve().x
        if x is not None and np.isfinite(x).all():
            self.states = x[: 4 * (n + 1)].reshape(n + 1, 4).copy()
            self.inputs = x[4 * (n + 1) :].copy()


class CompiledSolver:
    """This project's solver: at most STEPS Newton steps a tick from the shifted plan.

    The very first plan comes from one with twice the horizon, solved to convergence.
    """

    STEPS = 6
    MU = 1e-4

    def __init__(self, n: int) -> None:
        from cartpole.optimizer.compiled import layout
        from cartpole.optimizer.compiled.solver import Guess, Solver
        from cartpole.optimizer.compiled.warm import advance

        far = Solver(shared_problem(2 * n), mu=self.MU)
        far.start(np.zeros(5), Guess(1.0, 0.1, 1.0, np.pi))
        far.solve(500)
        self.solver = Solver(shared_problem(n), mu=self.MU)
        self.solver.start(np.zeros(5), Guess(1.0, 0.1, 1.0, np.pi))
        self.solver.rows.reshape(-1, layout.STRIDE)[: layout.CTH, : n + 1] = far.rows.reshape(
            -1, layout.STRIDE
        )[: layout.CTH, : n + 1]
        for row in (layout.U, layout.W):
            self.solver.rows[row * layout.STRIDE + n] = 0.0
        self.solver.scalars[layout.MU] = 1e-2
        self.solver.step(np.zeros(5), 0, 200)
        self.n, self.kind = n, self.solver.kind
        self.rows, self.scalars = self.solver.rows, self.solver.scalars
        self.first_input = layout.U * layout.STRIDE
        self.advance = advance
        self.state = np.zeros(5)
        self.shifts = 0

    def step(self, state: FloatArray) -> float:
        """Shift, measured state, Newton steps."""
        self.state[:4] = state
        self.advance(
            self.rows, self.scalars, self.state, self.n, self.kind, self.shifts, self.STEPS
        )
        self.shifts = 1
        return float(self.rows[self.first_input])


def shared_problem(n: int) -> Any:
    """The shared problem in this project's terms."""
    from cartpole.model.parameters import ModelParameters
    from cartpole.optimizer.problem import InputKind, Limits, Problem, StageWeights

    terminal = np.zeros((5, 5))
    terminal[range(4), range(4)] = 2.0 * TERMINAL_FACTOR * STATE_WEIGHTS
    return Problem(
        kind=InputKind.ACCELERATION,
        steps_s=np.full(n, STEP_S),
        model=ModelParameters(length_m=LENGTH_M, damping_1_s=DAMPING, gravity_m_s2=GRAVITY),
        weights=StageWeights(*STATE_WEIGHTS, INPUT_WEIGHT),
        terminal=terminal,
        limits=Limits(position_m=P_MAX, command=A_MAX, lead=V_MAX, lead_p=0.0, lead_v=1.0),
        reference_m=np.zeros(n + 1),
    )
