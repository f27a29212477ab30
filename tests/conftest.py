"""What every test shares."""

from __future__ import annotations

from cartpole.kernel_cache import use_kernel_cache

# Before anything imports numba: tests and the commands they start share one cache.
use_kernel_cache()
