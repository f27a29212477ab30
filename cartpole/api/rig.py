"""A simulated rig to be driven by commands of one's own, tick by tick."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cartpole.api.settings import settings as settings_named
from cartpole.control.governor import govern
from cartpole.control.observer import Observer
from cartpole.errors import UsageError
from cartpole.messages import NANOSECONDS, Command, Estimate
from cartpole.rules.control import governor_limits, observer_rules
from cartpole.rules.sim import rig_rules
from cartpole.sim.rig import VirtualRig
from cartpole.sim.run import START_NS

if TYPE_CHECKING:
    from cartpole.config.schema import Config

Four = tuple[float, float, float, float]
SETTLE_TICKS = 25  # the filter settles before the first command, as on a rig that is switched on


class Rig:
    """Plant, boards and camera of the simulated rig with the filter and the governor before it.

    Every command passes the governor, as on a real rig; every measurement passes the drivers and
    the filter, with the noise and the imperfections of ``sim.*``. Deterministic for a seed.
    """

    def __init__(
        self,
        settings: Config | str | Path | None = None,
        *,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = settings_named(settings, changes)
        self._period_ns = round(self.config.controller.period_s * NANOSECONDS)
        self._limits = governor_limits(self.config)
        self.reset(self.config.sim.seed)

    def reset(self, seed: int, start: Four | None = None) -> Estimate:
        """A new rig: from ``start`` (p, v, theta, omega), else hanging near the middle."""
        rig = rig_rules(self.config)
        self._rig = VirtualRig(rig, seed, hint=self._hint, start=start, t_ns=START_NS)
        rules = observer_rules(self.config)
        self._observer = Observer(rules, Observer.fresh(rules, self._rig.homing))
        self._now_ns = START_NS
        self._sequence = 0
        self.command_m_s = 0.0
        estimate = self._advance()
        if start is None:
            for _ in range(SETTLE_TICKS):
                estimate = self.step(0.0)
        return estimate

    def _hint(self, t_ns: int) -> Any:
        return self._observer.hint(t_ns)

    @property
    def state(self) -> Four:
        """The truth: (p, v, theta, omega) now."""
        return self._rig.truth(self._now_ns)

    def push(self, cart_m_s: float = 0.0, pole_rad_s: float = 0.0) -> None:
        """A sudden change of speed, as by a hand."""
        self._rig.plant.push(cart_m_s, pole_rad_s)

    def step(self, velocity_m_s: float) -> Estimate:
        """Ask for a cart velocity for one tick; returns what the filter believes after it.

        What the governor made of it is ``command_m_s``. UsageError unless the wish is finite.
        """
        if not abs(velocity_m_s) < float("inf"):
            raise UsageError(f"a command is a finite velocity, not {velocity_m_s}")
        acts_ns = self._now_ns + round(self.config.motor.delay_s * NANOSECONDS)
        ahead = self._observer.predict(acts_ns)
        governed = govern(velocity_m_s, self.command_m_s, (ahead[0], ahead[1]), 0.0, self._limits)
        self.command_m_s = governed.velocity_m_s
        command = Command(
            self._now_ns, self._sequence, self.command_m_s, True, velocity_m_s, governed.limited_by
        )
        self._rig.send(self._now_ns, command)
        self._observer.add_command(self._now_ns, self.command_m_s)
        self._sequence += 1
        return self._advance()

    def _advance(self) -> Estimate:
        self._now_ns += self._period_ns
        for measurement in self._rig.advance(self._now_ns):
            self._observer.take(measurement)
        estimate = self._observer.estimate(self._now_ns)
        assert estimate is not None, "a homed rig is measured in its first tick"
        return estimate
