"""What a fit says: estimates with intervals, its quality, and what it refuses to say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from cartpole.config.load import fields
from cartpole.messages import FloatArray

# Friction near zero may come out a little below; the settings take none of that.
NEVER_NEGATIVE = frozenset(
    {"pole.damping_1_s", "pole.coulomb_rad_s2", "motor.dead_band_counts", "motor.delay_s"}
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A parameter's value and the ends of its 95 % interval, in ``unit``."""

    value: float
    ci95: tuple[float, float]
    unit: str


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Figures by dotted key of the settings.

    ``refused`` says for a parameter why the data cannot give it and what to record instead.
    ``residuals`` are (time [s], residual in its standard deviations) for the plot; ``notes`` are
    findings that are no setting, ``flags`` those of them that a program should know: ``cogs``,
    ``weak`` (of a drive), ``counts`` (of another encoder); ``aside`` are settings by which the same
    pictures should be measured again, though another part finds them better; ``source`` names the
    recording and its hash; ``draw`` makes a picture of its own where there is something to look at.
    """

    estimates: dict[str, Estimate]
    chi2_dof: float
    refused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    homography: tuple[float, ...] | None = None
    residuals: tuple[FloatArray, FloatArray] | None = None
    aside: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    flags: tuple[str, ...] = ()
    draw: Callable[[Path], None] | None = None

    def as_json(self) -> dict[str, Any]:
        """``{PARAMETER: {"value", "ci95", "unit"}, "fit": {"chi2_dof"}, "refused": {...}}``."""
        out: dict[str, Any] = {}
        for name, one in self.estimates.items():
            out[name] = {"value": one.value, "ci95": list(one.ci95), "unit": one.unit}
        if self.homography is not None:
            out["camera.homography"] = {"value": list(self.homography), "ci95": None, "unit": "px"}
        out["fit"] = {"chi2_dof": self.chi2_dof}
        out["refused"] = dict(self.refused)
        if self.notes:
            out["notes"] = list(self.notes)
        if self.flags:
            out["flags"] = list(self.flags)
        return out

    def agrees(self, other: CalibrationResult) -> bool:
        """Whether both say the same, to a fiftieth of the intervals; where nothing is said, whether
        both would measure again with the same settings."""
        if not self.estimates and not other.estimates:
            return alike(self.aside, other.aside)
        return self.estimates.keys() == other.estimates.keys() and all(
            abs(one.value - other.estimates[name].value) <= 0.02 * (one.ci95[1] - one.ci95[0])
            for name, one in self.estimates.items()
        )

    def settings(self) -> dict[str, Any]:
        """What belongs into the settings file, rounded to a tenth of its own uncertainty."""
        whole = whole_fields()
        values: dict[str, Any] = {
            name: round(one.value) if name in whole else rounded(one.value, one.ci95)
            for name, one in self.estimates.items()
        }
        for name in NEVER_NEGATIVE & values.keys():
            values[name] = max(0.0, values[name])
        if self.homography is not None:
            values["camera.homography"] = tuple(float(f"{h:.8g}") for h in self.homography)
        return values


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of settings are the same to a thousandth."""
    return one.keys() == other.keys() and all(
        np.allclose(one[name], other[name], rtol=1e-3, atol=1e-6) for name in one
    )


def whole_fields() -> set[str]:
    """Settings that take whole numbers only."""
    return {
        key
        for key, info in fields()
        if info.annotation is int or set(get_args(info.annotation)) == {-1, 1}
    }


def rounded(value: float, ci95: tuple[float, float]) -> float:
    """``value`` with the digits that its interval supports and one more."""
    width = 0.5 * (ci95[1] - ci95[0])
    if not width > 0.0:
        return float(f"{value:.6g}")
    exponent = int(f"{width:e}".split("e")[1])
    return round(value, 1 - exponent)


def combined(results: list[CalibrationResult]) -> CalibrationResult:
    """Medians over recordings of the same rig; the intervals are those of a median by the spread
    that there is between the recordings (1.4826 times the median deviation, sqrt(pi / 2) for a
    median's efficiency)."""
    estimates, notes = {}, []
    for name in {name: None for result in results for name in result.estimates}:
        found = [result.estimates[name] for result in results if name in result.estimates]
        values = np.array([one.value for one in found])
        middle = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - middle)))
        half = 1.96 * spread * math.sqrt(0.5 * math.pi / len(values))
        estimates[name] = Estimate(middle, (middle - half, middle + half), found[0].unit)
        notes.append(
            f"{name}: {len(values)} of {len(results)} recordings, {values.min():.5g} to "
            f"{values.max():.5g}, spread {spread:.2g} {found[0].unit}"
        )
    refused: dict[str, str] = {}
    for result in results:
        refused |= {name: why for name, why in result.refused.items() if name not in estimates}
    chi2 = float(np.median([result.chi2_dof for result in results]))
    source = f"{len(results)} recordings, the first {results[0].source}"
    return CalibrationResult(estimates, chi2, refused, tuple(notes), source=source)


def merged(results: list[CalibrationResult]) -> dict[str, Any]:
    """One JSON object of several results; chi2/dof is that of the worst fit."""
    out: dict[str, Any] = {}
    refused: dict[str, str] = {}
    notes: list[str] = []
    flags: list[str] = []
    for result in results:
        one = result.as_json()
        refused.update(one.pop("refused"))
        notes.extend(one.pop("notes", []))
        flags.extend(one.pop("flags", []))
        one.pop("fit")
        out.update(one)
    out["fit"] = {"chi2_dof": max((r.chi2_dof for r in results), default=0.0)}
    out["refused"] = {name: why for name, why in refused.items() if name not in out}
    sources = [result.source for result in results if result.source]
    if sources:
        out["recordings"] = sources
    if notes:
        out["notes"] = notes
    if flags:
        out["flags"] = flags
    json.dumps(out, allow_nan=False)
    return out
