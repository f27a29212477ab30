"""Dynamics and cost written once in plain arithmetic, compiled with all derivatives.

A user writes two functions over numbers and a namespace ``m`` (sin, cos, exp, sqrt): sympy traces
them, finds first and second derivatives and common subexpressions, and numba compiles the result.
So a cart that the pole pushes back, an arm that turns, a drive of one's own are twenty lines.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cartpole.errors import UsageError
from cartpole.kernel_cache import use_kernel_cache

Dynamics = Callable[[Sequence[Any], Sequence[Any], Sequence[Any], Any], Sequence[Any]]
Cost = Callable[[Sequence[Any], Sequence[Any], Any], Any]


@dataclass(frozen=True, slots=True)
class Program:
    """Compiled step and cost, the functions of the module ``parts``; z = (x, u), q the parameters.

    ``step(x, u, q, out (n,))``; ``expand(x, u, q, lam (n,), f (n,), fz (n, n+m), fq (n, p),
    h (n+m, n+m), hq (n+m, p))``: step, Jacobians, and second derivatives of lam . step by z z and
    z q. ``cost(x, u)``; ``cost_expand(x, u, g (n+m,), h (n+m, n+m))``.
    """

    states: int
    inputs: int
    parameters: int
    parts: ModuleType


def compile_program(
    dynamics: Dynamics, cost: Cost, states: int, inputs: int, parameters: int
) -> Program:
    """Trace, differentiate, compile; takes some seconds."""
    import sympy

    x = sympy.symbols(f"x0:{states}", real=True)
    u = sympy.symbols(f"u0:{inputs}", real=True)
    q = sympy.symbols(f"q0:{parameters}", real=True)
    lam = sympy.symbols(f"l0:{states}", real=True)
    z = (*x, *u)
    ahead = sympy.Matrix(list(dynamics(x, u, q, sympy)))
    paid = sympy.sympify(cost(x, u, sympy))
    adjoint = sum(a * b for a, b in zip(lam, ahead, strict=True))
    slope = sympy.Matrix([adjoint]).jacobian(z)
    names = (("x", x), ("u", u), ("q", q), ("l", lam))
    one = sympy.Matrix([paid])
    gradient = one.jacobian(z)
    text = [
        '"""Made by cartpole.model.programs from a user\'s dynamics and cost."""',
        "import math",
        "from numba import njit",
        _function("step", names[:3], (("f", ahead),)),
        _function(
            "expand",
            names,
            (
                ("f", ahead),
                ("fz", ahead.jacobian(z)),
                ("fq", ahead.jacobian(q)),
                ("h", slope.jacobian(z)),
                ("hq", slope.jacobian(q)),
            ),
        ),
        _function("cost", names[:2], (("c", one),)),
        _function("cost_expand", names[:2], (("g", gradient.T), ("h", gradient.jacobian(z)))),
    ]
    return Program(states, inputs, parameters, _load("\n".join(text) + "\n"))


@dataclass(frozen=True, slots=True)
class Flow:
    """Compiled accelerations, the functions of the module ``parts``; x = (p, v, theta, omega).

    ``rates(x, u, q, f (2,))``: (vdot, omegadot); ``slopes(x, u, q, f, fz (2, 5))`` with their
    derivatives by (x, u); ``bends(x, u, q, l (2,), h (5, 5))``: second derivatives of l . rates.
    """

    parameters: int
    parts: ModuleType


def compile_flow(accelerations: Dynamics, parameters: int) -> Flow:
    """Trace (vdot, omegadot) = ``accelerations(x, u, q, m)`` with x of four and u one number."""
    import sympy

    x = sympy.symbols("x0:4", real=True)
    u = sympy.symbols("u0:1", real=True)
    q = sympy.symbols(f"q0:{parameters}", real=True)
    lam = sympy.symbols("l0:2", real=True)
    z = (*x, *u)
    rates = sympy.Matrix(list(accelerations(x, u[0], q, sympy)))
    if rates.shape != (2, 1):
        raise UsageError(
            f"accelerations are two, of the cart and of the pole, not {rates.shape[0]}"
        )
    strange = rates.free_symbols - {*x, *u, *q}
    if strange:
        raise UsageError(f"accelerations of something unknown: {sorted(map(str, strange))}")
    slope = sympy.Matrix([lam[0] * rates[0] + lam[1] * rates[1]]).jacobian(z)
    names = (("x", x), ("u", u), ("q", q))
    text = [
        '"""Made by cartpole.model.programs from a user\'s accelerations."""',
        "import math",
        "from numba import njit",
        _function("rates", names, (("f", rates),)),
        _function("slopes", names, (("f", rates), ("fz", rates.jacobian(z)))),
        _function("bends", (*names, ("l", lam)), (("h", slope.jacobian(z)),)),
    ]
    return Flow(parameters, _load("\n".join(text) + "\n"))


def _load(text: str) -> ModuleType:
    """The text as a module, in a file of its own beside the kernels: compiled once."""
    name = f"cartpole_program_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    folder = use_kernel_cache() / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    if not path.exists() or path.read_text() != text:
        # Controller and simulated rig may come here at once: neither may read half a file.
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(text)
        beside.replace(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _function(name: str, inputs: Sequence[tuple[str, Any]], outputs: Sequence[Any]) -> str:
    """Source of a function that fills the arrays ``outputs`` from the arrays ``inputs``."""
    import sympy

    flat = [entry for _name, matrix in outputs for entry in matrix]
    shared, short = sympy.cse(flat, sympy.numbered_symbols("t"))
    arguments = ", ".join(argument for argument, _ in (*inputs, *outputs))
    lines = [
        '@njit(cache=True, nogil=True, error_model="numpy")',
        f"def {name}({arguments}):",
    ]
    for argument, symbols in inputs:
        lines += [f"    {symbol} = {argument}[{i}]" for i, symbol in enumerate(symbols)]
    lines += [f"    {symbol} = {sympy.pycode(value)}" for symbol, value in shared]
    place = 0
    for argument, matrix in outputs:
        rows, columns = matrix.shape
        for i in range(rows):
            for j in range(columns):
                index = f"{i}" if columns == 1 and argument in "fcg" else f"{i}, {j}"
                lines.append(f"    {argument}[{index}] = {sympy.pycode(short[place])}")
                place += 1
    return "\n".join(lines)
