"""The sweeps' direction is that of the dense KKT matrix, assembled entry by entry in an example."""

from __future__ import annotations

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "dense_kkt.py"


def test_the_sweep_solves_the_dense_system() -> None:
    assert runpy.run_path(str(EXAMPLE))["main"]() < 1e-9
