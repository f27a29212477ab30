"""The Newton direction of a plan twice: by the block recursion, and by the dense KKT matrix.

A notebook in one file: the matrix is assembled entry by entry with numpy from what a solver knows
of its iterate, solved as any matrix is, and the direction is that of the sweeps. Run it:

    python examples/dense_kkt.py

Stage by stage (see docs/optimizer.md) the unknowns are the input w_k, then y_{k+1} = (p, v, theta,
omega, e)_{k+1}; y_0 is measured. A stage adds its input, y + B w with B = (0, 0, 0, 0, h), steps by
A, and leaves the defect c.
"""

from __future__ import annotations

import numpy as np

from cartpole.config.schema import Config
from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.directions import new_multipliers
from cartpole.optimizer.compiled.kkt import factorise, start
from cartpole.optimizer.compiled.layout import *
from cartpole.optimizer.compiled.riccati import forward
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.rules.optimizer import problem_from_config

STEPS = 3  # Newton steps after which the two directions are compared


def an_iterate() -> Solver:
    """A plan on its way from hanging to upright."""
    solver = Solver(problem_from_config(Config()), mu=1e-4)
    solver.start(np.zeros(5), Guess(1.0, 0.2, 1.0, np.pi))
    solver.solve(STEPS)
    return solver


def stage_matrices(x: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """A (5, 5) and B (5,) of stage k; x is the table of rows."""
    a = np.zeros((5, 5))
    a[0] = (1.0, x[H, k], 0.0, 0.0, x[C2, k])
    a[1] = (0.0, 1.0, 0.0, 0.0, x[E1, k])
    a[2] = (0.0, 0.0, x[F11, k], x[F12, k], x[G1, k])
    a[3] = (0.0, 0.0, x[F21, k], x[F22, k], x[G2, k])
    a[4, 4] = x[D, k]
    return a, np.array([0.0, 0.0, 0.0, 0.0, x[H, k]])


def stage_cost(x: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """Q (5, 5) and q (5,) of stage k, after its input."""
    q = np.zeros((5, 5))
    for i, j, row in (
        (0, 0, QPP), (0, 1, QPV), (1, 1, QVV), (1, 4, QVE), (4, 4, QEE), (2, 2, QTT), (2, 3, QTO),
        (3, 3, QOO), (2, 4, QTE), (3, 4, QOE),
    ):  # fmt: skip
        q[i, j] = q[j, i] = x[row, k]
    return q, x[QP : QE + 1, k].copy()


def terminal(x: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """Q and q of the last y: the terminal cost and the limits there."""
    q = np.zeros((5, 5))
    q[np.triu_indices(5)] = x[P00 : P44 + 1, n]
    return q + np.triu(q, 1).T, x[S0 : S4 + 1, n].copy()


def dense_direction(solver: Solver) -> tuple[FloatArray, FloatArray]:
    """(dw (N,), lambda (N, 5)) from the whole matrix [[H, C'], [C, 0]]."""
    n = solver.horizon
    x = solver.rows.reshape(-1, STRIDE)
    unknowns, equations = 6 * n, 5 * n
    hessian, gradient = np.zeros((unknowns, unknowns)), np.zeros(unknowns)
    jacobian, defect = np.zeros((equations, unknowns)), np.zeros(equations)
    for k in range(n):
        w, after = 6 * k, slice(6 * k + 1, 6 * k + 6)
        before = slice(6 * k - 5, 6 * k) if k > 0 else None
        a, b = stage_matrices(x, k)
        q, slope = stage_cost(x, k)
        # The stage's cost is of y + B w.
        hessian[w, w] += x[QWW, k] + b @ q @ b
        gradient[w] += x[QW, k] + b @ slope
        rows = slice(5 * k, 5 * k + 5)
        jacobian[rows, w] = a @ b
        jacobian[rows, after] = -np.eye(5)
        defect[rows] = (0.0, 0.0, x[CTH, k], x[COM, k], 0.0)
        if before is not None:
            hessian[before, before] += q
            hessian[before, w] += q @ b
            hessian[w, before] += b @ q
            gradient[before] += slope
            jacobian[rows, before] = a
    last = slice(6 * n - 5, 6 * n)
    q, slope = terminal(x, n)
    hessian[last, last] += q
    gradient[last] += slope
    matrix = np.block([[hessian, jacobian.T], [jacobian, np.zeros((equations, equations))]])
    solution = np.linalg.solve(matrix, -np.concatenate((gradient, defect)))
    return solution[0:unknowns:6], solution[unknowns:].reshape(n, 5)


def main() -> float:
    """Largest difference of the two, as a share of the direction."""
    solver = an_iterate()
    n = solver.horizon
    arguments = (solver.rows, solver.scalars, n, solver.kind)
    start(*arguments)
    factorise(*arguments)
    forward(solver.rows, n, solver.kind)
    new_multipliers(solver.rows, n, solver.kind)
    x = solver.rows.reshape(-1, STRIDE)
    rates, multipliers = dense_direction(solver)
    worst = float(np.abs(rates - x[DW, :n]).max() / np.abs(rates).max())
    # Multipliers of the dynamics that reach stage k + 1.
    reached = x[NLP : NLE + 1, 1 : n + 1].T
    other = float(np.abs(multipliers - reached).max() / np.abs(multipliers).max())
    print(f"{6 * n + 5 * n} unknowns: rates differ by {worst:.1e}, multipliers by {other:.1e}")
    return max(worst, other)


if __name__ == "__main__":
    main()
