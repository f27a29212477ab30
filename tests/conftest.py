"""What every test shares."""

from __future__ import annotations

import hypothesis

from cartpole.kernel_cache import use_kernel_cache

# A busy machine fails no test: no timing decides.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
# Before anything imports numba: tests and the commands they start share one cache.
use_kernel_cache()
