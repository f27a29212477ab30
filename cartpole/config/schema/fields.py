"""What every section is made of: bounded fields, marked by when they may change."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# A path in which ~ is the home folder.
HomePath = Annotated[str, AfterValidator(os.path.expanduser)]


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys or silent conversions, finite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )


def number(
    default: float,
    low: float,
    high: float,
    text: str,
    *,
    live: bool = False,
    disarmed: bool = False,
) -> Any:
    """A bounded number field; ``live`` ones may change while running, ``disarmed`` ones at rest."""
    marks: dict[str, Any] = {"live": live, "disarmed": disarmed}
    return Field(default=default, ge=low, le=high, description=text, json_schema_extra=marks)


def limit(default: float, low: float, high: float, text: str) -> Any:
    """A bounded number that keeps the rig whole: it may change only while disarmed."""
    return number(default, low, high, text, disarmed=True)


def whole(default: int, low: int, high: int, text: str, *, live: bool = False) -> Any:
    """A bounded integer field."""
    return Field(
        default=default, ge=low, le=high, description=text, json_schema_extra={"live": live}
    )


Real = Annotated[float, Field(strict=False)]  # YAML's `1` is a fine float; `"1"` is not
Sign = Literal[-1, 1]
Homography = tuple[Real, Real, Real, Real, Real, Real, Real, Real, Real]
