"""The optimizer by itself: a state in, a plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.api.settings import settings as settings_named
from cartpole.errors import UsageError
from cartpole.messages import Plan, PlanStatus

if TYPE_CHECKING:
    from cartpole.config.schema import Config

MOST_STEPS = 400
MOST_CALLS = 20


class Planner:
    """Plans for the rig of some settings. The bank of plans starts cold for every question."""

    def __init__(
        self,
        settings: Config | str | Path | None = None,
        *,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        from cartpole.optimizer.backends import make_planner
        from cartpole.rules.optimizer import planner_rules

        self.config = settings_named(settings, changes)
        self._planner = make_planner(planner_rules(self.config))

    def plan(self, state: Sequence[float], target_m: float = 0.0) -> Plan:
        """The best plan found from ``state``: (p, v, theta, omega) or with the command u as fifth.

        ``theta`` 0 hanging, pi upright. The cart shall end at ``target_m``. The plan's ``status``
        says whether it may be flown; UsageError for a state of another shape.
        """
        given = np.asarray(state, dtype=np.float64)
        if given.shape not in ((4,), (5,)) or not np.isfinite(given).all():
            raise UsageError("a state is (p, v, theta, omega) or (p, v, theta, omega, u), finite")
        start = np.append(given, given[1]) if given.shape == (4,) else given
        self._planner.reset()
        reference = np.full(self._planner.problem.horizon + 1, target_m)
        plan = self._planner.plan(start, reference, MOST_STEPS, 0)
        for _ in range(MOST_CALLS):
            if plan.status is PlanStatus.CONVERGED:
                break
            plan = self._planner.plan(start, reference, MOST_STEPS, 0)
        return plan
