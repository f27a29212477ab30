"""Settings out of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cartpole.errors import SessionError

if TYPE_CHECKING:
    from cartpole.config.schema import Config

LARGEST_SETTINGS = 1 << 20


def recorded_config(data: bytes, source: str) -> Config:
    """Settings from their JSON; SessionError if they do not fit."""
    from pydantic import ValidationError

    from cartpole.config.schema import Config

    if len(data) > LARGEST_SETTINGS:
        raise SessionError(f"{source}: settings of {len(data)} bytes")
    try:
        return Config.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SessionError(f"{source}: settings do not fit: {where}: {first['msg']}") from None
