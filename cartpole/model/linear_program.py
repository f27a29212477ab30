"""Linear dynamics and a quadratic cost as a program: loops over matrices, for sizes of which a
trace term by term would be long.

    x+ = F z + f,   cost 1/2 z' C z + c' z,   last 1/2 x' E x + e' x,   z = (x, u)

The parameters are F (n, n+m), f (n,), C (n+m, n+m), c (n+m,), E (n, n), e (n,), row by row; of C
and E the symmetric part counts.
"""

from __future__ import annotations

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray
from cartpole.model.programs import Program, load_parts

TEXT = '''"""Made by cartpole.model.linear_program for {n} states and {m} inputs."""
from numba import njit

N, M = {n}, {m}
SIZE = N + M
OFF, COST, SLOPE = N * SIZE, N * SIZE + N, N * SIZE + N + SIZE * SIZE
LAST, TILT = SLOPE + SIZE, SLOPE + SIZE + N * N
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={{"contract", "nsz"}})


@compiled
def step(x, u, q, f):
    for i in range(N):
        a = q[OFF + i]
        for j in range(N):
            a += q[i * SIZE + j] * x[j]
        for j in range(M):
            a += q[i * SIZE + N + j] * u[j]
        f[i] = a


@compiled
def slope(x, u, q, g):
    for i in range(SIZE):
        g[i] = q[SLOPE + i]
    for i in range(SIZE):
        a = 0.5 * (x[i] if i < N else u[i - N])
        for j in range(SIZE):
            g[j] += a * (q[COST + i * SIZE + j] + q[COST + j * SIZE + i])


@compiled
def cost(x, u, q, c):
    a = 0.0
    for i in range(SIZE):
        b = q[SLOPE + i]
        for j in range(N):
            b += 0.5 * q[COST + i * SIZE + j] * x[j]
        for j in range(M):
            b += 0.5 * q[COST + i * SIZE + N + j] * u[j]
        a += b * (x[i] if i < N else u[i - N])
    c[0] = a


@compiled
def last(x, q, c):
    a = 0.0
    for i in range(N):
        b = q[TILT + i]
        for j in range(N):
            b += 0.5 * q[LAST + i * N + j] * x[j]
        a += b * x[i]
    c[0] = a


@compiled
def first(x, u, q, f, g):
    step(x, u, q, f)
    slope(x, u, q, g)


@compiled
def stage(x, u, q, l, f, fz, g, h):
    first(x, u, q, f, g)
    for i in range(N):
        for j in range(SIZE):
            fz[i, j] = q[i * SIZE + j]
    for i in range(SIZE):
        for j in range(SIZE):
            h[i, j] = 0.5 * (q[COST + i * SIZE + j] + q[COST + j * SIZE + i])


@compiled
def end(x, q, g, h):
    for i in range(N):
        a = q[TILT + i]
        for j in range(N):
            h[i, j] = 0.5 * (q[LAST + i * N + j] + q[LAST + j * N + i])
            a += h[i, j] * x[j]
        g[i] = a


@compiled
def contract(x, u, q, l, d, a, out):
    for i in range(N):
        out[OFF + i] += a[i]
        for j in range(SIZE):
            out[i * SIZE + j] += l[i] * d[j] + a[i] * (x[j] if j < N else u[j - N])
    for i in range(SIZE):
        z = x[i] if i < N else u[i - N]
        out[SLOPE + i] += d[i]
        for j in range(SIZE):
            b = x[j] if j < N else u[j - N]
            out[COST + i * SIZE + j] += 0.5 * (d[i] * b + d[j] * z)


@compiled
def end_contract(x, q, d, out):
    for i in range(N):
        out[TILT + i] += d[i]
        for j in range(N):
            out[LAST + i * N + j] += 0.5 * (d[i] * x[j] + d[j] * x[i])
'''


def linear_program(states: int, inputs: int) -> Program:
    """The program of these sizes; its parameters from ``linear_parameters``."""
    if states < 1 or inputs < 1:
        raise UsageError(f"a program has states and inputs, not {states} and {inputs}")
    size = states + inputs
    parameters = states * size + states + size * size + size + states * states + states
    parts = load_parts(TEXT.format(n=states, m=inputs))
    return Program(states, inputs, parameters, parts, linear_quadratic=True)


def linear_parameters(
    step: FloatArray,
    drift: FloatArray,
    cost: FloatArray,
    slope: FloatArray,
    last: FloatArray,
    tilt: FloatArray,
) -> FloatArray:
    """F, f, C, c, E, e in the order of a linear program's parameters."""
    return np.concatenate([np.ravel(one) for one in (step, drift, cost, slope, last, tilt)])
