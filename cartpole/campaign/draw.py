"""What a seed stands for: a rig, how its settings are wrong, what is imperfect, what breaks.

Everything is drawn in one order, whatever is used of it, so that leaving an ingredient out changes
no other one: that is what lets a failing draw be shrunk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from cartpole.campaign.strikes import STRIKES
from cartpole.config.schema import Config

STREAM = 77  # of the seeds that a run draws from
RIG = "rig"  # the ingredient that is always there
EARLIEST_S, LATEST_S = 0.4, 6.0  # a fault strikes in this time after the first tick of SWING_UP
HOMED_SHARE = 0.75

Overrides = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A named part of a draw: settings by dotted key."""

    name: str
    overrides: Overrides


@dataclass(frozen=True, slots=True)
class Draw:
    """One run: its seed, its ingredients, and the fault that strikes ``strike_at_s``, if any.

    ``size`` in [0, 1) and ``side`` (-1 or 1) are the fault's own random numbers.
    """

    seed: int
    ingredients: tuple[Ingredient, ...]
    strike: str | None = None
    strike_at_s: float = 0.0
    size: float = 0.5
    side: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """What can be left out: the ingredients but the rig itself, and the fault."""
        own = tuple(part.name for part in self.ingredients if part.name != RIG)
        return (*own, self.strike) if self.strike is not None else own

    def keeping(self, names: Collection[str]) -> Draw:
        """The same draw with these ingredients only."""
        kept = tuple(p for p in self.ingredients if p.name == RIG or p.name in names)
        strike = self.strike if self.strike in names else None
        return replace(self, ingredients=kept, strike=strike)

    def config(self, base: Config) -> Config:
        """The settings of the run; ValueError if they contradict each other."""
        tree = base.model_dump()
        for part in self.ingredients:
            _lay(tree, part.overrides)
        if self.strike is not None:
            _lay(tree, STRIKES[self.strike].settings(self.size, self.side))
        return Config.model_validate(tree)


def _lay(tree: dict[str, Any], overrides: Overrides) -> None:
    for key, value in overrides.items():
        section, name = key.split(".")
        # A truth may be told as a factor of what the settings believe.
        if isinstance(value, Times):
            value = value.of(tree)
        tree[section][name] = value


@dataclass(frozen=True, slots=True)
class Times:
    """A true value: a setting times ``factor`` plus ``shift``, never below ``least``."""

    key: str
    factor: float = 1.0
    shift: float = 0.0
    least: float = 0.0

    def of(self, tree: Mapping[str, Any]) -> float:
        """The value with these settings."""
        section, name = self.key.split(".")
        return max(self.least, float(tree[section][name]) * self.factor + self.shift)


def draw(seed: int, faults: tuple[str, ...], worn: bool = True) -> Draw:
    """The run of a seed: every second one has a fault, all of ``faults`` in turn."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    parts = [_rig(rng, seed), *_mismatch(rng)]
    imperfect = _imperfections(rng)
    chosen = rng.random(len(imperfect)) < 0.5
    if worn:
        parts += [part for part, taken in zip(imperfect, chosen, strict=True) if taken]
    at_s, size = rng.uniform(EARLIEST_S, LATEST_S), rng.random()
    side = 1 if rng.random() < 0.5 else -1
    homed = rng.random() < HOMED_SHARE
    strike = faults[(seed // 2) % len(faults)] if faults and seed % 2 else None
    if not (homed and (strike is None or STRIKES[strike].homed)):
        parts.append(Ingredient("homing", MappingProxyType({"sim.homed": False})))
    return Draw(seed, tuple(parts), strike, float(at_s), float(size), side)


def _part(name: str, **overrides: Any) -> Ingredient:
    """Keys with ``__`` for the dot."""
    return Ingredient(
        name, MappingProxyType({key.replace("__", "."): v for key, v in overrides.items()})
    )


def _rig(rng: np.random.Generator, seed: int) -> Ingredient:
    room = rng.uniform(0.3, 0.5)
    speed, acceleration = rng.uniform(0.8, 2.0), rng.uniform(6.0, 15.0)
    return _part(
        RIG,
        sim__seed=seed % 2**31,
        rig__position_limit_m=room,
        rig__track_length_m=2.0 * (room + rng.uniform(0.06, 0.1)),
        rig__velocity_limit_m_s=speed,
        rig__acceleration_limit_m_s2=acceleration,
        motor__acceleration_m_s2=acceleration,
        motor__counts_per_m_s=1500.0 / speed,
        motor__tau_s=rng.uniform(0.02, 0.08),
        pole__length_m=rng.uniform(0.3, 0.8),
        pole__damping_1_s=rng.uniform(0.02, 0.1),
        controller__target_m=0.0,
        sim__pictures="measured",
    )


def _mismatch(rng: np.random.Generator) -> list[Ingredient]:
    """Pole ±20 %, friction times 1 to 2, lag ±30 %, gain ±7 %, delay ±10 ms, camera ±10 mrad.

    Gain and supply together stay inside what homing bears: beyond 10 % it refuses, rightly.
    """

    def around(half: float) -> float:
        return float(rng.uniform(1.0 - half, 1.0 + half))

    return [
        _part("length", sim__length_m=Times("pole.length_m", around(0.2))),
        _part("friction", sim__damping_1_s=Times("pole.damping_1_s", float(rng.uniform(1.0, 2.0)))),
        _part("lag", sim__tau_s=Times("motor.tau_s", around(0.3))),
        _part("gain", sim__counts_per_m_s=Times("motor.counts_per_m_s", around(0.07))),
        _part("delay", sim__delay_s=Times("motor.delay_s", 1.0, float(rng.uniform(-0.01, 0.01)))),
        _part("camera angle", sim__upright_offset_rad=float(rng.uniform(-0.01, 0.01))),
    ]


def _imperfections(rng: np.random.Generator) -> list[Ingredient]:
    """What a run may have half of, at moderate size."""

    def up_to(most: float) -> float:
        return float(rng.uniform(0.0, most))

    def both(most: float) -> float:
        return float(rng.uniform(-most, most))

    return [
        _part("stiction", sim__drive_stiction_m_s2=up_to(0.3)),
        _part("cogging", sim__drive_cogging_m_s2=up_to(0.5)),
        _part("ripple", sim__drive_ripple_m_s=up_to(0.02)),
        _part("ramp", sim__drive_ramp_m_s2=Times("rig.acceleration_limit_m_s2", 1.0 + up_to(1.0))),
        _part("supply", sim__supply_sag=up_to(0.02)),
        _part("steps", sim__command_step_m_s=up_to(0.004)),
        _part("belt", sim__belt_hz=float(rng.uniform(15.0, 30.0))),
        _part("backlash", sim__belt_backlash_m=up_to(0.0005)),
        _part("tilt", sim__track_tilt_rad=both(0.01)),
        _part("hub", sim__hub_inertia=up_to(0.05)),
        _part("bend", sim__pole_bend_rad=both(0.005)),
        _part("answers in bursts", sim__answers_burst_s=up_to(0.008)),
        _part("commands in bursts", sim__commands_burst_s=up_to(0.004)),
        _part("bytes lost", sim__bytes_lost=up_to(0.0005)),
        _part("bytes corrupted", sim__bytes_corrupted=up_to(0.0002)),
        _part("commands lost", sim__commands_lost=up_to(0.01)),
        _part("counts missed", sim__pole_misses_one_in=int(rng.integers(20_000, 200_000))),
    ]
