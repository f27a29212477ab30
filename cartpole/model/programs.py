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
Cost = Callable[[Sequence[Any], Sequence[Any], Sequence[Any], Any], Any]
Last = Callable[[Sequence[Any], Sequence[Any], Any], Any]
# Outputs with one index.
VECTORS = ("f", "c", "g", "out")


@dataclass(frozen=True, slots=True)
class Program:
    """Compiled step and cost, the functions of the module ``parts``; z = (x, u), q the parameters.

    ``step(x, u, q, f (n,))``, ``cost(x, u, q, c (1,))``, ``last(x, q, c)``;
    ``stage(x, u, q, l (n,), f, fz (n, n+m), g (n+m,), h (n+m, n+m))``: step, its Jacobian, the
    cost's gradient, second derivatives of cost + l . step by z z; ``first(x, u, q, f, g)`` of these
    what a linear-quadratic program needs anew; ``end(x, q, g, h)`` of the last cost;
    ``mixed(x, u, q, l, fq (n, p), gq (n+m, p))``: step by q, cost + l . step by z q, and
    ``end_mixed(x, q, gq)``; ``contract(x, u, q, l, d (n+m,), a (n,), out (p,))`` adds
    d' gq + a' fq, ``end_contract(x, q, d, out)`` the same of the last cost.
    """

    states: int
    inputs: int
    parameters: int
    parts: ModuleType
    linear_quadratic: bool


def compile_program(
    dynamics: Dynamics,
    cost: Cost,
    states: int,
    inputs: int,
    parameters: int,
    last: Last | None = None,
) -> Program:
    """Trace, differentiate, compile; takes some seconds. Without ``last`` the cost at rest inputs.

    Raises UsageError where shapes or symbols are not what was told.
    """
    import sympy

    x = sympy.symbols(f"x0:{states}", real=True)
    u = sympy.symbols(f"u0:{inputs}", real=True)
    q = sympy.symbols(f"q0:{parameters}", real=True)
    lam = sympy.symbols(f"l0:{states}", real=True)
    d = sympy.symbols(f"d0:{states + inputs}", real=True)
    a = sympy.symbols(f"a0:{states}", real=True)
    z = (*x, *u)
    ahead = sympy.Matrix(list(dynamics(x, u, q, sympy)))
    if ahead.shape != (states, 1):
        raise UsageError(f"dynamics lead to {states} states, not to {ahead.shape[0]}")
    paid = sympy.Matrix([sympy.sympify(cost(x, u, q, sympy))])
    at_rest = sympy.sympify(cost(x, (0,) * inputs, q, sympy) if last is None else last(x, q, sympy))
    ending = sympy.Matrix([at_rest])
    strange = (ahead.free_symbols | paid.free_symbols | ending.free_symbols) - {*z, *q}
    if strange:
        raise UsageError(f"a program of something unknown: {sorted(map(str, strange))}")
    jacobian, gradient, pull = ahead.jacobian(z), paid.jacobian(z), ending.jacobian(x)
    slope = gradient + sympy.Matrix([lam]) * jacobian
    curvature, end_curvature = slope.jacobian(z), pull.jacobian(x)
    along = sympy.Matrix([slope.dot(d) + sum(one * f for one, f in zip(a, ahead, strict=True))])
    along_end = sympy.Matrix([pull.dot(d[:states])])
    names = (("x", x), ("u", u), ("q", q))
    told, at_end = (*names, ("l", lam)), (("x", x), ("q", q))
    text = [
        '"""Made by cartpole.model.programs from a user\'s dynamics and cost."""',
        "import math",
        "from numba import njit",
        _function("step", names, (("f", ahead),)),
        _function("cost", names, (("c", paid),)),
        _function("last", at_end, (("c", ending),)),
        _function("first", names, (("f", ahead), ("g", gradient.T))),
        _function(
            "stage", told, (("f", ahead), ("fz", jacobian), ("g", gradient.T), ("h", curvature))
        ),
        _function("end", at_end, (("g", pull.T), ("h", end_curvature))),
        _function("mixed", told, (("fq", ahead.jacobian(q)), ("gq", slope.jacobian(q)))),
        _function("end_mixed", at_end, (("gq", pull.jacobian(q)),)),
        _function(
            "contract", (*told, ("d", d), ("a", a)), (("out", along.jacobian(q).T),), adds=True
        ),
        _function(
            "end_contract",
            (*at_end, ("d", d[:states])),
            (("out", along_end.jacobian(q).T),),
            adds=True,
        ),
    ]
    moving = {*z, *lam}
    linear = not (jacobian.free_symbols | curvature.free_symbols) & moving
    linear = linear and not end_curvature.free_symbols & moving
    return Program(states, inputs, parameters, load_parts("\n".join(text) + "\n"), linear)


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
    return Flow(parameters, load_parts("\n".join(text) + "\n"))


def load_parts(text: str) -> ModuleType:
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


def _function(
    name: str, inputs: Sequence[tuple[str, Any]], outputs: Sequence[Any], *, adds: bool = False
) -> str:
    """Source of a function that fills the arrays ``outputs`` from the arrays ``inputs``.

    With ``adds`` it adds to them, and leaves out what is zero.
    """
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
                index = f"{i}" if argument in VECTORS else f"{i}, {j}"
                value = sympy.pycode(short[place])
                place += 1
                if adds and value == "0":
                    continue
                lines.append(f"    {argument}[{index}] {'+=' if adds else '='} {value}")
    return "\n".join(lines)
