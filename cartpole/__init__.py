"""Real-time model predictive control of a cart-pole rig.

From Python::

    from cartpole import Planner, Rig, Session, simulate

    flight = simulate(seed=7)                        # swing up on the simulated rig
    plan = Planner().plan((0.0, 0.0, 0.0, 0.0))      # a plan from hanging at rest
    rig = Rig(); rig.step(0.2)                       # drive the simulated rig by hand
    table = Session("NAME.mcap").table("estimate")   # a recording as a pandas table
"""

import sys
from typing import Any

__version__ = "0.1.0"

# Loaded when first asked for: importing this package loads nothing.
_DOORS = {
    "Flight": "cartpole.api.simulation",
    "Planner": "cartpole.api.planning",
    "Rig": "cartpole.api.rig",
    "Session": "cartpole.session.reader",
    "simulate": "cartpole.api.simulation",
}


def register_envs() -> None:
    """Make ``gymnasium.make("cartpole/SwingUp-v0")`` work; done by the import after gymnasium's."""
    import gymnasium

    name = "cartpole/SwingUp-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point="cartpole.api.gym:SwingUp", max_episode_steps=500)


if "gymnasium" in sys.modules:
    register_envs()


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    importlib.import_module("cartpole.kernel_cache").use_kernel_cache()  # before numba is imported
    return getattr(importlib.import_module(_DOORS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_DOORS])
