"""The problems of ``learning_table.py`` by other solvers, in one process and in turns with these.

    python benchmarks/learning_peers.py [--peers acados,mpc,cvxpylayers] [--repeats N] [--json FILE]

A peer that is not installed is left out and said so. None is a dependency: put them on PYTHONPATH
(mpc 0.0.6; cvxpylayers 1.2 with diffcp; acados_template with casadi, ACADOS_SOURCE_DIR, and
LD_LIBRARY_PATH of acados' libraries). One thread everywhere; processors' time; each peer's plans
and gradients are held against these. acados solves each problem as one quadratic program, its
parameters are set outside the clocks; mpc.pytorch iterates to its own tolerance of 1e-7.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cartpole.kernel_cache import use_kernel_cache

use_kernel_cache()

import numpy as np  # noqa: E402
from learning_table import (  # noqa: E402
    BATCH,
    INPUTS,
    LOOSE,
    MU,
    STATES,
    STEPS,
    TIGHT,
    TOLERANCE,
    now,
    problems,
)

from cartpole.messages import FloatArray  # noqa: E402
from cartpole.model.linear_program import linear_program  # noqa: E402
from cartpole.optimizer.general.plans import PlanSolver  # noqa: E402

SIZE = STATES + INPUTS
ASKED = 1e-7  # of the peers
# (plans' inputs (B, N, m), gradient of all first inputs' sum by the steps' matrix (n, n + m))
Solved = tuple[FloatArray, FloatArray]
# Called in turns: the first plans, the second differentiates what the first found.
Peer = tuple[Callable[[], Any], Callable[[Any], Solved]]


def own(limit: float) -> Peer:
    """This project's."""
    q, starts = problems()
    solver = PlanSolver(linear_program(STATES, INPUTS), STEPS, mu=MU, tolerance=TOLERANCE)
    upper = np.r_[np.full(STATES, np.inf), np.full(INPUTS, limit)]
    seeds = np.zeros((BATCH, STEPS + 1, STATES)), np.zeros((BATCH, STEPS, INPUTS))
    seeds[1][:, 0] = 1.0

    def adjoint(plans: Any) -> Solved:
        by = solver.gradient(plans, *seeds).parameters.sum(axis=0)
        return plans.inputs, by[: STATES * SIZE].reshape(STATES, SIZE)

    return lambda: solver.solve(starts, q, -upper, upper), adjoint


def acados(limit: float) -> Peer:
    """Exact quadratic programs by HPIPM, partial condensing, and their adjoint sensitivities."""
    ca = importlib.import_module("casadi")
    template = importlib.import_module("acados_template")
    q, starts = problems()
    matrix = q[: STATES * SIZE].reshape(STATES, SIZE)
    drift = q[STATES * SIZE : STATES * SIZE + STATES]
    ocp = template.AcadosOcp()
    model, options = ocp.model, ocp.solver_options
    model.name = f"bounded_{round(limit)}"
    model.x, model.u = ca.SX.sym("x", STATES), ca.SX.sym("u", INPUTS)
    step, push = ca.SX.sym("F", STATES, SIZE), ca.SX.sym("f", STATES)
    cost, both = ca.SX.sym("H", SIZE, SIZE), ca.vertcat(model.x, model.u)
    model.p_global = ca.vertcat(ca.vec(step), push, ca.vec(cost))
    values = np.concatenate((matrix.ravel("F"), drift, np.eye(SIZE).ravel("F")))
    ocp.p_global_values = values
    model.disc_dyn_expr = step @ both + push
    ocp.cost.cost_type = ocp.cost.cost_type_e = "EXTERNAL"
    model.cost_expr_ext_cost = both.T @ cost @ both
    model.cost_expr_ext_cost_e = model.x.T @ cost[:STATES, :STATES] @ model.x
    ocp.constraints.lbu, ocp.constraints.ubu = np.full(INPUTS, -limit), np.full(INPUTS, limit)
    ocp.constraints.idxbu, ocp.constraints.x0 = np.arange(INPUTS), starts[0]
    options.integrator_type, options.nlp_solver_type = "DISCRETE", "SQP"
    options.qp_solver, options.hessian_approx = "PARTIAL_CONDENSING_HPIPM", "EXACT"
    options.N_horizon, options.tf = STEPS, float(STEPS)
    options.tol, options.nlp_solver_max_iter = ASKED, 1
    options.with_batch_functionality = True
    ocp.code_gen_options.with_solution_sens_wrt_params_adj = True
    os.chdir(tempfile.mkdtemp())  # where it puts its C
    solver = template.AcadosOcpBatchSolver(
        ocp, N_batch_init=BATCH, verbose=False, num_threads_in_batch_solve=1
    )
    seed = np.ones((BATCH, INPUTS, 1))

    def forward() -> Any:
        solver.solve()
        return solver.get_flat("u").reshape(BATCH, STEPS, INPUTS)

    def adjoint(inputs: Any) -> Solved:
        solver.setup_qp_matrices_and_factorize()
        by = solver.eval_adjoint_solution_sensitivity(
            seed_x=None, seed_u=[(0, seed)], sanity_checks=False
        )
        total = by.sum(axis=0).ravel()
        return inputs, total[: STATES * SIZE].reshape(STATES, SIZE, order="F")

    def begin() -> Any:
        solver.reset(reset_numerical_values=True)
        for one, start in zip(solver.ocp_solvers, starts, strict=False):
            one.set(0, "lbx", start)
            one.set(0, "ubx", start)
            one.set_p_global_and_precompute_dependencies(values)

    forward.begin = begin  # type: ignore[attr-defined]  # outside the clocks
    return forward, adjoint


def mpc(limit: float) -> Peer:
    """mpc.pytorch's batched iLQR with box constraints; one stage more, whose inputs are free."""
    torch, peer = importlib.import_module("torch"), importlib.import_module("mpc.mpc")
    torch.set_num_threads(1)
    q, starts = problems()
    matrix = torch.tensor(q[: STATES * SIZE].reshape(STATES, SIZE), requires_grad=True)
    drift = torch.tensor(q[STATES * SIZE : STATES * SIZE + STATES])
    cost = (2.0 * torch.eye(SIZE, dtype=torch.float64)).expand(STEPS + 1, BATCH, SIZE, SIZE)
    slope = torch.zeros(STEPS + 1, BATCH, SIZE, dtype=torch.float64)
    layer = peer.MPC(
        STATES, INPUTS, STEPS + 1, u_lower=-limit, u_upper=limit, lqr_iter=100, verbose=-1,
        backprop=True, exit_unconverged=False, detach_unconverged=False, eps=ASKED,
    )  # fmt: skip

    def forward() -> Any:
        steps = peer.LinDx(
            matrix.expand(STEPS, BATCH, STATES, SIZE), drift.expand(STEPS, BATCH, STATES)
        )
        _x, u, _cost = layer(torch.tensor(starts), peer.QuadCost(cost, slope), steps)
        return u

    def adjoint(u: Any) -> Solved:
        (by,) = torch.autograd.grad(u[0].sum(), matrix)
        return u[:-1].detach().transpose(0, 1).numpy(), by.numpy()

    return forward, adjoint


def cvxpylayers(limit: float) -> Peer:
    """A cone program by diffcp, differentiated by its residual map."""
    torch, cp = importlib.import_module("torch"), importlib.import_module("cvxpy")
    layers = importlib.import_module("cvxpylayers.torch")
    torch.set_num_threads(1)
    q, starts = problems()
    step, drift = cp.Parameter((STATES, SIZE)), cp.Parameter(STATES)
    start = cp.Parameter(STATES)
    x, u = cp.Variable((STEPS + 1, STATES)), cp.Variable((STEPS, INPUTS))
    rules = [x[0] == start, u <= limit, u >= -limit]
    rules += [x[k + 1] == step @ cp.hstack([x[k], u[k]]) + drift for k in range(STEPS)]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x) + cp.sum_squares(u)), rules)
    layer = layers.CvxpyLayer(problem, parameters=[step, drift, start], variables=[u])
    matrix = torch.tensor(q[: STATES * SIZE].reshape(STATES, SIZE), requires_grad=True)
    push = torch.tensor(q[STATES * SIZE : STATES * SIZE + STATES])

    def forward() -> Any:
        (found,) = layer(
            matrix, push, torch.tensor(starts), solver_args={"solve_method": "Clarabel"}
        )
        return found

    def adjoint(found: Any) -> Solved:
        (by,) = torch.autograd.grad(found[:, 0].sum(), matrix)
        return found.detach().numpy(), by.numpy()

    return forward, adjoint


PEERS: dict[str, Callable[[float], Peer]] = {
    "acados": acados, "mpc": mpc, "cvxpylayers": cvxpylayers,
}  # fmt: skip


def turn(peer: Peer) -> tuple[float, float, Solved]:
    """One batch: processors' time [ms] of the plans and of the adjoint, and what came out."""
    getattr(peer[0], "begin", lambda: None)()
    begin = now()[1]
    plans = peer[0]()
    middle = now()[1]
    solved = peer[1](plans)
    return middle - begin, now()[1] - middle, solved


def compared(peer: Peer, limit: float, repeats: int) -> dict[str, Any]:
    """Medians of both in turns, their ratios, and how far apart their results are."""
    mine, taken = own(limit), []
    turn(mine), turn(peer)
    for _ in range(repeats):
        one, other = turn(mine), turn(peer)
        taken.append((one[0], one[1], other[0], other[1]))
    size = np.abs(one[2][1]).max()
    return {
        "own_ms": [statistics.median(row[i] for row in taken) for i in (0, 1)],
        "peer_ms": [statistics.median(row[i] for row in taken) for i in (2, 3)],
        "peer_over_own": [statistics.median(row[i + 2] / row[i] for row in taken) for i in (0, 1)],
        "inputs_apart": float(np.abs(one[2][0] - other[2][0]).max()),
        "gradients_apart": float(np.abs(one[2][1] - other[2][1]).max() / size),
    }


def main() -> None:
    """Run what is installed, print, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default=",".join(PEERS), help="which, with commas")
    parser.add_argument("--repeats", type=int, default=10, help="of each batch")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    folder, results = Path.cwd(), {}
    for name in options.peers.split(","):
        for told, limit in (("loose", LOOSE), ("tight", TIGHT)):
            try:
                peer = PEERS[name](limit)
            except ImportError as error:
                print(f"{name} is not installed: {error}")
                break
            results[f"{name}, {told}"] = compared(peer, limit, options.repeats)
            print(name, told, json.dumps(results[f"{name}, {told}"]), flush=True)
    if options.json is not None:
        (folder / options.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
