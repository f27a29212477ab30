"""Sliders of the live settings: their scale, and the unit that a key's name ends with. Pure."""

from __future__ import annotations

import math
from typing import Any

DECADES = 2.0  # a logarithmic slider reaches this far to both sides
STEPS = 200
# The longest ending first.
UNITS = {
    "_rad_s2": "rad/s²",
    "_m_s2": "m/s²",
    "_rad_s": "rad/s",
    "_m_s": "m/s",
    "_1_s": "1/s",
    "_rad": "rad",
    "_hz": "Hz",
    "_px": "px",
    "_ms": "ms",
    "_us": "µs",
    "_m": "m",
    "_s": "s",
}


def unit_of(key: str) -> str:
    """The unit of a setting, or nothing for a bare number."""
    return next((unit for ending, unit in UNITS.items() if key.endswith(ending)), "")


class Scale:
    """Between a slider's steps and a setting: logarithmic where all values are positive."""

    def __init__(self, value: float, low: float, high: float, whole: bool) -> None:
        self.value, self._low, self._high, self._whole = value, low, high, whole
        self._logarithmic = low > 0.0 and high / low > 50.0

    @classmethod
    def of(cls, field: dict[str, Any], room: float | None) -> Scale:
        """A few decades around a positive value, else the field's own bounds."""
        value, low, high = field["value"], field["low"], field["high"]
        whole = isinstance(value, int)
        if room is not None:
            return cls(value, -room, room, whole)
        if not whole and value > 0.0 and low >= 0.0:
            reach = 10.0**DECADES
            low, high = max(low, value / reach), min(high, value * reach)
        return cls(value, low, high, whole)

    def at(self, step: float) -> float:
        """The setting at a step of the slider."""
        share = step / STEPS
        if self._logarithmic:
            value = self._low * (self._high / self._low) ** share
        else:
            value = self._low + (self._high - self._low) * share
        return round(value) if self._whole else float(f"{value:.4g}")

    def position(self, value: float) -> float:
        """The step that stands for a setting."""
        if self._logarithmic:
            share = math.log(value / self._low) / math.log(self._high / self._low)
        else:
            share = (value - self._low) / (self._high - self._low)
        return round(STEPS * min(1.0, max(0.0, share)))

    @staticmethod
    def text(value: float, unit: str = "") -> str:
        """Four figures and the unit."""
        return f"{value:.4g} {unit}".rstrip()
