"""Import this before anything that imports numba: kernels of older sources are not measured.

It also lets a benchmark import the tests' oracles.
"""

import sys
from pathlib import Path

from cartpole.kernel_cache import use_kernel_cache

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
use_kernel_cache()
