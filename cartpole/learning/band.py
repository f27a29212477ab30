"""A banded matrix from products with it: three ways, each exact.

``product(probes (n, m)) -> (n, m)`` are products with a matrix of half width b: entries (i, j) with
|i - j| > b are zero. A band is (n, 2 b + 1), entry (i, c) the matrix's (i, i + c - b).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cartpole.errors import UsageError
from cartpole.messages import FloatArray

Product = Callable[[FloatArray], FloatArray]


def teeth(n: int, apart: int) -> FloatArray:
    """(n, apart) probes: probe r has ones at r, r + apart, r + 2 apart, ..."""
    probes = np.zeros((n, apart))
    probes[np.arange(n), np.arange(n) % apart] = 1.0
    return probes


def comb(product: Product, n: int, b: int) -> FloatArray:
    """Any band, from 2 b + 1 products: teeth so far apart that no row meets two."""
    apart = 2 * b + 1
    seen = product(teeth(n, apart))
    band = np.zeros((n, apart))
    for c in range(apart):
        columns = np.arange(n) + c - b
        inside = np.flatnonzero((columns >= 0) & (columns < n))
        band[inside, c] = seen[inside, columns[inside] % apart]
    return band


def symmetric_half(product: Product, n: int, b: int) -> FloatArray:
    """A symmetric band, from b + 1 products: of two teeth that a row meets one is known already.

    Row by row: with teeth b + 1 apart a row meets its own column alone, or one column before it,
    whose entry an earlier row has told, and one behind it.
    """
    apart = b + 1
    seen = product(teeth(n, apart))
    band = np.zeros((n, 2 * b + 1))
    for i in range(n):
        band[i, b] = seen[i, i % apart]
        for ahead in range(1, b + 1):
            j, before = i + ahead, i + ahead - apart
            if j >= n:
                break
            known = band[before, b + i - before] if before >= 0 else 0.0
            band[i, b + ahead] = seen[i, j % apart] - known
            band[j, b - ahead] = band[i, b + ahead]
    return band


def random_probing(
    product: Product, n: int, b: int, rng: np.random.Generator, extra: int = 2
) -> FloatArray:
    """Any band, from 2 b + 1 + ``extra`` products with random vectors.

    Each row is a small system of its own for the entries that it may have; rows at the edges have
    fewer, and solve for those alone.
    """
    if extra < 0:
        raise UsageError(f"{extra} products more than a row has entries")
    probes = rng.standard_normal((n, 2 * b + 1 + extra))
    seen = product(probes)
    band = np.zeros((n, 2 * b + 1))
    for i in range(n):
        first, last = max(0, i - b), min(n, i + b + 1)
        row = np.linalg.lstsq(probes[first:last].T, seen[i], rcond=None)[0]
        band[i, first - i + b : last - i + b] = row
    return band


def dense(band: FloatArray) -> FloatArray:
    """The (n, n) matrix of a band."""
    n, width = band.shape
    b = width // 2
    matrix = np.zeros((n, n))
    for c in range(width):
        columns = np.arange(n) + c - b
        inside = np.flatnonzero((columns >= 0) & (columns < n))
        matrix[inside, columns[inside]] = band[inside, c]
    return matrix
