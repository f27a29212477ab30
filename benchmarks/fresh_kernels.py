"""Import this before anything that imports numba: kernels of older sources are not measured."""

from cartpole.kernel_cache import use_kernel_cache

use_kernel_cache()
